package box

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"pibox/internal/config"
	"pibox/internal/reach"
	"pibox/internal/store"
	"pibox/internal/xmpp"
	"pibox/internal/xmpp/frame"

	"golang.org/x/sys/unix"
)

// A plot is something that a person does with boxes that talk with each other over TLS, as they do on the Internet. It is played to its end once; at each
// step of the first box's committer, what its disk holds, and what those of the others hold at that moment, is kept. From each of these the boxes are
// started anew, as after a power cut: the person looks at the status and does it again where that, or the missing answer, says so. It has to come
// to the same end, and nobody may be asked what he was asked before.
type plot struct {
	name    string
	domains [][]string // of each box
	setUp   func(t *tale)
	before  func(t *tale) // what is over when the power may go
	act     func(t *tale) // what the person does, and does again
	// rests tells whether nothing has to be done again: either all went on by itself, or nothing was begun. May be nil.
	rests func(t *tale) bool
	asks  map[string]bool // "contact asker": the questions that a person is to see
	least int             // steps
}

// tale is a plot in one life of its boxes.
type tale struct {
	*testing.T
	plot
	dir    string
	when   string
	houses []*abode
	hear   wires
	keep   func(step int) (to string) // where the disks are kept; "" for not
	steps  int
	disks  [][]byte // at the last step
	armed  atomic.Bool

	mu    sync.Mutex
	asked map[string]int
}

// abode is one of the boxes.
type abode struct {
	t   *tale
	dir string
	st  *store.Store
	d   *Daemon
	b   *Box
	end func() error
}

// clock is a file that tells when a life ended: the next one begins later.
const clock = "clock"

// live plays one life of a plot in a folder.
func (p plot) live(t *testing.T, dir, when string, keep func(step int) string) (end string, steps int) {
	synctest.Test(t, func(t *testing.T) {
		first := true
		time.Sleep(time.Until(time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC))) // the bubble's; certificates are not older than this program
		if raw, err := os.ReadFile(filepath.Join(dir, clock)); err == nil {
			n, err := strconv.ParseInt(string(raw), 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			first = false
			time.Sleep(time.Until(time.Unix(n, 0)) + time.Second)
		}
		w := &tale{T: t, plot: p, dir: dir, when: when, hear: wires{}, keep: keep, asked: map[string]int{}}
		w.start()
		said := w.statements()
		if first {
			p.setUp(w)
			if p.before != nil {
				p.before(w)
			}
		}
		w.armed.Store(true)
		if first || p.rests == nil || !p.rests(w) {
			p.act(w)
		}
		time.Sleep(20 * time.Minute)
		synctest.Wait()
		w.armed.Store(false)
		end, steps = w.dump(), w.steps
		for what, at := range w.statements() {
			if was, ok := said[what]; ok && !was.Equal(at) {
				t.Errorf("%s: published once more: %s", when, what)
			}
		}
		for _, h := range w.houses {
			if err := h.end(); err != nil {
				t.Error(err)
			}
		}
		for pair, n := range w.asked {
			if !p.asks[pair] || n > 1 {
				t.Errorf("%s: %s was asked %d times", when, pair, n)
			}
		}
	})
	return end, steps
}

// play is the whole: undisturbed, and from each step on.
func (p plot) play(t *testing.T) {
	root := t.TempDir()
	at := func(step int) string { return filepath.Join(root, strconv.Itoa(step)) }
	want, steps := p.live(t, at(0), "undisturbed", at)
	if t.Failed() {
		t.Log(want)
		return
	}
	if steps < p.least {
		t.Fatalf("there are only %d steps", steps)
	}
	for n := 1; n <= steps; n++ {
		when := "cut at step " + strconv.Itoa(n)
		if end, _ := p.live(t, at(n), when, nil); end != want {
			t.Errorf("%s: the end is another one:%s", when, unlike(want, end))
		}
		if t.Failed() {
			return
		}
	}
	t.Logf("%d steps", steps)
}

// unlike tells how two ends differ, by lines.
func unlike(want, got string) string {
	var b strings.Builder
	count := map[string]int{}
	for line := range strings.Lines(want) {
		count[line]++
	}
	for line := range strings.Lines(got) {
		count[line]--
	}
	for line, n := range count {
		for ; n > 0; n-- {
			b.WriteString("\nlacks " + strings.TrimSpace(line))
		}
		for ; n < 0; n++ {
			b.WriteString("\nhas   " + strings.TrimSpace(line))
		}
	}
	return b.String()
}

