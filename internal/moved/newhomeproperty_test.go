package moved_test

import (
	"flag"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pibox/internal/box"
	"pibox/internal/config"
	"pibox/internal/moved"
	"pibox/internal/store"
	"pibox/internal/xmpp"

	"pgregory.net/rapid"
)

// Whatever order contacts answer in, servers fail, the command is repeated, cancelled and begun again, the box restarts and Juliet comes online: the end is
// the same, and no person is asked twice.

// people are Juliet's contacts, by what they do when they are asked.
var people = []string{"verifies@one.example", "approves@one.example", "refuses@one.example", "error@two.example", "silent@two.example", "from@two.example", "gone@two.example"}

var homeKinds = []string{"answer", "answer", "answer", "answer", "restart", "command", "down", "up", "cancel", "time", "comes online"}

const homeEnd = `
juliet@new.example: approves@one.example to approved; error@two.example none approved; from@two.example from; gone2@one.example to approved; gone@two.example none approved; refuses@one.example none approved; silent@two.example none ask approved; verifies@one.example both
job juliet@new.example running: approves@one.example followed; error@two.example failed; from@two.example followed; gone2@one.example followed; gone@two.example moved; refuses@one.example refused; silent@two.example asked; verifies@one.example followed`

type homeOp struct{ kind, who int }

func (o homeOp) String() string { return homeKinds[o.kind] + " " + people[o.who] }

type homeModel struct {
	path string
	b    *box.Box
	st   *store.Store

	mu       sync.Mutex
	down     bool
	pending  map[string]bool // requests that a contact's server keeps, shown to its user
	answered map[string]bool
	allowed  map[string]bool
	told     map[string]bool
	problems []string
}

func TestHomeInterleavings(t *testing.T) {
	if f := flag.Lookup("rapid.checks"); f != nil && f.Value.String() == f.DefValue {
		_ = f.Value.Set("40")
	}
	rapid.Check(t, func(rt *rapid.T) {
		ops := rapid.SliceOfN(rapid.Custom(func(rt *rapid.T) homeOp {
			return homeOp{rapid.IntRange(0, len(homeKinds)-1).Draw(rt, "kind"), rapid.IntRange(0, len(people)-1).Draw(rt, "who")}
		}), 1, 25).Draw(rt, "ops")
		m := &homeModel{
			path:    filepath.Join(t.TempDir(), "pibox.db"),
			pending: map[string]bool{}, answered: map[string]bool{}, allowed: map[string]bool{}, told: map[string]bool{},
		}
		synctest.Test(t, func(*testing.T) { m.play(t, ops) })
		if len(m.problems) > 0 {
			rt.Fatalf("%s", strings.Join(m.problems, "\n"))
		}
	})
}

func (m *homeModel) play(t *testing.T, ops []homeOp) {
	m.open()
	m.command()
	for _, o := range ops {
		m.do(o)
		synctest.Wait()
	}
	m.do(homeOp{kind: slices.Index(homeKinds, "up")})
	m.command()
	for range 4 {
		time.Sleep(24 * time.Hour)
		synctest.Wait()
		for _, who := range append(slices.Clone(people), "gone2@one.example") {
			m.answer(who)
			synctest.Wait()
		}
	}
	have := ""
	for line := range strings.Lines(dump(t, m.st) + jobs(t, m.st)) {
		if strings.HasPrefix(line, "juliet@new") || strings.HasPrefix(line, "job ") || strings.HasPrefix(line, "outbox") {
			have += line
		}
	}
	if strings.TrimSpace(have) != strings.TrimSpace(homeEnd) {
		m.problem("the end is\n%s", have)
	}
	m.close()
}

func (m *homeModel) problem(format string, args ...any) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.problems = append(m.problems, fmt.Sprintf(format, args...))
}

func (m *homeModel) must(err error) {
	if err != nil {
		panic(err)
	}
}

func (m *homeModel) open() {
	var err error
	m.st, err = store.Open(m.path, store.Options{Reserve: 1})
	m.must(err)
	m.must(m.st.Update(func(tx *store.Tx) error {
		if store.Accounts.Has(tx, "juliet@old.example") {
			return nil
		}
		store.Accounts.Put(tx, "juliet@old.example", store.Account{Created: time.Now()})
		for _, who := range people {
			sub := store.SubBoth
			if strings.HasPrefix(who, "from") {
				sub = store.SubFrom
			}
			store.Roster.Put(tx, store.Key("juliet@old.example", who), store.RosterItem{Sub: sub})
		}
		return nil
	}))
	m.b, err = box.New(m.st, config.Default(), []string{"old.example", "new.example"}, "test", m, noLog())
	m.must(err)
	m.must(m.b.Start())
	synctest.Wait()
}

