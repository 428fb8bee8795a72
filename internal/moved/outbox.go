package moved

import (
	"crypto/rand"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"pibox/internal/store"
	"pibox/internal/xmpp"
)

// Outbox holds stanzas for other servers until those are known to have them (row 12). A stanza is sent as an effect of the transaction
// that stored it; behind it goes an IQ ping to that server, whose answer shows that everything before it arrived, because a stream keeps
// order. Until then, also after a restart, everything is sent again with back-off.
type Outbox struct {
	r                  *xmpp.Router
	log                *slog.Logger
	retryMin, retryMax time.Duration
	// gaveUp is told of an entry whose time is over.
	gaveUp func(tx *store.Tx, out *xmpp.Out, e store.OutboxEntry)

	mu      sync.Mutex
	lanes   map[lane]*laneState
	flights flights
	stopped bool
}

// lane is one of our domains and the domain it sends to: order is kept within it.
type lane struct{ from, to string }

type laneState struct {
	sent    []uint64 // given to the other server since the last ping that it answered, as far as this run knows
	lost    uint64   // Losses.Lost when the first of them was sent
	refused bool     // our own side gave one of them back
	pinging bool
	round   int // of the ping that is open
	fails   int
	why     string      // the other server could not be reached, in words; "" where that is not known
	timer   *time.Timer // the next ping or, after a failure, the next attempt
}

// Losses is a Remote that counts the streams which ended while stanzas went out on them. What was written to such a one may not have
// arrived, so the answer to a ping on the next stream proves nothing.
type Losses interface{ Lost() uint64 }

const (
	// settle lets one ping stand behind all that a move sends.
	settle      = 250 * time.Millisecond
	pingTimeout = 60 * time.Second
	// lossCheck is how often an open ping is looked at: behind a stream that was lost its answer would prove nothing, and may never come.
	lossCheck = time.Second
	// giveUp ends the attempts for an entry: a server that is away for longer is not coming back as the same.
	giveUp = 60 * 24 * time.Hour
	// outboxID begins the id of what the outbox sends, so that it is known when it comes back.
	outboxID = "moved-"
)

func newOutbox(r *xmpp.Router, opt Options) *Outbox {
	return &Outbox{r: r, log: opt.Log, retryMin: opt.RetryMin, retryMax: opt.RetryMax, lanes: map[lane]*laneState{}, flights: newFlights()}
}

// Send sends a subscription stanza with these children, durably where it leaves the box. A local recipient's side changes in the same transaction.
func (o *Outbox) Send(tx *store.Tx, out *xmpp.Out, typ string, from, to xmpp.JID, children ...[]byte) {
	x := xmpp.NewXML("presence").Attr("type", typ).Attr("id", newID()).
		Attr("from", from.String()).Attr("to", to.String())
	for _, c := range children {
		x.Raw(c)
	}
	st := xmpp.Make(x.Bytes())
	if o.r.IsLocal(to.Domain) {
		out.Send(st)
		return
	}
	seq := o.keep(tx, st, false)
	if store.Held(tx) { // the box that this one was restored from may send it, too
		return
	}
	out.After(func() { o.first(st, seq) })
}

// newID is the id of a stanza of the outbox.
func newID() string { return outboxID + strings.ToLower(rand.Text()[:12]) }

func (o *Outbox) keep(tx *store.Tx, st *xmpp.Stanza, denies bool) (seq uint64) {
	return store.Outbox.Append(tx, store.OutboxEntry{Stanza: st.Raw, From: st.From.String(), To: st.To.String(), Queued: time.Now().UTC(), Denies: denies})
}

// first sends a stanza that was stored.
func (o *Outbox) first(st *xmpp.Stanza, seq uint64) {
	l, lost := lane{st.From.Domain, st.To.Domain}, o.lost()
	o.mu.Lock()
	o.lane(l) // the stanza may come back at once
	o.flights.begin(st.ID, seq, lost)
	o.mu.Unlock()
	o.r.Send(st)
	o.sent(l, seq, lost)
}

func (o *Outbox) lost() uint64 {
	if l, ok := o.r.Remote().(Losses); ok {
		return l.Lost()
	}
	return 0
}

