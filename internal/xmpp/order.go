package xmpp

import "sync"

// order keeps what one sender sends to one recipient in order (RFC 6120 §10.1) although some of it waits for the card: what
// is not stored waits behind what is being committed for the same pair, and for nothing else.
type order struct {
	mu   sync.Mutex
	last map[pair]*inFlight
}

type pair struct{ from, to JID } // full, bare

// inFlight is an operation of a pair that is being committed, and what came behind it and before the pair's next one.
type inFlight struct{ after []func(behind *inFlight) }

// add puts a request behind the operation. It counts as waiting for the committer: else a stalled card would let one sender fill the memory.
func (f *inFlight) add(rq *Request, do func()) {
	size := len(rq.Raw) + waitCost
	rq.Router.Store.Hold(size)
	rq.receipt.hold()
	f.after = append(f.after, func(behind *inFlight) {
		defer rq.receipt.release()
		rq.Router.Store.Hold(-size)
		rq.behind = behind
		do()
	})
}

// waitCost is the memory of a waiting request beside its bytes.
const waitCost = 512

func pairOf(rq *Request) pair { return pair{rq.From, rq.To.Bare()} }

// enter marks the beginning of a commit; leave its end, when what waited behind it runs. A request that itself waited behind an
// operation and now turns out to need a commit takes over what waits behind it.
func (o *order) enter(p pair, behind *inFlight) *inFlight {
	f := &inFlight{}
	o.mu.Lock()
	if behind != nil {
		f.after, behind.after = behind.after, nil
	}
	if behind == nil || o.last[p] == behind {
		o.last[p] = f
	}
	o.mu.Unlock()
	return f
}

func (o *order) leave(p pair, f *inFlight) {
	for {
		o.mu.Lock()
		if len(f.after) == 0 {
			if o.last[p] == f {
				delete(o.last, p)
			}
			o.mu.Unlock()
			return
		}
		next := f.after[0]
		f.after = f.after[1:]
		o.mu.Unlock()
		next(f)
	}
}

// queued puts an operation behind what already waits for the pair's last commit, which may turn out to need commits too; false when nothing waits.
func (o *order) queued(rq *Request, f func()) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	last := o.last[pairOf(rq)]
	if rq.behind != nil || last == nil || len(last.after) == 0 {
		return false
	}
	last.add(rq, f)
	return true
}

// idle tells that inOrder would run it now: then its caller does so itself, which spares the function's memory.
func (o *order) idle(rq *Request) bool {
	if rq.behind != nil {
		return true
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.last[pairOf(rq)] == nil
}

// inOrder runs f now, or behind what is being committed for the request's pair.
func (r *Router) inOrder(rq *Request, f func()) {
	if rq.behind != nil { // its turn is now
		f()
		return
	}
	o, p := &r.order, pairOf(rq)
	o.mu.Lock()
	last := o.last[p]
	if last != nil {
		last.add(rq, f)
	}
	o.mu.Unlock()
	if last == nil {
		f()
	}
}
