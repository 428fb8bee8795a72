package transcript

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"pibox/internal/xmpp"
	"pibox/internal/xmpp/frame"
)

// inbox is where a client or a peer server finds what it got. It is the Outlet of a session.
type inbox struct {
	taken func(*xmpp.Stanza) // told of what was written; nil where somebody has to acknowledge it

	mu    sync.Mutex
	list  []*xmpp.Stanza
	unack []*xmpp.Stanza
	end   *xmpp.StreamError
}

func (b *inbox) Deliver(st *xmpp.Stanza) bool {
	b.mu.Lock()
	b.list = append(b.list, st)
	if b.taken == nil {
		b.unack = append(b.unack, st)
	}
	b.mu.Unlock()
	if b.taken != nil {
		b.taken(st)
	}
	return true
}

func (b *inbox) acknowledge() []*xmpp.Stanza {
	b.mu.Lock()
	defer b.mu.Unlock()
	l := b.unack
	b.unack = nil
	return l
}

func (b *inbox) Close(err *xmpp.StreamError) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.end = err
}

func (b *inbox) take() []*xmpp.Stanza {
	if b == nil {
		return nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	l := b.list
	b.list = nil
	return l
}

func (b *inbox) next() (*xmpp.Stanza, *xmpp.StreamError) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.list) == 0 {
		return nil, b.end
	}
	st := b.list[0]
	b.list = b.list[1:]
	return st, nil
}

// remote stands for all other servers: one inbox per domain.
type remote struct{ w *world }

func (r remote) Send(st *xmpp.Stanza) {
	r.w.mu.Lock()
	b := r.w.boxes[st.To.Domain]
	if b == nil {
		b = &inbox{taken: func(*xmpp.Stanza) {}}
		r.w.boxes[st.To.Domain] = b
	}
	r.w.mu.Unlock()
	b.Deliver(st)
}

// inbox is nil where nothing was received yet.
func (w *world) inbox(who string) *inbox {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.boxes[who]
}

// receivers are all who have an inbox, sorted.
func (w *world) receivers() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Sorted(maps.Keys(w.boxes))
}

func (w *world) receive(who, want string) error {
	b := w.inbox(who)
	if b == nil {
		return fmt.Errorf("%s has received nothing", who)
	}
	for _, one := range split(want) {
		el, err := frame.Parse([]byte(one), xmpp.NSClient, frame.Limits{Bytes: 1 << 20, Depth: 64, Attrs: 64, Children: 4096})
		if err != nil {
			return err
		}
		st, end := b.next()
		switch {
		case el.Name == "error" && el.NS == "http://etherx.jabber.org/streams":
			if end == nil || !el.HasChild(xmpp.NSStreams, end.Condition) {
				return fmt.Errorf("expected the stream error %s, got %v %v", one, end, st)
			}
			continue
		case st == nil:
			return fmt.Errorf("%s received nothing (stream error: %v), expected\n  %s", who, end, one)
		}
		if diff := w.differ(el.Node(), st.Node(), true); diff != "" {
			return fmt.Errorf("%s received\n  %s\nexpected\n  %s\n%s", who, st.Raw, one, diff)
		}
	}
	return nil
}

func (w *world) empty() error {
	for _, who := range w.receivers() {
		if l := w.inbox(who).take(); len(l) > 0 {
			return fmt.Errorf("%s received, unexpected (%d in all):\n  %s", who, len(l), l[0].Raw)
		}
	}
	return nil
}

// differ says in what have is not what was wanted; "" when it is.
func (w *world) differ(want, have *frame.Node, top bool) string {
	if want.Name != have.Name || content(want.NS) != content(have.NS) {
		return fmt.Sprintf("element {%s}%s instead of {%s}%s", have.NS, have.Name, want.NS, want.Name)
	}
	for _, a := range want.Attrs {
		got := attr(have, a)
		switch {
		case strings.HasPrefix(a.Value, "$") && got != nil:
			w.values[a.Value] = *got
		case strings.HasPrefix(a.Value, "=$") && got != nil && w.values[a.Value[1:]] == *got:
		case got == nil, a.Value != "*" && *got != a.Value:
			return fmt.Sprintf("<%s>: attribute %s is not %q", want.Name, a.Name, a.Value)
		}
	}
	for _, a := range have.Attrs {
		if attr(want, a) != nil || (top && slices.Contains([]string{"id", "from", "to", "lang"}, a.Name)) {
			continue
		}
		return fmt.Sprintf("<%s>: attribute %s=%q is not expected", want.Name, a.Name, a.Value)
	}
	if have, known := w.values[want.Text]; known {
		want.Text = have
	}
	if want.Text != "*" && strings.TrimSpace(want.Text) != strings.TrimSpace(have.Text) {
		return fmt.Sprintf("<%s>: text %q instead of %q", want.Name, have.Text, want.Text)
	}
	for i, c := range want.Children {
		if c.Name == "etc" {
			return ""
		}
		if i >= len(have.Children) {
			return fmt.Sprintf("<%s>: child <%s> is missing", want.Name, c.Name)
		}
		if diff := w.differ(c, have.Children[i], false); diff != "" {
			return diff
		}
	}
	if len(have.Children) > len(want.Children) {
		return fmt.Sprintf("<%s>: child <%s> is not expected", want.Name, have.Children[len(want.Children)].Name)
	}
	return ""
}

// content takes the content namespaces for one: on each stream it is that stream's own (RFC 6120 §4.8.3).
func content(ns string) string {
	if ns == xmpp.NSServer {
		return xmpp.NSClient
	}
	return ns
}

func attr(n *frame.Node, like frame.Attr) *string {
	for i := range n.Attrs {
		if n.Attrs[i].Name == like.Name && n.Attrs[i].NS == like.NS {
			return &n.Attrs[i].Value
		}
	}
	return nil
}

// fill puts remembered values into a stanza that is to be sent.
func (w *world) fill(xml string) string {
	for name, v := range w.values {
		v = string(frame.AppendEscaped(nil, v))
		xml = strings.ReplaceAll(xml, "'"+name+"'", "'"+v+"'")
		xml = strings.ReplaceAll(xml, ">"+name+"<", ">"+v+"<")
	}
	return xml
}