// start starts all boxes. Their certificates are there first, because they trust each other's.
func (w *tale) start() {
	w.Helper()
	var authorities []string
	for i, domains := range w.domains {
		dir := filepath.Join(w.dir, "box"+strconv.Itoa(i))
		if _, err := reach.Open(reach.Config{Dir: filepath.Join(dir, "tls"), Domains: domains, Log: slog.New(slog.DiscardHandler)}); err != nil {
			w.Fatal(err)
		}
		authorities = append(authorities, filepath.Join(dir, "tls", "authority.pem"))
		for _, port := range []int{clientPort, serverPort} {
			at := place(i, port)
			w.hear[at] = &memoryListener{at: memoryAddr(at), come: make(chan net.Conn), gone: make(chan struct{})}
		}
	}
	for i := range w.domains {
		w.houses = append(w.houses, w.open(i, authorities))
	}
}

func (w *tale) open(i int, authorities []string) *abode {
	w.Helper()
	h := &abode{t: w, dir: filepath.Dir(filepath.Dir(authorities[i]))}
	cfg := config.Default()
	cfg.Domains, cfg.DataDir, cfg.Store.Reserve = w.domains[i], h.dir, 1
	cfg.C2S.Listen, cfg.C2S.ListenTLS, cfg.S2S.Listen, cfg.S2S.ListenTLS = nil, nil, nil, nil
	cfg.S2S.SystemRoot, cfg.S2S.Trust = false, authorities
	for j, domains := range w.domains {
		for _, d := range domains {
			if j != i {
				cfg.S2S.Routes = append(cfg.S2S.Routes, config.Route{Domain: d, Address: place(j, serverPort)})
			}
		}
	}
	opt := store.Options{Reserve: 1}
	if i == 0 {
		opt.OnStep = w.onStep
	}
	var err error
	if h.st, err = store.Open(filepath.Join(h.dir, StoreFile), opt); err != nil {
		w.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	if os.Getenv("KILLS_LOG") != "" {
		log = slog.New(slog.NewTextHandler(os.Stderr, nil)).With("box", i)
	}
	if h.b, err = New(h.st, cfg, w.domains[i], "test", nil, log); err != nil {
		w.Fatal(err)
	}
	h.b.dial = w.hear.dial
	s, err := h.b.open()
	if err != nil {
		w.Fatal(err)
	}
	for _, port := range []int{clientPort, serverPort} {
		s.listeners = append(s.listeners, listener{s2s: port == serverPort, Listener: w.hear[place(i, port)]})
	}
	h.d = NewDaemon(cfg, "test", log, io.Discard)
	h.d.set(s)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.run(ctx, log) }()
	h.end = func() error {
		cancel()
		return <-ended
	}
	synctest.Wait()
	return h
}

// onStep keeps the disks as they are at a step of the first box's committer. What is on them is all that is left of a life: where that is as it was at
// the step before, there is nothing new to try.
func (w *tale) onStep(store.Step) {
	if !w.armed.Load() || w.keep == nil {
		return
	}
	disks, sizes := make([][]byte, len(w.houses)), make([]int64, len(w.houses))
	for i, h := range w.houses {
		read := func(*store.Tx) (err error) {
			disks[i], sizes[i], err = readDisk(filepath.Join(h.dir, StoreFile))
			return err
		}
		done := make(chan error, 1)
		if i == 0 {
			done <- read(nil)
		} else {
			h.st.Submit(&store.Op{Run: read, Done: func(err error) { done <- err }}) // between two commits
		}
		if err := <-done; err != nil {
			w.Error(err)
		}
	}
	if slices.EqualFunc(disks, w.disks, bytes.Equal) {
		return
	}
	w.disks = disks
	w.steps++
	to := w.keep(w.steps)
	for i, h := range w.houses {
		folder := filepath.Join(to, filepath.Base(h.dir))
		if err := errors.Join(os.CopyFS(filepath.Join(folder, "tls"), os.DirFS(filepath.Join(h.dir, "tls"))),
			os.WriteFile(filepath.Join(folder, StoreFile), disks[i], 0o600), os.Truncate(filepath.Join(folder, StoreFile), sizes[i])); err != nil {
			w.Error(err)
		}
	}
	if err := os.WriteFile(filepath.Join(to, clock), strconv.AppendInt(nil, time.Now().Unix(), 10), 0o600); err != nil {
		w.Error(err)
	}
}