// supersede removes what waits for a contact and is not so any more: sent again, it would undo what came after it.
func (o *Outbox) supersede(tx *store.Tx, account, contact xmpp.JID, now store.RosterItem) {
	if o.r.IsLocal(contact.Domain) {
		return
	}
	for key, e := range store.Outbox.All(tx) {
		if e.From != account.String() || e.To != contact.String() {
			continue
		}
		st, err := xmpp.ParseStanza(e.Stanza)
		if err != nil {
			continue
		}
		switch st.Type {
		case "subscribed":
			if now.Sub.From() {
				continue
			}
		case "unsubscribed":
			if !now.Sub.From() {
				continue
			}
		case "subscribe":
			if now.Ask {
				continue
			}
		case "unsubscribe":
			if !now.Ask && !now.Sub.To() {
				continue
			}
		}
		o.drop(tx, key, st)
	}
}

// waiting are an account's requests that other servers are not known to have, by their recipient: since when.
func (o *Outbox) waiting(tx *store.Tx, account string) map[string]time.Time {
	since := map[string]time.Time{}
	for _, e := range store.Outbox.All(tx) {
		if _, has := since[e.To]; e.From != account || has {
			continue
		}
		if st, err := xmpp.ParseStanza(e.Stanza); err == nil && st.Type == "subscribe" { // and no answer
			since[e.To] = e.Queued
		}
	}
	return since
}

// bounced is an inbound filter: what our own side gives back of the outbox is sent again, and no news for the user.
func (o *Outbox) bounced(rq *xmpp.Request) (drop bool, err error) {
	if rq.Kind != xmpp.Presence || rq.Type != "error" || rq.Peer != nil || rq.Session != nil || o.r.IsLocal(rq.From.Domain) ||
		!strings.HasPrefix(rq.ID, outboxID) {
		return false, nil
	}
	lost := o.lost()
	o.mu.Lock()
	defer o.mu.Unlock()
	s := o.lanes[lane{rq.To.Domain, rq.From.Domain}]
	if s == nil { // a client's own, with such an id
		return false, nil
	}
	s.refused = true
	o.flights.back(rq.ID, lost)
	return true, nil
}

// sent plans the ping behind a stanza that was sent, unless another attempt, which sends everything again, is planned already.
func (o *Outbox) sent(l lane, seq, lost uint64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	s := o.lane(l)
	if len(s.sent) == 0 {
		s.lost = lost
	}
	s.sent = append(s.sent, seq)
	if !s.pinging && s.timer == nil {
		o.plan(l, settle, o.ping)
	}
}

// lane and plan are called with the lock held.
func (o *Outbox) lane(l lane) *laneState {
	s := o.lanes[l]
	if s == nil {
		s = &laneState{}
		o.lanes[l] = s
	}
	return s
}

// plan replaces what was planned for the lane.
func (o *Outbox) plan(l lane, wait time.Duration, do func(lane)) {
	if o.stopped {
		return
	}
	s := o.lane(l)
	if s.timer != nil {
		s.timer.Stop()
	}
	var mine *time.Timer
	mine = time.AfterFunc(wait, func() {
		o.mu.Lock()
		current := s.timer == mine && !o.stopped
		if current {
			s.timer = nil
		}
		o.mu.Unlock()
		if current {
			do(l)
		}
	})
	s.timer = mine
}

func (o *Outbox) start() error {
	lanes := map[lane]bool{}
	err := o.r.Store.View(func(tx *store.Tx) error {
		for _, e := range store.Outbox.All(tx) {
			l, err := laneOf(e)
			if err != nil {
				return err
			}
			lanes[l] = true
		}
		return nil
	})
	for l := range lanes {
		o.resend(l)
	}
	return err
}

func laneOf(e store.OutboxEntry) (lane, error) {
	from, err := xmpp.ParseJID(e.From)
	if err != nil {
		return lane{}, err
	}
	to, err := xmpp.ParseJID(e.To)
	return lane{from.Domain, to.Domain}, err
}

func (o *Outbox) stop() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.stopped = true
	for _, s := range o.lanes {
		if s.timer != nil {
			s.timer.Stop()
		}
	}
}

// resend sends everything that waits for a domain again, and a ping behind it. It reads in the committer's turn, so that nothing newer
// gets between.
func (o *Outbox) resend(l lane) {
	o.r.Submit(64, func(tx *store.Tx, out *xmpp.Out) error {
		var seqs, over []uint64
		var again []*xmpp.Stanza
		if store.Held(tx) {
			return nil // start is called when it is not any more
		}
		for key, e := range store.Outbox.All(tx) {
			if have, err := laneOf(e); err != nil {
				return err
			} else if have != l {
				continue
			}
			if time.Since(e.Queued) > giveUp {
				store.Outbox.Delete(tx, key)
				o.gaveUp(tx, out, e)
				over = append(over, store.SeqOf(key))
				continue
			}
			st, err := xmpp.ParseStanza(e.Stanza)
			if err != nil {
				return err
			}
			o.again(st.ID)
			seqs, again = append(seqs, store.SeqOf(key)), append(again, st)
		}
		out.After(func() {
			if len(over) > 0 {
				o.log.Warn("outbox: gave up", "domain", l.to, "stanzas", len(over))
			}
			o.landed(over)
			o.sendAgain(l, seqs, again)
		})
		return nil
	}, func(err error) {
		if err != nil {
			o.log.Error("outbox: reading", "error", err)
			o.failed(l)
		}
	})
}

