package box

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
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

// gaveAway tells whether the box stays closed until its owner takes it back.
func (d *Daemon) gaveAway() bool {
	d.handing.Lock()
	defer d.handing.Unlock()
	return d.handing.reopen != nil
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
