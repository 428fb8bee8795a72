package archive

import (
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"testing"

	"pibox/internal/store"
	"pibox/internal/xmpp"
	"pibox/internal/xmpp/frame"
)

type channel chan *xmpp.Stanza

func (c channel) Deliver(st *xmpp.Stanza) bool {
	c <- st
	return true
}

func (c channel) Close(*xmpp.StreamError) {}

// A query that no index answers looks at the whole archive, in many short transactions, and finds what is far apart.
func TestScan(t *testing.T) {
	st, err := store.Open(filepath.Join(t.TempDir(), "pibox.db"), store.Options{Reserve: 1})
	if err != nil {
		t.Fatal(err)
	}
	r := xmpp.NewRouter(st, slog.New(slog.DiscardHandler), []string{"montague.example"})
	a := Register(r, Options{})
	account := xmpp.MustJID("romeo@montague.example")
	r.SetExists(account, true)
	got := make(channel, 10)
	s := r.Bind(account, "orchard", "test", got, xmpp.ConflictReplace)
	var want []string
	if err := st.Update(func(tx *store.Tx) error {
		for i := range 4*scanStep + 7 {
			from := "juliet@capulet.example/balcony"
			if i%(scanStep/2+1) == 3 {
				from = "juliet@capulet.example/chamber"
				want = append(want, fmt.Sprint(i))
			}
			store.AppendLog(tx, &store.Entry{
				Stanza: fmt.Appendf(nil, "<message from='%s' to='%s'><body>%d</body></message>", from, account, i),
				Owners: []store.Owner{{Account: account.String(), With: "juliet@capulet.example", Role: store.Archived}},
			})
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	ask := func(rsm string) (texts []string, reply *frame.Node) {
		el, err := frame.Parse([]byte("<iq type='set' id='1'><query xmlns='urn:xmpp:mam:2'><x xmlns='jabber:x:data' type='submit'><field var='FORM_TYPE'><value>urn:xmpp:mam:2</value></field>"+
			"<field var='with'><value>juliet@capulet.example/chamber</value></field></x><set xmlns='http://jabber.org/protocol/rsm'><max>2</max>"+rsm+"</set></query></iq>"), xmpp.NSClient, frame.Limits{})
		if err != nil {
			t.Fatal(err)
		}
		if se := r.FromSession(s, el); se != nil {
			t.Fatal(se)
		}
		for {
			st := <-got
			if st.Kind == xmpp.IQ {
				return texts, st.Node()
			}
			texts = append(texts, st.Node().Child(NS, "result").Child("", "forwarded").Child(xmpp.NSClient, "message").ChildText("", "body"))
		}
	}
	for _, c := range []struct{ first, next, from string }{{"", "after", "last"}, {"<before/>", "before", "first"}} {
		var all []string
		for rsm, more := c.first, true; more; {
			texts, reply := ask(rsm)
			if c.next == "before" {
				all = append(texts, all...)
			} else {
				all = append(all, texts...)
			}
			fin := reply.Child(NS, "fin")
			more = fin.Attr("complete") == "false"
			rsm = "<" + c.next + ">" + fin.Child(NSRSM, "set").ChildText("", c.from) + "</" + c.next + ">"
		}
		if !slices.Equal(all, want) {
			t.Errorf("%s: %q instead of %q", c.next, all, want)
		}
	}
	a.mu.Lock()
	a.scanning[account] = true // as if another one were running
	a.mu.Unlock()
	refused := func(why string) {
		if _, reply := ask(""); reply.Child("", "error").Child("", "resource-constraint") == nil {
			t.Errorf("%s: %v", why, reply)
		}
	}
	refused("a second one at the same time")
	a.mu.Lock()
	delete(a.scanning, account)
	a.mu.Unlock()
	if texts, _ := ask(""); len(texts) != 2 {
		t.Errorf("%d results after it", len(texts))
	}
	a.Stop()
	refused("while the box goes down")
	if err := st.Close(); err != nil {
		t.Fatal(err)
	}
}

// What stands in the log and can not be wrapped keeps its place, without the message.
func TestUnreadable(t *testing.T) {
	a := &Archive{opt: Options{Log: slog.New(slog.DiscardHandler)}}
	p := &page{account: "romeo@montague.example"}
	rq := &xmpp.Request{Stanza: &xmpp.Stanza{From: xmpp.MustJID("romeo@montague.example/x")}, Session: &xmpp.Session{}}
	for _, raw := range []string{"", "<message", "<message><body></message>", "<message a:b=''/>"} {
		st := a.result(rq, p, found{id: "1", Owned: store.Owned{Entry: store.Entry{Stanza: []byte(raw)}}})
		result := st.Node().Child(NS, "result")
		if result.Attr("id") != "1" || len(result.Child(nsForward, "forwarded").Children) != 1 {
			t.Errorf("%.20s gives %s", raw, st.Raw)
		}
	}
}

func TestFeatures(t *testing.T) {
	r := xmpp.NewRouter(nil, slog.New(slog.DiscardHandler), nil)
	Register(r, Options{})
	for _, f := range []string{"urn:xmpp:mam:2", "urn:xmpp:mam:2#extended", "urn:xmpp:mam:2#groupchat-field", "http://jabber.org/protocol/rsm"} {
		if !slices.Contains(r.Features(xmpp.ToAccount), f) || slices.Contains(r.Features(xmpp.ToServer), f) {
			t.Errorf("%s is not the accounts' alone", f)
		}
	}
}
