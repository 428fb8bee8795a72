package xmpp

import (
	"runtime/debug"

	"pibox/internal/store"
	"pibox/internal/xmpp/frame"

	"mellium.im/xmpp/stanza"
)

// FromSession takes a complete element from a client's stream. A stream error ends the connection.
func (r *Router) FromSession(s *Session, el *frame.Element) *StreamError {
	return r.FromSessionWith(s, el, nil)
}

// FromSessionWith is FromSession with a receipt, which may be done before it returns. With a stream error it is never done.
func (r *Router) FromSessionWith(s *Session, el *frame.Element, rc *Receipt) *StreamError {
	rc.hold()
	if err := r.fromSession(s, el, rc); err != nil {
		return err
	}
	rc.release()
	return nil
}

func (r *Router) fromSession(s *Session, el *frame.Element, rc *Receipt) *StreamError {
	st, err := NewStanza(el)
	if st.Kind == NoStanza || el.NS != NSClient {
		return &StreamError{Condition: "unsupported-stanza-type", Text: "only message, presence and iq are stanzas"}
	}
	// RFC 6120 §8.1.2.1: a client may name its full or its bare JID and nobody else; we stamp the full one.
	if !st.From.IsZero() && st.From != s.JID && st.From != s.JID.Bare() {
		return &StreamError{Condition: "invalid-from", Text: "a client can not speak for another address"}
	}
	st = st.Addressed(s.JID, st.To)
	rq := &Request{Stanza: st, Router: r, Session: s, receipt: rc}
	if err == nil {
		err = checkIQ(st)
	}
	if err != nil {
		r.fail(rq, err)
		return nil
	}
	rq.Stanza = st.prepared()
	st = rq.Stanza
	if st.To.IsZero() {
		if st.Kind == Presence {
			r.run(rq, Broadcast)
			return nil
		}
		// RFC 6120 §10.3: without an address it is for the account.
		rq.Stanza = st.Addressed(s.JID, s.JID.Bare())
	}
	if rq.To.Bare() != s.JID.Bare() && !(rq.To == s.JID.Host()) {
		if r.filtered(rq, r.outFilters) {
			return nil
		}
		if _, ok := r.find(Outbound, rq.Stanza); ok {
			r.run(rq, Outbound)
			return nil
		}
	}
	r.route(rq)
	return nil
}

// checkIQ demands what RFC 6120 §8.2.3 does of an IQ: an id, a known type, exactly one payload in a request.
func checkIQ(st *Stanza) error {
	if st.Kind != IQ {
		return nil
	}
	switch {
	case st.ID == "":
		return Errorf(stanza.BadRequest, "an iq needs an id")
	case st.IsRequest() && len(st.Children) != 1:
		return Errorf(stanza.BadRequest, "an iq request holds exactly one payload")
	case !st.IsRequest() && st.Type != "result" && st.Type != "error":
		return Errorf(stanza.BadRequest, "an iq is get, set, result or error")
	}
	return nil
}

// FromPeer takes a stanza from another server's stream; the caller has made sure that From is at a domain which that stream
// proved and that To is at a domain of ours.
func (r *Router) FromPeer(p *Peer, st *Stanza) { r.FromPeerWith(p, st, nil) }

// FromPeerWith is FromPeer with a receipt, which may be done before it returns.
func (r *Router) FromPeerWith(p *Peer, st *Stanza, rc *Receipt) {
	rc.hold()
	defer rc.release()
	rq := &Request{Stanza: st.Edited(st.AsClient()).prepared(), Router: r, Peer: p, receipt: rc}
	if err := checkIQ(rq.Stanza); err != nil {
		r.fail(rq, err)
		return
	}
	r.route(rq)
}

// Send routes a stanza of the box's own making. An Outbound handler uses Request.Send, an effect Out.Emit.
func (r *Router) Send(st *Stanza) { r.route(&Request{Stanza: st, Router: r}) }

// Send routes a stanza in the place of the request, e.g. what an Outbound handler lets go on: what its sender sent to the same
// recipient later does not overtake it.
func (rq *Request) Send(st *Stanza) {
	next := &Request{Stanza: st, Router: rq.Router, Note: rq.Note, receipt: rq.receipt}
	if pairOf(next) == pairOf(rq) {
		next.behind = rq.behind
	}
	rq.Router.route(next)
}

// SendFor routes what the box sends on behalf of a session, like its presence broadcast. What the outbound filters refuse is
// dropped, and nobody is told.
func (r *Router) SendFor(s *Session, st *Stanza) {
	if !r.refused(s, st) {
		r.Send(st)
	}
}

func (r *Router) refused(s *Session, st *Stanza) bool {
	return st.To.Bare() != s.JID.Bare() && r.filtered(&Request{Stanza: st, Router: r, Session: s, done: true}, r.outFilters)
}

// Admits tells whether a stanza that was kept for an account may still reach it: the filters may have changed since. Nobody is told.
func (r *Router) Admits(st *Stanza) bool {
	rq := &Request{Stanza: st, Router: r, done: true}
	rq.Class = r.classify(st)
	return !r.filtered(rq, r.inFilters)
}

// classify says who is addressed. Subscription stanzas are always for the account (RFC 6121 §3).
func (r *Router) classify(st *Stanza) Class {
	if st.To.Local == "" {
		return ToServer
	}
	if !r.Exists(st.To.Bare()) {
		return ToNobody
	}
	if st.To.IsBare() || (st.Kind == Presence && isSubscription(st.Type)) {
		return ToAccount
	}
	return ToResource
}

func isSubscription(typ string) bool {
	switch typ {
	case "subscribe", "subscribed", "unsubscribe", "unsubscribed":
		return true
	}
	return false
}

