package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"

	"pibox/internal/admin"
	"pibox/internal/testclient"
	"pibox/internal/xmpp/frame"
)

// verify compares everything with what was acknowledged. What is wrong is a problem of the town; an error is that it can not be found out.
func (t *town) verify(ctx context.Context) error {
	for _, name := range people {
		for _, check := range []func(context.Context, string) error{t.checkRoster, t.checkPrivate, t.checkVCard, t.checkPEP} {
			if err := check(ctx, name); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
		}
		if err := t.comeOnline(ctx, name); err != nil {
			return err
		}
	}
	for _, name := range people {
		if err := errors.Join(t.checkDelivered(ctx, name), t.checkArchiveOf(ctx, name)); err != nil {
			return err
		}
	}
	for _, check := range []func(context.Context) error{t.checkCouples, t.checkAccounts, t.checkPassword, t.collectMail} {
		if err := check(ctx); err != nil {
			return err
		}
	}
	if !t.offers.archive {
		t.m.forgetMessages()
	}
	return nil
}

// settle notes where a value is not what it has to be.
func (t *town) settle(key, got string) {
	if err := t.m.settle(key, got); err != nil {
		t.problem("%w", err)
	}
}

// checkRoster brings the client's list up to date by version, and compares it with the whole roster and both with what was acknowledged.
func (t *town) checkRoster(ctx context.Context, name string) error {
	c, l := t.clients[name], t.m.list(name)
	t.m.mu.Lock()
	had := l.Version
	t.m.mu.Unlock()
	items, ver, err := roster(ctx, c, l)
	if err != nil {
		return err
	}
	if err := t.behind(ctx, c, ""); err != nil { // pushes that stand for the answer have come
		return err
	}
	if items != nil {
		if err := t.renew(name, l, items, ver, had); err != nil {
			return err
		}
	}
	whole, _, err := roster(ctx, c, nil)
	if err != nil {
		return err
	}
	t.m.mu.Lock()
	kept := maps.Clone(l.Items)
	t.m.mu.Unlock()
	if !maps.Equal(kept, whole) {
		t.problem("%s: by version the roster is\n%s\nand whole it is\n%s", name, lines(kept), lines(whole))
	}
	for _, key := range t.m.keys("roster/" + name + "/") {
		_, friend, _ := strings.Cut(strings.TrimPrefix(key, "roster/"), "/")
		got := ""
		if item, ok := whole[contactOf(friend)]; ok {
			got = strings.Split(item, "|")[1]
		}
		t.settle(key, got)
	}
	return nil
}

// renew takes a whole roster over, which comes where the box can not tell what changed.
func (t *town) renew(name string, l *list, items map[string]string, ver string, had uint64) error {
	n, err := versionNumber(ver)
	if err != nil {
		return fmt.Errorf("roster version %q: %w", ver, err)
	}
	if n < had {
		t.problem("%s: roster version went back from %d to %d", name, had, n)
	}
	t.m.mu.Lock()
	defer t.m.mu.Unlock()
	l.Version, l.Text, l.Items = n, ver, items
	return nil
}

func lines(items map[string]string) string {
	return strings.Join(slices.Sorted(maps.Values(items)), "\n")
}

func (t *town) checkPrivate(ctx context.Context, name string) error {
	for _, key := range t.m.keys("private/" + name + "/") {
		ns := "urn:pibox:" + key[strings.LastIndex(key, "/")+1:]
		st, err := t.clients[name].IQ(ctx, "get", "", "<query xmlns='jabber:iq:private'><note xmlns='"+ns+"'/></query>")
		if err == nil {
			err = testclient.Refusal(st)
		}
		if err != nil {
			return err
		}
		t.settle(key, child(st).ChildText(ns, "note"))
	}
	return nil
}

func (t *town) checkVCard(ctx context.Context, name string) error {
	for _, key := range t.m.keys("vcard/" + name + "/") {
		st, err := t.clients[name].IQ(ctx, "get", "", "<vCard xmlns='vcard-temp'/>")
		if err != nil {
			return err
		}
		t.settle(key, child(st).ChildText("vcard-temp", "FN"))
	}
	return nil
}

