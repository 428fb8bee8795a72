package c2s

import (
	"errors"
	"log/slog"

	"pibox/internal/xmpp"
	"pibox/internal/xmpp/frame"
	"pibox/internal/xmpp/sm"

	"mellium.im/xmpp/stanza"
)

const (
	nsBind    = "urn:ietf:params:xml:ns:xmpp-bind"
	nsSession = "urn:ietf:params:xml:ns:xmpp-session"
)

// bind opens the stream after the login and binds a resource (RFC 6120 §7).
func (c *conn) bind() error {
	features := []byte("<bind xmlns='" + nsBind + "'/>" + sm.Feature + "<csi xmlns='" + nsCSI + "'/><session xmlns='" + nsSession + "'><optional/></session>")
	if err := c.open(fixed(append(features, c.srv.router.StreamFeatures()...))); err != nil {
		return err
	}
	for range maxTries {
		el, err := c.next()
		if err != nil {
			return err
		}
		if el.NS == sm.NS && (el.Name == "resume" || el.Name == "enable") {
			if done, err := c.managedUnbound(el); done || err != nil {
				return err
			}
			continue
		}
		if c.indicated(el) {
			continue
		}
		st, err := bindRequest(el, c.account)
		if err != nil {
			return err
		}
		resource, fault := c.resource(st)
		if fault == nil {
			fault = c.bindTo(st, resource)
		}
		var se *xmpp.StanzaError
		switch {
		case fault == nil:
			c.log(slog.LevelInfo, "login", "address", c.addr.String(), "jid", c.session.JID.String())
			return nil
		case !errors.As(fault, &se):
			return fault
		}
		c.send(bindReply(st, "error", se.XML()), false)
	}
	return tooManyTries()
}

// bindRequest is what alone may come before a resource is bound (RFC 6120 §7.1).
func bindRequest(el *frame.Element, account xmpp.JID) (*xmpp.Stanza, error) {
	st, err := xmpp.NewStanza(el)
	toUs := st.To.IsZero() || st.To == account || st.To == account.Host()
	if err == nil && el.NS == xmpp.NSClient && st.IsRequest() && toUs && el.HasChild(nsBind, "bind") {
		return st, nil
	}
	return nil, &xmpp.StreamError{Condition: "not-authorized", Text: "a resource has to be bound first"}
}

// resource is the prepared resource that the client asks for, "" where it leaves that to us.
func (c *conn) resource(st *xmpp.Stanza) (string, error) {
	if st.Type != "set" || st.ID == "" || len(st.Children) != 1 {
		return "", xmpp.Errorf(stanza.BadRequest, "binding is an iq of type set with an id and one payload")
	}
	want := st.Node().Child(nsBind, "bind").ChildText(nsBind, "resource")
	if want == "" {
		return "", nil
	}
	j, err := xmpp.ParseJID(c.account.String() + "/" + want)
	if err != nil || j.Bare() != c.account {
		return "", xmpp.Errorf(stanza.BadRequest, "the resource can not be used") // RFC 6120 §7.7.2.1
	}
	return j.Resource, nil
}

func (c *conn) bindTo(st *xmpp.Stanza, resource string) error {
	r, opt := c.srv.router, c.srv.opt
	full := c.account.With(resource)
	replaces := resource != "" && opt.Conflict == xmpp.ConflictReplace && r.SessionOf(full) != nil
	if !replaces && !c.roomForOne() {
		return xmpp.Errorf(stanza.ResourceConstraint, "too many devices of this account are connected") // RFC 6120 §7.6.2.1
	}
	// From Bind on others find the session; what they send waits behind the answer to this request.
	if err := c.out.hold(); err != nil {
		return err
	}
	if !c.bound(resource) {
		c.out.resume(c.net)
		return xmpp.Errorf(stanza.Conflict, "another device has this resource") // RFC 6120 §7.7.2.2
	}
	// Whoever removes the account or changes its password ends the sessions that there are; this one it may have missed.
	if !r.Exists(c.account) || r.Era(c.account) != c.era {
		c.out.resume(c.net)
		return &xmpp.StreamError{Condition: "not-authorized", Text: "the account or its password is not the same any more"}
	}
	jid := xmpp.NewXMLNS("bind", nsBind).Leaf("jid", "", c.session.JID.String()).Bytes()
	c.out.resumeWith(bindReply(st, "result", jid))
	return nil
}

// bound binds the resource, unless another device has it.
func (c *conn) bound(resource string) bool {
	r := c.srv.router
	l := &link{srv: c.srv, out: c.out, conn: c}
	l.out.taken = func(st *xmpp.Stanza) { r.Taken(l.session, st) }
	l.session = r.Bind(c.account, resource, c.id, l, c.srv.opt.Conflict)
	if l.session == nil {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.session, c.link = l.session, l
	return true
}

// roomForOne tells that the account may have one session more. The one that has been without a connection for the longest gives way.
func (c *conn) roomForOne() bool {
	full := func() bool { return len(c.srv.router.Sessions(c.account)) >= c.srv.opt.ResourcesPerAccount }
	for full() {
		l := c.srv.streams.longestLost(func(l *link) bool { return l.session.JID.Bare() == c.account })
		if l == nil {
			return false
		}
		if l.finish(l.idle) { // not where it was resumed just now
			return !full()
		}
	}
	return true
}

func bindReply(st *xmpp.Stanza, typ string, payload []byte) []byte {
	return xmpp.NewXML("iq").Attr("type", typ).Attr("id", st.ID).Raw(payload).Bytes()
}

// registerHandlers answers what a bound client may ask of its stream: a second resource, which it does not get, and the session of RFC
// 3921 §3, which is there already.
func (s *Server) registerHandlers() {
	for _, to := range []xmpp.Class{xmpp.ToAccount, xmpp.ToServer} {
		s.router.Handle(xmpp.Key{Class: to, Kind: xmpp.IQ, Type: "set", NS: nsBind, Name: "bind"}, func(rq *xmpp.Request) error {
			if rq.Session == nil {
				return xmpp.Errorf(stanza.ServiceUnavailable, "")
			}
			return xmpp.Errorf(stanza.NotAllowed, "a resource is bound already")
		})
		s.router.Handle(xmpp.Key{Class: to, Kind: xmpp.IQ, Type: "set", NS: nsSession, Name: "session"}, func(rq *xmpp.Request) error {
			if rq.Session == nil || (rq.Class == xmpp.ToAccount && !rq.FromOwner()) {
				return xmpp.Errorf(stanza.ServiceUnavailable, "")
			}
			rq.Reply(nil)
			return nil
		})
	}
}
