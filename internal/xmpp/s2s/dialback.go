package s2s

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"pibox/internal/xmpp"
	"pibox/internal/xmpp/frame"

	"mellium.im/xmpp/stanza"
)

// dialback is an element of XEP-0220.
type dialback struct {
	name     string // result or verify
	from, to string // domains, prepared
	id       string
	typ      string // "" in a request
	key      string
	cause    string // condition of an error
}

// parseDialback reads an element in the dialback namespace.
func parseDialback(el *frame.Element) (dialback, *xmpp.StreamError) {
	n := el.Node()
	d := dialback{name: el.Name, id: el.Attr("id"), typ: el.Attr("type"), key: strings.TrimSpace(n.Text)}
	from, errFrom := xmpp.ParseJID(el.Attr("from"))
	to, errTo := xmpp.ParseJID(el.Attr("to"))
	d.from, d.to = from.Domain, to.Domain
	switch {
	case d.name != "result" && d.name != "verify":
		return d, &xmpp.StreamError{Condition: "unsupported-stanza-type", Text: "dialback has result and verify"}
	case errFrom != nil || errTo != nil || from != from.Host() || to != to.Host():
		return d, &xmpp.StreamError{Condition: "improper-addressing", Text: "dialback is between two domains"}
	case d.name == "verify" && d.id == "":
		return d, &xmpp.StreamError{Condition: "bad-format", Text: "a key is verified for a stream's id"}
	}
	if e := n.Child("", "error"); e != nil {
		for _, c := range e.Children {
			if c.NS == xmpp.NSStanzas && c.Name != "text" {
				d.cause = c.Name
			}
		}
	}
	return d, nil
}

func (d dialback) xml() []byte {
	x := xmpp.NewXML("db:"+d.name).Attr("from", d.from).Attr("to", d.to).Attr("id", d.id).Attr("type", d.typ)
	if d.cause != "" {
		// XEP-0220 §2.4: the error is of the stream's content namespace.
		x.Raw(xmpp.Errorf(stanza.Condition(d.cause), "").XML())
	}
	return x.Text(d.key).Bytes()
}

// answer turns a request round.
func (d dialback) answer(typ, cause string) []byte {
	return dialback{name: d.name, from: d.to, to: d.from, id: d.id, typ: typ, cause: cause}.xml()
}

// dialbackKey is XEP-0185 §2.
func dialbackKey(secret []byte, receiving, originating, streamID string) string {
	hashed := sha256.Sum256(secret)
	mac := hmac.New(sha256.New, []byte(hex.EncodeToString(hashed[:])))
	_, _ = fmt.Fprintf(mac, "%s %s %s", receiving, originating, streamID)
	return hex.EncodeToString(mac.Sum(nil))
}

// askByDialback asks the peer to let us send for the stream's pair (XEP-0220 §2.1.1).
func (t *stream) askByDialback() error {
	p := t.pair
	request := dialback{name: "result", from: p.local, to: p.remote, key: dialbackKey(t.s.opt.Secret, p.remote, p.local, t.streamID)}
	d, err := t.exchangeDialback(request)
	switch {
	case err != nil:
		return err
	case d.typ == "valid":
		return nil
	case d.typ == "invalid":
		return &failure{stanza.InternalServerError, true, errors.New("the server says that our dialback key is not ours")}
	}
	return &failure{stanza.RemoteServerTimeout, true, &dialbackError{d.cause}}
}

// dialbackError is the condition with which a server refuses our dialback. We ask by it only where our certificate does not serve.
type dialbackError struct{ condition string }

func (e *dialbackError) Error() string { return "dialback failed: " + e.condition }

// exchangeDialback sends a request and reads until its answer comes. An answer to anything else is an attack (XEP-0220 §3.1).
func (t *stream) exchangeDialback(request dialback) (dialback, error) {
	if err := t.send(request.xml()); err != nil {
		return dialback{}, err
	}
	el, err := t.element()
	if err != nil {
		return dialback{}, err
	}
	if el.NS != nsDialback {
		return dialback{}, &xmpp.StreamError{Condition: "not-authorized", Text: "nothing but the answer to dialback was expected"}
	}
	d, se := parseDialback(el)
	switch {
	case se != nil:
		return d, se
	case d.name != request.name || d.from != request.to || d.to != request.from || d.id != request.id && request.id != "":
		return d, &xmpp.StreamError{Condition: "policy-violation", Text: "a dialback answer that nobody asked for"}
	case d.typ != "valid" && d.typ != "invalid" && d.typ != "error":
		return d, &xmpp.StreamError{Condition: "bad-format", Text: "a dialback answer is valid, invalid or error"}
	}
	return d, nil
}

