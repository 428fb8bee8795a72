package xmpp

import (
	"errors"
	"fmt"

	"pibox/internal/store"

	"mellium.im/xmpp/stanza"
)

// StanzaError is what a peer is told (RFC 6120 §8.3). Any other error that a handler returns is logged and told as
// internal-server-error without its text.
type StanzaError struct {
	Type      stanza.ErrorType
	Condition stanza.Condition
	Text      string // for the person; English
	Value     string // content of the condition's element: the address of gone and redirect
	By        JID
	App       []byte // an application-specific condition, one element
	Echo      []byte // elements that stand before the error element: what of the request it is about
}

func (e *StanzaError) Error() string {
	if e.Text == "" {
		return string(e.Condition)
	}
	return string(e.Condition) + ": " + e.Text
}

// Errorf makes an error of a condition with the type that RFC 6120 §8.3.3 gives it.
func Errorf(c stanza.Condition, format string, args ...any) *StanzaError {
	return &StanzaError{Type: defaultType(c), Condition: c, Text: fmt.Sprintf(format, args...)}
}

// WithApp adds an application-specific condition.
func (e *StanzaError) WithApp(name, ns string) *StanzaError {
	c := *e
	c.App = NewXMLNS(name, ns).Bytes()
	return &c
}

func defaultType(c stanza.Condition) stanza.ErrorType {
	switch c {
	case stanza.BadRequest, stanza.JIDMalformed, stanza.NotAcceptable, stanza.PolicyViolation, stanza.Redirect:
		return stanza.Modify
	case stanza.Forbidden, stanza.NotAuthorized, stanza.RegistrationRequired, stanza.SubscriptionRequired:
		return stanza.Auth
	case stanza.RecipientUnavailable, stanza.RemoteServerTimeout, stanza.ResourceConstraint, stanza.UnexpectedRequest:
		return stanza.Wait
	}
	return stanza.Cancel
}

// XML is the error element.
func (e *StanzaError) XML() []byte {
	x := NewXML("error").Attr("type", string(e.Type)).Attr("by", jidAttr(e.By))
	x.Leaf(string(e.Condition), NSStanzas, e.Value)
	if e.Text != "" {
		x.Leaf("text", NSStanzas, e.Text)
	}
	return x.Raw(e.App).Bytes()
}

// asStanzaError gives what the peer is told of err, and whether err is to be logged.
func asStanzaError(err error) (se *StanzaError, internal bool) {
	if errors.As(err, &se) {
		return se, false
	}
	if errors.Is(err, store.ErrFull) {
		return Errorf(stanza.ResourceConstraint, "the box has no room left; whoever runs it must make some"), true
	}
	return Errorf(stanza.InternalServerError, "the box could not do that; its log says why"), true
}

// StreamError ends a stream (RFC 6120 §4.9).
type StreamError struct {
	Condition string
	Text      string
	App       []byte
}

func (e *StreamError) Error() string { return "stream error " + e.Condition + ": " + e.Text }

// XML is the stream:error element.
func (e *StreamError) XML() []byte {
	x := NewXML("stream:error").Leaf(e.Condition, NSStreams, "")
	if e.Text != "" {
		x.Leaf("text", NSStreams, e.Text)
	}
	return x.Raw(e.App).Bytes()
}
