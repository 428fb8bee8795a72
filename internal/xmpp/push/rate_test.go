package push_test

import (
	"fmt"
	"log/slog"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pibox/internal/store"
	"pibox/internal/xmpp"
	"pibox/internal/xmpp/push"
)

const (
	burst    = 5
	interval = 20 * time.Second
)

// services stand for all push services: they answer as the random source says, or not at all, and keep what they were told and when.
type services struct {
	t    *testing.T
	r    *xmpp.Router
	rand *rand.Rand
	good bool // all are answered by a result

	mu      sync.Mutex
	times   []time.Time
	open    map[string]time.Time // publications without an answer, by service and node
	counts  map[string]string    // the last message-count told, and by whom it was answered by a result
	refused map[string]bool
}

func (v *services) Send(st *xmpp.Stanza) {
	pubsub := st.Node().Child("", "pubsub")
	name := st.To.Domain + " " + pubsub.Child("", "publish").Attr("node")
	v.mu.Lock()
	defer v.mu.Unlock()
	now := time.Now()
	v.times = append(v.times, now)
	if at, ok := v.open[name]; ok && now.Sub(at) < time.Minute {
		v.t.Errorf("%s is told twice without an answer", name)
	}
	v.open[name] = now
	form := pubsub.Child("", "publish").Child("", "item").Child("", "notification").Child("", "x")
	v.counts[name] = form.Children[1].ChildText("", "value")
	delete(v.refused, name)
	answer := v.rand.IntN(10)
	if v.good {
		answer = 9
	}
	var reply *xmpp.Stanza
	switch answer {
	case 0: // none
		return
	case 1:
		reply, v.refused[name] = st.Failure(xmpp.Errorf("item-not-found", "")), true
	case 2, 3:
		reply = st.Failure(xmpp.Errorf("remote-server-timeout", ""))
	default:
		reply = st.Result(nil)
	}
	time.AfterFunc(time.Duration(v.rand.IntN(2_000))*time.Millisecond, func() {
		v.mu.Lock()
		if v.open[name].Equal(now) {
			delete(v.open, name)
		}
		v.mu.Unlock()
		v.r.FromPeer(&xmpp.Peer{Domain: st.To.Domain, Proof: xmpp.ProofCertificate}, reply)
	})
}

func (v *services) forget(name string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	delete(v.open, name)
}

// bounded checks that no span of time saw more publications than the rate allows, and tells whether one saw as many. What has waited for its
// turn and then had nothing to tell keeps it: one more for each registration.
func (v *services) bounded(registrations int) (reached bool) {
	for i := range v.times {
		for j := i; j < len(v.times); j++ {
			n, span := j-i+1, v.times[j].Sub(v.times[i])
			rate := burst + int(span/interval)
			if n > rate+registrations {
				v.t.Fatalf("%d publications within %s, allowed are %d", n, span, rate+registrations)
			}
			reached = reached || n >= rate && span > 10*interval
		}
	}
	return reached
}

type outlet struct{}

func (outlet) Deliver(*xmpp.Stanza) bool { return true }

func (outlet) Close(*xmpp.StreamError) {}

// device does what a hostile client may: it comes, goes, is detached and resumed, enables and disables, in any order.
type device struct {
	r    *xmpp.Router
	name string
	s    *xmpp.Session
}

var me = xmpp.MustJID("romeo@montague.example")

func (d *device) connect() {
	if d.s == nil || d.r.SessionOf(d.s.JID) == nil {
		d.s = d.r.Bind(me, d.name, "test", outlet{}, xmpp.ConflictReplace)
		d.s.SetConfirms()
	}
	d.r.SetDetached(d.s, false)
}

func (d *device) leave() {
	if d.s != nil {
		d.r.Unbind(d.s)
	}
}

func (d *device) ask(t *testing.T, what string, n int) {
	d.connect()
	st := xmpp.Make([]byte(fmt.Sprintf("<iq type='set' id='1'><%s xmlns='%s' jid='push%d.example' node='%s'/></iq>", what, push.NS, n, d.name)))
	if err := d.r.FromSession(d.s, st.Element); err != nil {
		t.Error(err)
	}
}

