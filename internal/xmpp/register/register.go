// Package register lets the owner of an account change its password in a client (XEP-0077 §3.3). That is all it does of XEP-0077: accounts are
// made and removed by the administrator, and nothing of it is announced before logging in.
package register

import (
	"errors"
	"sync"

	"pibox/internal/store"
	"pibox/internal/xmpp"
	"pibox/internal/xmpp/frame"

	"mellium.im/xmpp/stanza"
)

// NS is the namespace of XEP-0077.
const NS = "jabber:iq:register"

// Accounts changes passwords.
type Accounts interface {
	// Standing tells what an account's logins stand on now; it changes with the password.
	Standing(tx *store.Tx, account xmpp.JID) (string, error)
	// ChangeOwn gives the account of a session another password, unless its standing is another one by now, and ends its other sessions. It
	// returns when that is durable. What the owner may know is an *xmpp.StanzaError.
	ChangeOwn(owner *xmpp.Session, standing, password string) error
}

type register struct {
	accounts Accounts

	mu       sync.Mutex
	changing map[*xmpp.Session]bool
	deriving sync.Mutex // one at a time: deriving keys takes a processor for a while
}

// Register hangs the change of passwords on the router.
func Register(r *xmpp.Router, a Accounts) {
	g := &register{accounts: a, changing: map[*xmpp.Session]bool{}}
	for _, class := range []xmpp.Class{xmpp.ToServer, xmpp.ToAccount} {
		key := xmpp.Key{Class: class, Kind: xmpp.IQ, Type: "get", NS: NS, Name: "query"}
		r.Handle(key, get)
		key.Type = "set"
		r.Handle(key, g.set)
	}
	r.Announce(xmpp.ToServer, NS)
}

// owner wants the sender to be logged in to the account, or at the domain, that is addressed.
func owner(rq *xmpp.Request) error {
	if rq.FromOwner() || (rq.Session != nil && rq.To == rq.Session.JID.Host()) {
		return nil
	}
	if rq.Class == xmpp.ToAccount { // §3.1 is about services; that others have accounts is not told
		return xmpp.Errorf(stanza.ServiceUnavailable, "")
	}
	return xmpp.Errorf(stanza.NotAllowed, "accounts are made and changed by this server's administrator")
}

// get tells what can be changed (§3.1.1, of somebody who is registered).
func get(rq *xmpp.Request) error {
	if err := owner(rq); err != nil {
		return err
	}
	rq.Reply(xmpp.NewXMLNS("query", NS).
		Leaf("registered", "", "").Leaf("instructions", "", "Choose a new password.").
		Leaf("username", "", rq.Session.JID.Local).Leaf("password", "", "").Bytes())
	return nil
}

func (g *register) set(rq *xmpp.Request) error {
	if err := owner(rq); err != nil {
		return err
	}
	password, err := read(rq)
	if err != nil {
		return err
	}
	s := rq.Session
	var standing string
	if err := rq.View(func(tx *store.Tx) (err error) {
		standing, err = g.accounts.Standing(tx, s.JID.Bare())
		return err
	}); err != nil {
		return err
	}
	// One at a time, or the one that ends last would win.
	if !g.begin(s) {
		return xmpp.Errorf(stanza.ResourceConstraint, "the password is being changed already")
	}
	// In a goroutine of its own: nobody else waits while keys are derived.
	go func() {
		g.deriving.Lock()
		err := g.accounts.ChangeOwn(s, standing, password)
		g.deriving.Unlock()
		g.end(s)
		if err == nil {
			s.Deliver(rq.Result(nil))
			return
		}
		var told *xmpp.StanzaError
		if !errors.As(err, &told) {
			rq.Router.Log.Error("a password could not be changed", "conn", s.ConnID, "error", err)
			told = xmpp.Errorf(stanza.InternalServerError, "the box could not do that; its log says why")
		}
		s.Deliver(rq.Failure(told))
	}()
	return nil
}

func (g *register) begin(s *xmpp.Session) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.changing[s] {
		return false
	}
	g.changing[s] = true
	return true
}

func (g *register) end(s *xmpp.Session) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.changing, s)
}

// read takes the new password from a request that is about the sender's own account and nothing else (§3.3).
func read(rq *xmpp.Request) (password string, err error) {
	query := rq.Node().Children[0]
	if query.Child(NS, "remove") != nil { // §3.2
		return "", xmpp.Errorf(stanza.NotAllowed, "an account is removed by this server's administrator")
	}
	seen := map[string]*frame.Node{}
	for _, el := range query.Children {
		if el.NS != NS || (el.Name != "username" && el.Name != "password") || len(el.Children) > 0 || seen[el.Name] != nil {
			return "", xmpp.Errorf(stanza.BadRequest, "a change of the password holds one username and one password, and nothing else")
		}
		seen[el.Name] = el
	}
	if seen["username"] == nil || seen["password"] == nil {
		return "", xmpp.Errorf(stanza.BadRequest, "a change of the password needs username and password")
	}
	if !names(seen["username"].Text, rq.Session.JID.Bare()) {
		return "", xmpp.Errorf(stanza.NotAllowed, "only the password of your own account can be changed")
	}
	if password = seen["password"].Text; password == "" {
		return "", xmpp.Errorf(stanza.BadRequest, "the new password is empty; the old one stays")
	}
	return password, nil
}

// names tells whether a username, a localpart or a bare JID, is an account's.
func names(username string, account xmpp.JID) bool {
	for _, text := range []string{username + "@" + account.Domain, username} {
		if j, err := xmpp.ParseJID(text); err == nil && j == account {
			return true
		}
	}
	return false
}