func (t *town) checkPEP(ctx context.Context, name string) error {
	keys := t.m.keys("pep/" + name + "/")
	if len(keys) == 0 {
		return nil
	}
	st, err := t.clients[name].IQ(ctx, "get", "", "<pubsub xmlns='"+nsPubSub+"'><items node='"+pepNode+"'/></pubsub>")
	if err != nil {
		return err
	}
	got := map[string]string{}
	if items := child(st).Child(nsPubSub, "items"); items != nil {
		for _, n := range items.Children {
			if _, twice := got[n.Attr("id")]; twice {
				t.problem("%s has PEP item %s twice", name, n.Attr("id"))
			}
			got[n.Attr("id")] = n.ChildText(pepNode, "note")
		}
	}
	for _, key := range keys {
		t.settle(key, got[key[strings.LastIndex(key, "/")+1:]])
	}
	return nil
}

// comeOnline shows a client what awaits an answer.
func (t *town) comeOnline(ctx context.Context, name string) error {
	if err := t.clients[name].Send("<presence/>"); err != nil {
		return err
	}
	return t.behind(ctx, t.clients[name], "")
}

// checkAuthority: everybody who was let in trusts the box's certificate; it never makes another one.
func (t *town) checkAuthority() {
	raw, err := os.ReadFile(t.box.Authority())
	if err != nil || string(raw) != t.m.Authority {
		t.problem("the box has another certificate authority than before (%v)", err)
	}
}

func (t *town) checkArchiveOf(ctx context.Context, name string) error {
	if !t.offers.archive {
		return nil
	}
	return t.checkArchive(ctx, t.clients[name], name)
}

// checkCouples compares both sides of the subscriptions within the box.
func (t *town) checkCouples(ctx context.Context) error {
	for _, c := range couples {
		seen, err := t.look(ctx, c)
		if err != nil {
			return err
		}
		key := pairKey(c)
		t.m.mu.Lock()
		p := t.m.pair(key)
		if !p.Open && p.Seen != seen {
			t.problem("the subscription between %s was acknowledged as %q and is %q", key, p.Seen, seen)
		}
		p.Seen, p.Open = seen, false
		t.m.mu.Unlock()
		if err := t.agree(ctx, c); err != nil {
			return err
		}
	}
	return nil
}

// agree: what one may see the other lets him see, and who asks is waiting at the other's (RFC 6121 Appendix A).
func (t *town) agree(ctx context.Context, c [2]string) error {
	type side struct {
		to, from, ask, asked bool
		text                 string
	}
	var s [2]side
	for i, name := range c {
		items, _, err := roster(ctx, t.clients[name], nil)
		if err != nil {
			return err
		}
		other := t.jid(c[1-i])
		f := append(strings.Split(items[other], "|"), "", "", "", "")
		t.mu.Lock()
		asked := t.pending[name][other]
		t.mu.Unlock()
		s[i] = side{
			to: f[2] == "to" || f[2] == "both", from: f[2] == "from" || f[2] == "both", ask: f[3] == "subscribe", asked: asked,
			text: fmt.Sprintf("%s, asked by the other: %t", items[other], asked),
		}
	}
	for i := range s {
		if a, b := s[i], s[1-i]; a.to != b.from || a.ask != b.asked || (a.ask && a.to) {
			t.problem("%s and %s do not agree: %s; %s", c[0], c[1], s[0].text, s[1].text)
			break
		}
	}
	return nil
}

func (t *town) checkAccounts(ctx context.Context) error {
	list, err := t.box.Admin().UserList(ctx, admin.UserListRequest{})
	if err != nil {
		return err
	}
	there := map[string]bool{}
	for _, u := range list.Users {
		there[u.Address] = true
	}
	for _, key := range t.m.keys("account/") {
		got := ""
		if there[t.jid(strings.TrimPrefix(key, "account/"))] {
			got = "there"
		}
		t.settle(key, got)
	}
	return nil
}

