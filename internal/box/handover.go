package box

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"time"

	"pibox/internal/backup"
	"pibox/internal/health"
	"pibox/internal/store"
	"pibox/internal/transfer"
)

// handover is the old box's side of giving everything to a new one, as it stands in the store. Whatever ends the process: what stands there decides
// whether it serves.
type handover struct {
	// Given: it was handed over. It does not serve any more.
	Given bool `json:"given"`
	// Key, Listen and Until are the offer's; the new box asks with the same key until it has its answer.
	Key    []byte    `json:"key"`
	Listen string    `json:"listen"`
	Until  time.Time `json:"until"`

	ID        string    `json:"id,omitempty"` // of the transfer
	To        string    `json:"to,omitempty"` // the new box's address
	At        time.Time `json:"at,omitzero"`
	Installed bool      `json:"installed,omitempty"` // the new box said so: it asks no more
}

// handing is what goes on now.
type handing struct {
	sync.Mutex
	offer  *offer
	cancel context.CancelCauseFunc // ends the service; nil while there is none
	ready  *newBox                 // waits for run to stop serving
	busy   string                  // the transfer of which it is not known yet what stands in the store
	given  *handover               // it was handed over
	store  *store.Store            // while it stays closed
	reopen chan struct{}           // closed when the owner takes it back
}

// newBox is one that waits to take this one's place.
type newBox struct {
	conn *transfer.Conn
	id   string
	done chan struct{}
}

var errHandingOver = errors.New("the box is being handed over")

const factHandover = "handover"

func (d *Daemon) step(name string) {
	if d.OnStep != nil {
		d.OnStep(name)
	}
}

// serveUntil lets a new box end the service; the returned function says that it ended.
func (d *Daemon) serveUntil(cancel context.CancelCauseFunc) (ended func()) {
	d.handing.Lock()
	defer d.handing.Unlock()
	d.handing.cancel = cancel
	d.health.Clear(factHandover)
	return func() {
		d.handing.Lock()
		defer d.handing.Unlock()
		d.handing.cancel = nil
	}
}

func readHandover(st *store.Store) (h *handover, err error) {
	err = st.View(func(tx *store.Tx) error {
		raw, ok := store.Settings.Get(tx, store.SettingHandover)
		if !ok {
			return nil
		}
		h = &handover{}
		return json.Unmarshal(raw, h)
	})
	return h, err
}

// writeHandover is durable when it returns; nil removes it.
func writeHandover(st *store.Store, h *handover) error {
	return st.Update(func(tx *store.Tx) error {
		if h == nil {
			store.Settings.Delete(tx, store.SettingHandover)
			return nil
		}
		raw, err := json.Marshal(h)
		store.Settings.Put(tx, store.SettingHandover, raw)
		return err
	})
}

// closedFor reads what stands in the store: whether the box was handed over. An offer that is not over, or whose new box may still ask, is listened
// for again.
func (d *Daemon) closedFor(st *store.Store) (given bool, err error) {
	h, err := readHandover(st)
	if err != nil {
		return false, err
	}
	d.handing.Lock()
	d.handing.busy, d.handing.given = "", nil
	if h != nil && h.Given {
		d.handing.given = h
	}
	open := d.handing.offer != nil
	d.handing.Unlock()
	switch {
	case h == nil:
		d.endOffer()
	case h.Given && h.Installed:
		d.endOffer()
	case !h.Given && time.Now().After(h.Until):
		d.endOffer()
		return false, writeHandover(st, nil)
	case !open:
		if err := d.openOffer(h.Listen, h.Key, h.Until); err != nil {
			d.log.Error("a new box can not reach this one", "error", err)
		}
	}
	return h != nil && h.Given, nil
}

// stayClosed waits until the owner takes the box back.
func (d *Daemon) stayClosed(ctx context.Context, st *store.Store) error {
	domains, err := d.domains(st)
	if err == nil {
		err = d.survey(st, domains)
	}
	if err != nil {
		return err
	}
	reopen := make(chan struct{})
	d.handing.Lock()
	h := *d.handing.given
	d.handing.store, d.handing.reopen = st, reopen
	d.handing.Unlock()
	defer func() {
		d.handing.Lock()
		defer d.handing.Unlock()
		d.handing.store, d.handing.reopen = nil, nil
	}()
	d.health.Set(health.Fact{Name: factHandover, Severity: health.Failing, Text: fmt.Sprintf(
		"this box was handed over to %s on %s and serves no more. If that one is lost, 'pibox transfer reopen' takes it back.", h.To, h.At.Format(time.DateTime))})
	d.clearTroubles(nil)
	d.health.Ready()
	select {
	case <-ctx.Done():
	case <-reopen:
		d.log.Warn("the box was taken back by its owner", "from", h.To)
		d.endOffer()
	}
	return nil
}

