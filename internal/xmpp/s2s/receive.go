package s2s

import (
	"errors"

	"pibox/internal/xmpp"
	"pibox/internal/xmpp/frame"
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
	switch {
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
	t.used()
	if err := t.s.router.Store.WaitRoom(t.s.ctx); err != nil {
		return err
	}
	if malformed != nil {
		// An address that their rules allow and ours do not: the fault of one stanza, not of the stream.
		st.To = xmpp.JID{Domain: t.pair.local}
		if se := new(xmpp.StanzaError); errors.As(malformed, &se) && st.CanFail() {
			t.s.Send(st.Failure(se))
		}
		return nil
	}
	if !t.s.router.IsLocal(st.To.Domain) {
		return &xmpp.StreamError{Condition: "host-unknown", Text: "a stanza to a domain that is not served here"}
	}
	peer := t.peers[pair{st.To.Domain, st.From.Domain}]
	if peer == nil {
		return &xmpp.StreamError{Condition: "not-authorized", Text: "dialback did not prove this pair of domains"}
	}
	t.s.router.FromPeer(peer, st)
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