func (m *homeModel) close() {
	m.must(m.b.Close())
	synctest.Wait()
}

func (m *homeModel) command() {
	m.must(m.b.Moved.Move(xmpp.MustJID("juliet@old.example"), xmpp.MustJID("juliet@new.example"), moved.StartOptions{}))
	synctest.Wait()
}

func (m *homeModel) do(o homeOp) {
	switch homeKinds[o.kind] {
	case "answer":
		m.answer(people[o.who])
	case "restart":
		m.close()
		m.open()
	case "command":
		m.command()
	case "cancel":
		_, _ = m.b.Moved.Cancel(xmpp.MustJID("juliet@new.example")) // it may be so already
	case "time":
		time.Sleep(7 * time.Minute)
	case "comes online":

		s := m.b.Router.Bind(xmpp.MustJID("juliet@new.example"), "x", "x", deaf{}, xmpp.ConflictReplace)
		m.b.Router.FromSession(s, el("<presence/>"))
	case "down", "up":
		m.mu.Lock()
		m.down = homeKinds[o.kind] == "down"
		m.mu.Unlock()
	}
}

// answer is what a contact does, once, when his server was asked.
func (m *homeModel) answer(who string) {
	m.mu.Lock()
	ready := (m.pending[who] || m.told[who]) && !m.answered[who] && !m.down && !strings.HasPrefix(who, "silent")
	m.answered[who] = m.answered[who] || ready
	m.mu.Unlock()
	if !ready {
		return
	}
	tag := func(typ, more string) {
		m.hear("<presence type='" + typ + "' from='" + who + "' to='juliet@new.example'>" + more + "</presence>")
	}
	switch name, _, _ := strings.Cut(who, "@"); name {
	case "verifies":
		m.allow(who)
		tag("subscribed", "")
		tag("subscribe", "")
	case "approves", "gone2":
		m.allow(who)
		tag("subscribed", "")
	case "refuses":
		m.mu.Lock()
		m.pending[who] = false
		m.mu.Unlock()
		tag("unsubscribed", "")
	case "error":
		m.mu.Lock()
		m.pending[who] = false
		m.mu.Unlock()
		tag("error", "<error type='cancel'><item-not-found xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error>")
	case "gone":
		tag("error", "<error type='cancel'><gone xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'>xmpp:gone2@one.example</gone></error>")
	case "from":
		tag("subscribe", "")
	}
}

func (m *homeModel) allow(who string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.allowed[who], m.pending[who] = true, false
}

func (m *homeModel) hear(xml string) {
	st := xmpp.Make([]byte(xml))
	m.b.Router.FromPeer(&xmpp.Peer{Domain: st.From.Domain, Proof: xmpp.ProofCertificate}, st)
}

// Send is what other servers get.
func (m *homeModel) Send(st *xmpp.Stanza) {
	m.mu.Lock()
	defer m.mu.Unlock()
	who := st.To.String()
	if m.down && st.Kind != xmpp.Message { // a message waits in the store for its server
		go m.b.Router.Bounce(st, xmpp.Errorf("remote-server-timeout", ""))
		return
	}
	switch {
	case st.Kind == xmpp.IQ && st.IsRequest():
		go m.b.Router.FromPeer(&xmpp.Peer{Domain: st.To.Domain, Proof: xmpp.ProofCertificate}, st.Result(nil))
	case st.Kind == xmpp.Message && m.told[who]:
		m.problems = append(m.problems, who+" was told twice")
	case st.Kind == xmpp.Message:
		m.told[who] = true
	case st.Type == "unsubscribe":
		m.pending[who] = false
	case st.Type == "subscribe" && !st.HasChild(moved.NS, "moved"):
		m.problems = append(m.problems, "a request without its claim: "+string(st.Raw))
	case st.Type == "subscribe" && m.allowed[who]:
		go m.hear("<presence type='subscribed' from='" + who + "' to='juliet@new.example'/>")
	case st.Type == "subscribe" && m.answered[who]:
		m.problems = append(m.problems, who+" was asked after he had answered")
	case st.Type == "subscribe" && strings.HasPrefix(who, "from@"):
		m.problems = append(m.problems, who+" was asked")
	case st.Type == "subscribe":
		m.pending[who] = true
	}
}
