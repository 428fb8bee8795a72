package presence

import (
	"time"

	"pibox/internal/store"
	"pibox/internal/xmpp"

	"mellium.im/xmpp/stanza"
)

// toAccount brings presence to all available resources, whoever sent it (RFC 6121 §4.2.3, §4.4.3, §4.5.3, §4.6.4, §8.5.2.1.2). With
// none it ends here (§8.5.2.2.2).
func (p *Presence) toAccount(rq *xmpp.Request) error {
	account := rq.Account()
	if rq.Type == "unavailable" {
		p.forget(rq.From, p.r.Sessions(account)...)
	}
	for _, s := range p.r.Available(account) {
		s.Deliver(rq.Stanza)
	}
	p.tell(rq)
	return nil
}

// toResource is RFC 6121 §8.5.3.1: a connected resource is enough. Without it the stanza ends here (§8.5.3.2.2).
func (p *Presence) toResource(rq *xmpp.Request) error {
	s := p.r.SessionOf(rq.To)
	if s == nil {
		return nil
	}
	if rq.Type == "unavailable" {
		p.forget(rq.From, s)
	}
	s.Deliver(rq.Stanza)
	p.tell(rq)
	return nil
}

func (p *Presence) tell(rq *xmpp.Request) {
	if rq.Type != "error" && rq.From.Bare() != rq.Account() {
		p.r.ContactPresence(rq.Account(), rq.Stanza)
	}
}

// probe is RFC 6121 §4.3.2 for the bare JID.
func (p *Presence) probe(rq *xmpp.Request) error {
	account := rq.Account()
	var allowed bool
	var last store.Last
	var seen bool
	if err := rq.View(func(tx *store.Tx) error {
		if allowed = xmpp.MaySee(tx, account, rq.From); allowed {
			last, seen = store.LastSeen.Get(tx, account.String())
		}
		return nil
	}); err != nil {
		return err
	}
	if !allowed {
		return p.probeNobody(rq)
	}
	available := p.r.Available(account)
	for _, s := range available {
		p.show(s, rq.From, p.r.SendFor)
	}
	if len(available) > 0 || rq.From.Bare() == account {
		return nil
	}
	answer := xmpp.NewXML("presence").Attr("type", "unavailable").Attr("id", rq.ID).
		Attr("from", account.String()).Attr("to", rq.From.String())
	if seen {
		answer.Open("delay", "urn:xmpp:delay").Attr("stamp", last.At.UTC().Format(time.RFC3339)).Close()
	}
	rq.Router.Send(xmpp.Make(answer.Bytes()))
	return nil
}

// probeNobody tells a prober that there is no subscription: neither the account's existence nor its resources can be seen from the answer
// (RFC 6121 §4.3.2 rule 1, §8.5.1).
func (p *Presence) probeNobody(rq *xmpp.Request) error {
	p.r.Send(xmpp.Make(xmpp.NewXML("presence").Attr("type", "unsubscribed").Attr("id", rq.ID).
		Attr("from", rq.Account().String()).Attr("to", rq.From.Bare().String()).Bytes()))
	return nil
}

// probeResource is RFC 6121 §4.3.2 and §4.6.6 for a full JID: only whether that resource is there, without any detail.
func (p *Presence) probeResource(rq *xmpp.Request) error {
	var allowed bool
	if err := rq.View(func(tx *store.Tx) error {
		allowed = xmpp.MaySee(tx, rq.Account(), rq.From)
		return nil
	}); err != nil {
		return err
	}
	s := p.r.SessionOf(rq.To)
	there := false
	if s != nil {
		now, _ := s.Presence()
		there = now != nil && allowed || p.knows(s, rq.From, false)
	}
	if !there && !allowed {
		return p.probeNobody(rq)
	}
	answer := xmpp.NewXML("presence").Attr("from", rq.To.String()).Attr("to", rq.From.String())
	if !there {
		answer.Attr("type", "unavailable").Attr("id", rq.ID)
	}
	p.r.Send(xmpp.Make(answer.Bytes()))
	return nil
}

// iqToResource is RFC 6121 §8.5.3.1: for who does not get the resource's presence, the resource is not there. This box's own services ask
// from the domain.
func (p *Presence) iqToResource(rq *xmpp.Request) error {
	s := p.r.SessionOf(rq.To)
	if s == nil {
		return xmpp.Errorf(stanza.ServiceUnavailable, "")
	}
	allowed := rq.From.Local == "" && p.r.IsLocal(rq.From.Domain) || p.knows(s, rq.From, true)
	if !allowed {
		if err := rq.View(func(tx *store.Tx) error {
			allowed = xmpp.MaySee(tx, rq.Account(), rq.From)
			return nil
		}); err != nil {
			return err
		}
	}
	if !allowed || !s.Deliver(rq.Stanza) {
		return xmpp.Errorf(stanza.ServiceUnavailable, "")
	}
	return nil
}
