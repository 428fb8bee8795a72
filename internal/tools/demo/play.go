package main

import (
	"context"
	"fmt"
	"time"

	"pibox/internal/admin"
	"pibox/internal/testbox"
	"pibox/internal/testclient"
	"pibox/internal/xmpp/frame"
)

const (
	nsMoved  = "urn:xmpp:moved:1"
	nsRoster = "jabber:iq:roster"
	nsPubSub = "http://jabber.org/protocol/pubsub"

	oldJuliet = "juliet@capulet-old.example"
	newJuliet = "juliet@capulet-new.example"
	paris     = "paris@capulet-new.example"
	romeo     = "romeo@montague.example"

	password = "wherefore art thou"
	nickname = "Juliet ♥"
	group    = "Verona"
)

// play is the demonstration.
type play struct {
	*world
	*story
	romeo, atOld, atNew, paris person
	asked                      bool // Romeo was, about Juliet
	mismatches                 int
}

func (p *play) all(ctx context.Context) error {
	fmt.Println("Juliet moves from one family's box to another, and tells nobody's server but her own. Romeo, whose box is a third one, is offline.")
	for _, scene := range []func(context.Context) error{
		p.boxesStart, p.accounts, p.becomeContacts, p.romeoLeaves, p.announce, p.parisLies, p.notify, p.romeoReturns, p.talk, p.verdict,
	} {
		if err := scene(ctx); err != nil {
			return err
		}
	}
	p.curtain()
	if p.mismatches > 0 {
		return fmt.Errorf("%d of the checks failed", p.mismatches)
	}
	fmt.Printf("\nThe move was followed, verified, by Romeo's box alone. It took %.1f s in all.\n", time.Since(p.began).Seconds())
	return nil
}

func (p *play) boxesStart(ctx context.Context) error {
	p.chapter("Three boxes start, each a process with a family certificate authority of its own, and trust each other's")
	if err := p.start(ctx); err != nil {
		return err
	}
	for _, b := range []struct {
		box  *testbox.Box
		what string
	}{{p.oldHome, "Juliet's old home"}, {p.newHome, "her new home"}, {p.romeos, "Romeo's home"}} {
		p.says("%-20s at %-15s %s", b.box.Domain, b.box.Host, b.what)
	}
	return nil
}

func (p *play) accounts(ctx context.Context) error {
	p.chapter("The families make accounts: 'pibox user add'")
	for _, a := range []struct {
		box  *testbox.Box
		name string
	}{{p.oldHome, "juliet"}, {p.newHome, "juliet"}, {p.newHome, "paris"}, {p.romeos, "romeo"}} {
		if err := a.box.AddUser(ctx, a.name, password); err != nil {
			return err
		}
		p.says("%s@%s", a.name, a.box.Domain)
	}
	return nil
}

// login brings somebody online: contact list first, then presence, as clients do.
func (p *play) login(ctx context.Context, b *testbox.Box, user, name string) (person, error) {
	cfg, err := b.ClientConfig(user, password, "demo")
	if err != nil {
		return person{}, err
	}
	cfg.On = func(_ *testclient.Client, st *frame.Element) bool {
		p.sees(name, st)
		return false
	}
	c, err := testclient.Dial(ctx, cfg)
	if err != nil {
		return person{}, err
	}
	who := person{name, c}
	if _, err := p.contacts(ctx, who); err != nil {
		return who, err
	}
	return who, c.Send("<presence/>")
}

// contacts asks a box for a contact list.
func (p *play) contacts(ctx context.Context, who person) ([]item, error) {
	st, err := who.IQ(ctx, "get", "", "<query xmlns='"+nsRoster+"'/>")
	if err != nil {
		return nil, err
	}
	if err := testclient.Refusal(st); err != nil {
		return nil, err
	}
	var items []item
	for _, n := range st.Node().Child(nsRoster, "query").Children {
		items = append(items, readItem(n))
	}
	return items, nil
}

func (p *play) becomeContacts(ctx context.Context) (err error) {
	p.chapter("Juliet and Romeo become contacts, at her old home")
	if p.atOld, err = p.login(ctx, p.oldHome, "juliet", "Juliet (old)"); err != nil {
		return err
	}
	if p.romeo, err = p.login(ctx, p.romeos, "romeo", "Romeo"); err != nil {
		return err
	}
	if err := p.subscribe(ctx, p.atOld, p.romeo); err != nil {
		return err
	}
	if err := p.subscribe(ctx, p.romeo, p.atOld); err != nil {
		return err
	}
	named := fmt.Sprintf("<query xmlns='%s'><item jid='%s' name='%s'><group>%s</group></item></query>", nsRoster, oldJuliet, nickname, group)
	if err := p.romeo.Set(ctx, "", named); err != nil {
		return err
	}
	p.says("")
	p.says("Contact lists before:")
	return p.lists(ctx, p.romeo, p.atOld)
}

// subscribe lets one see another, who agrees.
func (p *play) subscribe(ctx context.Context, who, whom person) error {
	if err := who.Send(presence("subscribe", whom.Account())); err != nil {
		return err
	}
	if _, err := whom.Await(ctx, isPresence("subscribe", who.Account())); err != nil {
		return err
	}
	if err := whom.Send(presence("subscribed", who.Account())); err != nil {
		return err
	}
	_, err := who.Await(ctx, isPresence("", whom.Account()))
	return err
}

