package delivery

import (
	"strconv"
	"strings"
	"time"

	"pibox/internal/store"
	"pibox/internal/xmpp"
	"pibox/internal/xmpp/frame"
)

// backlog is the state of an account that has messages in the store, on the way there, or being handed to a client.
type backlog struct {
	writing int           // operations on their way to the store
	to      *xmpp.Session // who is being handed the page; nil when nobody is
	// deaf are the resources that did not answer for a page, with the last message that they were handed: others answer for it.
	deaf map[*xmpp.Session]uint64
}

// kept is a stored message on its way to a client.
type kept struct {
	st  *xmpp.Stanza
	seq uint64
}

// pageBytes bounds what is handed over before the client answered.
const (
	pageBytes   = 128 << 10
	pageTimeout = 60 * time.Second
)

func (d *Delivery) append(tx *store.Tx, account xmpp.JID, st *xmpp.Stanza) {
	store.Offline.Append(tx, store.OfflineMessage{Stanza: st.Raw, Received: time.Now().UTC()}, account.String())
}

// hold makes later messages to the account wait behind one that goes to the store.
func (d *Delivery) hold(account xmpp.JID) {
	d.mu.Lock()
	defer d.mu.Unlock()
	b := d.waiting[account]
	if b == nil {
		b = &backlog{}
		d.waiting[account] = b
	}
	b.writing++
}

func (d *Delivery) release(account xmpp.JID) {
	d.mu.Lock()
	d.waiting[account].writing--
	d.mu.Unlock()
	d.pump(account)
}

// presence: a resource that can take messages came, or became able to.
func (d *Delivery) presence(s *xmpp.Session, old, now *xmpp.Stanza) {
	account := s.JID.Bare()
	switch {
	case now == nil || priority(now) < 0:
		d.gone(s)
		return
	case old != nil && priority(old) >= 0:
		return
	}
	d.mu.Lock()
	if d.waiting[account] == nil {
		d.waiting[account] = &backlog{} // whether something waits is seen by reading
	}
	d.mu.Unlock()
	d.pump(account)
}

func priority(st *xmpp.Stanza) int {
	n, err := strconv.Atoi(strings.TrimSpace(st.Node().ChildText(xmpp.NSClient, "priority")))
	if err != nil {
		return 0
	}
	return n
}

// gone: what the session was handed and did not answer for is handed to the next one.
func (d *Delivery) gone(s *xmpp.Session) {
	account := s.JID.Bare()
	d.mu.Lock()
	b := d.waiting[account]
	mine := b != nil && b.to == s
	if mine {
		b.to = nil
	}
	if b != nil {
		delete(b.deaf, s)
	}
	d.mu.Unlock()
	if mine {
		d.pump(account)
	}
}

// pump hands the next page to the resources that can take it; the first of them answers for it. When nothing is left, messages go
// directly again.
func (d *Delivery) pump(account xmpp.JID) {
	page, s, others := d.nextPage(account)
	if s == nil {
		return
	}
	for _, k := range page {
		if !d.r.Admits(k.st) { // not from whom the account blocked since (XEP-0191 §3.3)
			continue
		}
		if !s.Deliver(k.st) {
			return // OnUnbind follows and tells so
		}
		for other, had := range others {
			if k.seq > had {
				other.Deliver(k.st)
			}
		}
	}
	last := page[len(page)-1].seq
	d.r.Ask(xmpp.Ask{
		From: account.Host(), To: s.JID, Type: "get", Timeout: pageTimeout, Payload: xmpp.NewXMLNS("ping", "urn:xmpp:ping").Bytes(),
		Done: func(reply *xmpp.Request) { d.handed(account, s, last, reply != nil && reply.Session == s) },
	})
}

