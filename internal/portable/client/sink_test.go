package client_test

import (
	"fmt"
	"strings"
	"sync"

	"pibox/internal/portable"
)

// notebook is a Sink that notes everything it gets, a line each.
type notebook struct {
	mu    sync.Mutex
	lines []string
	fail  func(line string) error
	users int
	ended int
}

func (n *notebook) note(format string, args ...any) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	line := fmt.Sprintf(format, args...)
	n.lines = append(n.lines, line)
	if n.fail != nil {
		return n.fail(line)
	}
	return nil
}

func (n *notebook) text() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return strings.Join(n.lines, "\n")
}

// with gives the lines that begin so.
func (n *notebook) with(prefix string) []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	var out []string
	for _, l := range n.lines {
		if strings.HasPrefix(l, prefix) {
			out = append(out, l)
		}
	}
	return out
}

func (n *notebook) User(u portable.User) error {
	n.users++
	return n.note("user %s@%s%s", u.Name, u.Domain, u.Password)
}
func (n *notebook) Credentials(c portable.Credentials) error { return n.note("credentials %v", c) }
func (n *notebook) Own(o portable.Own) error                 { return n.note("own %v", o) }
func (n *notebook) Roster(i portable.RosterItem) error {
	return n.note("roster %s %q %v %s ask=%v approved=%v", i.JID, i.Name, i.Groups, i.Sub, i.Ask, i.Approved)
}
func (n *notebook) Pending(b []byte) error { return n.note("pending %s", b) }
func (n *notebook) Offline(b []byte) error { return n.note("offline %s", b) }
func (n *notebook) Private(b []byte) error { return n.note("private %s", b) }
func (n *notebook) VCard(b []byte) error   { return n.note("vcard %s", b) }
func (n *notebook) Node(x portable.Node) error {
	return n.note("node %s access=%v", x.Name, x.Config["access_model"])
}
func (n *notebook) Item(node string, it portable.Item) error {
	return n.note("item %s %s %s", node, it.ID, it.Payload)
}
func (n *notebook) Archived(m portable.Archived) error {
	return n.note("archived %s %s %s", m.ID, m.At.Format("2006-01-02T15:04:05Z"), m.Stanza)
}
func (n *notebook) ArchivePrefs(b []byte) error   { return n.note("prefs %s", b) }
func (n *notebook) Blocked(j string) error        { return n.note("blocked %s", j) }
func (n *notebook) Unknown(l portable.Loss) error { return n.note("loss %s: %s", l.What, l.Why) }
func (n *notebook) End() error                    { n.ended++; return n.note("end") }
