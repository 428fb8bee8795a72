package moved_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"pibox/internal/box"
	"pibox/internal/config"
	"pibox/internal/store"
	"pibox/internal/xmpp"
	"pibox/internal/xmpp/frame"
)

// A crash scenario is one move, played by scripted peers and clients against a whole box in a process of its own, which is killed at one step
// of the committer and started again on the same file.
type scenario struct {
	name     string
	domains  []string
	old, new string
	want     []string // what is stored in the end
	away     int      // so many questions of each life get no answer from the old home
}

const romeo = "romeo@montague.example"

var scenarios = []scenario{
	{"both elsewhere", []string{"montague.example"}, "juliet@im.example.net", "juliet@capulet.example", []string{
		romeo + `: juliet@capulet.example both "Jule"; juliet@im.example.net to "Jule"`,
	}, 0},
	{"the old home is away for a while", []string{"montague.example"}, "juliet@im.example.net", "juliet@capulet.example", []string{
		romeo + `: juliet@capulet.example both "Jule"; juliet@im.example.net to "Jule"`,
	}, 3},
	{"new here", []string{"montague.example"}, "juliet@im.example.net", "juliet@montague.example", []string{
		"juliet@montague.example: romeo@montague.example both",
		romeo + `: juliet@im.example.net to "Jule"; juliet@montague.example both "Jule"`,
	}, 0},
	{"old here", []string{"montague.example"}, "juliet@montague.example", "juliet@capulet.example", []string{
		`juliet@montague.example: romeo@montague.example from`,
		romeo + `: juliet@capulet.example both "Jule"; juliet@montague.example to "Jule"`,
	}, 0},
	{"both here", []string{"montague.example", "capulet.example"}, "juliet@montague.example", "juliet@capulet.example", []string{
		"juliet@capulet.example: romeo@montague.example both",
		`juliet@montague.example: romeo@montague.example from`,
		romeo + `: juliet@capulet.example both "Jule"; juliet@montague.example to "Jule"`,
	}, 0},
}

const (
	envDir  = "MOVED_CRASH_DIR"
	envStep = "MOVED_CRASH_STEP"
	envName = "MOVED_CRASH_SCENARIO"
)

// onlySetUp instead of a step: the life ends before the request.
const onlySetUp = -1

// TestCrashLife is one life of the process: the whole move where nothing ends it. TestCrash starts it in a process that is killed.
func TestCrashLife(t *testing.T) {
	if dir := os.Getenv(envDir); dir != "" {
		at, err := strconv.Atoi(os.Getenv(envStep))
		i := slices.IndexFunc(scenarios, func(s scenario) bool { return s.name == os.Getenv(envName) })
		if err != nil || i < 0 {
			t.Fatal("not understood")
		}
		synctest.Test(t, func(t *testing.T) { live(t, scenarios[i], dir, ending{kill: at}) })
		return
	}
	for _, s := range scenarios {
		dir := t.TempDir()
		synctest.Test(t, func(t *testing.T) { live(t, s, dir, ending{}) })
		check(t, s, dir, "never killed")
	}
}

// TestCrash ends the process at each step of the committer, from the arrival of the request on; row 8's transaction is one of them.
func TestCrash(t *testing.T) {
	for _, s := range scenarios {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			crashes(t, 12, func(dir string, end ending) {
				synctest.Test(t, func(t *testing.T) { live(t, s, dir, end) })
			}, func(dir string, at int) bool { return life(t, s, dir, at) }, func(dir, when string) { check(t, s, dir, when) })
		})
	}
}

// life runs one life of the process and tells whether it was killed.
func life(t *testing.T, s scenario, dir string, at int) bool {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^TestCrashLife$")
	cmd.Env = append(os.Environ(), envDir+"="+dir, envName+"="+s.name, envStep+"="+strconv.Itoa(at))
	said, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.Sys().(syscall.WaitStatus).Signal() == syscall.SIGKILL {
		return true
	}
	if err != nil {
		t.Fatalf("%v\n%s", err, said)
	}
	return false
}

// play is the world around the box in one life: other servers, Romeo's and Juliet's clients. What each of them gets is written to a file at once.
type play struct {
	t   testing.TB
	s   scenario
	log *os.File
	r   *xmpp.Router
	mu  sync.Mutex

	asked int // questions to the old home in this life
}

