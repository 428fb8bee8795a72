package portable

import (
	"bytes"
	"encoding/base64"
	"strconv"
	"strings"
	"time"

	"pibox/internal/store"
	"pibox/internal/xmpp"
	"pibox/internal/xmpp/frame"
)

// whole is an element that was taken whole and checked.
type whole struct{ *frame.Element }

// own is an attribute that may be kept: those of an element share the memory of the whole tag.
func (w whole) own(name string) string { return strings.Clone(w.Attr(name)) }

// malformed tells of an element that can not be used.
func (r *Reader) malformed(w whole, why string) error {
	return r.sink.Unknown(Loss{What: "<" + short(w.Name) + "/> in " + short(w.NS), Why: why})
}

// credentials is XEP-0227 §4.3.
func (r *Reader) credentials(w whole) error {
	n := w.Node()
	c := Credentials{Mechanism: w.Attr("mechanism")}
	var err error
	if c.Iterations, err = strconv.Atoi(text(n, "iter-count")); err != nil {
		return r.malformed(w, "its iteration count is no number")
	}
	for _, f := range []struct {
		name string
		to   *[]byte
	}{{"salt", &c.Salt}, {"server-key", &c.ServerKey}, {"stored-key", &c.StoredKey}} {
		if *f.to, err = base64.StdEncoding.DecodeString(text(n, f.name)); err != nil {
			return r.malformed(w, "its "+f.name+" is not in base64")
		}
	}
	encodedTwice(&c)
	return r.sink.Credentials(c)
}

// encodedTwice undoes what ejabberd 23.01 does: its keys are in base64 of base64.
func encodedTwice(c *Credentials) {
	size := 20
	if c.Mechanism == ScramSHA256 {
		size = 32
	}
	var inner [3][]byte
	for i, outer := range [...][]byte{c.StoredKey, c.ServerKey, c.Salt} {
		var err error
		if inner[i], err = base64.StdEncoding.DecodeString(string(outer)); err != nil || i < 2 && len(inner[i]) != size {
			return
		}
	}
	c.StoredKey, c.ServerKey, c.Salt = inner[0], inner[1], inner[2]
}

// text is that of a child, without the space around and in it, which base64 in files may have.
func text(n *frame.Node, name string) string {
	return strings.Join(strings.Fields(n.ChildText(NSScram, name)), "")
}

// rosterItem is XEP-0227 §4.4.
func (r *Reader) rosterItem(w whole) error {
	item := RosterItem{
		JID: w.own("jid"), Name: w.own("name"), Sub: store.Subscription(w.own("subscription")),
		Ask: w.Attr("ask") == "subscribe", Approved: yes(w.Attr("approved")),
	}
	if item.Sub == "" {
		item.Sub = store.SubNone
	}
	for _, c := range w.Node().Children {
		if c.Name == "group" && c.NS == nsRoster {
			item.Groups = append(item.Groups, c.Text)
		}
	}
	return r.sink.Roster(item)
}

func yes(s string) bool { return s == "true" || s == "1" }

// stanza gives a stanza on, as its bytes are on a stream: without a declaration of jabber:client.
func (r *Reader) stanza(w whole, to func([]byte) error) error {
	el, ok := streamed(w.Raw)
	if !ok {
		return r.malformed(w, "it is no stanza")
	}
	return to(el.Raw)
}

// streamed is a stanza without the declaration of its own namespace.
func streamed(raw []byte) (*frame.Element, bool) {
	lim := elementLimits
	lim.Bytes *= 2
	e, err := frame.Parse(raw, xmpp.NSClient, lim)
	if err == nil && e.NS != xmpp.NSClient {
		e, err = frame.Parse(raw, frame.NSStreams, lim)
		if err == nil && e.NS != xmpp.NSClient && e.NS != xmpp.NSServer { // it stood in the format's namespace, undeclared
			for _, ns := range []string{NSPortable, nsPortableOld} {
				raw = []byte(strings.Replace(string(raw), " xmlns='"+ns+"'", "", 1))
			}
			e, err = frame.Parse(raw, xmpp.NSClient, lim)
		}
	}
	if err != nil || e.NS != xmpp.NSClient && e.NS != xmpp.NSServer {
		return nil, false
	}
	return e.AsClient(), true
}

// pending is XEP-0227 §4.9.
func (r *Reader) pending(w whole) error {
	if w.Attr("type") != "subscribe" {
		return r.malformed(w, "only subscription requests are kept")
	}
	return r.stanza(w, r.sink.Pending)
}

// private is an element of XEP-0227 §4.6.
func (r *Reader) private(w whole) error { return r.sink.Private(w.Raw) }

// privacy is XEP-0227 §4.8. Of these lists only that remains which a block list can say: who is refused by the default one.
func (r *Reader) privacy(w whole) error {
	n := w.Node()
	def := n.Child(nsPrivacy, "default").Attr("name")
	for _, l := range n.Children {
		if l.Name != "list" {
			continue
		}
		if def == "" || l.Attr("name") != def {
			if err := r.sink.Unknown(Loss{What: "a privacy list", Why: "it is not the default one"}); err != nil {
				return err
			}
			continue
		}
		for _, item := range l.Children {
			if err := r.privacyItem(item); err != nil {
				return err
			}
		}
	}
	return nil
}