// checkPassword logs in with what was acknowledged or else with what was sent behind it.
func (t *town) checkPassword(ctx context.Context) error {
	t.m.mu.Lock()
	r := t.m.register(watched)
	tries := []string{r.Value}
	if r.Maybe != nil {
		tries = append(tries, *r.Maybe)
	}
	t.m.mu.Unlock()
	var all error
	for _, secret := range tries {
		try := secret
		if try == "" {
			try = password
		}
		c, err := t.box.Login(ctx, "benvolio", try, "")
		if err == nil {
			c.Close(ctx)
			t.settle(watched, secret)
			return nil
		}
		all = errors.Join(all, err)
	}
	t.problem("neither the acknowledged password nor the one sent after it lets benvolio in: %w", all)
	return nil
}

// collectMail lets those who were away read, now and then, and compares what came with what was acknowledged.
func (t *town) collectMail(ctx context.Context) error {
	rng := t.random(1 << 15)
	names := []string{visitor}
	for _, name := range mailboxes {
		if rng.IntN(3) == 0 {
			names = append(names, name)
		}
	}
	for _, name := range names {
		if err := t.collect(ctx, name); err != nil {
			return fmt.Errorf("%s collecting: %w", name, err)
		}
	}
	return nil
}

// collect reads up to a mark that is sent behind everything else; messages from one sender have to come in order.
func (t *town) collect(ctx context.Context, name string) error {
	secret := password
	if v := t.m.value("password/" + name); v != "" {
		secret = v
	}
	resource := "home"
	if name == visitor {
		resource = road // takes the place of a session that an orderly restart kept, and that has what it was handed
	}
	c, err := t.box.LoginSM(ctx, name, secret, resource)
	if err != nil {
		return err
	}
	if t.offers.archive {
		if err := t.checkArchive(ctx, c, name); err != nil {
			return err
		}
	}
	if err := c.Send("<presence/>"); err != nil {
		return err
	}
	if err := t.behind(ctx, c, ""); err != nil {
		return err
	}
	mark := "mark-" + t.m.next()
	if err := t.clients["nurse"].Send("<message type='chat' id='" + mark + "' to='" + t.jid(name) + "'><body>that is all</body></message>"); err != nil {
		return err
	}
	want, next := t.m.missing(name), 0
	for {
		st, err := c.Next(ctx)
		if err != nil {
			return err
		}
		id := st.Attr("id")
		if st.Name != "message" {
			continue
		}
		if id == mark {
			break
		}
		if i := slices.Index(want, id); i >= 0 {
			if repeated := t.m.repeated(name, id); !repeated && i < next {
				t.problem("%s got message %s out of order", name, id)
			} else if !repeated {
				next = i + 1
			}
			want[i] = "" // what was sent again may come again
			t.came(name, st)
		}
	}
	if lost := t.m.missing(name); len(lost) > 0 {
		t.problem("%s never got %d acknowledged messages: %s", name, len(lost), strings.Join(lost, " "))
		t.m.forgotten(name)
	}
	c.Close(ctx)
	return nil
}

// roster asks for a roster; with a list only for what changed since.
func roster(ctx context.Context, c *testclient.Client, l *list) (items map[string]string, ver string, err error) {
	query := "<query xmlns='" + nsRoster + "'/>"
	if l != nil {
		query = "<query xmlns='" + nsRoster + "' ver='" + testclient.Escape(l.Text) + "'/>"
	}
	st, err := c.IQ(ctx, "get", "", query)
	if err == nil {
		err = testclient.Refusal(st)
	}
	if err != nil {
		return nil, "", err
	}
	q := st.Node().Child(nsRoster, "query")
	if q == nil {
		return nil, "", nil
	}
	items = map[string]string{}
	for _, n := range q.Children {
		if _, twice := items[n.Attr("jid")]; twice {
			return nil, "", fmt.Errorf("%s has %s twice in the roster", c.Account(), n.Attr("jid"))
		}
		items[n.Attr("jid")] = itemText(n)
	}
	return items, q.Attr("ver"), nil
}

// child is the first element in the payload of a reply.
func child(st *frame.Element) *frame.Node {
	n := st.Node()
	if len(n.Children) == 0 {
		return nil
	}
	return n.Children[0]
}
