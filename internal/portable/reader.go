package portable

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"pibox/internal/xmpp"
)

// Namespaces in files.
const (
	nsPortableOld = "http://www.xmpp.org/extensions/xep-0227.html#ns" // ejabberd's until 2012
	nsXInclude    = "http://www.w3.org/2001/XInclude"
	nsRoster      = "jabber:iq:roster"
	nsPrivate     = "jabber:iq:private"
	nsPrivacy     = "jabber:iq:privacy"
	nsBlocking    = "urn:xmpp:blocking"
	nsVCard       = "vcard-temp"
	nsPubSub      = "http://jabber.org/protocol/pubsub"
	nsPubSubOwner = nsPubSub + "#owner"
	nsMAM         = "urn:xmpp:mam:2"
	nsForward     = "urn:xmpp:forward:0"
	nsDelay       = "urn:xmpp:delay"
	nsSID         = "urn:xmpp:sid:0"
	nsData        = "jabber:x:data"
)

// ErrSkip, from Sink.User, leaves an account out.
var ErrSkip = errors.New("this account is left out")

// Reader reads one export.
type Reader struct {
	// Include opens a file that another one includes; href is as it stands there. nil: nothing is included, and that is told as a loss.
	Include func(from, href string) (f io.ReadCloser, name string, err error)
	// Name of the main file.
	Name string

	ctx    context.Context
	sink   Sink
	domain string
	depth  int // of includes
}

// maxIncludes is how deep files may include each other: the hosts, their users, and a part of one (XEP-0227 §5.1).
const maxIncludes = 3

// Read gives the accounts in an export to a sink. What is wrong with the file is a *FormatError.
func (r *Reader) Read(ctx context.Context, src io.Reader, sink Sink) error {
	r.ctx, r.sink, r.domain, r.depth = ctx, sink, "", 0
	c := newCutter(src, r.Name)
	t, err := c.root()
	if err != nil {
		return err
	}
	switch {
	case !pie(t.NS):
		return c.fault(errNotPortable)
	case t.Name == "host":
		err = r.host(c, t)
	case t.Name == "server-data":
		err = c.children(t, r.inServer)
	default:
		return c.fault(errNotPortable)
	}
	if err != nil {
		return err
	}
	return c.finish()
}

func pie(ns string) bool { return ns == NSPortable || ns == nsPortableOld }

// root is the start tag of the document.
func (c *cutter) root() (t tag, err error) {
	k, err := c.next()
	if err == nil && k != tokStart {
		err = errNotPortable
	}
	if err == nil {
		t, err = c.start()
	}
	if err != nil {
		return t, c.fault(err)
	}
	return t, nil
}

func (r *Reader) inServer(c *cutter, t tag) error {
	switch {
	case t.NS == nsXInclude:
		return r.include(c, t, r.inServer)
	case pie(t.NS) && t.Name == "host":
		return r.host(c, t)
	}
	return r.unknown(c, t)
}

func (r *Reader) host(c *cutter, t tag) error {
	j, err := xmpp.ParseJID(t.Attr("jid"))
	if err != nil || j != j.Host() {
		return c.fault(fmt.Errorf("a host whose jid %q is no domain", short(t.Attr("jid"))))
	}
	r.domain = j.Domain
	return c.children(t, r.inHost)
}

func (r *Reader) inHost(c *cutter, t tag) error {
	switch {
	case t.NS == nsXInclude:
		return r.include(c, t, r.inHost)
	case pie(t.NS) && t.Name == "user":
		return r.user(c, t)
	}
	return r.unknown(c, t)
}

func (r *Reader) user(c *cutter, t tag) error {
	if err := r.ctx.Err(); err != nil {
		return err
	}
	name := strings.Clone(t.Attr("name"))
	if name == "" {
		return c.fault(errors.New("a user without a name"))
	}
	var others []string
	for _, a := range t.Attrs {
		if a.Name != "name" && a.Name != "password" || a.NS != "" {
			others = append(others, a.Name)
		}
	}
	err := r.sink.User(User{Name: name, Domain: r.domain, Password: t.Attr("password")})
	if errors.Is(err, ErrSkip) {
		return c.skip(t, nil)
	}
	if err != nil {
		return err
	}
	for _, a := range others {
		if err := r.sink.Unknown(Loss{What: "user's attribute " + short(a), Why: whyUnknown}); err != nil {
			return err
		}
	}
	if err := c.children(t, r.inUser); err != nil {
		return err
	}
	return r.sink.End()
}

const (
	whyUnknown = "this box does not know what that is"
	whyLarge   = "it is larger than 1 MiB"
)

// short keeps what a file says out of reports and errors where it is long, or could act on a terminal.
func short(s string) string { return brief(s, 100) }

// brief bounds a text to so many bytes.
func brief(s string, most int) string {
	if len(s) > most {
		s = strings.ToValidUTF8(s[:most], "") + "…"
	}
	return strings.ToValidUTF8(strings.Map(func(r rune) rune {
		switch {
		case r < ' ', r >= 0x7f && r < 0xa0, r >= 0x202a && r <= 0x202e, r >= 0x2066 && r <= 0x2069: // the last two turn the writing round
			return '?'
		}
		return r
	}, s), "?")
}