// nextPage decides, under the lock, who is handed what and answers for it, and which others get it too, with the last message that those
// had already; nobody when there is nothing to do.
func (d *Delivery) nextPage(account xmpp.JID) (page []kept, to *xmpp.Session, others map[*xmpp.Session]uint64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	b := d.waiting[account]
	if b == nil || b.to != nil {
		return nil, nil, nil
	}
	others = map[*xmpp.Session]uint64{}
	for _, s := range d.targets(account) {
		if had, deaf := b.deaf[s]; deaf || to != nil {
			others[s] = had
		} else {
			to = s
		}
	}
	if to != nil {
		var err error
		if page, err = d.read(account); err != nil {
			d.opt.Log.Error("delivery: reading kept messages", "error", err)
			return nil, nil, nil
		}
	}
	if len(page) == 0 {
		if b.writing == 0 {
			delete(d.waiting, account) // without a resource the next presence begins anew
		}
		return nil, nil, nil
	}
	b.to = to
	return page, to, others
}

// handed ends a page. Of a client that did not answer, but is still there, another resource gets what waits; where there is none it gets
// live messages again, and what it was handed stays stored for the next session.
func (d *Delivery) handed(account xmpp.JID, s *xmpp.Session, last uint64, answered bool) {
	d.mu.Lock()
	b := d.waiting[account]
	if b == nil || b.to != s {
		d.mu.Unlock()
		return
	}
	if !answered {
		b.to = nil
		if b.deaf == nil {
			b.deaf = map[*xmpp.Session]uint64{}
		}
		b.deaf[s] = last
		d.mu.Unlock()
		d.pump(account)
		return
	}
	d.mu.Unlock()
	d.r.Submit(64, func(tx *store.Tx, _ *xmpp.Out) error {
		for key := range store.Offline.All(tx, account.String()) {
			if store.SeqOf(key) > last {
				break
			}
			store.Offline.Delete(tx, key)
		}
		return nil
	}, func(err error) { d.next(account, s, err) })
}

func (d *Delivery) next(account xmpp.JID, s *xmpp.Session, err error) {
	d.mu.Lock()
	b := d.waiting[account]
	if b != nil && b.to == s {
		b.to = nil
		if err != nil { // stays stored, is handed over again to the next session
			d.opt.Log.Error("delivery: deleting delivered messages", "error", err)
			if b.writing == 0 {
				delete(d.waiting, account)
			}
		}
	}
	d.mu.Unlock()
	if err == nil {
		d.pump(account)
	}
}

func (d *Delivery) read(account xmpp.JID) (page []kept, err error) {
	size := 0
	err = d.r.Store.View(func(tx *store.Tx) error {
		for key, m := range store.Offline.All(tx, account.String()) {
			st, err := xmpp.ParseStanza(m.Stanza)
			if err != nil {
				return err
			}
			page = append(page, kept{stamped(st, account, m.Received), store.SeqOf(key)})
			if size += len(m.Stanza); size >= pageBytes {
				break
			}
		}
		return nil
	})
	return page, err
}

const nsDelay = "urn:xmpp:delay"

// isStamped tells a message that was read from the store.
func isStamped(st *xmpp.Stanza) bool {
	if !st.HasChild(nsDelay, "delay") {
		return false
	}
	for _, c := range st.Node().Children {
		if c.NS == nsDelay && c.Name == "delay" && c.Attr("from") == st.To.Domain {
			return true
		}
	}
	return false
}

// stamped tells when the message came (XEP-0203 §4), in the name of our domain; a stamp that pretends to be ours is taken out.
func stamped(st *xmpp.Stanza, account xmpp.JID, at time.Time) *xmpp.Stanza {
	el := st.Element
	if el.HasChild(nsDelay, "delay") {
		el = el.WithoutChildren(func(c frame.Child) bool {
			if c.NS != nsDelay {
				return false
			}
			d, err := frame.Parse(el.Raw[c.Start:c.End], xmpp.NSClient, frame.Limits{})
			return err == nil && d.Attr("from") == account.Domain
		})
	}
	return st.Edited(el.WithChild(xmpp.NewXMLNS("delay", nsDelay).Attr("from", account.Domain).
		Attr("stamp", at.UTC().Format("2006-01-02T15:04:05.000Z")).Bytes()))
}
