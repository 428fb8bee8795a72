package client

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"

	"pibox/internal/xmpp/frame"
)

// Kind sorts what can go wrong by what a person can do about it.
type Kind string

// The kinds of errors.
const (
	NameNotFound  Kind = "name-not-found" // the domain is not in the DNS
	Unreachable   Kind = "unreachable"    // nobody answers at its address
	Refused       Kind = "refused"        // the machine is there, and no XMPP server listens
	NoEncryption  Kind = "no-encryption"  // the server offers no TLS
	Untrusted     Kind = "untrusted"      // its certificate is not trusted, or not for this domain
	WrongPassword Kind = "wrong-password"
	Disabled      Kind = "disabled"     // the account may not be used
	NoMechanism   Kind = "no-mechanism" // no way to log in that we know
	TryLater      Kind = "try-later"    // the server asks for patience: overloaded, shutting down, throttling
	TimedOut      Kind = "timed-out"    // it did not answer in time
	Lost          Kind = "lost"         // the connection broke
	Ended         Kind = "ended"        // the server ended the session
	Broken        Kind = "broken"       // it sent what no server may send
	TooMuch       Kind = "too-much"     // it sent more than one account can hold
)

// Error is a failure at the other server.
type Error struct {
	Kind Kind
	Host string // domain of the account
	Text string // detail, in words; may quote the server
	Err  error
}

func (e *Error) Unwrap() error { return e.Err }

// Error tells in words what happened.
func (e *Error) Error() string {
	say := map[Kind]string{
		NameNotFound:  "there is no server with the name %s",
		Unreachable:   "the server of %s can not be reached",
		Refused:       "no chat server answers at the address of %s",
		NoEncryption:  "the server of %s offers no encrypted connection",
		Untrusted:     "the certificate of %s is not trusted",
		WrongPassword: "%s does not accept this password",
		Disabled:      "%s does not let this account log in",
		NoMechanism:   "%s offers no way to log in with a password that pibox knows",
		TryLater:      "the server of %s asks to come back later",
		TimedOut:      "the server of %s did not answer in time",
		Lost:          "the connection to %s broke",
		Ended:         "the server of %s ended the session",
		Broken:        "the server of %s does not keep to the protocol",
		TooMuch:       "the server of %s sends more than an account can hold",
	}[e.Kind]
	text := fmt.Sprintf(say, e.Host)
	if e.Text != "" {
		text += ": " + e.Text
	}
	return text
}

// Next tells in words what to do.
func (e *Error) Next() string {
	switch e.Kind {
	case NameNotFound:
		return "Check the spelling of the address. For a server without a public name give its address with --server."
	case Unreachable, Refused, TimedOut, Lost:
		return "Is that server running, and this box online? Try again later; nothing is lost by that."
	case NoEncryption:
		return "Without encryption the password could be read on the way; ask who runs that server to turn TLS on."
	case Untrusted:
		return "For a server with a certificate authority of its own, such as another family's, name its PEM file in s2s.trust of the configuration and start the box again."
	case WrongPassword:
		return "Check the address and the password; both are those of the account at that server."
	case Disabled:
		return "Ask who runs that server."
	case TryLater:
		return "Try again in some minutes."
	case Ended:
		return "Try again; the same app logging in at the same time, or an administrator, may have done that."
	}
	return "Ask who runs that server, and show them this text."
}

// Again tells whether the same may work a while later, without anybody doing anything.
func (e *Error) Again() bool {
	switch e.Kind {
	case Unreachable, Refused, TryLater, TimedOut, Lost, Ended:
		return true
	}
	return false
}

// Again is Error.Again of any error.
func Again(err error) bool {
	var e *Error
	return errors.As(err, &e) && e.Again()
}

func broken(format string, args ...any) *Error {
	return &Error{Kind: Broken, Text: fmt.Sprintf(format, args...)}
}

func tooMuch(format string, args ...any) *Error {
	return &Error{Kind: TooMuch, Text: fmt.Sprintf(format, args...)}
}

// at gives an error the host, and an error of the connection its kind. Errors that are no server's stay as they are.
func at(host string, err error) error {
	var mine *Error
	var own sinkError
	if err == nil || errors.Is(err, context.Canceled) || errors.As(err, &own) {
		return err
	}
	if errors.As(err, &mine) {
		if mine.Host != "" {
			return err
		}
		with := *mine
		with.Host = host
		return &with
	}
	if refused(err) {
		return err
	}
	kind, text := classify(err)
	return &Error{Kind: kind, Host: host, Text: text, Err: err}
}

// classify tells what an error of DNS, TCP, TLS or the framing means.
func classify(err error) (Kind, string) {
	var dns *net.DNSError
	var form *frame.Error
	var verification *tls.CertificateVerificationError
	var alert tls.AlertError
	var record tls.RecordHeaderError
	switch {
	case errors.As(err, &dns) && dns.IsNotFound:
		return NameNotFound, ""
	case errors.As(err, &dns):
		return Unreachable, "its name could not be looked up (" + dns.Err + ")"
	case errors.As(err, &verification):
		return Untrusted, certificateFault(verification)
	case errors.As(err, &alert), errors.As(err, &record):
		return Broken, "TLS: " + err.Error()
	case errors.Is(err, syscall.ECONNREFUSED):
		return Refused, ""
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, context.DeadlineExceeded):
		return TimedOut, ""
	case errors.As(err, &form):
		if form.Condition == frame.PolicyViolation {
			return TooMuch, form.Text
		}
		return Broken, form.Error()
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.ErrClosedPipe), errors.Is(err, net.ErrClosed),
		errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return Lost, ""
	}
	var op *net.OpError
	if errors.As(err, &op) {
		return Unreachable, op.Err.Error()
	}
	return Broken, err.Error()
}

func certificateFault(err error) string {
	var unknown x509.UnknownAuthorityError
	var name x509.HostnameError
	var invalid x509.CertificateInvalidError
	switch {
	case errors.As(err, &unknown):
		return "this box does not know who issued it"
	case errors.As(err, &name):
		return "it is for another name"
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return "it is not valid at this time (has it expired, is the clock of this box right?)"
	}
	return err.Error()
}
