package moved_test

import (
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pibox/internal/box"
	"pibox/internal/config"
	"pibox/internal/moved"
	"pibox/internal/store"
	"pibox/internal/xmpp"
)

// servers are the world of a plan: some verify moves, some do not, one refuses strangers but not contacts, one is down, one is silent.
type servers struct {
	r      *xmpp.Router
	others []string // what is no question
}

func (s *servers) Send(st *xmpp.Stanza) {
	info := func(features ...string) *xmpp.Stanza {
		x := xmpp.NewXMLNS("query", "http://jabber.org/protocol/disco#info")
		for _, f := range features {
			x.Open("feature", "").Attr("var", f).Close()
		}
		return st.Result(x.Bytes())
	}
	var reply *xmpp.Stanza
	switch {
	case !st.HasChild("http://jabber.org/protocol/disco#info", "query"):
		s.others = append(s.others, string(st.Raw))
		return
	case !s.r.IsLocal(st.From.Domain):
		s.others = append(s.others, string(st.Raw))
		return
	case st.To.Domain == "down.example":
		go s.r.Bounce(st, xmpp.Errorf("remote-server-not-found", "the server of down.example can not be found: its name is not in the DNS"))
		return
	case st.To.Domain == "silent.example":
		return
	case st.To.String() == "gone@plain.example":
		reply = st.Failure(&xmpp.StanzaError{Type: "cancel", Condition: "gone", Value: "xmpp:gone@new.example"})
	case st.To.Domain == "verifies.example", st.To.Local != "" && st.To.Domain == "account.example":
		reply = info("urn:x", moved.NS)
	case st.To.Local != "":
		reply = st.Failure(xmpp.Errorf("service-unavailable", ""))
	default:
		reply = info("urn:x")
	}
	go s.r.FromPeer(&xmpp.Peer{Domain: st.To.Domain, Proof: xmpp.ProofCertificate}, reply)
}

func TestPlan(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pibox.db")
	synctest.Test(t, func(t *testing.T) {
		st, err := store.Open(path, store.Options{Reserve: 1})
		if err != nil {
			t.Fatal(err)
		}
		w := &servers{}
		b := planBox(t, st, w)
		defer func() { _ = b.Close() }()
		began := time.Now()
		p, err := b.Moved.Plan(xmpp.MustJID("juliet@old.example"), xmpp.MustJID("juliet@new.example"), map[xmpp.JID]xmpp.JID{
			xmpp.MustJID("along@old.example"): xmpp.MustJID("along@new.example"),
		})
		if err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took > 45*time.Second {
			t.Errorf("it took %v", took)
		}
		want := map[string]moved.Prospect{
			"a@verifies.example": moved.WillFollow, "b@account.example": moved.WillFollow, "c@plain.example": moved.MustApprove, "gone@plain.example": moved.HasMoved,
			"d@down.example": moved.Unreachable, "e@silent.example": moved.Unreachable, "f@verifies.example": moved.MustAdd, "g@verifies.example": moved.MustApprove,
			"h@verifies.example": moved.ComesAlong, "nurse@old.example": moved.WillFollow, "along@old.example": moved.WillFollow, "nobody@old.example": moved.ComesAlong,
			"i@verifies.example": moved.ComesAlong,
		}
		for _, c := range p.Contacts {
			if want[c.Address] != c.Prospect || c.Why == "" {
				t.Errorf("%s: %s, %s", c.Address, c.Prospect, c.Why)
			}
			if c.Address == "d@down.example" && c.Why != "the server of down.example can not be found: its name is not in the DNS" {
				t.Error(c.Why)
			}
			if (c.Address == "h@verifies.example") != c.Request {
				t.Errorf("%s: request %v", c.Address, c.Request)
			}
			delete(want, c.Address)
		}
		if len(want) > 0 || !p.Announced || p.Exists {
			t.Errorf("missing: %v; %+v", want, p)
		}
		if p, err := b.Moved.Plan(xmpp.MustJID("juliet@old.example"), xmpp.MustJID("juliet@away.example"), nil); err != nil || len(p.Contacts) != 13 {
			t.Errorf("%+v, %v", p, err)
		}
		if len(w.others) > 0 {
			t.Errorf("a plan sent %s", strings.Join(w.others, "\n"))
		}
		if _, err := b.Moved.Plan(xmpp.MustJID("juliet@elsewhere.example"), xmpp.MustJID("juliet@new.example"), nil); err == nil {
			t.Error("a plan for contacts that nobody knows")
		}
		if _, members, err := b.Moved.PlanFamily("old.example", "new.example"); err != nil || len(members) != 3 {
			t.Error(members, err)
		}
	})
}

func planBox(t *testing.T, st *store.Store, w *servers) *box.Box {
	if err := st.Update(func(tx *store.Tx) error {
		for _, name := range []string{"juliet@old.example", "nurse@old.example", "along@old.example"} {
			store.Accounts.Put(tx, name, store.Account{})
		}
		for who, it := range map[string]store.RosterItem{
			"a@verifies.example": {Sub: store.SubBoth}, "b@account.example": {Sub: store.SubTo}, "c@plain.example": {Sub: store.SubBoth}, "gone@plain.example": {Sub: store.SubBoth},
			"d@down.example": {Sub: store.SubBoth}, "e@silent.example": {Sub: store.SubBoth}, "f@verifies.example": {Sub: store.SubFrom}, "g@verifies.example": {Sub: store.SubNone, Ask: true},
			"nurse@old.example": {Sub: store.SubBoth}, "along@old.example": {Sub: store.SubBoth}, "nobody@old.example": {Sub: store.SubBoth}, "i@verifies.example": {Sub: store.SubBoth},
		} {
			store.Roster.Put(tx, store.Key("juliet@old.example", who), it)
		}
		store.Blocks.Put(tx, store.Key("juliet@old.example", "i@verifies.example"), store.Block{})
		store.Pending.Put(tx, store.Key("juliet@old.example", "h@verifies.example"), store.PendingIn{
			Stanza: []byte("<presence type='subscribe' from='h@verifies.example' to='juliet@old.example'/>"),
		})
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	b, err := box.New(st, config.Default(), []string{"old.example", "new.example"}, "test", w, noLog())
	if err == nil {
		w.r = b.Router
		err = b.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	return b
}
