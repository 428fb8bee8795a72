package roster_test

import (
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"testing"

	"pibox/internal/store"
	"pibox/internal/xmpp"
	"pibox/internal/xmpp/frame"
	"pibox/internal/xmpp/presence"
	"pibox/internal/xmpp/roster"
)

// bench is a box with one account, one available and interested resource of it, and the rest of the world.
type bench struct {
	t       *testing.T
	r       *xmpp.Router
	st      *store.Store
	roster  *roster.Roster
	session *xmpp.Session
	mu      sync.Mutex
	got     []*xmpp.Stanza // by the resource
	sent    []*xmpp.Stanza // to the world
	n       int
}

var account = xmpp.MustJID("romeo@montague.example")

type outlet struct{ b *bench }

func (o outlet) Deliver(st *xmpp.Stanza) bool {
	o.b.mu.Lock()
	defer o.b.mu.Unlock()
	o.b.got = append(o.b.got, st)
	return true
}

func (o outlet) Close(*xmpp.StreamError) {}

type world struct{ b *bench }

func (w world) Send(st *xmpp.Stanza) {
	w.b.mu.Lock()
	defer w.b.mu.Unlock()
	w.b.sent = append(w.b.sent, st)
}

func newBench(t *testing.T) *bench {
	st, err := store.Open(filepath.Join(t.TempDir(), "pibox.db"), store.Options{Reserve: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := st.Close(); err != nil {
			t.Error(err)
		}
	})
	b := &bench{t: t, st: st, r: xmpp.NewRouter(st, slog.New(slog.DiscardHandler), []string{account.Domain})}
	b.r.SetRemote(world{b})
	b.roster = roster.Register(b.r, presence.Register(b.r, presence.Options{}), roster.Options{})
	b.r.SetExists(account, true)
	b.session = b.r.Bind(account, "orchard", "test", outlet{b}, xmpp.ConflictReplace)
	b.client("<presence/>")
	b.client("<iq type='get' id='1'><query xmlns='jabber:iq:roster'/></iq>")
	return b
}

func parse(t *testing.T, xml, ns string) *frame.Element {
	t.Helper()
	el, err := frame.Parse([]byte(xml), ns, frame.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	return el
}

func (b *bench) client(xml string) {
	if se := b.r.FromSession(b.session, parse(b.t, xml, xmpp.NSClient)); se != nil {
		b.t.Fatal(se)
	}
}

func (b *bench) peer(xml string) {
	st, err := xmpp.NewStanza(parse(b.t, xml, xmpp.NSServer))
	if err != nil {
		b.t.Fatal(err)
	}
	b.r.FromPeer(&xmpp.Peer{Domain: st.From.Domain, Proof: xmpp.ProofCertificate}, st)
}

// rest waits until everything that was sent has had its effects.
func (b *bench) rest() {
	if err := b.r.Store.Ping(b.t.Context()); err != nil {
		b.t.Fatal(err)
	}
}

// seen is what a stanza did.
type seen struct {
	before, after struct {
		facts
		listed, approved bool
	}
	routed, delivered int      // stanzas of the type in question
	replies           []string // types of other subscription stanzas that the contact got
	pushes            []string // what the resource was told of the item, in order
	told              string   // what the contact saw last of the resource: "available", "unavailable" or ""
	order             []string // types of all presence to the contact
}

// observe puts a new contact into the cell's state, lets the stanza come, and looks.
func (b *bench) observe(c cell, listed bool) (s seen) {
	b.n++
	who := xmpp.MustJID(fmt.Sprintf("juliet%d@capulet.example", b.n))
	key := store.Key(account.String(), who.String())
	f := states[c.state]
	request := fmt.Sprintf("<presence type='subscribe' from='%s' to='%s'/>", who, account)
	if err := b.st.Update(func(tx *store.Tx) error {
		if listed {
			store.Roster.Put(tx, key, store.RosterItem{Sub: f.sub, Ask: f.out, Approved: c.approved, Name: "Juliet"})
		}
		if f.pending {
			store.Pending.Put(tx, key, store.PendingIn{Stanza: []byte(request)})
		}
		return nil
	}); err != nil {
		b.t.Fatal(err)
	}
	s.before.facts, s.before.listed, s.before.approved = f, listed, c.approved
	b.rest()
	b.mu.Lock()
	b.got, b.sent = nil, nil
	b.mu.Unlock()
	if c.outbound {
		b.client(fmt.Sprintf("<presence type='%s' to='%s'/>", c.typ, who))
	} else {
		b.peer(fmt.Sprintf("<presence type='%s' from='%s' to='%s'/>", c.typ, who, account))
	}
	b.rest()
	if err := b.st.View(func(tx *store.Tx) error {
		item, ok := store.Roster.Get(tx, key)
		s.after.listed = ok && !item.Removed
		s.after.facts = facts{store.SubNone, item.Ask, store.Pending.Has(tx, key)}
		if s.after.listed {
			s.after.sub = item.Sub
		}
		s.after.approved = item.Approved
		return nil
	}); err != nil {
		b.t.Fatal(err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	s.look(c, who, b.got, b.sent)
	return s
}

func (s *seen) look(c cell, who xmpp.JID, got, sent []*xmpp.Stanza) {
	for _, st := range sent {
		s.order = append(s.order, st.Type)
		switch {
		case st.To != who || st.Kind != xmpp.Presence:
			s.replies = append(s.replies, "something else: "+string(st.Raw))
		case st.Type == "":
			s.told = "available"
		case st.Type == "unavailable":
			s.told = "unavailable"
		case st.From != account:
			s.replies = append(s.replies, "not from the bare address: "+string(st.Raw))
		case c.outbound && st.Type == c.typ:
			s.routed++
		default:
			s.replies = append(s.replies, st.Type)
		}
	}
	for _, st := range got {
		item := st.Node().Child(roster.NS, "query").Child(roster.NS, "item")
		switch {
		case st.Kind == xmpp.Presence && st.Type == c.typ && st.From == who && st.To == account:
			s.delivered++
		case item != nil && item.Attr("jid") == who.String():
			s.pushes = append(s.pushes, words(item.Attr("subscription"), item.Attr("ask"), item.Attr("approved")))
		default:
			s.pushes = append(s.pushes, "something else: "+string(st.Raw))
		}
	}
}
