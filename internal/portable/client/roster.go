package client

import (
	"context"
	"slices"
	"strings"

	"pibox/internal/portable"
	"pibox/internal/store"
	"pibox/internal/xmpp"
	"pibox/internal/xmpp/frame"
)

// Bounds of one roster item; what is longer is cut off.
const (
	maxName   = 1023 // bytes
	maxGroups = 100
)

// contacts is a roster that pushes keep up to date.
type contacts struct {
	limit   int // of items
	most    int // of their bytes: what comes by pushes is bounded as what comes at once
	bytes   int
	told    int // bytes of order
	own     xmpp.JID
	items   map[xmpp.JID]portable.RosterItem
	order   []xmpp.JID // as the server told them
	refused int        // entries that no roster can have
}

// roster asks for the roster once; from then on the server pushes.
func (s *Session) roster(ctx context.Context) (*contacts, error) {
	if s.contacts != nil {
		return s.contacts, nil
	}
	c := &contacts{limit: s.c.Limits.Roster, most: s.c.Limits.Stanza, own: s.me.Bare(), items: map[xmpp.JID]portable.RosterItem{}}
	s.contacts = c // a push may come before the answer
	query, err := s.ask(ctx, query{typ: "get", raw: xmpp.NewXMLNS("query", nsRoster).Bytes()})
	if err == nil && query != nil {
		err = s.fail(ctx, c.push(query))
	}
	if err != nil {
		s.contacts = nil
	}
	if refused(err) {
		err = &Error{Kind: Broken, Host: s.c.Account.Domain, Text: "it does not give the contact list (" + err.Error() + ")", Err: err}
	}
	return c, err
}

// push takes the items of an answer or a push (RFC 6121 §2.1).
func (c *contacts) push(query *frame.Node) error {
	if query.NS != nsRoster {
		return nil
	}
	for _, n := range query.Children {
		if n.Name != "item" || n.NS != nsRoster {
			continue
		}
		item, j, ok := c.item(n)
		if !ok {
			c.refused++
			continue
		}
		if n.Attr("subscription") == "remove" {
			c.bytes -= size(c.items[j])
			delete(c.items, j)
			continue
		}
		was, known := c.items[j]
		if !known {
			if len(c.items) >= c.limit {
				return tooMuch("more than %d contacts", c.limit)
			}
			c.order = append(c.order, j)
			c.told += len(item.JID)
		}
		c.items[j] = item
		if c.bytes += size(item) - size(was); c.bytes > c.most {
			return tooMuch("more than %d bytes of contacts", c.most)
		}
	}
	if len(c.order) > 4*c.limit || c.told > 4*c.most {
		return tooMuch("more than %d changes of contacts", 4*c.limit)
	}
	return nil
}

// size is what an item takes, in bytes.
func size(item portable.RosterItem) int {
	n := len(item.JID) + len(item.Name)
	for _, g := range item.Groups {
		n += len(g)
	}
	return n
}

func (c *contacts) item(n *frame.Node) (portable.RosterItem, xmpp.JID, bool) {
	j, err := xmpp.ParseJID(n.Attr("jid"))
	if err != nil || j == c.own {
		return portable.RosterItem{}, j, false
	}
	item := portable.RosterItem{
		JID: j.String(), Name: cut(n.Attr("name")), Sub: store.Subscription(n.Attr("subscription")),
		Ask: n.Attr("ask") == "subscribe", Approved: isTrue(n.Attr("approved")),
	}
	switch item.Sub {
	case store.SubNone, store.SubTo, store.SubFrom, store.SubBoth, "remove":
	case "": // RFC 6121 §2.1.2.5
		item.Sub = store.SubNone
	default:
		return item, j, false
	}
	for _, g := range n.Children {
		if name := cut(g.Text); g.Name == "group" && g.NS == nsRoster && name != "" && !slices.Contains(item.Groups, name) && len(item.Groups) < maxGroups {
			item.Groups = append(item.Groups, name)
		}
	}
	return item, j, true
}

// list gives the items in the order in which they came.
func (c *contacts) list() []portable.RosterItem {
	var list []portable.RosterItem
	seen := map[xmpp.JID]bool{}
	for _, j := range c.order {
		if item, ok := c.items[j]; ok && !seen[j] {
			seen[j] = true
			list = append(list, item)
		}
	}
	return list
}

func isTrue(s string) bool { return s == "true" || s == "1" }

// cut bounds a name without breaking a character.
func cut(s string) string {
	if len(s) <= maxName {
		return s
	}
	end := maxName
	for end > 0 && s[end]&0xC0 == 0x80 {
		end--
	}
	return strings.Clone(s[:end])
}
