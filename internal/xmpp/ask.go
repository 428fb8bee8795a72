package xmpp

import (
	"sync"
	"time"
)

// Ask is a question of the box to somebody: an IQ request.
type Ask struct {
	From, To JID
	Type     string // get or set
	Payload  []byte
	Timeout  time.Duration
	// Done gets the reply, with the peer it came from, or nil when the time ran out. One of our own side's has no peer: that it could not be
	// delivered. It must not block.
	Done func(reply *Request)
}

type askKey struct {
	id       string
	from, to JID // of the reply
}

type ask struct {
	done  func(*Request)
	timer *time.Timer
}

type asks struct {
	mu      sync.Mutex
	waiting map[askKey]*ask
}

// Ask sends an IQ request with an unguessable id. A reply counts only with that id, from the address that was asked, to the
// one that asked.
func (r *Router) Ask(a Ask) {
	id := randomName()
	k := askKey{id, a.To, a.From}
	st := Make(NewXML("iq").Attr("type", a.Type).Attr("id", id).Attr("from", jidAttr(a.From)).Attr("to", jidAttr(a.To)).Raw(a.Payload).Bytes())
	r.asks.mu.Lock()
	r.asks.waiting[k] = &ask{done: a.Done, timer: time.AfterFunc(a.Timeout, func() {
		if w := r.asks.take(k); w != nil {
			w.done(r.late(st))
		}
	})}
	r.asks.mu.Unlock()
	r.Send(st)
}

// late is what is known of a question whose time ran out. One that still waits to leave is not asked any more: nobody would hear the answer.
func (r *Router) late(st *Stanza) *Request {
	unsent, why := r.Recall(st)
	if unsent == 0 {
		return nil
	}
	return &Request{Stanza: st.Failure(why), Router: r}
}

func (a *asks) take(k askKey) *ask {
	a.mu.Lock()
	defer a.mu.Unlock()
	w := a.waiting[k]
	delete(a.waiting, k)
	return w
}

func (a *asks) answer(rq *Request) bool {
	w := a.take(askKey{rq.ID, rq.From, rq.To})
	if w == nil {
		return false
	}
	w.timer.Stop()
	w.done(rq)
	return true
}
