package delivery_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pibox/internal/xmpp"
	"pibox/internal/xmpp/delivery"
)

// device is a client that behaves as it likes.
type device struct {
	*xmpp.Session
	f            *family
	acknowledges bool
	sulks        bool // it once did not answer: it may get things twice

	mu    sync.Mutex
	dead  bool // of a process that ended; its timers go on
	unack []*xmpp.Stanza
	pings []*xmpp.Stanza
	page  [][]string // what stood in front of each ping
	since []string
	had   map[string]bool
}

// Room is xmpp.Roomy.
func (d *device) Room() int { return math.MaxInt }

// family is Juliet's devices and what they are known to have.
type family struct {
	*world
	rng     *rand.Rand
	devices []*device
	sent    int
	names   int

	mu      sync.Mutex
	seen    map[string]bool // a device has it
	certain map[string]bool // a device of this run is known to have it
	settled map[string]bool // that was so at an orderly end
	faults  []string
}

func (f *family) fault(format string, args ...any) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.faults = append(f.faults, fmt.Sprintf(format, args...))
}

func (f *family) has(ids ...string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, id := range ids {
		f.certain[id], f.seen[id] = true, true
	}
}

func body(st *xmpp.Stanza) string {
	id, _, _ := strings.Cut(st.Node().ChildText(xmpp.NSClient, "body"), " ")
	return id
}

// Deliver: without XEP-0198 a message is written at once.
func (d *device) Deliver(st *xmpp.Stanza) bool {
	d.mu.Lock()
	if d.dead {
		d.mu.Unlock()
		return false
	}
	id := body(st)
	switch {
	case st.Kind == xmpp.IQ:
		d.pings, d.page, d.since = append(d.pings, st), append(d.page, d.since), nil
	case d.had[id] && !d.sulks:
		d.f.fault("%s got %s twice", d.JID, id)
	}
	if st.Kind == xmpp.Message {
		d.had[id] = true
		if d.unack = append(d.unack, st); !d.acknowledges {
			d.unack, d.since = nil, append(d.since, id)
		}
	}
	d.mu.Unlock()
	d.f.mu.Lock()
	settled := d.f.settled[id]
	d.f.seen[id] = d.f.seen[id] || !d.acknowledges
	d.f.mu.Unlock()
	if settled {
		d.f.fault("%s got %s, which was delivered before an orderly restart", d.JID, id)
	}
	if st.Kind == xmpp.Message && !d.acknowledges {
		if !st.HasChild("urn:xmpp:delay", "delay") {
			d.f.has(id)
		}
		d.f.r.Taken(d.Session, st)
	}
	return true
}

func (d *device) Close(*xmpp.StreamError) {}

// answers acknowledges the first n stanzas, or all pings.
func (d *device) answers(n int) {
	d.mu.Lock()
	if !d.acknowledges {
		pings, pages := d.pings, d.page
		d.pings, d.page = nil, nil
		d.mu.Unlock()
		for i, p := range pings {
			if !d.sulks {
				d.f.has(pages[i]...)
			}
			_ = d.f.r.FromSession(d.Session, xmpp.Make([]byte("<iq type='result' id='"+p.ID+"' to='montague.example'/>")).Element)
		}
		return
	}
	n = min(n, len(d.unack))
	done := d.unack[:n]
	d.unack = d.unack[n:]
	d.mu.Unlock()
	for _, st := range done {
		d.f.has(body(st))
		d.f.r.Taken(d.Session, st)
	}
}

func (f *family) bind(acknowledges bool) *device {
	f.names++
	d := &device{f: f, acknowledges: acknowledges, had: map[string]bool{}}
	d.Session = f.r.Bind(f.juliet, "d"+strconv.Itoa(f.names), "", d, xmpp.ConflictReplace)
	if acknowledges {
		d.SetConfirms()
	}
	f.devices = append(f.devices, d)
	return d
}

func (f *family) step() {
	var d *device
	if len(f.devices) > 0 {
		d = f.devices[f.rng.IntN(len(f.devices))]
	}
	switch n := f.rng.IntN(100); {
	case n < 45:
		to := f.juliet
		if d != nil && n < 8 {
			to = d.JID
		}
		size := 0
		if f.rng.IntN(8) == 0 {
			size = 50 << 10
		}
		f.sent++
		f.r.Send(xmpp.Make([]byte("<message type='chat' from='romeo@verona.example/x' to='" + to.String() + "'><body>" + strconv.Itoa(f.sent) + " " + strings.Repeat("x", size) + "</body></message>")))
	case n < 52 && len(f.devices) < 5 || d == nil:
		f.bind(n%2 == 0)
	case n < 62:
		f.r.SetPresence(d.Session, xmpp.Make([]byte("<presence/>")), 0)
	case n < 64:
		f.r.SetPresence(d.Session, xmpp.Make([]byte("<presence><priority>-1</priority></presence>")), -1)
	case n < 66:
		f.r.SetPresence(d.Session, nil, 0)
	case n < 84:
		d.answers(1 + f.rng.IntN(5))
	case n < 90 && d.acknowledges:
		f.r.SetDetached(d.Session, !d.Detached())
	case n < 94:
		f.r.Unbind(d.Session)
		f.devices = slices.DeleteFunc(f.devices, func(x *device) bool { return x == d })
	case n < 96:
		for _, d := range f.devices {
			d.sulks = d.sulks || !d.acknowledges
		}
		time.Sleep(61 * time.Second) // the bubble's clock
	case n < 98:
		f.restart(n < 97)
	}
	if f.rng.IntN(3) > 0 {
		synctest.Wait()
	}
}

func (f *family) restart(orderly bool) {
	synctest.Wait()
	if orderly {
		for _, d := range f.devices {
			f.r.Unbind(d.Session)
		}
		synctest.Wait()
		if err := f.d.Flush(); err != nil {
			f.t.Fatal(err)
		}
		f.mu.Lock()
		for id := range f.certain {
			f.settled[id] = true
		}
		f.mu.Unlock()
	}
	for _, d := range f.devices {
		d.mu.Lock()
		d.dead = true
		d.mu.Unlock()
	}
	f.devices, f.certain = nil, map[string]bool{}
	f.start(delivery.Options{})
}

// Whatever devices and the power do, every message reaches one in the end; none gets one twice; after an orderly restart nothing comes again.
func TestRandom(t *testing.T) {
	for seed := range uint64(8) {
		inWorld(t, delivery.Options{}, func(w *world) {
			f := &family{world: w, rng: rand.New(rand.NewPCG(seed, 0)), seen: map[string]bool{}, certain: map[string]bool{}, settled: map[string]bool{}}
			for range 300 {
				f.step()
			}
			synctest.Wait()
			for _, d := range f.devices {
				f.r.Unbind(d.Session)
			}
			synctest.Wait()
			last := f.bind(true)
			f.r.SetPresence(last.Session, xmpp.Make([]byte("<presence/>")), 0)
			var order []int
			for synctest.Wait(); len(last.unack) > 0; synctest.Wait() {
				for _, st := range last.unack {
					n, _ := strconv.Atoi(body(st))
					order = append(order, n)
				}
				last.answers(len(last.unack))
			}
			if !slices.IsSorted(order) {
				f.fault("out of order: %v", order)
			}
			for i := range f.sent {
				if !f.seen[strconv.Itoa(i+1)] {
					f.fault("%d was lost", i+1)
				}
			}
			w.is("owed in the end", w.owed(), 0)
			if len(f.faults) > 0 {
				t.Errorf("seed %d: %s", seed, strings.Join(f.faults[:min(len(f.faults), 5)], "; "))
			}
		})
	}
}
