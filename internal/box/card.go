package box

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"time"

	"pibox/internal/card"
	"pibox/internal/health"
	"pibox/internal/store"
	"pibox/internal/xmpp/accounts"
)

// onCard is what a box on the card image has beside: somebody with a screen or a card reader, and no terminal.
type onCard struct {
	run     string        // what the card's part tells the daemon (internal/card)
	reports string        // where the daemon tells it how it is
	poke    chan struct{} // something changed that the report tells
}

// SetCard tells the daemon that it runs on the card image; run is card.Place.Run. Call it before Serve.
func (d *Daemon) SetCard(run string) {
	d.card = &onCard{run: run, reports: filepath.Dir(d.cfg.Admin.Socket), poke: make(chan struct{}, 1)}
}

// restoreFrom are the folders in which a backup may lie ready.
func (d *Daemon) restoreFrom() []string {
	list := d.config().Backup.RestoreFrom
	if d.card == nil {
		return list
	}
	return append([]string{filepath.Join(d.card.run, card.RestoreFolder)}, list...)
}

// mayBegin tells why a box without a database must not begin as a new family.
func (d *Daemon) mayBegin() error {
	if d.card == nil {
		return nil
	}
	orders, err := card.ReadOrders(d.card.run)
	if err == nil && orders.Hold != "" {
		err = errors.New(orders.Hold)
	}
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}

// tellCard has the report written anew.
func (d *Daemon) tellCard() {
	if d.card == nil {
		return
	}
	select {
	case d.card.poke <- struct{}{}:
	default:
	}
}

const cardEvery = 5 * time.Second

// watchCard takes up what the card's part finds out, and tells it how the box is, until ctx ends.
func (d *Daemon) watchCard(ctx context.Context) {
	changes, cancel := d.health.Changes()
	defer cancel()
	timer := time.NewTicker(cardEvery)
	defer timer.Stop()
	var known map[string]bool
	var last []byte
	clock := newDrift()
	for {
		known = d.cardFacts(known)
		d.watchOneTime(clock.moved())
		last = d.report(last)
		select {
		case <-ctx.Done():
			return
		case <-changes:
		case <-d.card.poke:
		case <-timer.C:
		}
	}
}

const cardFact = "card/"

// cardFacts makes the facts of the card's part the box's own.
func (d *Daemon) cardFacts(known map[string]bool) map[string]bool {
	list, err := card.ReadFacts(d.card.run)
	if err != nil {
		return known
	}
	now := map[string]bool{}
	for _, f := range list {
		now[f.Name] = true
		d.health.Set(health.Fact{Name: cardFact + f.Name, Severity: health.State(f.Severity), Text: f.Text})
	}
	for name := range known {
		if !now[name] {
			d.health.Clear(cardFact + name)
		}
	}
	return now
}

// report writes what changed.
func (d *Daemon) report(last []byte) []byte {
	r := d.cardReport()
	raw, err := json.Marshal(r)
	if err != nil || string(raw) == string(last) {
		return last
	}
	if err := card.WriteReport(d.card.reports, r); err != nil {
		d.log.Warn("the card can not be told how the box is", "error", err)
		return last
	}
	return raw
}

func (d *Daemon) cardReport() card.Report {
	snap, cfg := d.health.Snapshot(), d.config()
	r := card.Report{State: string(snap.State), Family: cfg.Family, Facts: []card.Fact{}, Domains: []string{}, Certificates: []card.Certificate{}}
	for _, reason := range snap.Reasons {
		if reason.Severity != health.Moving && !strings.HasPrefix(reason.Name, cardFact) {
			r.Facts = append(r.Facts, card.Fact{Name: reason.Name, Severity: string(reason.Severity), Text: reason.Text})
		}
	}
	s := d.running()
	if s == nil {
		return r
	}
	r.Serving = true
	r.Domains = append(r.Domains, s.box.Router.Domains()...)
	for _, l := range s.listeners {
		if l.name == "c2s" && r.Port == "" {
			r.Port = port(l.Addr())
		}
	}
	for _, c := range s.certificates() {
		if c.Family {
			r.Certificates = append(r.Certificates, card.Certificate{Domain: c.Domain, SHA256: c.SHA256})
		}
	}
	_ = s.box.Store.View(func(tx *store.Tx) error {
		r.Recovered = accounts.LastOrder(tx)
		offered, begun := accounts.Begun(tx)
		r.Begun = begun || offered != ""
		if w, ok := d.wayIn(); ok {
			if acc, there := store.Accounts.Get(tx, w.Address); there && acc.Fresh {
				r.Login = &w.Login
			}
		}
		return nil
	})
	return r
}
