package push

import (
	"bytes"
	"strings"
	"time"

	"pibox/internal/store"
	"pibox/internal/xmpp"
	"pibox/internal/xmpp/frame"

	"mellium.im/xmpp/stanza"
)

const (
	nsData      = "jabber:x:data"
	formOptions = "http://jabber.org/protocol/pubsub#publish-options"
)

// maxNode bounds the name of a node, a part of a key in the store, in bytes.
const maxNode = 1024

// request reads whom an enable or disable is about (§5, §6).
func (p *Push) request(rq *xmpp.Request) (*frame.Node, target, error) {
	if !rq.FromOwner() { // that others have accounts is not told
		return nil, target{}, xmpp.Errorf(stanza.ServiceUnavailable, "")
	}
	el := rq.Node().Children[0]
	if el.Attr("jid") == "" {
		return nil, target{}, xmpp.Errorf(stanza.BadRequest, "the push service's jid is missing")
	}
	service, err := xmpp.ParseJID(strings.Clone(el.Attr("jid"))) // what is kept does not keep the request
	if err != nil {
		return nil, target{}, xmpp.Errorf(stanza.JIDMalformed, "the push service's jid can not be understood")
	}
	return el, target{service, strings.Clone(el.Attr("node"))}, nil
}

// enable is §5. Enabling again replaces the publish options.
func (p *Push) enable(tx *store.Tx, out *xmpp.Out, rq *xmpp.Request) error {
	el, t, err := p.request(rq)
	if err != nil {
		return err
	}
	switch {
	case p.r.IsLocal(t.service.Domain) && t.service.Local != "":
		return xmpp.Errorf(stanza.NotAcceptable, "an account of this box is no push service")
	case len(t.node) > maxNode:
		return xmpp.Errorf(stanza.NotAcceptable, "the node's name is longer than %d bytes", maxNode)
	}
	form, err := options(el)
	if err != nil {
		return err
	}
	if len(form) > p.opt.MaxForm {
		return xmpp.Errorf(stanza.NotAcceptable, "the publish options are longer than %d bytes", p.opt.MaxForm)
	}
	bare := rq.Account()
	rec := store.Push{Options: form, Device: rq.Session.JID.Resource, Enabled: time.Now().UTC()}
	old, known := store.Pushes.Get(tx, key(bare, t))
	if !known && store.Pushes.Count(tx, bare.String()) >= p.opt.Max {
		return xmpp.Errorf(stanza.ResourceConstraint, "there are %d push services already", p.opt.Max)
	}
	if same := rec; known {
		same.Enabled = old.Enabled
		if same.Same(old) { // nothing changes: no wear
			rec = same
		}
	}
	store.Pushes.Put(tx, key(bare, t), rec)
	out.After(func() { p.put(bare, t, rec) })
	out.Reply(rq, nil)
	return nil
}

// options is the publish-options form of a request, as it is. Other forms are extensions that we do not know.
func options(el *frame.Node) ([]byte, error) {
	var form []byte
	for _, x := range el.Children {
		if x.NS != nsData || x.Name != "x" {
			continue
		}
		switch scope := formType(x); {
		case scope == "":
			return nil, xmpp.Errorf(stanza.BadRequest, "the form has no FORM_TYPE")
		case scope != formOptions:
		case x.Attr("type") != "submit":
			return nil, xmpp.Errorf(stanza.BadRequest, "publish options are a form of type submit")
		case form != nil:
			return nil, xmpp.Errorf(stanza.BadRequest, "there are two forms of publish options")
		default:
			form = bytes.Clone(x.Raw())
		}
	}
	return form, nil
}

func formType(x *frame.Node) string {
	for _, f := range x.Children {
		if f.NS == nsData && f.Name == "field" && f.Attr("var") == "FORM_TYPE" {
			return f.ChildText(nsData, "value")
		}
	}
	return ""
}

// disable is §6. What is not enabled is no mistake: it is as it was asked for.
func (p *Push) disable(tx *store.Tx, out *xmpp.Out, rq *xmpp.Request) error {
	el, t, err := p.request(rq)
	if err != nil {
		return err
	}
	bare, one := rq.Account(), el.HasAttr("node")
	if one {
		store.Pushes.Delete(tx, key(bare, t))
	} else {
		store.Pushes.Clear(tx, bare.String(), t.service.String())
	}
	out.After(func() {
		p.drop(bare, func(g *registration) bool { return g.service == t.service && (!one || g.node == t.node) })
	})
	out.Reply(rq, nil)
	return nil
}
