package moved_test

import (
	"flag"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pibox/internal/box"
	"pibox/internal/config"
	"pibox/internal/store"
	"pibox/internal/xmpp"
	"pibox/internal/xmpp/frame"

	"pgregory.net/rapid"
)

// Whatever order claims, replies, answers, blocks, removals and restarts come in, what docs/moved.md promises holds.

// olds are Romeo's contacts, by the address that each moved to; "" is one who did not move.
var (
	olds  = []string{"a@one.example", "b@one.example", "c@two.example"}
	truth = map[string]string{"a@one.example": "a@new.example", "b@one.example": "b@new.example", "c@two.example": ""}
	news  = []string{"a@new.example", "b@new.example", "m@evil.example"}
)

// op is one thing that happens: a kind, and the addresses that it is about.
type op struct{ kind, new, old int }

var kinds = []string{
	"claim", "claim", "claim", "claim", "request", "withdraw", "reply", "reply", "reply", "reply elsewhere", "approve", "deny", "remove new", "remove old",
	"block new", "block old", "unblock", "time", "restart", "other servers down", "other servers up",
}

func (o op) String() string { return fmt.Sprintf("%s %s %s", kinds[o.kind], news[o.new], olds[o.old]) }

// model is the world around the box, what it may have done by now, and what is wrong.
type model struct {
	t     *testing.T
	path  string
	b     *box.Box
	st    *store.Store
	romeo *xmpp.Session

	mu       sync.Mutex
	down     bool
	queries  []*xmpp.Stanza  // unanswered, the oldest first
	allowed  map[string]bool // new addresses that the truth was told about, or that Romeo approved
	notices  map[string]string
	asked    map[string]bool // new addresses whose request Romeo's session was shown, and has not answered
	shown    []string        // in the current operation
	problems []string
}

func TestInterleavings(t *testing.T) {
	if f := flag.Lookup("rapid.checks"); f != nil && f.Value.String() == f.DefValue {
		_ = f.Value.Set("40") // each writes a real file many times
	}
	rapid.Check(t, func(rt *rapid.T) {
		ops := rapid.SliceOfN(rapid.Custom(func(rt *rapid.T) op {
			return op{
				rapid.IntRange(0, len(kinds)-1).Draw(rt, "kind"), rapid.IntRange(0, len(news)-1).Draw(rt, "new"),
				rapid.IntRange(0, len(olds)-1).Draw(rt, "old"),
			}
		}), 1, 25).Draw(rt, "ops")
		m := &model{t: t, path: filepath.Join(t.TempDir(), "pibox.db"), allowed: map[string]bool{}, notices: map[string]string{}}
		synctest.Test(t, func(t *testing.T) { m.play(ops) })
		if len(m.problems) > 0 {
			rt.Fatalf("%s", strings.Join(m.problems, "\n"))
		}
	})
}

func (m *model) play(ops []op) {
	m.open()
	for _, o := range ops {
		m.do(o)
		synctest.Wait()
		m.look(o.String())
	}
	m.do(op{kind: slices.Index(kinds, "other servers up")})
	time.Sleep(48 * time.Hour)
	synctest.Wait()
	m.look("the end")
	m.atRest()
	m.close()
}

func (m *model) problem(format string, args ...any) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.problems = append(m.problems, fmt.Sprintf(format, args...))
}

func (m *model) must(err error) {
	if err != nil {
		panic(err)
	}
}

func (m *model) open() {
	var err error
	m.st, err = store.Open(m.path, store.Options{Reserve: 1})
	m.must(err)
	m.must(m.st.Update(func(tx *store.Tx) error {
		if store.Accounts.Has(tx, romeo) {
			return nil
		}
		store.Accounts.Put(tx, romeo, store.Account{Created: time.Now()})
		for i, old := range olds {
			store.Roster.Put(tx, store.Key(romeo, old), store.RosterItem{Sub: []store.Subscription{store.SubBoth, store.SubFrom, store.SubBoth}[i]})
		}
		return nil
	}))
	cfg := config.Default()
	cfg.Moved.PerSender = 1000
	cfg.Moved.PerDomain, cfg.Moved.Total = 1000, 1000
	m.reset()
	m.b, err = box.New(m.st, cfg, []string{"montague.example"}, "test", m, noLog())
	m.must(err)
	m.must(m.b.Start())
	m.romeo = m.b.Router.Bind(xmpp.MustJID(romeo), "x", "x", m, xmpp.ConflictReplace)
	m.say("<iq type='get' id='r'><query xmlns='jabber:iq:roster'/></iq>")
	m.say("<presence/>")
	synctest.Wait()
}

