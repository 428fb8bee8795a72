// Package last answers last activity queries (XEP-0012): the server's uptime, and when somebody was last online, for those who may
// see his presence.
package last

import (
	"strconv"
	"time"

	"pibox/internal/store"
	"pibox/internal/xmpp"

	"mellium.im/xmpp/stanza"
)

// NS is the namespace of XEP-0012.
const NS = "jabber:iq:last"

type last struct {
	r     *xmpp.Router
	start time.Time
}

// Register hangs last activity on the router; the server's uptime counts from now.
func Register(r *xmpp.Router) {
	l := last{r, time.Now()}
	for class, h := range map[xmpp.Class]xmpp.Handler{xmpp.ToServer: l.server, xmpp.ToAccount: l.account, xmpp.ToResource: l.resource} {
		r.Handle(xmpp.Key{Class: class, Kind: xmpp.IQ, Type: "get", NS: NS, Name: "query"}, h)
	}
	r.Announce(xmpp.ToServer, NS)
	r.Announce(xmpp.ToAccount, NS)
}

func answer(since time.Duration, status string) []byte {
	seconds := max(0, int64(since/time.Second)) // the clock of a board without a battery may have been set back
	return xmpp.NewXMLNS("query", NS).Attr("seconds", strconv.FormatInt(seconds, 10)).Text(status).Bytes()
}

func (l last) server(rq *xmpp.Request) error {
	rq.Reply(answer(time.Since(l.start), ""))
	return nil
}

// account is §3. Who may not see presence is forbidden to know (§8).
func (l last) account(rq *xmpp.Request) error {
	var allowed, seen bool
	var rec store.Last
	if err := rq.View(func(tx *store.Tx) error {
		allowed = xmpp.MaySee(tx, rq.Account(), rq.From)
		rec, seen = store.LastSeen.Get(tx, rq.Account().String())
		return nil
	}); err != nil {
		return err
	}
	switch {
	case !allowed:
		return xmpp.Errorf(stanza.Forbidden, "only contacts who may see the presence may ask this")
	case len(l.r.Available(rq.Account())) > 0:
		rq.Reply(answer(0, ""))
		return nil
	case !seen:
		return xmpp.Errorf(stanza.ServiceUnavailable, "never online so far")
	}
	rq.Reply(answer(time.Since(rec.At), rec.Status))
	return nil
}

// resource lets a query through to the client only from who may see its presence (§4).
func (l last) resource(rq *xmpp.Request) error {
	var allowed bool
	if err := rq.View(func(tx *store.Tx) error {
		allowed = xmpp.MaySee(tx, rq.Account(), rq.From)
		return nil
	}); err != nil {
		return err
	}
	if !allowed {
		return xmpp.Errorf(stanza.Forbidden, "only contacts who may see the presence may ask this")
	}
	if s := l.r.SessionOf(rq.To); s == nil || !s.Deliver(rq.Stanza) {
		return xmpp.Errorf(stanza.ServiceUnavailable, "")
	}
	return nil
}
