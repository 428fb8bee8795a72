package client

import (
	"context"
	"strconv"
	"strings"

	"pibox/internal/portable"
	"pibox/internal/xmpp"
	"pibox/internal/xmpp/frame"
)

// maxID bounds the ids that an archive gives its messages, in bytes.
const maxID = 1024

// archiveNamespaces are the versions of XEP-0313 that can be asked, the newest first; the older one differs in what does not matter here.
func archiveNamespaces() []string { return []string{"urn:xmpp:mam:2", "urn:xmpp:mam:1"} }

// archiveOf is the newest of them that a server has; "" is none.
func archiveOf(has map[string]bool) string {
	for _, v := range archiveNamespaces() {
		if has[v] {
			return v
		}
	}
	return ""
}

func (s *Session) bringPrefs(ctx context.Context, sink portable.Sink, _ *State) error {
	prefs, err := s.ask(ctx, query{typ: "get", raw: xmpp.NewXMLNS("prefs", archiveNamespaces()[0]).Bytes()})
	if refused(err) || err == nil && (prefs == nil || prefs.NS != archiveNamespaces()[0] || prefs.Name != "prefs") {
		return nil // not all archives have them
	}
	if err != nil {
		return err
	}
	return sunk(sink.ArchivePrefs(prefs.Raw()))
}

// page is one answer of an archive.
type page struct {
	s    *Session
	sink portable.Sink
	st   *State

	ns, query string
	ids       map[string]bool
	results   int
	bad       int // results that can not be used
	full      bool
}

// bringArchive reads the archive page by page, oldest first, from where st stands.
func (s *Session) bringArchive(ctx context.Context, sink portable.Sink, st *State) error {
	has, err := s.supports(ctx, s.me.Bare())
	if err != nil {
		return err
	}
	ns := archiveOf(has)
	if ns == "" {
		return sunk(sink.Unknown(portable.Loss{What: "archive", Why: "the old server keeps none that could be asked for"}))
	}
	bad := 0
	for {
		p := &page{s: s, sink: sink, st: st, ns: ns, ids: map[string]bool{}}
		more, err := p.fetch(ctx)
		if bad += p.bad; err != nil {
			return err
		}
		if p.full {
			return sunk(sink.Unknown(portable.Loss{What: "newer messages of the archive", Why: "it is larger than what can be brought"}))
		}
		if !more {
			break
		}
	}
	if bad > 0 {
		return sunk(sink.Unknown(portable.Loss{What: word(bad, "message") + " of the archive", Why: "the old server did not give them in a form that can be read"}))
	}
	return nil
}

// fetch asks for one page (XEP-0313 §4.3, XEP-0059) and tells whether there are more.
func (p *page) fetch(ctx context.Context) (more bool, err error) {
	st := p.st
	st.pages++
	p.query = "p" + strconv.Itoa(st.pages)
	set := xmpp.NewXMLNS("set", nsRSM).Leaf("max", "", strconv.Itoa(p.s.c.Limits.Page))
	if st.after != "" {
		set.Leaf("after", "", st.after)
	}
	before := st.after
	fin, err := p.s.ask(ctx, query{
		typ: "set", raw: xmpp.NewXMLNS("query", p.ns).Attr("queryid", p.query).Raw(set.Bytes()).Bytes(),
		each: func(el *frame.Element) (bool, error) { return p.result(el) },
	})
	if err != nil {
		if before != "" && lacking(err) { // the page's beginning was deleted meanwhile
			return false, sunk(p.sink.Unknown(portable.Loss{What: "newer messages of the archive", Why: "the old server does not know the message any more that it gave last"}))
		}
		return false, err
	}
	st.recent = p.ids
	switch {
	case p.full:
		return false, nil
	case fin == nil || fin.NS != p.ns || fin.Name != "fin":
		return false, p.s.fail(ctx, broken("a page of its archive has no end"))
	case isTrue(fin.Attr("complete")) || p.results == 0:
		return false, nil
	}
	// What was taken last, and not what the answer calls the last, is where the next page begins; a page that leads nowhere would be asked for for ever.
	if last := fin.Child(nsRSM, "set").ChildText(nsRSM, "last"); st.after == before {
		if last == "" || last == before || len(last) > maxID {
			return false, p.s.fail(ctx, broken("its archive goes round in circles"))
		}
		st.after = last
	}
	return true, nil
}

// result takes a message that may be one of the page: from the own account, for this question, and of a size that was asked for.
func (p *page) result(el *frame.Element) (bool, error) {
	if !p.s.from(el, p.s.me.Bare()) {
		return false, nil
	}
	n := el.Node().Child(p.ns, "result")
	if n == nil || n.Attr("queryid") != p.query {
		return false, nil
	}
	if p.results++; p.results > 2*p.s.c.Limits.Page {
		return false, tooMuch("a page of its archive does not end")
	}
	if p.full {
		return true, nil
	}
	id := n.Attr("id")
	forwarded := n.Child(nsForward, "forwarded")
	message := forwarded.Child(frame.NSClient, "message")
	at, ok := stamp(forwarded.Child(nsDelay, "delay").Attr("stamp"))
	if id == "" || len(id) > maxID || message == nil || !ok || strings.ContainsAny(id, "\x00") || !p.concerns(message) {
		p.bad++
		return true, nil
	}
	if p.st.recent[id] || p.ids[id] || id == p.st.after {
		return true, broken("its archive gives a message twice")
	}
	p.ids[id] = true
	raw := message.Raw()
	if p.st.counts.Archived >= p.s.c.Limits.Archived || p.st.counts.Bytes+int64(len(raw)) > p.s.c.Limits.ArchiveBytes {
		p.full = true
		return true, nil
	}
	if err := sunk(p.sink.Archived(portable.Archived{ID: id, At: at, Stanza: raw})); err != nil {
		return true, err
	}
	p.st.after = id
	p.st.counts.Archived++
	p.st.counts.Bytes += int64(len(raw))
	return true, nil
}

// concerns tells whether a message is from or to the account: an archive of other people's words is not its archive. One without an address is its own.
func (p *page) concerns(message *frame.Node) bool {
	own, known := p.s.me.Bare(), false
	for _, name := range []string{"from", "to"} {
		v := message.Attr(name)
		if v == "" {
			return true
		}
		j, err := xmpp.ParseJID(v)
		if err != nil {
			return false
		}
		known = known || j.Bare() == own
	}
	return known
}
