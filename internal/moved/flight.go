package moved

import (
	"pibox/internal/store"
	"pibox/internal/xmpp"
)

// A request that is taken back while the other server is away is best never sent. What the outbox handed over may still wait on its way, and is recalled
// from there; whether all of it came back, so that there is nothing to withdraw, is told by its flight.

// flight is what is known of a stanza of the outbox that was queued in this run. Of what an earlier run queued nothing is known.
type flight struct {
	seq   uint64
	out   int    // copies that were handed over and did not come back
	lost  uint64 // Losses.Lost when the first of these was
	maybe bool   // one came back that may have been on a stream which was lost
}

// flights are by a stanza's id. The outbox's lock guards them.
type flights struct {
	byID map[string]*flight
	ids  map[uint64]string // by sequence
}

func newFlights() flights { return flights{map[string]*flight{}, map[uint64]string{}} }

func (fs flights) begin(id string, seq, lost uint64) {
	fs.byID[id] = &flight{seq: seq, out: 1, lost: lost}
	fs.ids[seq] = id
}

// back: what comes back was not written, unless a stream was lost since it was handed over.
func (fs flights) back(id string, lost uint64) {
	if f := fs.byID[id]; f != nil {
		f.out--
		f.maybe = f.maybe || f.lost != lost
	}
}

// landed forgets what the other server has.
func (fs flights) landed(seqs []uint64) {
	for _, seq := range seqs {
		delete(fs.byID, fs.ids[seq])
		delete(fs.ids, seq)
	}
}

func (o *Outbox) landed(seqs []uint64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.flights.landed(seqs)
}

// again counts a copy that is about to be handed over: before the transaction that read it is known to be durable, so that nobody takes it for what did
// not leave.
func (o *Outbox) again(id string) {
	lost := o.lost()
	o.mu.Lock()
	defer o.mu.Unlock()
	if f := o.flights.byID[id]; f != nil {
		if f.out == 0 {
			f.lost = lost
		}
		f.out++
	}
}

// recall takes a stanza out of what waits on its way, and tells whether nothing of it has left the box. Should the transaction fail, it is sent again.
func (o *Outbox) recall(st *xmpp.Stanza) (unsent bool) {
	n, _ := o.r.Recall(st)
	o.mu.Lock()
	defer o.mu.Unlock()
	if n > 0 {
		o.lane(lane{st.From.Domain, st.To.Domain}).refused = true
	}
	f := o.flights.byID[st.ID]
	if f == nil {
		return false
	}
	f.out -= n
	return f.out == 0 && !f.maybe
}

// drop ends the attempts for an entry, and tells whether nothing of it has left the box, nor will. For answers and withdrawals it does not ask: what
// stands behind them makes up for them.
func (o *Outbox) drop(tx *store.Tx, key string, st *xmpp.Stanza) (unsent bool) {
	store.Outbox.Delete(tx, key)
	seq := store.SeqOf(key)
	if st.Type == "subscribe" {
		unsent = o.recall(st)
	}
	tx.OnCommit(func() {
		if st.Type == "subscribe" { // what a transaction before this one let out meanwhile
			_, _ = o.r.Recall(st)
		}
		o.landed([]uint64{seq})
	})
	return unsent
}

// dropRequest ends the attempts for an account's request to a contact; unsent tells that there was one, of which nothing has left the box.
func (o *Outbox) dropRequest(tx *store.Tx, from, to string) (unsent bool) {
	found := map[string]*xmpp.Stanza{}
	for key, e := range store.Outbox.All(tx) {
		if st, err := xmpp.ParseStanza(e.Stanza); err == nil && e.From == from && e.To == to && st.Type == "subscribe" {
			found[key] = st
		}
	}
	unsent = len(found) > 0
	for key, st := range found {
		if !o.drop(tx, key, st) {
			unsent = false
		}
	}
	return unsent
}