func (r *Reader) privacyItem(item *frame.Node) error {
	switch {
	case item.Name != "item":
		return nil
	case item.Attr("action") == "deny" && item.Attr("type") == "jid" && len(item.Children) == 0:
		return r.sink.Blocked(item.Attr("value"))
	case item.Attr("action") == "allow" && item.Attr("type") == "": // what follows from a block list by itself
		return nil
	}
	return r.sink.Unknown(Loss{What: "a rule of a privacy list", Why: "only who is refused altogether can be on a block list"})
}

// aboutNode is XEP-0227 §4.10.1.
func (r *Reader) aboutNode(w whole) error {
	node := Node{Name: w.own("node")}
	n := w.Node()
	switch w.Name {
	case "configure":
		node.Created = ownTime(w.Element, "created")
		node.Config = formFields(n.Child(nsData, "x"))
	case "affiliations":
		node.Affiliations = map[string]string{}
		for _, c := range n.Children {
			if c.Name == "affiliation" && c.Attr("affiliation") != "none" {
				node.Affiliations[c.Attr("jid")] = c.Attr("affiliation")
			}
		}
	case "subscriptions":
		node.Subscriptions = map[string]string{}
		for _, c := range n.Children {
			state := c.Attr("subscription")
			if state == "" {
				state = c.Attr("subscribed") // Prosody 0.12 writes that
			}
			if c.Name == "subscription" && state != "none" {
				node.Subscriptions[c.Attr("jid")] = state
			}
		}
	default:
		return r.malformed(w, whyUnknown)
	}
	return r.sink.Node(node)
}

// formFields are the fields of a node's configuration, never nil.
func formFields(x *frame.Node) map[string][]string {
	fields := map[string][]string{}
	if x == nil {
		return fields
	}
	for _, f := range x.Children {
		name, ours := strings.CutPrefix(f.Attr("var"), "pubsub#")
		if f.Name != "field" || !ours || len(fields) >= 256 {
			continue
		}
		values := []string{}
		for _, v := range f.Children {
			if v.Name == "value" {
				values = append(values, v.Text)
			}
		}
		fields[name] = values
	}
	return fields
}

// ownTime is the time in an attribute of our own.
func ownTime(e *frame.Element, name string) time.Time {
	for _, a := range e.Attrs {
		if a.NS == NSOwn && a.Name == name {
			return stamp(a.Value)
		}
	}
	return time.Time{}
}

// stamp reads XEP-0082, and its older form without hyphens; zero for what is neither, and for years that no message is of.
func stamp(s string) time.Time {
	for _, layout := range []string{time.RFC3339Nano, "20060102T15:04:05"} {
		if t, err := time.Parse(layout, s); err == nil && t.UTC().Year() >= 1970 && t.UTC().Year() <= 9999 {
			return t.UTC()
		}
	}
	return time.Time{}
}

// item is XEP-0227 §4.10.2.
func (r *Reader) item(node string, w whole) error {
	it := Item{ID: w.own("id"), Publisher: w.own("publisher"), At: ownTime(w.Element, "at")}
	if n := w.Node(); len(n.Children) > 0 {
		it.Payload = n.Children[0].Raw()
		if len(n.Children) > 1 {
			return r.malformed(w, "an item holds one element")
		}
	}
	return r.sink.Item(node, it)
}

// archived is XEP-0227 §4.11.
func (r *Reader) archived(w whole) error {
	m := Archived{ID: w.Attr("id")}
	delay, el := forwarded(w)
	if el == nil || el.Name != "message" {
		return r.malformed(w, "it holds no message")
	}
	m.At, m.Stanza = stamp(delay), el.Raw
	return r.sink.Archived(m)
}

// forwarded finds the time and the message in a result; nil where there is none. Nearly all results need no tree for that.
func forwarded(w whole) (stamp string, message *frame.Element) {
	if c, ok := w.Child(nsForward, "forwarded"); ok {
		if f, err := frame.Parse(w.Raw[c.Start:c.End], c.NS, elementLimits); err == nil {
			if stamp, message = simple(f); message != nil {
				return stamp, message
			}
		}
	}
	f := w.Node().Child(nsForward, "forwarded")
	message, _ = streamed(f.Child("", "message").Raw())
	return f.Child(nsDelay, "delay").Attr("stamp"), message
}

// simple is forwarded where every element declares its own namespaces.
func simple(f *frame.Element) (stamp string, message *frame.Element) {
	delay, ok1 := f.Child(nsDelay, "delay")
	msg, ok2 := f.Child(xmpp.NSClient, "message")
	if !ok1 || !ok2 || !bytes.HasPrefix(f.Raw[msg.Start:msg.End], []byte("<message ")) {
		return "", nil
	}
	d, err := frame.Parse(f.Raw[delay.Start:delay.End], nsDelay, elementLimits)
	if err != nil {
		return "", nil
	}
	message, _ = streamed(f.Raw[msg.Start:msg.End])
	return d.Attr("stamp"), message
}

// own is what only a pibox writes.
func (r *Reader) own(w whole) error {
	flag := func(name string) *bool {
		if !w.HasAttr(name) {
			return nil
		}
		v := yes(w.Attr(name))
		return &v
	}
	o := Own{
		Created: stamp(w.Attr("created")), Admin: yes(w.Attr("admin")), Restricted: yes(w.Attr("restricted")), OneTime: yes(w.Attr("one-time")),
		Last: store.Last{At: stamp(w.Attr("last")), Status: w.own("last-status")},
		Push: store.PushContent{Sender: flag("push-sender"), Body: flag("push-body")},
	}
	return r.sink.Own(o)
}