// confirm asks the remote domain's own server whether a key is its (XEP-0220 §2.1.2), over a connection for this alone. The error says why it
// could not be asked.
func (s *Server) confirm(ctx context.Context, p pair, streamID, key string) (valid bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, s.opt.AuthTimeout/2)
	defer cancel()
	var d dialback
	t, err := s.reach(ctx, p, func(t *stream, _ offer) (err error) {
		d, err = t.exchangeDialback(dialback{name: "verify", from: p.local, to: p.remote, id: streamID, key: key})
		return err
	})
	if err != nil {
		return false, err
	}
	s.wg.Go(func() { t.finish(nil) })
	if d.typ == "error" {
		return false, &failure{stanza.RemoteServerNotFound, true, errors.New("the authoritative server says " + d.cause)}
	}
	return d.typ == "valid", nil
}

// vouch answers whether a key is ours (XEP-0220 §2.2.2).
func (t *stream) vouch(d dialback) error {
	if !t.s.router.IsLocal(d.to) {
		return t.send(d.answer("error", "item-not-found"))
	}
	// The one who asks received the key, d.to is said to have made it.
	key := dialbackKey(t.s.opt.Secret, d.from, d.to, d.id)
	if subtle.ConstantTimeCompare([]byte(key), []byte(d.key)) == 1 {
		return t.send(d.answer("valid", ""))
	}
	t.log.Warn("a dialback key was not ours", "local", d.to, "asked by", d.from)
	return t.send(d.answer("invalid", ""))
}

const (
	maxChecking = 8   // keys of one stream that are being verified
	maxPairs    = 256 // pairs of domains that one stream may be used for
)

// dialback handles an element of XEP-0220 on an established or incoming stream.
func (t *stream) dialback(el *frame.Element) error {
	d, se := parseDialback(el)
	switch {
	case se != nil:
		return se
	case d.typ != "":
		// We ask only on streams of our own and wait for the answer: this one is unsolicited (XEP-0220 §3.1).
		return &xmpp.StreamError{Condition: "policy-violation", Text: "a dialback answer that nobody asked for"}
	case d.name == "verify":
		return t.vouch(d)
	}
	return t.authorize(d)
}

// authorize handles a peer's request to send for a pair of domains (XEP-0220 §2.2.1).
func (t *stream) authorize(d dialback) error {
	p := pair{d.to, d.from}
	permit := t.s.policy.of(p.remote)
	switch {
	case !t.s.router.IsLocal(p.local):
		return t.send(d.answer("error", "item-not-found"))
	case !permit.talk:
		return t.send(d.answer("error", "policy-violation"))
	case t.peers[p] != nil:
		return t.send(d.answer("valid", ""))
	case len(t.peers) >= maxPairs:
		return t.send(d.answer("error", "resource-constraint"))
	case t.proves(p.remote) == nil:
		return t.admit(p, xmpp.ProofCertificate, d.answer("valid", ""))
	case !permit.dialback:
		return t.send(d.answer("error", "not-authorized"))
	case t.checking[p]:
		return nil // its answer comes
	case len(t.checking) >= maxChecking:
		return t.send(d.answer("error", "resource-constraint"))
	}
	t.checking[p] = true
	id := t.streamID
	t.s.wg.Go(func() {
		valid, err := t.s.confirm(t.s.connecting, p, id, d.key)
		t.post(func() error { return t.confirmed(d, valid, err) })
	})
	return nil
}

// confirmed tells the peer what became of its request.
func (t *stream) confirmed(d dialback, valid bool, err error) error {
	p := pair{d.to, d.from}
	delete(t.checking, p)
	switch {
	case err != nil:
		f := asFailure(err)
		t.log.Warn("dialback could not be verified", "local", p.local, "remote", p.remote, "error", err)
		return t.send(d.answer("error", string(f.condition)))
	case valid:
		return t.admit(p, xmpp.ProofDialback, d.answer("valid", ""))
	}
	t.log.Warn("a forged dialback key", "local", p.local, "remote", p.remote)
	if len(t.peers) > 0 {
		return t.send(d.answer("error", "forbidden"))
	}
	if err := t.send(d.answer("invalid", "")); err != nil {
		return err
	}
	return errForged
}

// errForged ends a stream on which nobody is proven, without an error of its own: the answer said it.
var errForged = errors.New("the peer forged a dialback key")