func live(t *testing.T, s scenario, dir string, end ending) {
	log, err := os.OpenFile(filepath.Join(dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = log.Close() }()
	p, e := &play{t: t, s: s, log: log}, &ender{ending: end, t: t, dir: dir}
	st, err := store.Open(filepath.Join(dir, "pibox.db"), store.Options{Reserve: 1, OnStep: e.onStep})
	if err != nil {
		t.Fatal(err)
	}
	first := p.setUp(st)
	if !first {
		e.armed = true
		p.write("begins", []byte(dump(t, st)))
	}
	b, err := box.New(st, config.Default(), s.domains, "test", p, noLog())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = b.Close() }()
	p.r = b.Router
	if err := b.Start(); err != nil {
		t.Fatal(err)
	}
	juliet := p.connect(s.old)
	if first && juliet != nil {
		p.say(juliet, "<iq type='set' id='p'><pubsub xmlns='http://jabber.org/protocol/pubsub'><publish node='urn:xmpp:moved:1'><item id='current'><moved xmlns='urn:xmpp:moved:1'><new-jid>"+s.new+"</new-jid></moved></item></publish></pubsub></iq>")
	}
	mover := p.connect(s.new)
	for _, o := range []*outlet{juliet, mover, p.connect(romeo)} {
		if o != nil {
			p.say(o, "<iq type='get' id='r'><query xmlns='jabber:iq:roster'/></iq>", "<presence/>")
		}
	}
	synctest.Wait()
	if end.kill == onlySetUp {
		return
	}
	e.armed = true
	if !arrived(t, st, s) {
		request := "<presence type='subscribe' to='" + romeo + "' from='" + s.new + "'><moved xmlns='urn:xmpp:moved:1'><old-jid>" + s.old + "</old-jid></moved></presence>"
		if mover != nil {
			p.say(mover, "<presence type='subscribed' to='"+romeo+"'/>", request)
		} else {
			p.r.FromPeer(p.peer(s.new), xmpp.Make([]byte(request)))
		}
	}
	time.Sleep(10 * time.Minute) // the bubble's time: whatever is to be sent again was
	synctest.Wait()
	if err := b.Close(); err != nil { // tells the store what was delivered
		t.Fatal(err)
	}
	if st, err = store.Open(filepath.Join(dir, "pibox.db"), store.Options{Reserve: 1}); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = st.Close() }()
	if err := os.WriteFile(filepath.Join(dir, "end"), []byte(dump(t, st)), 0o600); err != nil {
		t.Fatal(err)
	}
}