func (r *Router) route(rq *Request) {
	if !r.IsLocal(rq.To.Domain) {
		if r.order.idle(rq) {
			r.toRemote(rq.Stanza)
			return
		}
		r.inOrder(rq, func() { r.toRemote(rq.Stanza) })
		return
	}
	if !r.prepare(rq) {
		return
	}
	r.run(rq, rq.Class)
}

// prepare classifies a stanza for us and takes out what needs no handler: answers to our own questions, filtered stanzas.
func (r *Router) prepare(rq *Request) bool {
	rq.Class = r.classify(rq.Stanza)
	if rq.Class == ToAccount && !rq.To.IsBare() {
		rq.Stanza = rq.Stanza.Addressed(rq.From, rq.To.Bare())
	}
	if rq.Kind == IQ && !rq.IsRequest() && rq.To.IsBare() && r.asks.answer(rq) {
		return false
	}
	if rq.Class == ToServer {
		return true
	}
	return !r.filtered(rq, r.inFilters)
}

func (r *Router) toRemote(st *Stanza) {
	if r.remote == nil {
		r.Bounce(st, Errorf(stanza.RemoteServerNotFound, "this box does not talk to other servers"))
		return
	}
	r.remote.Send(st)
}

// Bounce returns a stanza that could not be delivered to its sender, where that is allowed.
func (r *Router) Bounce(st *Stanza, e *StanzaError) {
	if st.CanFail() {
		r.Send(st.Failure(e))
	}
}

func (r *Router) filtered(rq *Request, filters []Filter) bool {
	for _, f := range filters {
		drop, err := f(rq)
		if err != nil {
			r.fail(rq, err)
			return true
		}
		if drop {
			return true
		}
	}
	return false
}

// run hands a request to its handler, in the order of its pair of sender and recipient.
func (r *Router) run(rq *Request, c Class) {
	rq.Class = c
	rt, ok := r.find(c, rq.Stanza)
	switch {
	case !ok:
		r.inOrder(rq, func() { r.unhandled(rq) })
	case rt.now == nil, rt.writes != nil && decide(rq, rt.writes):
		r.Commit(rq, rt.tx, nil)
	case r.order.idle(rq):
		r.guard(rq, rt.now)
	default:
		r.inOrder(rq, func() { r.guard(rq, rt.now) })
	}
}

// decide is a decision of HandleEither. One that panics is no: the handler will do so, too, and is guarded.
func decide(rq *Request, writes func(*Request) bool) (yes bool) {
	defer func() {
		if recover() != nil {
			yes = false
		}
	}()
	return writes(rq)
}

// Commit runs a transaction for a request, in its pair's order. A Handler that finds that it must write calls it as its last act. done
// (may be nil) is told the outcome, after the effects; it must not block.
func (r *Router) Commit(rq *Request, h TxHandler, done func(error)) {
	if r.order.queued(rq, func() { r.Commit(rq, h, done) }) {
		return
	}
	pair := pairOf(rq)
	flight := r.order.enter(pair, rq.behind)
	rq.receipt.hold()
	r.Store.Submit(&store.Op{
		Size: len(rq.Raw),
		Run: func(tx *store.Tx) error {
			out := &Out{r: r, tx: tx, pair: pair, flight: flight, rc: rq.receipt}
			rq.done, rq.out = false, out
			defer func() { rq.out = nil }()
			if err := h(tx, out, rq); err != nil {
				return err
			}
			if tx.Wrote() {
				rq.receipt.commit(tx)
			}
			return out.err
		},
		Done: func(err error) {
			defer rq.receipt.release()
			if err != nil {
				r.fail(rq, err)
			}
			if done != nil {
				done(err)
			}
			r.order.leave(pair, flight)
		},
	})
}

// guard keeps a fault in one stanza from reaching another.
func (r *Router) guard(rq *Request, h Handler) {
	defer func() {
		if p := recover(); p != nil {
			r.Log.Error("panic in a handler", "kind", rq.Name, "type", rq.Type, "conn", rq.connID(), "panic", p, "stack", string(debug.Stack()))
			r.fail(rq, Errorf(stanza.InternalServerError, "the box could not do that; its log says why"))
		}
	}()
	if err := h(rq); err != nil {
		r.fail(rq, err)
	}
}

// unhandled is what RFC 6120 §8.3.3.19 and RFC 6121 §8 say of what nobody handles.
func (r *Router) unhandled(rq *Request) {
	if rq.Kind != IQ {
		return
	}
	if rq.Class == ToResource {
		if s := r.SessionOf(rq.To); s != nil && s.Deliver(rq.Stanza) {
			return
		}
	}
	if rq.IsRequest() {
		r.fail(rq, Errorf(stanza.ServiceUnavailable, ""))
	}
}

// fail answers a request with an error, where that is allowed.
func (r *Router) fail(rq *Request, err error) {
	se, internal := asStanzaError(err)
	if internal {
		r.Log.Error("a stanza failed", "kind", rq.Name, "type", rq.Type, "conn", rq.connID(), "error", err)
	}
	if !rq.CanFail() || rq.done {
		return
	}
	rq.done = true
	if rq.out != nil { // nothing is told before the sync
		rq.out.After(func() { r.answer(rq, rq.Failure(se)) })
		return
	}
	r.answer(rq, rq.Failure(se))
}

// answer sends a reply to where the request came from.
func (r *Router) answer(rq *Request, reply *Stanza) {
	if rq.Session != nil {
		rq.Session.Deliver(reply)
		return
	}
	r.Send(reply)
}

func (rq *Request) connID() string {
	switch {
	case rq.Session != nil:
		return rq.Session.ConnID
	case rq.Peer != nil:
		return rq.Peer.ConnID
	}
	return ""
}
