package portable

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"errors"
	"io"
	"maps"
	"slices"
	"strconv"
	"time"

	"pibox/internal/xmpp"
)

// Writer is a Sink that writes a file of one document. It holds one stanza or item, and the block list of one account.
type Writer struct {
	w      *bufio.Writer
	domain string
	group  string // the name of the container in the user that is open
	node   string // in the group of items
	blocks []string
	began  bool
}

var _ Sink = (*Writer)(nil)

// NewWriter makes a Writer. Close completes the file.
func NewWriter(w io.Writer) *Writer { return &Writer{w: bufio.NewWriterSize(w, 64<<10)} }

// write writes; an error stays in the buffer and comes out of each later call.
func (w *Writer) write(parts ...[]byte) error {
	var err error
	for _, p := range parts {
		_, err = w.w.Write(p)
	}
	return err
}

func (w *Writer) begin() {
	if !w.began {
		w.began = true
		_, _ = w.w.WriteString("<?xml version='1.0' encoding='UTF-8'?>\n<server-data xmlns='" + NSPortable + "'>\n")
	}
}

// User implements Sink. A password is not written: its keys are.
func (w *Writer) User(u User) error {
	w.begin()
	if u.Domain != w.domain {
		w.endHost()
		w.domain = u.Domain
		_ = w.write(xmpp.NewXML("host").AttrAlways("jid", u.Domain).StartTag(), []byte("\n"))
	}
	w.blocks, w.group, w.node = nil, "", ""
	return w.write(xmpp.NewXML("user").AttrAlways("name", u.Name).StartTag(), []byte("\n"))
}

func (w *Writer) endHost() {
	if w.domain != "" {
		_, _ = w.w.WriteString("</host>\n")
	}
}

// Close ends the document.
func (w *Writer) Close() error {
	w.begin()
	w.endHost()
	_, _ = w.w.WriteString("</server-data>\n")
	return w.w.Flush()
}

// in opens the container that the next element belongs into, and closes another one.
func (w *Writer) in(name, ns string) {
	group := name + " " + ns
	if w.group == group {
		return
	}
	w.leave()
	if w.group = group; name != "" {
		x := xmpp.NewXML(name)
		if ns != "" {
			x = xmpp.NewXMLNS(name, ns)
		}
		_ = w.write(x.StartTag(), []byte("\n"))
	}
}

func (w *Writer) leave() {
	if w.node != "" {
		_, _ = w.w.WriteString("</items>\n")
		w.node = ""
	}
	name, _, _ := bytes.Cut([]byte(w.group), []byte(" "))
	if len(name) > 0 {
		_ = w.write([]byte("</"), name, []byte(">\n"))
	}
	w.group = ""
}

// plain is for what is in no container.
func (w *Writer) plain(element []byte) error {
	w.leave()
	return w.write(element, []byte("\n"))
}

// Credentials implements Sink.
func (w *Writer) Credentials(c Credentials) error {
	b64 := base64.StdEncoding.EncodeToString
	return w.plain(xmpp.NewXMLNS("scram-credentials", NSScram).Attr("mechanism", c.Mechanism).
		Leaf("iter-count", "", strconv.Itoa(c.Iterations)).Leaf("salt", "", b64(c.Salt)).
		Leaf("server-key", "", b64(c.ServerKey)).Leaf("stored-key", "", b64(c.StoredKey)).Bytes())
}

// Own implements Sink.
func (w *Writer) Own(o Own) error {
	x := xmpp.NewXMLNS("account", NSOwn).Attr("created", when(o.Created))
	flag := func(name string, v *bool) {
		if v != nil {
			x.Attr(name, strconv.FormatBool(*v))
		}
	}
	set := func(name string, v bool) {
		if v {
			flag(name, &v)
		}
	}
	set("admin", o.Admin)
	set("restricted", o.Restricted)
	set("one-time", o.OneTime)
	x.Attr("last", when(o.Last.At)).Attr("last-status", o.Last.Status)
	flag("push-sender", o.Push.Sender)
	flag("push-body", o.Push.Body)
	return w.plain(x.Bytes())
}

// when writes a time whole; nothing for none.
func when(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339Nano)
}

// Roster implements Sink.
func (w *Writer) Roster(item RosterItem) error {
	w.in("query", nsRoster)
	x := xmpp.NewXML("item").AttrAlways("jid", item.JID).Attr("name", item.Name).Attr("subscription", string(item.Sub))
	if item.Ask {
		x.Attr("ask", "subscribe")
	}
	if item.Approved {
		x.Attr("approved", "true")
	}
	for _, g := range item.Groups {
		x.Leaf("group", "", g)
	}
	return w.write(x.Bytes(), []byte("\n"))
}

// declared is a stanza with its namespace, which is jabber:client.
func declared(stanza []byte) (head, ns, rest []byte) {
	at := bytes.IndexAny(stanza, " \t\r\n/>")
	if at < 0 {
		at = len(stanza)
	}
	if bytes.HasPrefix(stanza[at:], []byte(" xmlns=")) {
		return stanza, nil, nil
	}
	return stanza[:at], []byte(" xmlns='" + xmpp.NSClient + "'"), stanza[at:]
}

