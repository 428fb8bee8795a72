package c2s

import (
	"context"
	"sync"

	"pibox/internal/store"
	"pibox/internal/xmpp"
)

// inbound counts a client's stanzas: handled are those that are durable, with all that they caused, and out. They get there in any order; the
// count, h in XEP-0198 §4, is of the first ones without a gap. It is kept in 64 bits and told modulo 2^32.
type inbound struct {
	key   string             // of the count in store.Progress; "" where nobody can ask for it after a crash
	sweep func(tx *store.Tx) // may use a transaction that is written anyway
	tell  func(h uint64)     // sends <a/>; with the lock, so that counts go out in order

	mu      sync.Mutex
	handled uint64
	open    []*arrived    // those behind, the first of which is not handled
	put     uint64        // what was put into the store last
	last    uint64        // of the handled ones, the last that changed the store
	asked   uint64        // an <a/> is owed when so many are handled; zero: none is
	settled chan struct{} // closed when all are handled; nil while nobody waits for that
}

// arrived is one stanza of the client.
type arrived struct {
	receipt xmpp.Receipt
	in      *inbound
	done    bool
	batch   uint64 // the transaction that it was last in
}

// next is the receipt of the next stanza.
func (in *inbound) next() *xmpp.Receipt {
	a := &arrived{in: in}
	a.receipt.Done = a.finish
	if in.key != "" {
		a.receipt.Commit = a.commit
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	in.open = append(in.open, a)
	return &a.receipt
}

// commit writes the count as it will be when the transaction is durable: what is in it counts. It may run again, without an operation that failed and so
// in another batch.
func (a *arrived) commit(tx *store.Tx) {
	in := a.in
	in.mu.Lock()
	a.batch = tx.Batch()
	n := in.handled
	for _, x := range in.open {
		if !x.done && x.batch != tx.Batch() {
			break
		}
		n++
	}
	in.put = n
	in.mu.Unlock()
	if n > 0 {
		store.Progress.Put(tx, in.key, store.Count(n))
	}
	in.sweep(tx)
}

func (a *arrived) finish() {
	in := a.in
	in.mu.Lock()
	defer in.mu.Unlock()
	a.done = true
	n := 0
	for n < len(in.open) && in.open[n].done {
		if in.open[n].batch > 0 {
			in.last = in.handled + uint64(n) + 1
		}
		in.open[n] = nil
		n++
	}
	in.handled += uint64(n)
	if in.open = in.open[n:]; len(in.open) == 0 {
		in.open = nil
		if in.settled != nil {
			close(in.settled)
			in.settled = nil
		}
	}
	if in.asked > 0 && in.handled >= in.asked {
		in.asked = 0
		in.tell(in.handled)
	}
}

// ask answers <r/> at once. Where more arrived than is handled, another <a/> follows when it is.
func (in *inbound) ask() {
	in.mu.Lock()
	defer in.mu.Unlock()
	if len(in.open) > 0 {
		in.asked = in.handled + uint64(len(in.open))
	}
	in.tell(in.handled)
}

func (in *inbound) count() uint64 {
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.handled
}

// behind tells that the store's count lacks something that changed the store: it came behind a stanza that was handled later. The next commit would
// make up for it.
func (in *inbound) behind() bool {
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.key != "" && in.last > in.put
}

// write puts the count into the store.
func (in *inbound) write(tx *store.Tx) {
	in.mu.Lock()
	in.put = in.handled
	n := in.put
	in.mu.Unlock()
	if n > 0 && in.key != "" {
		store.Progress.Put(tx, in.key, store.Count(n))
	}
}

// settle waits until all that arrived is handled, and gives the count; nothing arrives meanwhile. false: not before ctx ended.
func (in *inbound) settle(ctx context.Context) (h uint64, ok bool) {
	in.mu.Lock()
	if len(in.open) == 0 {
		defer in.mu.Unlock()
		return in.handled, true
	}
	if in.settled == nil {
		in.settled = make(chan struct{})
	}
	settled := in.settled
	in.mu.Unlock()
	select {
	case <-settled:
		return in.count(), true
	case <-ctx.Done():
		return in.count(), false
	}
}
