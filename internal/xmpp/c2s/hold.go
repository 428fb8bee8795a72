package c2s

import (
	"container/list"
	"strings"

	"pibox/internal/xmpp"
)

// maxNews bounds the conversations that are remembered.
const maxNews = 200

// holdback keeps what an inactive client (XEP-0352) need not be woken for, until something goes out anyway: then it goes before that, in the order in
// which it came. Of what is about the same the last is kept, which is what a person would see in the end. What is stored is never left out. It is
// guarded by its outbox's lock.
type holdback struct {
	account xmpp.JID
	waiting list.List               // of held, in order
	last    map[topic]*list.Element // of these
	cost    int                     // of waiting
	news    map[xmpp.JID]bool       // conversations of which the client may show something that was not read
}

type held struct {
	st    *xmpp.Stanza
	topic topic // nothing: it is kept whatever follows
}

func newHoldback(account xmpp.JID) *holdback {
	return &holdback{account: account, last: map[topic]*list.Element{}, news: map[xmpp.JID]bool{}}
}

// take keeps a stanza; false: it is to go out. No more than limit is kept.
func (h *holdback) take(st *xmpp.Stanza, limit int) bool {
	v := judge(st, h.account)
	if h.news[v.read] { // the device is to take back what it told
		delete(h.news, v.read)
		v.urgent = true
	}
	if !v.news.IsZero() && len(h.news) < maxNews { // cloned, as it would keep the whole message
		h.news[xmpp.JID{Local: strings.Clone(v.news.Local), Domain: strings.Clone(v.news.Domain)}] = true
	}
	h.drop(h.last[v.ends])
	if v.urgent {
		return false
	}
	it := held{st, v.topic}
	if st.Seq != 0 {
		it.topic = topic{}
	}
	h.drop(h.last[it.topic])
	if h.cost+cost(st) > limit {
		return false
	}
	e := h.waiting.PushBack(it)
	h.cost += cost(st)
	if it.topic.kind != nothing {
		h.last[it.topic] = e
	}
	return true
}

func (h *holdback) drop(e *list.Element) {
	if e == nil {
		return
	}
	it := h.waiting.Remove(e).(held)
	h.cost -= cost(it.st)
	delete(h.last, it.topic)
}

// all takes out what was kept.
func (h *holdback) all() []*xmpp.Stanza {
	all := make([]*xmpp.Stanza, 0, h.waiting.Len())
	for e := h.waiting.Front(); e != nil; e = e.Next() {
		all = append(all, e.Value.(held).st)
	}
	h.waiting.Init()
	clear(h.last)
	h.cost = 0
	return all
}

func cost(st *xmpp.Stanza) int { return item{st: st}.cost() }

// setInactive: nobody looks at the client from now on.
func (o *outbox) setInactive(account xmpp.JID) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.holdback == nil {
		o.holdback = newHoldback(account)
	}
}

// setActive: the client gets what was held back, and from now on all at once.
func (o *outbox) setActive() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed {
		return
	}
	o.release()
	o.holdback = nil
	o.wake()
}

func (o *outbox) isInactive() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.holdback != nil
}

// release lets out what was held back; with the lock, by who writes something behind it.
func (o *outbox) release() {
	if o.holdback == nil || o.closed { // nothing goes behind the end of the stream
		return
	}
	for _, st := range o.holdback.all() {
		o.waiting = append(o.waiting, item{st: st})
		o.cost += cost(st)
	}
}

// releaseFirst is release for who queues something next.
func (o *outbox) releaseFirst() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.release()
}

// heldCost is of what is held back; with the lock.
func (o *outbox) heldCost() int {
	if o.holdback == nil {
		return 0
	}
	return o.holdback.cost
}
