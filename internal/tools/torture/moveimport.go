package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"

	"pibox/internal/admin"
	"pibox/internal/testbox"
)

// paolo is who is imported, and how much he brings: several transactions.
const (
	paolo         = "paolo"
	paoloContacts = 30
	paoloMessages = 400
)

// exported makes an account, fills it, exports it, and removes it.
func exported(ctx context.Context, b *testbox.Box) ([]byte, error) {
	if _, err := b.Admin().UserAdd(ctx, admin.UserAddRequest{User: paolo, Password: password}); err != nil {
		return nil, err
	}
	c, err := b.Login(ctx, paolo, password, "")
	if err != nil {
		return nil, err
	}
	err = keepAll(ctx, c)
	for i := range paoloContacts {
		err = errors.Join(err, c.Set(ctx, "", fmt.Sprintf("<query xmlns='%s'><item jid='%s' name='Friend'/></query>", nsRoster, contactOf(fmt.Sprint("f", i)))),
			c.Set(ctx, "", fmt.Sprintf("<query xmlns='jabber:iq:private'><note xmlns='urn:pibox:%d'>mine</note></query>", i)),
			c.Set(ctx, "", fmt.Sprintf("<pubsub xmlns='%s'><publish node='%s'><item id='%d'><note xmlns='%s'>mine</note></item></publish>%s</pubsub>",
				nsPubSub, pepNode, i, pepNode, publishOptions)))
	}
	for i := range paoloMessages {
		err = errors.Join(err, c.Send(fmt.Sprintf("<message type='chat' to='%s@%s'><body>%d %s</body></message>", template, domainOther, i, strings.Repeat("x", 1500))))
	}
	_, ask := c.IQ(ctx, "get", template+"@"+domainOther, "<ping xmlns='urn:xmpp:ping'/>")
	err = errors.Join(err, ask)
	c.Close(ctx)
	if err != nil {
		return nil, err
	}
	var file bytes.Buffer
	if _, err := b.Admin().Export(ctx, admin.ExportRequest{Users: []string{paolo}}, &file); err != nil {
		return nil, err
	}
	_, err = b.Admin().UserRemove(ctx, admin.UserRemoveRequest{User: paolo})
	return file.Bytes(), err
}

// imports imports the account; whenever the power is cut, the account is whole or absent, and it is whole once the box said so.
func (p *play) imports(ctx context.Context) error {
	who := paolo + "@" + domainOther
	whole := func(e *ending) error {
		contacts, messages := 0, 0
		for k := range e.roster {
			if k[0] == who {
				contacts++
			}
		}
		for _, l := range e.lines {
			if strings.HasPrefix(l, "archive "+who+" ") {
				messages++
			}
		}
		if contacts != paoloContacts || messages != paoloMessages {
			return fmt.Errorf("%s was imported with %d contacts of %d, and %d messages of %d", who, contacts, paoloContacts, messages, paoloMessages)
		}
		return nil
	}
	done := make(chan struct{})
	p.found = func(e *ending) error {
		select {
		case <-done:
			if !e.here[who] {
				return fmt.Errorf("%s is lost, of whom it was said that he is imported", who)
			}
		default:
		}
		if !e.here[who] {
			return nil // what there is of him is dropped by the next start
		}
		return whole(e)
	}
	if err := p.under(ctx, func(ctx context.Context) error {
		resp, err := p.houses[1].Admin().Import(ctx, admin.ImportRequest{}, bytes.NewReader(p.export))
		if err == nil && (len(resp.Accounts) != 1 || resp.Accounts[0].Refused != "") {
			return fmt.Errorf("the import did: %+v", resp)
		}
		if err = unless(err, admin.CodeExists); err == nil { // it was done, and the answer lost
			close(done)
		}
		p.done.add("commands")
		return err
	}); err != nil {
		return err
	}
	e, err := p.quiet(ctx)
	if err != nil {
		return err
	}
	return whole(e)
}