// Pending implements Sink.
func (w *Writer) Pending(stanza []byte) error {
	w.leave()
	head, ns, rest := declared(stanza)
	return w.write(head, ns, rest, []byte("\n"))
}

// Offline implements Sink.
func (w *Writer) Offline(stanza []byte) error {
	w.in("offline-messages", "")
	head, ns, rest := declared(stanza)
	return w.write(head, ns, rest, []byte("\n"))
}

// Private implements Sink.
func (w *Writer) Private(element []byte) error {
	w.in("query", nsPrivate)
	return w.write(element, []byte("\n"))
}

// VCard implements Sink.
func (w *Writer) VCard(element []byte) error { return w.plain(element) }

// Node implements Sink.
func (w *Writer) Node(n Node) error {
	w.in("pubsub", nsPubSubOwner)
	x := xmpp.NewXML("configure").AttrAlways("node", n.Name)
	if !n.Created.IsZero() {
		x.Attr("xmlns:pibox", NSOwn).Attr("pibox:created", when(n.Created))
	}
	if n.Config != nil {
		x.Open("x", nsData).Attr("type", "submit")
		x.Open("field", "").Attr("var", "FORM_TYPE").Attr("type", "hidden").Leaf("value", "", nsPubSub+"#node_config").Close()
		for _, name := range slices.Sorted(maps.Keys(n.Config)) {
			x.Open("field", "").Attr("var", "pubsub#"+name)
			for _, v := range n.Config[name] {
				x.Leaf("value", "", v)
			}
			x.Close()
		}
		_ = w.write(x.Bytes(), []byte("\n"))
	}
	if len(n.Affiliations) > 0 {
		x = xmpp.NewXML("affiliations").AttrAlways("node", n.Name)
		for _, j := range slices.Sorted(maps.Keys(n.Affiliations)) {
			x.Open("affiliation", "").Attr("jid", j).Attr("affiliation", n.Affiliations[j]).Close()
		}
		_ = w.write(x.Bytes(), []byte("\n"))
	}
	if len(n.Subscriptions) > 0 {
		x = xmpp.NewXML("subscriptions").AttrAlways("node", n.Name)
		for _, j := range slices.Sorted(maps.Keys(n.Subscriptions)) {
			x.Open("subscription", "").Attr("jid", j).Attr("subscription", n.Subscriptions[j]).Close()
		}
		_ = w.write(x.Bytes(), []byte("\n"))
	}
	return w.write()
}

// Item implements Sink.
func (w *Writer) Item(node string, it Item) error {
	w.in("pubsub", nsPubSub)
	if node != w.node {
		if w.node != "" {
			_, _ = w.w.WriteString("</items>\n")
		}
		w.node = node
		_ = w.write(xmpp.NewXML("items").AttrAlways("node", node).StartTag(), []byte("\n"))
	}
	x := xmpp.NewXML("item").Attr("id", it.ID).Attr("publisher", it.Publisher)
	if !it.At.IsZero() {
		x.Attr("xmlns:pibox", NSOwn).Attr("pibox:at", when(it.At))
	}
	return w.write(x.Raw(it.Payload).Bytes(), []byte("\n"))
}

// Archived implements Sink.
func (w *Writer) Archived(m Archived) error {
	w.in("archive", NSArchive)
	head, ns, rest := declared(m.Stanza)
	x := xmpp.NewXMLNS("result", nsMAM).Attr("id", m.ID).Open("forwarded", nsForward)
	x.Open("delay", nsDelay).Attr("stamp", millis(m.At)).Close()
	return w.write(x.Raw(head).Raw(ns).Raw(rest).Bytes(), []byte("\n"))
}

// millis is XEP-0082, to what the log knows.
func millis(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z") }

// ArchivePrefs implements Sink.
func (w *Writer) ArchivePrefs(element []byte) error { return w.plain(element) }

// Blocked implements Sink. The list is written twice: as what it is, and as the privacy list that says the same (XEP-0227 §4.8), which other
// servers may read.
func (w *Writer) Blocked(jid string) error {
	w.in("blocklist", nsBlocking)
	w.blocks = append(w.blocks, jid)
	return w.write(xmpp.NewXML("item").AttrAlways("jid", jid).Bytes(), []byte("\n"))
}

// Unknown implements Sink: a file has no place for what is lost.
func (w *Writer) Unknown(Loss) error { return nil }

// End implements Sink.
func (w *Writer) End() error {
	w.leave()
	if len(w.blocks) > 0 {
		const name = "blocked"
		x := xmpp.NewXMLNS("query", nsPrivacy).Open("default", "").Attr("name", name).Close().Open("list", "").Attr("name", name)
		for i, j := range w.blocks {
			x.Open("item", "").Attr("type", "jid").Attr("value", j).Attr("action", "deny").Attr("order", strconv.Itoa(i+1)).Close()
		}
		x.Open("item", "").Attr("action", "allow").Attr("order", strconv.Itoa(len(w.blocks)+1))
		_ = w.plain(x.Bytes())
	}
	w.blocks = nil
	return w.write([]byte("</user>\n"))
}

var errNoAccount = errors.New("there is no such account")
