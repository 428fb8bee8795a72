package s2s

import (
	"errors"

	"pibox/internal/xmpp"
	"pibox/internal/xmpp/frame"
	"pibox/internal/xmpp/sm"
)

// run reads an incoming stream over TLS, or any that is authenticated, until it ends.
func (t *stream) run() error {
	for {
		el, err := t.element()
		if err != nil {
			return err
		}
		if err := t.rate.wait(t.s.ctx, len(el.Raw)); err != nil {
			return err
		}
		if err := t.handle(el); err != nil {
			return err
		}
	}
}

func (t *stream) handle(el *frame.Element) error {
	if len(t.peers) == 0 && t.incoming {
		if t.before++; t.before > maxBefore {
			return &xmpp.StreamError{Condition: "policy-violation", Text: "too much before authentication"}
		}
	}
	if el.NS != sm.NS {
		t.attachNow()
	}
	switch {
	case el.NS == sm.NS:
		return t.manage(el)
	case el.NS == nsDialback:
		return t.dialback(el)
	case el.NS == nsSASL && t.incoming && len(t.peers) == 0:
		return t.auth(el)
	case el.NS == nsBidi && el.Name == "bidi" && t.incoming && len(t.peers) == 0:
		t.bidi = true
		return nil
	}
	return t.stanza(el)
}

// stanza hands what the peer may send to the router (RFC 6120 §4.9.3, §8.1).
func (t *stream) stanza(el *frame.Element) error {
	st, malformed := xmpp.NewStanza(el)
	switch {
	case st.Kind == xmpp.NoStanza || el.NS != xmpp.NSServer:
		return &xmpp.StreamError{Condition: "unsupported-stanza-type", Text: "only message, presence and iq are stanzas"}
	case len(t.peers) == 0:
		return &xmpp.StreamError{Condition: "not-authorized", Text: "stanzas need authentication"}
	case st.From.IsZero() || el.Attr("to") == "":
		return &xmpp.StreamError{Condition: "improper-addressing", Text: "a stanza between servers needs from and to"}
	case !t.proven(st.From.Domain):
		return &xmpp.StreamError{Condition: "invalid-from", Text: "the stream does not prove this domain"}
	}
	if malformed != nil {
		// An address that their rules allow and ours do not: the fault of one stanza, not of the stream.
		return t.malformed(st, malformed)
	}
	if !t.s.router.IsLocal(st.To.Domain) {
		return &xmpp.StreamError{Condition: "host-unknown", Text: "a stanza to a domain that is not served here"}
	}
	peer := t.peers[pair{st.To.Domain, st.From.Domain}]
	if peer == nil {
		return &xmpp.StreamError{Condition: "not-authorized", Text: "dialback did not prove this pair of domains"}
	}
	rc, take, err := t.receive()
	switch {
	case !take:
	case t.s.pong(st):
		if rc != nil {
			rc.Done()
		}
	default:
		t.s.router.FromPeerWith(peer, st, rc)
	}
	return err
}

// receive waits until there is room for a stanza, and counts it.
func (t *stream) receive() (rc *xmpp.Receipt, take bool, err error) {
	t.used()
	if err := t.s.router.Store.WaitRoom(t.s.ctx); err != nil {
		return nil, false, err
	}
	rc, take = t.s.receive(t)
	return rc, take, nil
}

func (t *stream) malformed(st *xmpp.Stanza, why error) error {
	rc, take, err := t.receive()
	if !take {
		return err
	}
	st.To = xmpp.JID{Domain: t.pair.local}
	if se := new(xmpp.StanzaError); errors.As(why, &se) && st.CanFail() {
		t.s.Send(st.Failure(se))
	}
	if rc != nil {
		rc.Done()
	}
	return nil
}

// proven tells whether the peer may send from a domain at all.
func (t *stream) proven(domain string) bool {
	for p := range t.peers {
		if p.remote == domain {
			return true
		}
	}
	return false
}
