package moved

import (
	"time"

	"pibox/internal/store"
	"pibox/internal/xmpp"
)

// What a person of this box answers to a request from another server is kept until that server has it. Were it lost, by a power cut here or because the
// other server is away, that one would wait for an answer for ever: nobody is asked about a request that was answered.

// Answer sends "subscribed" or "unsubscribed" of an account to another server, durably; denies tells that a request waited. It is the person's word of
// now, so that a restored box that is held sends it, too.
func (m *Moved) Answer(tx *store.Tx, out *xmpp.Out, st *xmpp.Stanza, denies bool) {
	sent := *st
	sent.ID = newID()
	sent.Element = st.With("id", sent.ID)
	seq := m.outbox.keep(tx, &sent, denies)
	out.After(func() { m.outbox.first(&sent, seq) })
}

// denied is an inbound filter: a request that was denied is not shown again while the other server is not known to have the denial. That is sent again
// now, as that server is there.
func (m *Moved) denied(rq *xmpp.Request) (drop bool, err error) {
	if rq.Kind != xmpp.Presence || rq.Type != "subscribe" || rq.Peer == nil {
		return false, nil
	}
	account, who := rq.Account(), rq.From.Bare()
	err = rq.View(func(tx *store.Tx) error {
		for _, e := range store.Outbox.All(tx) {
			drop = drop || e.Denies && e.From == account.String() && e.To == who.String()
		}
		return nil
	})
	if drop && err == nil {
		m.outbox.hurry(lane{account.Domain, who.Domain})
	}
	return drop, err
}

// hurry plans what waits for a server to be sent again soon.
func (o *Outbox) hurry(l lane) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if s := o.lane(l); !s.pinging {
		o.plan(l, time.Second, o.resend)
	}
}