func presence(typ, to string) string { return "<presence type='" + typ + "' to='" + to + "'/>" }

func isPresence(typ, from string) func(*frame.Element) bool {
	return func(st *frame.Element) bool {
		return st.Name == "presence" && st.Attr("type") == typ && bare(st.Attr("from")) == from
	}
}

func (p *play) lists(ctx context.Context, people ...person) error {
	for _, who := range people {
		items, err := p.contacts(ctx, who)
		if err != nil {
			return err
		}
		p.roster(who.Account(), items)
	}
	return nil
}

func (p *play) romeoLeaves(ctx context.Context) error {
	p.chapter("Romeo goes offline. From now on nobody of his family touches anything")
	p.romeo.Close(ctx)
	if _, err := p.atOld.Await(ctx, isPresence("unavailable", romeo)); err != nil {
		return err
	}
	status, err := p.romeos.Admin().Status(ctx, admin.StatusRequest{})
	if err != nil {
		return err
	}
	p.says("'pibox status' at %s: %d clients connected", p.romeos.Domain, status.Sessions)
	if status.Sessions != 0 {
		return fmt.Errorf("somebody is still logged in at %s", p.romeos.Domain)
	}
	return nil
}

func (p *play) announce(ctx context.Context) error {
	p.chapter("Juliet's client says at her old home where she goes: %s", newJuliet)
	statement := fmt.Sprintf("<pubsub xmlns='%s'><publish node='%s'><item id='current'><moved xmlns='%s'><new-jid>%s</new-jid></moved></item></publish></pubsub>",
		nsPubSub, nsMoved, nsMoved, newJuliet)
	if err := p.atOld.Set(ctx, "", statement); err != nil {
		return fmt.Errorf("publishing the moved statement: %w", err)
	}
	// Every device of hers is told: it might not have been her.
	_, err := p.atOld.Await(ctx, func(st *frame.Element) bool { return st.Name == "message" && st.Attr("from") == p.oldHome.Domain })
	return err
}

// claim is what XEP-0283 lets the new account send.
func claim(status string) string {
	return fmt.Sprintf("<presence type='subscribe' to='%s'><status>%s</status><moved xmlns='%s'><old-jid>%s</old-jid></moved></presence>",
		romeo, status, nsMoved, oldJuliet)
}

func (p *play) parisLies(ctx context.Context) (err error) {
	p.chapter("Paris, a neighbour at her new home, tries to get in first: “I am %s, I moved”", oldJuliet)
	if p.paris, err = p.login(ctx, p.newHome, "paris", "Paris"); err != nil {
		return err
	}
	p.says("Romeo's box asks her old home, which says otherwise: his request waits for Romeo like any stranger's")
	return p.paris.Send(claim("It is me, Juliet"))
}

func (p *play) notify(ctx context.Context) (err error) {
	p.chapter("Juliet's client tells Romeo's address from the new account (a script here; a box does it in a later issue)")
	if p.atNew, err = p.login(ctx, p.newHome, "juliet", "Juliet (new)"); err != nil {
		return err
	}
	// She approves in advance that he sees her, as he did before (RFC 6121 §3.4).
	if err := p.atNew.Send(presence("subscribed", romeo) + claim("I moved; this is my new address")); err != nil {
		return err
	}
	p.says("Romeo's box asks %s whether that is so, over TLS with a certificate that proves the name. It is so. Then:", p.oldHome.Domain)
	if _, err := p.atNew.Await(ctx, isPresence("subscribed", romeo)); err != nil {
		return fmt.Errorf("the box of Romeo did not follow the move: %w", err)
	}
	if _, err := p.atNew.Await(ctx, func(st *frame.Element) bool {
		i := st.Node().Child(nsRoster, "query").Child(nsRoster, "item")
		return i.Attr("jid") == romeo && i.Attr("subscription") == "both"
	}); err != nil {
		return fmt.Errorf("the box of Romeo did not ask to see her at the new address: %w", err)
	}
	if _, err := p.atOld.Await(ctx, isPresence("unsubscribed", romeo)); err != nil {
		return fmt.Errorf("the old address was not revoked: %w", err)
	}
	return nil
}

func (p *play) romeoReturns(ctx context.Context) (err error) {
	p.chapter("Romeo comes online")
	if p.romeo, err = p.login(ctx, p.romeos, "romeo", "Romeo"); err != nil {
		return err
	}
	return p.romeoSees(ctx)
}

func (p *play) talk(ctx context.Context) error {
	p.chapter("They go on as before")
	if err := p.romeo.Send("<message type='chat' to='" + newJuliet + "'><body>But soft, what light?</body></message>"); err != nil {
		return err
	}
	if _, err := p.atNew.Await(ctx, isMessage(romeo)); err != nil {
		return err
	}
	if err := p.atNew.Send("<message type='chat' to='" + romeo + "'><body>Ay me!</body></message>"); err != nil {
		return err
	}
	_, err := p.romeo.Await(ctx, isMessage(newJuliet))
	return err
}

func isMessage(from string) func(*frame.Element) bool {
	return func(st *frame.Element) bool { return st.Name == "message" && bare(st.Attr("from")) == from }
}