// unknown tells of an element that nothing is known of, and skips it.
func (r *Reader) unknown(c *cutter, t tag) error {
	what := Loss{What: "<" + short(t.Name) + "/> in " + short(t.NS), Why: whyUnknown}
	if err := c.skip(t, nil); err != nil {
		return err
	}
	return r.sink.Unknown(what)
}

// include reads the one element of another file in the place of this one (XEP-0227 §5).
func (r *Reader) include(c *cutter, t tag, each func(*cutter, tag) error) error {
	href, plain := t.Attr("href"), !t.HasAttr("parse") && !t.HasAttr("xpointer") && t.Name == "include"
	if err := c.skip(t, nil); err != nil {
		return err
	}
	if !plain || r.Include == nil {
		return r.sink.Unknown(Loss{What: "<include/> in " + nsXInclude, Why: "other files are not read here"})
	}
	if r.depth >= maxIncludes {
		return c.fault(errors.New("files include each other deeper than hosts, users and a part of one"))
	}
	f, name, err := r.Include(c.name, href)
	if err != nil {
		return c.fault(fmt.Errorf("including %q: %w", short(href), err))
	}
	defer func() { _ = f.Close() }()
	r.depth++
	defer func() { r.depth-- }()
	in := newCutter(f, name)
	root, err := in.root()
	if err != nil {
		return err
	}
	if err := each(in, root); err != nil {
		return err
	}
	return in.finish()
}

// inUser is XEP-0227 §4.2 to §4.11, and what pibox adds.
func (r *Reader) inUser(c *cutter, t tag) error {
	each, one := r.contents(t)
	switch {
	case t.NS == nsXInclude:
		return r.include(c, t, r.inUser)
	case each != nil:
		return c.children(t, each)
	case one != nil:
		return r.element(c, t, one)
	}
	return r.unknown(c, t)
}

// contents tells what an element in a user is: a container, or an element that is taken whole.
func (r *Reader) contents(t tag) (each func(*cutter, tag) error, one func(whole) error) {
	switch t.Name + " " + t.NS {
	case "scram-credentials " + NSScram:
		return nil, r.credentials
	case "query " + nsRoster:
		return r.items("item", nsRoster, r.rosterItem), nil
	case "offline-messages " + NSPortable, "offline-messages " + nsPortableOld:
		return r.offline, nil
	case "query " + nsPrivate:
		return func(c *cutter, t tag) error { return r.element(c, t, r.private) }, nil
	case "vCard " + nsVCard:
		return nil, func(w whole) error { return r.sink.VCard(w.Raw) }
	case "query " + nsPrivacy:
		return nil, r.privacy
	case "presence " + xmpp.NSClient, "presence " + NSPortable, "presence " + nsPortableOld:
		return nil, r.pending
	case "pubsub " + nsPubSubOwner:
		return r.owner, nil
	case "pubsub " + nsPubSub:
		return r.nodes, nil
	case "archive " + NSArchive:
		return r.items("result", "", r.archived), nil
	case "prefs " + nsMAM:
		return nil, func(w whole) error { return r.sink.ArchivePrefs(w.Raw) }
	case "blocklist " + nsBlocking:
		return r.items("item", nsBlocking, func(w whole) error { return r.sink.Blocked(w.own("jid")) }), nil
	case "account " + NSOwn:
		return nil, r.own
	}
	return nil, nil
}

// items are the elements of one name in a container; ns "" takes any namespace.
func (r *Reader) items(name, ns string, one func(whole) error) func(*cutter, tag) error {
	return func(c *cutter, t tag) error {
		if t.Name != name || ns != "" && t.NS != ns {
			return r.unknown(c, t)
		}
		return r.element(c, t, one)
	}
}

func (r *Reader) offline(c *cutter, t tag) error {
	if t.Name != "message" || t.NS != xmpp.NSClient && !pie(t.NS) {
		return r.unknown(c, t)
	}
	return r.element(c, t, func(w whole) error { return r.stanza(w, r.sink.Offline) })
}

// nodes are the items of personal eventing (XEP-0227 §4.10.2).
func (r *Reader) nodes(c *cutter, t tag) error {
	if t.Name != "items" || t.NS != nsPubSub || t.Attr("node") == "" {
		return r.unknown(c, t)
	}
	node := strings.Clone(t.Attr("node"))
	return c.children(t, r.items("item", nsPubSub, func(w whole) error { return r.item(node, w) }))
}

// owner are the nodes of personal eventing (XEP-0227 §4.10.1).
func (r *Reader) owner(c *cutter, t tag) error {
	if t.NS != nsPubSubOwner || t.Attr("node") == "" {
		return r.unknown(c, t)
	}
	return r.element(c, t, r.aboutNode)
}

// element takes an element whole, if it is not too large.
func (r *Reader) element(c *cutter, t tag, one func(whole) error) error {
	what := t.Name
	e, err := c.whole(t)
	if err != nil {
		return err
	}
	if e == nil {
		return r.sink.Unknown(Loss{What: "<" + short(what) + "/>", Why: whyLarge})
	}
	return one(whole{e})
}