// handOver gives the box away where a new one is ready; why is why the service ended, and is returned where none is.
func (d *Daemon) handOver(ctx context.Context, why error) error {
	d.handing.Lock()
	b := d.handing.ready
	d.handing.ready = nil
	d.handing.Unlock()
	if b == nil {
		return why
	}
	defer close(b.done)
	to := host(b.conn.RemoteAddr())
	d.health.Set(health.Fact{Name: factHandover, Severity: health.Moving, Text: "this box is being handed over to " + to + "."})
	d.step("stopped")
	if err := d.giveAway(ctx, b, to); err != nil {
		d.log.Warn("the box was not handed over", "to", to, "error", err)
	}
	return nil
}

// handingOver tells whether a new box takes this one's place now.
func (d *Daemon) handingOver() bool {
	d.handing.Lock()
	defer d.handing.Unlock()
	return d.handing.busy != ""
}

// stopHanding ends what goes on when the daemon ends.
func (d *Daemon) stopHanding() {
	d.endOffer()
	d.handing.Lock()
	defer d.handing.Unlock()
	if b := d.handing.ready; b != nil {
		d.handing.ready = nil
		close(b.done)
	}
}

// maxVerify is the time for a new box to verify what it got.
const maxVerify = 4 * time.Hour

// giveAway: until the mark is durable this box is the one that serves; from then on it never does.
func (d *Daemon) giveAway(ctx context.Context, b *newBox, to string) (err error) {
	stop := context.AfterFunc(ctx, func() { _ = b.conn.Close() })
	defer stop()
	cfg := d.config()
	unlock, err := lockFolder(cfg.DataDir)
	if err != nil {
		return err
	}
	defer unlock()
	st, err := store.Open(StorePath(cfg), store.Options{Log: d.log, Reserve: int64(cfg.Store.Reserve)})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, st.Close()) }()
	domains, err := d.domains(st)
	if err != nil {
		return err
	}
	if err := d.sendBody(st, domains, b.conn); err != nil {
		_ = b.conn.Send(transfer.Message{Op: transfer.Refused, Text: "it could not be read"})
		return err
	}
	d.step("sent")
	for until := time.Now().Add(maxVerify); ; {
		m, err := b.conn.Receive(transfer.Working, transfer.Verified)
		if err != nil {
			return err
		}
		if m.Op == transfer.Verified {
			break
		}
		if time.Now().After(until) {
			return errors.New("it takes the new box too long")
		}
	}
	d.step("verified")
	h, err := readHandover(st)
	if err != nil || h == nil {
		return errors.Join(err, errors.New("the offer was withdrawn"))
	}
	h.Given, h.ID, h.To, h.At = true, b.id, to, time.Now().UTC()
	if err := writeHandover(st, h); err != nil {
		return err
	}
	d.step("marked")
	d.log.Info("the box was handed over", "to", to)
	if err := b.conn.Send(transfer.Message{Op: transfer.Given}); err != nil {
		return nil // the new box asks
	}
	d.step("told")
	if _, err := b.conn.Receive(transfer.Installed); err != nil {
		return nil
	}
	h.Installed = true
	return writeHandover(st, h)
}

// sendBody sends everything, compressed.
func (d *Daemon) sendBody(st *store.Store, domains []string, conn *transfer.Conn) error {
	body := conn.Body()
	seal, err := backup.NewSeal(body, backup.Lock{})
	if err != nil {
		return err
	}
	_, err = d.stream(st, domains, seal)
	if err := errors.Join(err, seal.Close()); err != nil {
		return err
	}
	return body.Close()
}

// host is the address of a connection's other side, without the port.
func host(a net.Addr) string {
	h, _, err := net.SplitHostPort(a.String())
	if err != nil {
		return a.String()
	}
	return h
}

// offer is a listener for a new box.
type offer struct {
	listener net.Listener
	key      []byte
	until    time.Time
	cert     tls.Certificate
	slots    chan struct{}
	timer    *time.Timer

	mu     sync.Mutex
	failed int
	next   time.Time // when the next connection is looked at
}

const (
	offerTime = 15 * time.Minute
	// wrongPause is the wait after a connection that did not have the code; maxWrong of them end the offer.
	wrongPause = 2 * time.Second
	maxWrong   = 10
	// offerSlots are connections at the same time.
	offerSlots = 4
)

func (d *Daemon) openOffer(listen string, key []byte, until time.Time) error {
	cert, err := transfer.Certificate()
	if err != nil {
		return err
	}
	ln, err := endpoint{who: "a new box", key: "--listen"}.listen(listen)
	if err != nil {
		return err
	}
	o := &offer{listener: ln, key: key, until: until, cert: cert, slots: make(chan struct{}, offerSlots)}
	d.handing.Lock()
	old := d.handing.offer
	d.handing.offer = o
	d.handing.Unlock()
	if old != nil {
		old.close()
	}
	o.timer = time.AfterFunc(time.Until(until), func() { d.offerIsOver(o) })
	go d.accept(o)
	return nil
}

func (o *offer) close() {
	if o.timer != nil {
		o.timer.Stop()
	}
	_ = o.listener.Close()
}

// endOffer listens no more.
func (d *Daemon) endOffer() {
	d.handing.Lock()
	o := d.handing.offer
	d.handing.offer = nil
	d.handing.Unlock()
	if o != nil {
		o.close()
	}
}

