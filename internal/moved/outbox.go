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
	pinging bool
	more    bool // something was sent behind the ping that is under way
	fails   int
	timer   *time.Timer
}

const (
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
	store.Outbox.Append(tx, store.OutboxEntry{Stanza: st.Raw, From: st.From.String(), To: st.To.String(), Queued: time.Now()})
	out.After(func() {
		o.r.Send(st)
		o.ping(lane{st.From.Domain, st.To.Domain}, false)
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
		o.later(l)
		return
	}
	var old []uint64
	for _, w := range all[l] {
		if time.Since(w.at) > giveUp {
			old = append(old, w.seq)
			continue
		}
		o.r.Send(w.st)
	}
	if len(old) > 0 {
		o.log.Warn("outbox: gave up", "domain", l.to, "stanzas", len(old))
		o.forget(l, old)
	}
	if len(old) < len(all[l]) {
		o.ping(l, true)
	}
}

// ping asks the other server for a sign of life behind what was sent. again: everything that waits was just sent, so a ping under way
// does not cover it and another follows.
func (o *Outbox) ping(l lane, again bool) {
	o.mu.Lock()
	s := o.lanes[l]
	if s == nil {
		s = &laneState{}
		o.lanes[l] = s
	}
	if s.pinging || o.stopped {
		s.more = true
		o.mu.Unlock()
		return
	}
	if s.timer != nil && !again { // the peer is away: a retry is planned and will send this one too
		o.mu.Unlock()
		return
	}
	s.pinging, s.more = true, false
	o.mu.Unlock()

	covered, err := o.waiting()
	if err != nil {
		o.pinged(l, nil, false)
		return
	}
	var seqs []uint64
	for _, w := range covered[l] {
		seqs = append(seqs, w.seq)
	}
	o.r.Ask(xmpp.Ask{
		From: xmpp.JID{Domain: l.from}, To: xmpp.JID{Domain: l.to}, Type: "get", Timeout: pingTimeout,
		Payload: xmpp.NewXMLNS("ping", "urn:xmpp:ping").Bytes(),
		// An error from the other server is an answer too; one of our own side, which has no peer, is not.
		Done: func(reply *xmpp.Request) { o.pinged(l, seqs, reply != nil && reply.Peer != nil) },
	})
}

func (o *Outbox) pinged(l lane, seqs []uint64, answered bool) {
	o.mu.Lock()
	s := o.lanes[l]
	s.pinging = false
	more := s.more
	if answered {
		s.fails = 0
	}
	o.mu.Unlock()
	switch {
	case !answered:
		o.later(l)
		return
	case len(seqs) > 0:
		o.forget(l, seqs)
	}
	if more {
		o.ping(l, true)
	}
}

func (o *Outbox) forget(l lane, seqs []uint64) {
	seqs = slices.Clone(seqs)
	o.r.Submit(64, func(tx *store.Tx, _ *xmpp.Out) error {
		for _, seq := range seqs {
			store.Outbox.Delete(tx, store.SeqKey(seq))
		}
		return nil
	}, nil)
}

// later plans another attempt: 30 s, doubling up to an hour.
func (o *Outbox) later(l lane) {
	o.mu.Lock()
	defer o.mu.Unlock()
	s := o.lanes[l]
	if s == nil {
		s = &laneState{}
		o.lanes[l] = s
	}
	if o.stopped || s.timer != nil {
		return
	}
	wait := min(firstRetry<<min(s.fails, 10), lastRetry)
	s.fails++
	s.timer = time.AfterFunc(wait, func() {
		o.mu.Lock()
		s.timer = nil
		o.mu.Unlock()
		o.resend(l)
	})
}
