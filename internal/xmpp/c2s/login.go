package c2s

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"pibox/internal/xmpp"
	"pibox/internal/xmpp/frame"
	"pibox/internal/xmpp/sasl"
	"pibox/internal/xmpp/throttle"
)

const (
	nsSASL = "urn:ietf:params:xml:ns:xmpp-sasl"
	nsCB   = "urn:xmpp:sasl-cb:0"
)

// login opens the stream and authenticates (RFC 6120 §6).
func (c *conn) login(shown *x509.Certificate) error {
	var bindings []sasl.Binding
	if tc, ok := c.net.(*tls.Conn); ok {
		bindings = sasl.Bindings(tc.ConnectionState(), shown)
	}
	if err := c.open(func() []byte { return c.mechanisms(bindings) }); err != nil {
		return err
	}
	var x exchange
	defer x.over(throttle.Abandoned)
	for failures := 0; failures < maxTries; {
		el, err := c.next()
		if err != nil {
			return err
		}
		reply, err := c.step(&x, el, bindings)
		if err == nil && reply.Done {
			err = c.mayLogin(&x)
		}
		var fail *sasl.Failure
		switch {
		case errors.As(err, &fail):
			failures++
			c.loginFailed(&x, fail)
		case err != nil:
			return err
		case reply.Done:
			return c.loggedIn(&x, reply)
		default:
			c.send(saslElement("challenge", reply.Text), false)
		}
	}
	return tooManyTries() // RFC 6120 §6.4.5
}

// mechanisms are the stream features before the login: RFC 6120 §6.4.1, XEP-0440 §2.
func (c *conn) mechanisms(bindings []sasl.Binding) []byte {
	var who xmpp.JID
	if j, err := xmpp.ParseJID(c.peer); err == nil {
		who = j.Bare()
	}
	unusable := c.srv.accounts.Unusable(who, c.domain)
	x := xmpp.NewXMLNS("mechanisms", nsSASL)
	for _, m := range sasl.Mechanisms(len(bindings) > 0) {
		if !slices.Contains(unusable, strings.TrimSuffix(m, "-PLUS")) {
			x.Leaf("mechanism", "", m)
		}
	}
	b := x.Bytes()
	if len(bindings) == 0 {
		return b
	}
	x = xmpp.NewXMLNS("sasl-channel-binding", nsCB)
	for _, cb := range bindings {
		x.Open("channel-binding", "").Attr("type", cb.Type).Close()
	}
	return append(b, x.Bytes()...)
}

// exchange is a login under way: nothing, or what the client began with auth.
type exchange struct {
	server  *sasl.Server
	attempt *throttle.Attempt
	name    string // of the account that was tried
	waited  error  // why waiting ended early
}

func (x *exchange) over(o throttle.Outcome) {
	if x.attempt != nil {
		x.attempt.Done(o)
	}
	*x = exchange{}
}

// step takes one element of the exchange. A *sasl.Failure ends the exchange, any other error the stream.
func (c *conn) step(x *exchange, el *frame.Element, bindings []sasl.Binding) (sasl.Reply, error) {
	if el.NS != nsSASL {
		return sasl.Reply{}, &xmpp.StreamError{Condition: "not-authorized", Text: "nothing is taken before a login"}
	}
	switch el.Name {
	case "auth":
		if x.server != nil {
			return sasl.Reply{}, &sasl.Failure{Condition: sasl.MalformedRequest, Detail: "auth within an exchange"}
		}
		var err error
		if x.server, err = sasl.NewServer(el.Attr("mechanism"), c.saslConfig(x, bindings)); err != nil {
			return sasl.Reply{}, serverFault(err)
		}
	case "response":
		if x.server == nil {
			return sasl.Reply{}, &sasl.Failure{Condition: sasl.MalformedRequest, Detail: "response without auth"}
		}
	case "abort": // RFC 6120 §6.4.4
		return sasl.Reply{}, &sasl.Failure{Condition: sasl.Aborted, Detail: "aborted by the client"}
	default:
		return sasl.Reply{}, &sasl.Failure{Condition: sasl.MalformedRequest, Detail: "unknown element"}
	}
	if len(el.Children) > 0 {
		return sasl.Reply{}, &sasl.Failure{Condition: sasl.MalformedRequest, Detail: "an element where text was expected"}
	}
	reply, err := x.server.Next(el.Node().Text)
	if x.waited != nil {
		return sasl.Reply{}, x.waited
	}
	return reply, err
}