// reset is what a new process, and a new session, begins with.
func (m *model) reset() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.queries, m.asked = nil, map[string]bool{}
}

// oldest is the question that has waited longest; nil where there is none.
func (m *model) oldest(take bool) (q *xmpp.Stanza) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.queries) == 0 {
		return nil
	}
	if q = m.queries[0]; take {
		m.queries = m.queries[1:]
	}
	return q
}

func (m *model) close() {
	m.must(m.b.Close())
	synctest.Wait()
}

func (m *model) say(xml string) {
	el, err := frame.Parse([]byte(xml), xmpp.NSClient, frame.Limits{Bytes: 1 << 16, Depth: 16, Attrs: 16, Children: 64})
	m.must(err)
	m.b.Router.FromSession(m.romeo, el)
}

func (m *model) hear(domain, xml string) {
	m.b.Router.FromPeer(&xmpp.Peer{Domain: domain, Proof: xmpp.ProofCertificate}, xmpp.Make([]byte(xml)))
}

func (m *model) do(o op) {
	new, old := news[o.new], olds[o.old]
	if slices.Contains([]string{"withdraw", "approve", "deny", "remove new", "block new", "unblock"}, kinds[o.kind]) {
		m.mu.Lock()
		delete(m.asked, new)
		m.mu.Unlock()
	}
	switch kinds[o.kind] {
	case "claim":
		m.hear(domain(new), "<presence type='subscribe' from='"+new+"' to='"+romeo+"'><moved xmlns='urn:xmpp:moved:1'><old-jid>"+old+"</old-jid></moved></presence>")
	case "request":
		m.hear(domain(new), "<presence type='subscribe' from='"+new+"' to='"+romeo+"'/>")
	case "withdraw":
		m.hear(domain(new), "<presence type='unsubscribe' from='"+new+"' to='"+romeo+"'/>")
	case "reply":
		m.reply()
	case "reply elsewhere":
		if q := m.oldest(false); q != nil { // somebody who guessed the id
			m.hear("evil.example", gone(q.ID, "m@evil.example", "m@evil.example"))
		}
	case "approve":
		m.allowed[new] = true
		m.say("<presence type='subscribed' to='" + new + "'/>")
	case "deny":
		m.say("<presence type='unsubscribed' to='" + new + "'/>")
	case "remove new":
		m.say("<iq type='set' id='x'><query xmlns='jabber:iq:roster'><item jid='" + new + "' subscription='remove'/></query></iq>")
	case "remove old":
		m.say("<iq type='set' id='x'><query xmlns='jabber:iq:roster'><item jid='" + old + "' subscription='remove'/></query></iq>")
	case "block new":
		m.say("<iq type='set' id='x'><block xmlns='urn:xmpp:blocking'><item jid='" + new + "'/></block></iq>")
	case "block old":
		m.say("<iq type='set' id='x'><block xmlns='urn:xmpp:blocking'><item jid='" + old + "'/></block></iq>")
	case "unblock":
		m.say("<iq type='set' id='x'><unblock xmlns='urn:xmpp:blocking'/></iq>")
	case "time":
		time.Sleep(31 * time.Second) // the bubble's
	case "restart":
		m.close()
		m.open()
	case "other servers down", "other servers up":
		m.mu.Lock()
		m.down = kinds[o.kind] == "other servers down"
		m.mu.Unlock()
	}
}

// reply answers the oldest question with the truth.
func (m *model) reply() {
	q := m.oldest(true)
	if q == nil {
		return
	}
	if to := truth[q.To.String()]; to != "" {
		m.allowed[to] = true
		m.hear(q.To.Domain, gone(q.ID, q.To.String(), to))
		return
	}
	m.hear(q.To.Domain, string(q.Failure(xmpp.Errorf("item-not-found", "")).Raw))
}

func gone(id, from, to string) string {
	return "<iq type='error' id='" + id + "' from='" + from + "' to='" + romeo + "'><error type='cancel'><gone xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'>xmpp:" + to + "</gone></error></iq>"
}

