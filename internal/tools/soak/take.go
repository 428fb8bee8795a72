package main

import (
	"strings"

	"pibox/internal/testclient"
	"pibox/internal/xmpp/frame"
)

const (
	nsStanzaID = "urn:xmpp:sid:0"
	nsCarbons  = "urn:xmpp:carbons:2"
	nsForward  = "urn:xmpp:forward:0"
)

// enter begins with a connection; needs the lock.
func (d *device) enter(c *testclient.Client) {
	if d.last == c {
		return
	}
	d.last = c
	if !c.Resumption().Resumed {
		d.session++
		d.caughtUp, d.came, d.latest = false, map[string]bool{}, map[[2]string]int{}
	}
}

// take is what a device does with what comes by itself. What is archived has its id there, comes once in a session, and in the order in which its sender
// sent it.
func (d *device) take(c *testclient.Client, st *frame.Element) bool {
	switch st.Name {
	case "presence":
		return true
	case "message":
	default:
		return false
	}
	n := st.Node()
	d.mu.Lock()
	defer d.mu.Unlock()
	d.enter(c)
	switch {
	case n.Child(testclient.NSArchive, "result") != nil: // to a query whose connection was lost
	case n.Attr("type") == "error":
		d.bounced(n)
	default:
		d.arrived(n)
	}
	return true
}

func (d *device) bounced(n *frame.Node) {
	d.t.count.bounced.Add(1)
	if id := n.Attr("id"); d.t.ledger.sends(id) > 0 {
		d.t.problem(d, "message %s came back: %s", id, n.Raw())
	}
}

// unwrapped is the message in a carbon.
func unwrapped(n *frame.Node) (m *frame.Node, carbon bool) {
	for _, name := range []string{"sent", "received"} {
		if m := n.Child(nsCarbons, name).Child(nsForward, "forwarded").Child(frame.NSClient, "message"); m != nil {
			return m, true
		}
	}
	return n, false
}

// entryOf is a message as an account has it.
func entryOf(id string, m *frame.Node, account string) entry {
	e := entry{id: id, origin: m.Child(nsStanzaID, "origin-id").Attr("id"), with: bare(m.Attr("from"))}
	if e.with == account {
		e.with = bare(m.Attr("to"))
	}
	return e
}

func stanzaID(m *frame.Node, by string) (id string) {
	for _, c := range m.Children {
		if c.NS == nsStanzaID && c.Name == "stanza-id" && c.Attr("by") == by {
			id = c.Attr("id")
		}
	}
	return id
}

func (d *device) arrived(n *frame.Node) {
	m, carbon := unwrapped(n)
	id, count := stanzaID(m, d.account.jid), &d.t.count
	e := entryOf(id, m, d.account.jid)
	if e.origin == "" { // chat states, and what asked not to be stored
		if !strings.HasPrefix(m.Attr("id"), "noise-") || id != "" {
			d.t.problem(d, "session %d: this came: %s", d.session, n.Raw())
		}
		return
	}
	if id == "" {
		d.t.problem(d, "session %d: a message has no id of the archive: %s", d.session, n.Raw())
		return
	}
	if count.direct.Add(1); carbon {
		count.carbons.Add(1)
	}
	delayed := m.Child("urn:xmpp:delay", "delay") != nil
	if delayed {
		count.delayed.Add(1)
	}
	if d.ever[id] && !d.came[id] {
		count.redelivered.Add(1)
	}
	if d.came[id] {
		count.twice.Add(1)
		d.t.problem(d, "session %d: this came twice: %s; the conversation:%s", d.session, n.Raw(), d.around(e))
	}
	d.came[id], d.ever[id] = true, true
	d.arrivals = append(d.arrivals, arrival{d.session, id, delayed})
	d.inOrder(e, delayed)
	d.view.live(e, d.caughtUp && d.carbons, !delayed)
	if from := m.Attr("from"); d.receipts && !carbon && bare(from) != d.account.jid && m.Child("urn:xmpp:receipts", "request") != nil {
		d.thanks = append(d.thanks, thanks{from, m.Attr("id")})
	}
}

// inOrder: what one device sends in one conversation comes in that order. What had waited, or was sent again, comes when it comes.
func (d *device) inOrder(e entry, delayed bool) {
	sender, number := origin(e.origin)
	key := [2]string{sender, e.with}
	if delayed || d.t.ledger.sends(e.origin) > 1 {
		return
	}
	if number < d.latest[key] {
		d.t.problem(d, "session %d: message %s (%s) with %s came behind number %d; the conversation:%s", d.session, e.origin, e.id, e.with, d.latest[key], d.around(e))
	}
	d.latest[key] = max(number, d.latest[key])
}