// TestRate: whatever devices, senders and push services do, publications stay within the rate, one at a time for each registration; and when
// the services answer again, what was missed last is told.
func TestRate(t *testing.T) {
	reached := 0
	for seed := range uint64(4) {
		dir := t.TempDir()
		synctest.Test(t, func(t *testing.T) {
			if playRate(t, seed, dir) {
				reached++
			}
		})
	}
	if reached == 0 {
		t.Error("no play came to the limit")
	}
}

func playRate(t *testing.T, seed uint64, dir string) (reached bool) {
	random := rand.New(rand.NewPCG(seed, 1))
	st, err := store.Open(filepath.Join(dir, "pibox.db"), store.Options{Reserve: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = st.Close() }()
	r := xmpp.NewRouter(st, slog.New(slog.DiscardHandler), []string{me.Domain})
	v := &services{t: t, r: r, rand: rand.New(rand.NewPCG(seed, 2)), open: map[string]time.Time{}, counts: map[string]string{}, refused: map[string]bool{}}
	r.SetRemote(v)
	r.SetExists(me, true)
	m := newMessages(r)
	p := push.Register(r, m, push.Options{Burst: burst, Interval: interval, Max: 9})
	devices := []*device{{r: r, name: "a"}, {r: r, name: "b"}, {r: r, name: "c"}}
	for range 400 {
		d := devices[random.IntN(len(devices))]
		switch n := random.IntN(100); {
		case n < 8:
			d.ask(t, "enable", random.IntN(3))
		case n < 10:
			service := random.IntN(3)
			d.ask(t, "disable", service)
			synctest.Wait()
			v.forget(fmt.Sprintf("push%d.example %s", service, d.name)) // enabled again it is another registration
		case n < 18:
			d.leave()
		case n < 24:
			d.connect()
		case n < 30 && d.s != nil && r.SessionOf(d.s.JID) == d.s:
			r.SetDetached(d.s, random.IntN(2) == 0)
		case n < 33 && d.s != nil && m.last[me] != nil:
			r.Taken(d.s, m.last[me])
		default:
			message(r)
		}
		if random.IntN(4) == 0 {
			time.Sleep(time.Duration(random.IntN(10_000)) * time.Millisecond) // virtual
		}
		synctest.Wait()
	}
	settle(t, v, r, devices)
	p.Stop()
	return v.bounded(9)
}

func message(r *xmpp.Router) {
	r.FromPeer(&xmpp.Peer{Domain: "capulet.example", Proof: xmpp.ProofCertificate},
		xmpp.Make([]byte("<message from='juliet@capulet.example/x' to='romeo@montague.example' type='chat'><body>1</body></message>")))
}

// settle: all devices come and go, the services answer again, three messages arrive; each registration's last word is 3.
func settle(t *testing.T, v *services, r *xmpp.Router, devices []*device) {
	v.mu.Lock()
	v.good = true
	v.mu.Unlock()
	for _, d := range devices {
		d.connect()
	}
	time.Sleep(3 * time.Hour) // virtual
	for _, d := range devices {
		d.ask(t, "enable", 0)
		synctest.Wait()
		r.Taken(d.s, &xmpp.Stanza{Seq: 1 << 40})
		d.leave()
	}
	for range 3 {
		message(r)
	}
	time.Sleep(3 * time.Hour) // virtual
	synctest.Wait()
	for _, d := range devices {
		if have := v.counts["push0.example "+d.name]; have != "3" {
			t.Errorf("the last word to %s is %q messages", d.name, have)
		}
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if err := r.Store.View(func(tx *store.Tx) error {
		for key := range store.Pushes.All(tx) {
			part := strings.Split(key, "\x00")
			if v.refused[part[1]+" "+part[2]] {
				t.Errorf("%q was refused and is kept", key)
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}