func (o *Outbox) sendAgain(l lane, seqs []uint64, again []*xmpp.Stanza) {
	o.mu.Lock()
	s := o.lane(l)
	s.sent, s.lost, s.refused = seqs, o.lost(), false
	o.mu.Unlock()
	for _, st := range again {
		o.r.Send(st)
	}
	switch {
	case len(again) == 0:
	case o.r.IsLocal(l.to): // a domain of this box by now
		o.landed(seqs)
		o.forget(seqs)
	default:
		o.ping(l)
	}
}

// ping asks the other server for a sign of life behind what was sent.
func (o *Outbox) ping(l lane) {
	o.mu.Lock()
	s := o.lane(l)
	covered := s.sent
	if s.pinging || o.stopped || len(covered) == 0 {
		o.mu.Unlock()
		return
	}
	s.pinging = true
	s.round++
	round := s.round
	time.AfterFunc(lossCheck, func() { o.watch(l, round) })
	o.mu.Unlock()
	o.r.Ask(xmpp.Ask{
		From: xmpp.JID{Domain: l.from}, To: xmpp.JID{Domain: l.to}, Type: "get", Timeout: pingTimeout,
		Payload: xmpp.NewXMLNS("ping", "urn:xmpp:ping").Bytes(),
		// An error from the other server is an answer too; one of our own side, which has no peer, is not.
		Done: func(reply *xmpp.Request) {
			o.heard(l, reply)
			if o.open(l, round) && (reply == nil || reply.Peer == nil || !o.answered(l, covered)) {
				o.failed(l)
			}
		},
	})
}

// heard notes why a server can not be reached.
func (o *Outbox) heard(l lane, reply *xmpp.Request) {
	why := ""
	switch {
	case reply == nil:
		why = l.to + " does not answer"
	case reply.Peer == nil:
		why = ownWords(l.to, reply)
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.lane(l).why = why
}

// whyNot tells why a server could not be reached the last time; "" where it could, or nobody knows.
func (o *Outbox) whyNot(from, to string) string {
	o.mu.Lock()
	defer o.mu.Unlock()
	if s := o.lanes[lane{from, to}]; s != nil {
		return s.why
	}
	return ""
}

// open tells whether a ping is still waited for.
func (o *Outbox) open(l lane, round int) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	s := o.lane(l)
	return s.pinging && s.round == round && !o.stopped
}

// watch ends the wait for an answer where a stream was lost since.
func (o *Outbox) watch(l lane, round int) {
	lost := o.lost()
	o.mu.Lock()
	s := o.lane(l)
	waits := s.pinging && s.round == round && !o.stopped
	vain := waits && s.lost != lost
	if waits && !vain {
		time.AfterFunc(lossCheck, func() { o.watch(l, round) })
	}
	o.mu.Unlock()
	if vain {
		o.failed(l)
	}
}

// answered is false when the answer does not show that everything before the ping arrived.
func (o *Outbox) answered(l lane, covered []uint64) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	s := o.lane(l)
	if s.refused || s.lost != o.lost() {
		return false
	}
	s.pinging, s.fails = false, 0
	s.sent = slices.DeleteFunc(slices.Clone(s.sent), func(seq uint64) bool { return slices.Contains(covered, seq) })
	if len(s.sent) > 0 {
		o.plan(l, settle, o.ping)
	}
	o.flights.landed(covered)
	o.forget(covered)
	return true
}

// failed plans another attempt, with a pause that doubles.
func (o *Outbox) failed(l lane) {
	o.mu.Lock()
	defer o.mu.Unlock()
	s := o.lane(l)
	s.pinging = false
	wait := min(o.retryMin<<min(s.fails, 16), o.retryMax)
	s.fails++
	o.plan(l, wait, o.resend)
}

func (o *Outbox) forget(seqs []uint64) {
	o.r.Submit(64, func(tx *store.Tx, _ *xmpp.Out) error {
		for _, seq := range seqs {
			store.Outbox.Delete(tx, store.SeqKey(seq))
		}
		return nil
	}, nil)
}
