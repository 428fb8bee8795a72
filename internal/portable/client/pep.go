package client

import (
	"context"
	"slices"
	"strings"
	"time"

	"pibox/internal/portable"
	"pibox/internal/xmpp"
	"pibox/internal/xmpp/frame"
)

// maxNodeName bounds names of nodes and ids of items, in bytes.
const maxNodeName = 1023

// stays tells whether a node belongs to a device or to the old address, and must not come along: OMEMO's lists and keys, whose holders would be taken
// for devices of the new account, and a moved statement, which would prove another move.
func stays(node string) bool {
	return strings.HasPrefix(node, "eu.siacs.conversations.axolotl") || strings.HasPrefix(node, "urn:xmpp:omemo:") || node == nsMoved
}

// usualNodes are asked for also where a server does not list them.
func usualNodes() []string {
	return []string{
		"urn:xmpp:avatar:data", "urn:xmpp:avatar:metadata", "urn:xmpp:bookmarks:1", "storage:bookmarks", "http://jabber.org/protocol/nick",
		"urn:xmpp:vcard4", "urn:xmpp:mds:displayed:0", "urn:xmpp:microblog:0",
	}
}

// bringNodes takes the personal eventing of the account (XEP-0163): every node with its configuration and items.
func (s *Session) bringNodes(ctx context.Context, sink portable.Sink, st *State) error {
	names, err := s.nodes(ctx)
	if err != nil {
		return err
	}
	encrypted := false
	for _, name := range names {
		if stays(name) {
			encrypted = encrypted || name != nsMoved
			continue
		}
		key := "node " + name
		if st.done[key] {
			continue
		}
		if st.tries[key]++; st.tries[key] >= maxTries { // its content has ended the session before
			if err := sunk(sink.Unknown(portable.Loss{What: "what is published at " + quoted(name), Why: "the old server could not give it"})); err != nil {
				return err
			}
		} else if err := s.bringNode(ctx, name, sink, st); err != nil {
			return err
		}
		st.done[key] = true
	}
	if encrypted && !st.done["omemo"] {
		st.done["omemo"] = true
		return sunk(sink.Unknown(portable.Loss{What: "keys of OMEMO", Why: "they belong to devices: each one makes new keys at the new address, and contacts are to verify them again"}))
	}
	return nil
}

// nodes lists the nodes, without doubles.
func (s *Session) nodes(ctx context.Context) ([]string, error) {
	list, err := s.ask(ctx, query{typ: "get", to: s.me.Bare(), raw: xmpp.NewXMLNS("query", nsItems).Bytes()})
	if err != nil && !refused(err) {
		return nil, err
	}
	seen := map[string]bool{}
	var names []string
	add := func(name string) {
		if name != "" && len(name) <= maxNodeName && !seen[name] {
			seen[name] = true
			names = append(names, name)
		}
	}
	if list != nil && list.NS == nsItems {
		for _, c := range list.Children {
			if c.Name != "item" || c.NS != nsItems {
				continue
			}
			if j, err := xmpp.ParseJID(c.Attr("jid")); err == nil && j == s.me.Bare() {
				add(c.Attr("node"))
			}
			if len(names) > s.c.Limits.Nodes {
				return nil, s.fail(ctx, tooMuch("more than %d nodes", s.c.Limits.Nodes))
			}
		}
	}
	for _, name := range usualNodes() {
		add(name)
	}
	return names, nil
}

// bringNode takes one node. One that is not there, or has nothing, is no loss.
func (s *Session) bringNode(ctx context.Context, name string, sink portable.Sink, st *State) error {
	got, err := s.ask(ctx, query{typ: "get", raw: xmpp.NewXMLNS("pubsub", nsPubSub).Open("items", "").Attr("node", name).Close().Bytes()})
	if lacking(err) {
		return nil
	}
	if refused(err) {
		return sunk(sink.Unknown(portable.Loss{What: "what is published at " + quoted(name), Why: "the old server answered: " + err.Error()}))
	}
	if err != nil {
		return err
	}
	list := got.Child(nsPubSub, "items")
	if list == nil || list.Attr("node") != name {
		return nil
	}
	items, bad, err := s.items(list)
	if err != nil {
		return s.fail(ctx, err)
	}
	config, err := s.configuration(ctx, name)
	if err != nil {
		return err
	}
	if len(items) == 0 && config == nil {
		return nil
	}
	if err := sunk(sink.Node(portable.Node{Name: name, Config: config})); err != nil {
		return err
	}
	st.counts.Nodes++
	for _, it := range items {
		if err := sunk(sink.Item(name, it)); err != nil {
			return err
		}
		st.counts.Items++
	}
	if bad > 0 {
		return sunk(sink.Unknown(portable.Loss{What: word(bad, "item") + " published at " + quoted(name), Why: "the old server did not give them in a form that can be read"}))
	}
	return nil
}

// items reads the items of an answer, the oldest first as far as their content tells: no server says in which order they are.
func (s *Session) items(list *frame.Node) (items []portable.Item, bad int, err error) {
	seen := map[string]bool{}
	for _, c := range list.Children {
		if c.NS != nsPubSub || c.Name != "item" {
			continue
		}
		if len(items)+bad >= s.c.Limits.Items {
			return nil, 0, tooMuch("more than %d items at one node", s.c.Limits.Items)
		}
		id := c.Attr("id")
		if id == "" || len(id) > maxNodeName || seen[id] || len(c.Children) != 1 {
			bad++
			continue
		}
		seen[id] = true
		it := portable.Item{ID: id, Payload: c.Children[0].Raw()}
		if j, err := xmpp.ParseJID(c.Attr("publisher")); err == nil && j.Bare() == s.me.Bare() {
			it.Publisher = j.String()
		}
		if at, ok := dated(c.Children[0]); ok {
			it.At = at
		}
		items = append(items, it)
	}
	if n := len(items); n > 1 && !items[0].At.IsZero() && items[n-1].At.Before(items[0].At) {
		slices.Reverse(items)
	}
	return items, bad, nil
}

// dated reads when an entry of a blog was published (RFC 4287).
func dated(payload *frame.Node) (time.Time, bool) {
	if payload.NS != "http://www.w3.org/2005/Atom" || payload.Name != "entry" {
		return time.Time{}, false
	}
	return stamp(payload.ChildText(payload.NS, "published"))
}

// configuration of a node (XEP-0060 §8.2), by the names without "pubsub#"; nil where the server does not give it.
func (s *Session) configuration(ctx context.Context, name string) (map[string][]string, error) {
	got, err := s.ask(ctx, query{typ: "get", raw: xmpp.NewXMLNS("pubsub", nsOwner).Open("configure", "").Attr("node", name).Close().Bytes()})
	if refused(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	form := got.Child(nsOwner, "configure").Child(nsData, "x")
	if form == nil {
		return nil, nil
	}
	fields := map[string][]string{}
	for _, f := range form.Children {
		key, ok := strings.CutPrefix(f.Attr("var"), "pubsub#")
		if f.NS != nsData || f.Name != "field" || !ok || len(key) > 100 || len(fields) >= 100 {
			continue
		}
		values := []string{}
		for _, v := range f.Children {
			if v.NS == nsData && v.Name == "value" && len(values) < 1000 && len(v.Text) <= 4096 {
				values = append(values, v.Text)
			}
		}
		fields[key] = values
	}
	return fields, nil
}