// offerIsOver ends an offer whose time is over, or at which somebody guesses. What was handed over stays so, and answers.
func (d *Daemon) offerIsOver(o *offer) {
	d.handing.Lock()
	mine := d.handing.offer == o && d.handing.given == nil && d.handing.busy == ""
	d.handing.Unlock()
	if !mine {
		return
	}
	d.endOffer()
	d.log.Info("the offer to a new box is over")
	if s := d.running(); s != nil {
		if err := writeHandover(s.box.Store, nil); err != nil {
			d.log.Warn("the offer could not be removed", "error", err)
		}
	}
}

func (d *Daemon) accept(o *offer) {
	for {
		conn, err := o.listener.Accept()
		switch {
		case errors.Is(err, net.ErrClosed):
			return
		case err != nil:
			d.log.Warn("a new box could not be accepted", "error", err)
			time.Sleep(100 * time.Millisecond)
			continue
		}
		o.slots <- struct{}{}
		go func() {
			defer func() { <-o.slots }()
			defer func() { _ = conn.Close() }()
			if err := d.meet(o, conn); err != nil {
				d.log.Warn("a new box", "address", host(conn.RemoteAddr()), "error", err)
			}
		}()
	}
}

// meet talks with what may be a new box.
func (d *Daemon) meet(o *offer, raw net.Conn) error {
	o.mu.Lock()
	wait := time.Until(o.next)
	o.mu.Unlock()
	time.Sleep(wait)
	conn, err := transfer.Server(raw, o.key, o.cert)
	if errors.Is(err, transfer.ErrProof) {
		o.mu.Lock()
		o.failed, o.next = o.failed+1, time.Now().Add(wrongPause)
		over := o.failed >= maxWrong
		o.mu.Unlock()
		if over {
			d.offerIsOver(o)
		}
	}
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	m, err := conn.Receive(transfer.Fetch, transfer.Ask)
	if err != nil {
		return err
	}
	if m.Op == transfer.Ask {
		return d.answer(conn, m)
	}
	return d.letFetch(conn, m)
}

// answer tells a new box that lost its connection how it stands.
func (d *Daemon) answer(conn *transfer.Conn, m transfer.Message) error {
	d.handing.Lock()
	op := transfer.Serving
	switch {
	case d.handing.given != nil && d.handing.given.ID == m.ID:
		op = transfer.Given
	case d.handing.busy != "":
		op = transfer.Busy
	}
	d.handing.Unlock()
	if err := conn.Send(transfer.Message{Op: op}); err != nil || op != transfer.Given {
		return err
	}
	if _, err := conn.Receive(transfer.Installed); err != nil {
		return err
	}
	d.handing.Lock()
	defer d.handing.Unlock()
	if d.handing.store == nil || d.handing.given == nil {
		return nil // it asks no more, whatever stands there
	}
	h := *d.handing.given
	h.Installed = true
	return writeHandover(d.handing.store, &h)
}

// letFetch makes sure that both are ready, then lets run stop serving, and waits until it is over.
func (d *Daemon) letFetch(conn *transfer.Conn, m transfer.Message) error {
	refuse := func(format string, args ...any) error {
		return conn.Send(transfer.Message{Op: transfer.Refused, Text: fmt.Sprintf(format, args...)})
	}
	s := d.running()
	d.handing.Lock()
	given, busy, serving := d.handing.given, d.handing.busy, d.handing.cancel != nil && s != nil
	ok := given == nil && busy == "" && serving && m.ID != ""
	if ok {
		d.handing.busy = m.ID
	}
	d.handing.Unlock()
	switch {
	case given != nil:
		return refuse("it was handed over to %s already", given.To)
	case busy != "":
		return refuse("it is being handed over to another one")
	case !ok:
		return refuse("it does not serve; 'pibox status' there tells why")
	}
	taken := false
	defer func() {
		d.handing.Lock()
		defer d.handing.Unlock()
		if !taken {
			d.handing.busy = ""
		}
	}()
	if m.Schema < store.Schema() || m.Format < backup.Format {
		return refuse("its pibox is newer (%s): install that version on the new box first", d.version)
	}
	if err := conn.Send(transfer.Message{Op: transfer.Offer, Size: d.estimate(), Schema: store.Schema(), Version: d.version, Domains: s.box.Router.Domains()}); err != nil {
		return err
	}
	if _, err := conn.Receive(transfer.Begin); err != nil {
		return err
	}
	d.step("begun")
	b := &newBox{conn, m.ID, make(chan struct{})}
	d.handing.Lock()
	if cancel := d.handing.cancel; cancel != nil {
		taken, d.handing.ready = true, b
		cancel(errHandingOver)
	}
	d.handing.Unlock()
	if taken {
		<-b.done
	}
	return nil
}

// estimate is more than the box has, in bytes.
func (d *Daemon) estimate() int64 {
	const small = 16 << 20
	info, err := os.Stat(StorePath(d.config()))
	if err != nil {
		return small
	}
	return info.Size() + small
}