func serverFault(err error) error {
	var f *sasl.Failure
	if errors.As(err, &f) {
		return err
	}
	return fmt.Errorf("c2s: %w", err)
}

func (c *conn) saslConfig(x *exchange, bindings []sasl.Binding) sasl.Config {
	return sasl.Config{
		Bindings: bindings,
		Secret:   c.srv.accounts.Secret(),
		Lookup: func(username string) (sasl.Account, error) {
			if j, err := xmpp.ParseJID(username + "@" + c.domain); err == nil {
				c.era = c.srv.router.Era(j.Bare())
			}
			acc, err := c.srv.accounts.Credentials(username, c.domain)
			if err != nil {
				return acc, err
			}
			x.name = acc.Name
			return acc, c.mayTry(x)
		},
		SameAccount: func(authzid, account string) bool {
			j, err := xmpp.ParseJID(authzid)
			return err == nil && j.String() == account
		},
	}
}

// mayTry holds the attempt up as long as failures before it demand.
func (c *conn) mayTry(x *exchange) error {
	attempt, wait, ok := c.srv.logins.Begin(c.addr, x.name)
	if !ok {
		return &sasl.Failure{
			Condition: sasl.TemporaryAuthFailure,
			Text:      "Too many wrong passwords came from this address. Try again in " + inWords(wait) + ".",
			Detail:    "refused for " + wait.Round(time.Second).String(),
		}
	}
	x.attempt = attempt
	x.waited = c.pause(wait)
	return nil
}

func inWords(d time.Duration) string {
	if d <= time.Minute {
		return "a minute"
	}
	return fmt.Sprintf("%d minutes", int((d+time.Minute-1)/time.Minute))
}

func (c *conn) loginFailed(x *exchange, f *sasl.Failure) {
	outcome, level := throttle.Abandoned, slog.LevelInfo
	if f.Guess {
		outcome, level = throttle.Failed, slog.LevelWarn
	}
	c.log(level, "login failed", "address", c.addr.String(), "account", x.name, "condition", string(f.Condition), "detail", f.Detail)
	x.over(outcome)
	c.send(failure(string(f.Condition), f.Text), false)
}

// mayLogin asks whether an account whose password was right may log in.
func (c *conn) mayLogin(x *exchange) error {
	account, err := xmpp.ParseJID(x.server.Account())
	if err != nil {
		return fmt.Errorf("c2s: the account's name: %w", err)
	}
	if c.srv.onLogin != nil {
		if err := c.srv.onLogin(account); err != nil {
			return serverFault(err)
		}
	}
	c.account = account
	return nil
}

// loggedIn ends the exchange well: RFC 6120 §6.4.6.
func (c *conn) loggedIn(x *exchange, reply sasl.Reply) error {
	x.over(throttle.Succeeded)
	c.send(saslElement("success", reply.Text), false)
	return nil
}

func saslElement(name, text string) []byte {
	return xmpp.NewXMLNS(name, nsSASL).Text(text).Bytes()
}

// failure is RFC 6120 §6.5.
func failure(condition, text string) []byte {
	x := xmpp.NewXMLNS("failure", nsSASL).Leaf(condition, "", "")
	if text != "" {
		x.Open("text", "").Attr("xml:lang", "en").Text(text).Close()
	}
	return x.Bytes()
}
