package pep

import (
	"pibox/internal/xmpp"

	"mellium.im/xmpp/stanza"
)

// fault is an error with its application-specific condition (XEP-0060 §11).
func fault(c stanza.Condition, app, text string) *xmpp.StanzaError {
	return xmpp.Errorf(c, "%s", text).WithApp(app, NSErrors)
}

// unsupported names the feature that is not there.
func unsupported(feature string) *xmpp.StanzaError {
	e := xmpp.Errorf(stanza.FeatureNotImplemented, "")
	e.App = xmpp.NewXMLNS("unsupported", NSErrors).Attr("feature", feature).Bytes()
	return e
}

func noNode() *xmpp.StanzaError {
	return fault(stanza.BadRequest, "nodeid-required", "the request names no node")
}

func notFound() *xmpp.StanzaError { return xmpp.Errorf(stanza.ItemNotFound, "") }

func forbidden() *xmpp.StanzaError { return xmpp.Errorf(stanza.Forbidden, "") }

func malformed(text string) *xmpp.StanzaError { return xmpp.Errorf(stanza.BadRequest, "%s", text) }

func unacceptable(text string) *xmpp.StanzaError {
	return xmpp.Errorf(stanza.NotAcceptable, "%s", text)
}

// partly refuses changes of several entries as a whole; the refused ones come back as they are (XEP-0060 §8.8.2.4, §8.9.2.4).
func partly(list []byte, text string) *xmpp.StanzaError {
	e := unacceptable(text)
	e.Echo = list
	return e
}