// arrived tells whether the box has acknowledged the request, as far as its sender can know.
func arrived(t testing.TB, st *store.Store, s scenario) (yes bool) {
	if err := st.View(func(tx *store.Tx) error {
		key := store.Key(romeo, s.new)
		yes = store.Pending.Has(tx, key) || store.Roster.Has(tx, key)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return yes
}

// setUp makes the accounts and rosters of a new file.
func (p *play) setUp(st *store.Store) (first bool) {
	err := st.Update(func(tx *store.Tx) error {
		if first = !store.Accounts.Has(tx, romeo); !first {
			return nil
		}
		for _, name := range []string{romeo, p.s.old, p.s.new} {
			if p.local(name) {
				store.Accounts.Put(tx, name, store.Account{Created: time.Now()})
			}
		}
		store.Roster.Put(tx, store.Key(romeo, p.s.old), store.RosterItem{Sub: store.SubBoth, Name: "Jule"})
		if p.local(p.s.old) {
			store.Roster.Put(tx, store.Key(p.s.old, romeo), store.RosterItem{Sub: store.SubBoth})
		}
		return nil
	})
	if err != nil {
		p.t.Fatal(err)
	}
	return first
}

func (p *play) local(name string) bool {
	return slices.Contains(p.s.domains, xmpp.MustJID(name).Domain)
}

func (p *play) peer(name string) *xmpp.Peer {
	return &xmpp.Peer{Domain: xmpp.MustJID(name).Domain, Proof: xmpp.ProofCertificate}
}

func (p *play) write(who string, what []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, err := fmt.Fprintf(p.log, "%s: %s\n", who, bytes.ReplaceAll(what, []byte("\n"), []byte(" | "))); err != nil {
		p.t.Error(err)
	}
}

// Send is what other servers get. Juliet's old one proves the move, her new one approves Romeo, both answer pings.
func (p *play) Send(st *xmpp.Stanza) {
	p.write(st.To.Domain, st.Raw)
	reply := ""
	switch {
	case st.Kind == xmpp.IQ && st.HasChild("urn:xmpp:ping", "ping"):
		reply = "<iq type='result' id='" + st.ID + "' from='" + st.To.String() + "' to='" + st.From.String() + "'/>"
	case st.Kind == xmpp.IQ && st.To.String() == p.s.old && p.away():
	case st.Kind == xmpp.IQ && st.To.String() == p.s.old && st.Type == "get":
		reply = "<iq type='error' id='" + st.ID + "' from='" + p.s.old + "' to='" + st.From.String() + "'><error type='cancel'><gone xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'>xmpp:" + p.s.new + "</gone></error></iq>"
	case st.Type == "subscribe":
		reply = "<presence type='subscribed' from='" + st.To.String() + "' to='" + st.From.String() + "'/>"
	}
	if reply != "" {
		go p.r.FromPeer(p.peer(st.To.String()), xmpp.Make([]byte(reply)))
	}
}

// away tells whether the old home has no power when it is asked.
func (p *play) away() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.asked++
	return p.asked <= p.s.away
}

// outlet is a client: it answers pings.
type outlet struct {
	p *play
	s *xmpp.Session
}

func (p *play) connect(name string) *outlet {
	if !p.local(name) {
		return nil
	}
	o := &outlet{p: p}
	o.s = p.r.Bind(xmpp.MustJID(name), "x", name, o, xmpp.ConflictReplace)
	return o
}

func (o *outlet) Deliver(st *xmpp.Stanza) bool {
	o.p.write(o.s.JID.Bare().String(), st.Raw)
	o.p.r.Taken(o.s, st)
	if st.Kind == xmpp.IQ && st.HasChild("urn:xmpp:ping", "ping") {
		go o.p.say(o, "<iq type='result' id='"+st.ID+"' to='"+st.From.String()+"'/>")
	}
	return true
}

func (o *outlet) Close(err *xmpp.StreamError) { o.p.t.Error("a client was cut off:", err) }

func (p *play) say(o *outlet, all ...string) {
	for _, xml := range all {
		if o.s.JID.Bare().String() == p.s.new {
			xml = strings.Replace(xml, " from='"+p.s.new+"'", "", 1)
		}
		el, err := frame.Parse([]byte(xml), xmpp.NSClient, frame.Limits{Bytes: 1 << 16, Depth: 16, Attrs: 16, Children: 64})
		if err != nil {
			p.t.Error(err)
			return
		}
		if se := p.r.FromSession(o.s, el); se != nil {
			p.t.Error(se)
		}
	}
}

// dump is everything that is stored and must be the same in the end.
func dump(t testing.TB, st *store.Store) string {
	var b strings.Builder
	if err := st.View(func(tx *store.Tx) error {
		last := ""
		for key, it := range store.Roster.All(tx) {
			account, contact, _ := strings.Cut(key, "\x00")
			if sep := "; "; account != last {
				sep = "\n" + account + ": "
				last = account
				b.WriteString(sep)
			} else {
				b.WriteString(sep)
			}
			fmt.Fprintf(&b, "%s %s", contact, it.Sub)
			if it.Ask {
				b.WriteString(" ask")
			}
			if it.Approved {
				b.WriteString(" approved")
			}
			if it.Name != "" {
				fmt.Fprintf(&b, " %q", it.Name)
			}
		}
		for key := range store.Pending.All(tx) {
			fmt.Fprintf(&b, "\npending: %q", key)
		}
		for key := range store.Claims.All(tx) {
			fmt.Fprintf(&b, "\nclaim: %q", key)
		}
		for _, e := range store.Outbox.All(tx) {
			fmt.Fprintf(&b, "\noutbox: %s", e.Stanza)
		}
		for account := range store.Accounts.All(tx) {
			for o := range store.LogOf(tx, store.Range{Account: account, Role: store.Owed}) {
				fmt.Fprintf(&b, "\nmessage: %s %d %s", account, o.Seq, o.Stanza)
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return strings.TrimPrefix(b.String(), "\n")
}
