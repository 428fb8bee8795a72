package xmpp

import "pibox/internal/store"

// Out collects what a transaction lets happen outside. All of it happens after the sync, in the order of the calls.
type Out struct {
	r      *Router
	tx     *store.Tx
	pair   pair      // of the stanza that the transaction handles; flight is nil where there is none
	flight *inFlight // its place in the pair's order
	rc     *Receipt  // of that stanza
	depth  int
	err    error
}

// maxDepth bounds how far handlers in one transaction may call each other through Send.
const maxDepth = 8

// NewOut is for operations that do not begin with a stanza: jobs, administration.
func (r *Router) NewOut(tx *store.Tx) *Out { return &Out{r: r, tx: tx} }

// Update runs an operation with effects and waits until it is durable and they are out. Never call it from a handler or an effect.
func (r *Router) Update(run func(tx *store.Tx, out *Out) error) error {
	return r.Store.Update(r.withOut(run))
}

// Submit is Update without waiting; done (may be nil) is called from the committer's goroutine.
func (r *Router) Submit(size int, run func(tx *store.Tx, out *Out) error, done func(error)) {
	r.Store.Submit(&store.Op{Size: size, Run: r.withOut(run), Done: func(err error) {
		if err != nil && done == nil {
			r.Log.Error("an operation failed", "error", err)
		}
		if done != nil {
			done(err)
		}
	}})
}

func (r *Router) withOut(run func(tx *store.Tx, out *Out) error) func(*store.Tx) error {
	return func(tx *store.Tx) error {
		out := r.NewOut(tx)
		if err := run(tx, out); err != nil {
			return err
		}
		return out.err
	}
}

// After queues an effect. It must not block.
func (o *Out) After(f func()) { o.tx.OnCommit(f) }

// MayOwe tells whether a stanza may be stored for another server; the error is for its sender.
func (o *Out) MayOwe(st *Stanza) error {
	if d, ok := o.r.remote.(DurableRemote); ok {
		return d.MayOwe(st)
	}
	return nil
}

// Owe tells the way to other servers, within the transaction that wrote an entry of the log with Remote, whose it is: it is tried until the server has
// it, also by later runs. The stanza itself follows as an effect, by Emit and with its place in the log (Stanza.Stored).
func (o *Out) Owe(st *Stanza, seq uint64) {
	if d, ok := o.r.remote.(DurableRemote); ok {
		d.Owe(o.tx, st, seq)
	}
}

// Deliver queues a stanza for one session.
func (o *Out) Deliver(s *Session, st *Stanza) { o.After(func() { s.Deliver(st) }) }

// Reply queues the result of a request.
func (o *Out) Reply(rq *Request, payload []byte) {
	o.After(func() { rq.Reply(payload) })
}

// Emit routes a stanza at once. It is for use within an effect: in the place of the stanza that the transaction handled, so that
// what its sender sent to the same recipient later does not overtake it.
func (o *Out) Emit(st *Stanza) {
	rq := &Request{Stanza: st, Router: o.r, receipt: o.rc}
	if o.flight != nil && pairOf(rq) == o.pair {
		rq.behind = o.flight
	}
	o.r.route(rq)
}

// EmitFor is Emit for what the box sends on behalf of a session; see Router.SendFor.
func (o *Out) EmitFor(s *Session, st *Stanza) {
	if !o.r.refused(s, st) {
		o.Emit(st)
	}
}

// Send routes a stanza. Where the recipient is ours and his handler runs in a transaction, it runs now, in this one, so that
// both sides change together or not at all; its error is told to the stanza's sender after the sync and fails nothing else.
func (o *Out) Send(st *Stanza) { o.SendNoted(st, nil) }

// SendNoted is Send with something that the recipient's handler finds in Request.Note, if it runs in this transaction.
func (o *Out) SendNoted(st *Stanza, note any) {
	r := o.r
	if !r.IsLocal(st.To.Domain) || o.depth >= maxDepth {
		o.After(func() { o.Emit(st) })
		return
	}
	rq := &Request{Stanza: st, Router: r, Note: note, out: o}
	rq.Class = r.classify(st)
	rt, ok := r.find(rq.Class, st)
	if !ok || rt.tx == nil {
		o.After(func() { o.Emit(st) })
		return
	}
	defer func() { rq.out = nil }()
	if !r.prepare(rq) {
		return
	}
	o.depth++
	defer func() { o.depth-- }()
	if err := rt.tx(o.tx, o, rq); err != nil {
		if _, internal := asStanzaError(err); internal {
			o.err = err
			return
		}
		r.fail(rq, err)
	}
}