// readDisk reads a file without its end, which is a hole: room for later.
func readDisk(path string) (data []byte, size int64, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, 0, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if size, err = f.Seek(0, io.SeekEnd); err != nil {
		return nil, 0, err
	}
	end := int64(0)
	for end < size {
		at, err := f.Seek(end, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			break
		}
		if err != nil {
			return nil, 0, err
		}
		if end, err = f.Seek(at, unix.SEEK_HOLE); err != nil {
			return nil, 0, err
		}
	}
	data = make([]byte, end)
	_, err = f.ReadAt(data, 0)
	return bytes.TrimRight(data, "\x00"), size, err
}

// update changes what a box has stored, before anything happens.
func (h *abode) update(f func(tx *store.Tx)) {
	h.t.Helper()
	if err := h.b.Router.Update(func(tx *store.Tx, out *xmpp.Out) error {
		f(tx)
		out.After(func() {
			if err := h.b.Router.LoadDirectory(); err != nil {
				h.t.Error(err)
			}
		})
		return nil
	}); err != nil {
		h.t.Fatal(err)
	}
}

// friends writes both sides of a contact, where they live on one of the boxes.
func (w *tale) friends(account, contact string, sub store.Subscription) {
	w.Helper()
	put := func(account, contact string, sub store.Subscription) {
		w.home(account).update(func(tx *store.Tx) {
			store.Roster.Put(tx, store.Key(account, contact), store.RosterItem{Sub: sub, Name: "Dear " + contact, Version: 1})
		})
	}
	put(account, contact, sub)
	put(contact, account, store.With(sub.From(), sub.To()))
}

// home is the box of an address.
func (w *tale) home(account string) *abode {
	w.Helper()
	i := slices.IndexFunc(w.domains, func(d []string) bool { return slices.Contains(d, xmpp.MustJID(account).Domain) })
	return w.houses[i]
}

// accounts makes accounts; nobody logs in to them but by connect.
func (w *tale) accounts(names ...string) {
	for _, name := range names {
		w.home(name).update(func(tx *store.Tx) { store.Accounts.Put(tx, name, store.Account{Created: time.Now()}) })
	}
}

// app is somebody's client; it approves who asks where it is to.
type app struct {
	h        *abode
	s        *xmpp.Session
	approves bool
}

func (w *tale) connect(name string, approves bool) *app {
	w.Helper()
	c := &app{h: w.home(name), approves: approves}
	c.s = c.h.b.Router.Bind(xmpp.MustJID(name), "x", name, c, xmpp.ConflictReplace)
	c.say("<iq type='get' id='r'><query xmlns='jabber:iq:roster'/></iq>", "<presence/>")
	synctest.Wait()
	return c
}

func (c *app) Deliver(st *xmpp.Stanza) bool {
	c.h.b.Router.Taken(c.s, st)
	switch {
	case st.Kind == xmpp.IQ && st.HasChild("urn:xmpp:ping", "ping"):
		go c.say("<iq type='result' id='" + st.ID + "' to='" + st.From.String() + "'/>")
	case st.Kind == xmpp.Presence && st.Type == "subscribe":
		c.h.t.mu.Lock()
		if !c.h.t.armed.Load() { // of what was before
			c.h.t.mu.Unlock()
			break
		}
		c.h.t.asked[c.s.JID.Bare().String()+" "+st.From.Bare().String()]++
		c.h.t.mu.Unlock()
		if c.approves {
			go c.say("<presence type='subscribed' to='" + st.From.Bare().String() + "'/>")
		}
	}
	return true
}

func (c *app) Close(*xmpp.StreamError) {}

func (c *app) say(all ...string) {
	for _, xml := range all {
		el, err := frame.Parse([]byte(xml), xmpp.NSClient, frame.Limits{Bytes: 1 << 16, Depth: 16, Attrs: 16, Children: 64})
		if err != nil {
			c.h.t.Error(err)
			return
		}
		if se := c.h.b.Router.FromSession(c.s, el); se != nil {
			c.h.t.Error(se)
		}
	}
}
