package delivery

import (
	"hash/maphash"
	"slices"

	"pibox/internal/xmpp"

	"mellium.im/xmpp/stanza"
)

const (
	nsCarbons     = "urn:xmpp:carbons:2"
	nsCarbonRules = "urn:xmpp:carbons:rules:0"
	nsForward     = "urn:xmpp:forward:0"
)

// toggleCarbons is XEP-0280 §4 and §5.
func toggleCarbons(rq *xmpp.Request) error {
	if !rq.FromOwner() {
		return xmpp.Errorf(stanza.NotAllowed, "carbons are for the account's own devices")
	}
	rq.Session.Mark(nsCarbons, rq.HasChild(nsCarbons, "enable"))
	rq.Reply(nil)
	return nil
}

// way is how a session gets a message.
type way uint8

const (
	notAtAll way = iota
	directly
	asReceived // a carbon of what the account got
	asSent     // a carbon of what another device sent
)

// way decides about a session of the account that the message is for.
func (d *Delivery) way(p *posting, s *xmpp.Session) way {
	switch {
	case !p.direct.IsZero():
		if s.JID == p.direct {
			return directly
		}
	case isTarget(s):
		return directly
	}
	switch {
	case !p.traits.copied || s == p.by || !s.Marked(nsCarbons):
		return notAtAll
	case p.by != nil:
		return asSent
	case p.traits.private(p.st.From) && (p.traits.kind != failure || !d.oneOccupant(d.r.SessionOf(p.direct), s, p.st.From)):
		return notAtAll // XEP-0280 §6.1: the room sends it to each device itself, but for an error, which only the sender got
	}
	return asReceived
}

// private tells a message between a device of ours and an occupant of a room.
func (t *traits) private(other xmpp.JID) bool { return t.ofRoom && !other.IsBare() }

func (d *Delivery) oneOccupant(a, b *xmpp.Session, other xmpp.JID) bool {
	return a != nil && d.opt.OneOccupant != nil && d.opt.OneOccupant(a, b, other.Bare())
}

// wrapped is the message as it goes that way. A carbon proves that the message was taken only from one who could have got it directly.
func (w way) wrapped(st *xmpp.Stanza, s *xmpp.Session, proves bool) *xmpp.Stanza {
	if w == directly {
		return st
	}
	name := "received"
	if w == asSent {
		name = "sent"
	}
	c := carbon(st, s.JID, name)
	if proves {
		return c.Stored(st.Seq)
	}
	return c
}

// carbon is XEP-0280 §7 and §8.
func carbon(st *xmpp.Stanza, to xmpp.JID, name string) *xmpp.Stanza {
	inner := slices.Insert(slices.Clone(st.Raw), len("<message"), []byte(" xmlns='"+xmpp.NSClient+"'")...)
	return xmpp.Make(xmpp.NewXML("message").Attr("type", st.Type).Attr("from", to.Bare().String()).Attr("to", to.String()).
		Open(name, nsCarbons).Open("forwarded", nsForward).Raw(inner).Bytes())
}

// copySent shows what a session sent to others to the account's other devices.
func (d *Delivery) copySent(by *xmpp.Session, p *posting) {
	if !p.traits.copied {
		return
	}
	jid := by.JID.Bare()
	var st *xmpp.Stanza
	for _, s := range d.r.Sessions(jid) {
		if s == by || !s.Marked(nsCarbons) {
			continue
		}
		if p.traits.private(p.st.To) && !d.oneOccupant(by, s, p.st.To) { // XEP-0280 §6.1: those who are not in that room can do nothing with it
			continue
		}
		if st == nil {
			st = p.copyFor(jid)
		}
		d.account(jid).hand(s, carbon(st, s.JID, "sent"))
	}
}

// recent are the last messages that were eligible for carbons: an error that answers one is eligible, too (XEP-0280 §6.1).
type recent struct {
	hashes [128]uint64
	next   int
}

// exchanged is what recent knows a message by.
type exchanged struct {
	id     string
	with   xmpp.JID
	ofRoom bool
}

// note remembers what an account exchanges with somebody, and finds out whether an error is to be copied.
func (d *Delivery) note(jid, with xmpp.JID, n *seen) {
	if n.st.ID == "" || !n.traits.copied && n.traits.kind != failure {
		return
	}
	sum := func(ofRoom bool) uint64 { return maphash.Comparable(d.seed, exchanged{n.st.ID, with.Bare(), ofRoom}) }
	a := d.account(jid)
	a.mu.Lock()
	defer a.mu.Unlock()
	if n.traits.kind == failure {
		n.traits.ofRoom = slices.Contains(a.recent.hashes[:], sum(true))
		n.traits.copied = n.traits.ofRoom || slices.Contains(a.recent.hashes[:], sum(false))
		return
	}
	a.recent.hashes[a.recent.next] = sum(n.traits.ofRoom)
	a.recent.next = (a.recent.next + 1) % len(a.recent.hashes)
}