// Send is what other servers get, as an effect.
func (m *model) Send(st *xmpp.Stanza) {
	m.mu.Lock()
	down := m.down
	if st.Kind == xmpp.IQ && st.HasChild("http://jabber.org/protocol/pubsub", "pubsub") {
		m.queries = append(m.queries, st)
	}
	m.mu.Unlock()
	switch {
	case down:
		m.b.Router.Bounce(st, xmpp.Errorf("remote-server-timeout", ""))
	case st.Kind == xmpp.IQ && st.HasChild("urn:xmpp:ping", "ping"):
		go m.b.Router.FromPeer(&xmpp.Peer{Domain: st.To.Domain, Proof: xmpp.ProofCertificate}, st.Result(nil))
	case st.Kind == xmpp.IQ:
		m.must(m.st.View(func(tx *store.Tx) error {
			if it, _ := store.Roster.Get(tx, store.Key(romeo, st.To.String())); !it.Sub.From() {
				m.problem("a question to %s, who is %q", st.To, it.Sub)
			}
			return nil
		}))
	}
}

// Deliver is what Romeo's session gets.
func (m *model) Deliver(st *xmpp.Stanza) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case st.Type == "subscribe":
		if who := st.From.Bare().String(); m.asked[who] {
			m.problems = append(m.problems, "Romeo was asked about "+who+" twice")
		} else {
			m.asked[who] = true
			m.shown = append(m.shown, who)
		}
	case st.Kind == xmpp.Message && strings.HasPrefix(st.ID, "notice-"):
		f := strings.Fields(st.Node().ChildText(xmpp.NSClient, "body")) // NAME moved from OLD to NEW.
		if old := f[3]; m.notices[old] != "" && m.notices[old] != st.ID {
			m.problems = append(m.problems, old+" moved twice")
		} else {
			m.notices[old] = st.ID
		}
		if truth[f[3]] != strings.TrimSuffix(f[5], ".") {
			m.problems = append(m.problems, "not so: "+strings.Join(f[:6], " "))
		}
	case st.Kind == xmpp.Presence && st.Type == "error" && st.ID != "" && strings.HasPrefix(st.ID, "moved-"):
		m.problems = append(m.problems, "Romeo is bothered with what the outbox sends: "+string(st.Raw))
	case st.HasChild("urn:xmpp:ping", "ping"):
		go m.say("<iq type='result' id='" + st.ID + "' to='" + st.From.String() + "'/>")
	}
	return true
}

// Close is part of the outlet.
func (m *model) Close(*xmpp.StreamError) {}

// look checks what must hold at any moment.
func (m *model) look(after string) {
	m.mu.Lock()
	shown := m.shown
	m.shown = nil
	m.mu.Unlock()
	m.must(m.st.View(func(tx *store.Tx) error {
		for _, new := range news {
			it, _ := store.Roster.Get(tx, store.Key(romeo, new))
			p, pending := store.Pending.Get(tx, store.Key(romeo, new))
			if it.Sub.From() && !m.allowed[new] {
				m.problem("after %s: %s is %q, and nobody proved or approved that", after, new, it.Sub)
			}
			if it.Sub.From() && pending {
				m.problem("after %s: %s is %q, and a request waits", after, new, it.Sub)
			}
			if slices.Contains(shown, new) && pending && p.Verifying {
				m.problem("after %s: Romeo was shown a request of %s that is being verified", after, new)
			}
		}
		return nil
	}))
}

// atRest checks what must hold when nothing is under way any more.
func (m *model) atRest() {
	m.must(m.st.View(func(tx *store.Tx) error {
		for key := range store.Claims.All(tx) {
			m.problem("a claim is left: %q", key)
		}
		for key, p := range store.Pending.All(tx) {
			if p.Verifying {
				m.problem("a request is left hidden: %q", key)
			}
		}
		for _, e := range store.Outbox.All(tx) {
			m.problem("the outbox holds %s", e.Stanza)
		}
		m.mu.Lock()
		moved := slices.Collect(maps.Keys(m.notices))
		m.mu.Unlock()
		for _, old := range moved {
			if it, _ := store.Roster.Get(tx, store.Key(romeo, old)); it.Sub.From() {
				m.problem("%s moved and is still %q", old, it.Sub)
			}
		}
		return nil
	}))
}
