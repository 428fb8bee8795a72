package pep_test

import (
	"log/slog"
	"path/filepath"
	"strings"
	"testing"

	"pibox/internal/store"
	"pibox/internal/xmpp"
	"pibox/internal/xmpp/frame"
	"pibox/internal/xmpp/pep"
)

// FuzzRequest gives arbitrary payloads to the handlers, from the owner, a contact and a stranger: each request is answered once, by a
// result or an error that says no internal-server-error; who is nobody changes nothing.
func FuzzRequest(f *testing.F) {
	for _, seed := range []string{
		"<publish node='n'><item id='i'><x xmlns='urn:x'/></item></publish>",
		"<publish node='n'><item><x xmlns='urn:x'/></item></publish><publish-options><x xmlns='jabber:x:data' type='submit'><field var='FORM_TYPE'><value>" + pep.NS + "#publish-options</value></field><field var='pubsub#max_items'><value>max</value></field></x></publish-options>",
		"<retract node='n' notify='1'><item id='i'/></retract>",
		"<items node='n' max_items='1'/><set xmlns='http://jabber.org/protocol/rsm'><max>1</max><before/></set>",
		"<items node='n'><item id='i'/></items>",
		"<create node='m'/><configure><x xmlns='jabber:x:data' type='submit'><field var='FORM_TYPE'><value>" + pep.NS + "#node_config</value></field><field var='pubsub#item_expire'><value>1</value></field></x></configure>",
		"<configure node='n'><x xmlns='jabber:x:data' type='cancel'/></configure>",
		"<affiliations node='n'><affiliation jid='a@b' affiliation='member'/></affiliations>",
		"<subscriptions node='n'><subscription jid='a@b' subscription='subscribed'/></subscriptions>",
		"<subscribe node='n' jid='nurse@capulet.example'/>",
		"<unsubscribe node='n' jid='nurse@capulet.example'/>",
		"<purge node='n'/>", "<delete node='n'><redirect uri='x:y'/></delete>", "<default/>", "<options node='n'/>",
	} {
		f.Add(seed, uint8(0))
		f.Add(seed, uint8(7))
	}
	st, err := store.Open(filepath.Join(f.TempDir(), "db"), store.Options{Reserve: 1})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { _ = st.Close() })
	remote := &answers{}
	box := startWith(f, st, []string{"capulet.example"}, remote, pep.Options{MaxNodes: 20, MaxItems: 5, MaxPayload: 500, MaxBytes: 20000, MaxEntities: 4})
	r := box.Router
	r.Log = slog.New(slog.DiscardHandler)
	for _, name := range []string{"juliet", "nurse", "stranger"} {
		r.SetExists(xmpp.MustJID(name+"@capulet.example"), true)
	}
	sessions := map[string]*xmpp.Session{}
	outs := map[string]*answers{}
	for _, name := range []string{"juliet", "nurse", "stranger"} {
		outs[name] = &answers{}
		sessions[name] = r.Bind(xmpp.MustJID(name+"@capulet.example"), "r", name, outs[name], xmpp.ConflictReplace)
		r.SetPresence(sessions[name], xmpp.Make([]byte("<presence/>")), 0)
	}
	f.Fuzz(func(t *testing.T, payload string, how uint8) {
		who := []string{"juliet", "nurse", "stranger"}[how%3]
		ns, typ := pep.NS, "set"
		if how&4 != 0 {
			ns = pep.NSOwner
		}
		if how&8 != 0 {
			typ = "get"
		}
		raw := "<iq type='" + typ + "' id='fuzz' to='juliet@capulet.example'><pubsub xmlns='" + ns + "'>" + payload + "</pubsub></iq>"
		el, err := frame.Parse([]byte(raw), xmpp.NSClient, frame.Limits{})
		if err != nil || len(el.Children) != 1 {
			return
		}
		outs[who].list = nil
		if se := r.FromSession(sessions[who], el); se != nil {
			t.Fatal(se)
		}
		if err := st.Ping(t.Context()); err != nil {
			t.Fatal(err)
		}
		outs[who].check(t, raw)
	})
}

// answers is an outlet and a remote that keeps what it gets; the committer has let everything out when Ping returns.
type answers struct{ list []*xmpp.Stanza }

func (a *answers) Deliver(st *xmpp.Stanza) bool { a.list = append(a.list, st); return true }
func (a *answers) Send(st *xmpp.Stanza)         { a.list = append(a.list, st) }
func (a *answers) Close(*xmpp.StreamError)      {}

func (a *answers) check(t *testing.T, raw string) {
	t.Helper()
	n := 0
	for _, st := range a.list {
		if _, err := frame.Parse(st.Raw, xmpp.NSClient, frame.Limits{Bytes: 1 << 20}); err != nil {
			t.Fatalf("%s\nwas answered by what is no stanza: %s", raw, st.Raw)
		}
		if st.Kind == xmpp.IQ && st.ID == "fuzz" {
			n++
			if strings.Contains(string(st.Raw), "<internal-server-error") {
				t.Fatalf("%s\n%s", raw, st.Raw)
			}
		}
	}
	if n != 1 {
		t.Fatalf("%s\nhas %d answers", raw, n)
	}
}
