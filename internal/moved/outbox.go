package moved

import (
	"log/slog"
	"slices"
	"sync"
	"time"

	"pibox/internal/store"
	"pibox/internal/xmpp"
)

// Outbox holds stanzas for other servers until those are known to have them (row 12). A stanza is sent as an effect of the transaction
// that stored it; behind it goes an IQ ping to that server, whose answer shows that everything before it arrived, because a stream keeps
// order. Until then, also after a restart, everything is sent again with back-off.
type Outbox struct {
	r   *xmpp.Router
	log *slog.Logger

	mu      sync.Mutex
	lanes   map[lane]*laneState
	stopped bool
}

// lane is one of our domains and the domain it sends to: order is kept within it.
type lane struct{ from, to string }

type laneState struct {
	sent    []uint64 // given to the other server since the last ping that it answered, as far as this run knows
	pinging bool
	fails   int
	timer   *time.Timer // the next ping or, after a failure, the next attempt
}

const (
	// settle lets one ping stand behind all that a move sends.
	settle      = 250 * time.Millisecond
	pingTimeout = 60 * time.Second
	firstRetry  = 30 * time.Second
	lastRetry   = time.Hour
	// giveUp ends the attempts for an entry: a server that is away for longer is not coming back as the same.
	giveUp = 60 * 24 * time.Hour
)

func newOutbox(r *xmpp.Router, log *slog.Logger) *Outbox {
	return &Outbox{r: r, log: log, lanes: map[lane]*laneState{}}
}

// Send sends a stanza, durably where it leaves the box. A local recipient's side changes in the same transaction.
func (o *Outbox) Send(tx *store.Tx, out *xmpp.Out, st *xmpp.Stanza) {
	if o.r.IsLocal(st.To.Domain) {
		out.Send(st)
		return
	}
	seq := store.Outbox.Append(tx, store.OutboxEntry{Stanza: st.Raw, From: st.From.String(), To: st.To.String(), Queued: time.Now().UTC()})
	out.After(func() {
		o.r.Send(st)
		o.sent(lane{st.From.Domain, st.To.Domain}, seq)
	})
}

// sent plans the ping behind a stanza that was sent, unless another attempt, which sends everything again, is planned already.
func (o *Outbox) sent(l lane, seq uint64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	s := o.lane(l)
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

func (o *Outbox) plan(l lane, wait time.Duration, do func(lane)) {
	s := o.lane(l)
	if o.stopped || s.timer != nil {
		return
	}
	s.timer = time.AfterFunc(wait, func() {
		o.mu.Lock()
		s.timer = nil
		stopped := o.stopped
		o.mu.Unlock()
		if !stopped {
			do(l)
		}
	})
}

func (o *Outbox) start() error {
	lanes, err := o.waiting()
	if err != nil {
		return err
	}
	for l := range lanes {
		o.resend(l)
	}
	return nil
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

type waitingEntry struct {
	seq uint64
	st  *xmpp.Stanza
	at  time.Time
}

func (o *Outbox) waiting() (map[lane][]waitingEntry, error) {
	lanes := map[lane][]waitingEntry{}
	err := o.r.Store.View(func(tx *store.Tx) error {
		for key, e := range store.Outbox.All(tx) {
			st, err := xmpp.ParseStanza(e.Stanza)
			if err != nil {
				return err
			}
			l := lane{st.From.Domain, st.To.Domain}
			lanes[l] = append(lanes[l], waitingEntry{store.SeqOf(key), st, e.Queued})
		}
		return nil
	})
	return lanes, err
}

// resend sends everything that waits for a domain again, and a ping behind it.
func (o *Outbox) resend(l lane) {
	all, err := o.waiting()
	if err != nil {
		o.log.Error("outbox: reading", "error", err)
		o.failed(l)
		return
	}
	var old, again []uint64
	for _, w := range all[l] {
		if time.Since(w.at) > giveUp {
			old = append(old, w.seq)
			continue
		}
		o.r.Send(w.st)
		again = append(again, w.seq)
	}
	if len(old) > 0 {
		o.log.Warn("outbox: gave up", "domain", l.to, "stanzas", len(old))
		o.forget(old)
	}
	o.mu.Lock()
	s := o.lane(l)
	s.sent = again
	o.mu.Unlock()
	if len(again) > 0 {
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
	o.mu.Unlock()
	o.r.Ask(xmpp.Ask{
		From: xmpp.JID{Domain: l.from}, To: xmpp.JID{Domain: l.to}, Type: "get", Timeout: pingTimeout,
		Payload: xmpp.NewXMLNS("ping", "urn:xmpp:ping").Bytes(),
		// An error from the other server is an answer too; one of our own side, which has no peer, is not.
		Done: func(reply *xmpp.Request) {
			if reply != nil && reply.Peer != nil {
				o.answered(l, covered)
			} else {
				o.failed(l)
			}
		},
	})
}

func (o *Outbox) answered(l lane, covered []uint64) {
	o.mu.Lock()
	s := o.lane(l)
	s.pinging, s.fails = false, 0
	s.sent = slices.DeleteFunc(slices.Clone(s.sent), func(seq uint64) bool { return slices.Contains(covered, seq) })
	if len(s.sent) > 0 {
		o.plan(l, settle, o.ping)
	}
	o.mu.Unlock()
	o.forget(covered)
}

// failed plans another attempt: 30 s, doubling up to an hour.
func (o *Outbox) failed(l lane) {
	o.mu.Lock()
	defer o.mu.Unlock()
	s := o.lane(l)
	s.pinging = false
	wait := min(firstRetry<<min(s.fails, 10), lastRetry)
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
