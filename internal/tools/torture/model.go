package main

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"

	"pibox/internal/xmpp/frame"
)

// model is what the box has acknowledged, and what it was asked for without an answer. All of it is what a client saw.
type model struct {
	mu sync.Mutex
	// Values by what they are of: a roster item, a private element, a vCard, a PEP item, a password.
	Values map[string]*register `json:"values"`
	Pairs  map[string]*pairing  `json:"pairs"` // local subscriptions
	Boxes  map[string]*mailbox  `json:"boxes"` // offline messages
	Lists  map[string]*list     `json:"lists"` // rosters as their owner's client has them
	Last   int                  `json:"last"`  // number of the last value

	Messages  map[string]*message `json:"messages"`            // by id
	Pasts     map[string]past     `json:"pasts"`               // of archives, by name
	Authority string              `json:"authority,omitempty"` // the certificate that everybody trusts, once somebody logged in
}

func newModel() *model {
	return &model{
		Values: map[string]*register{}, Pairs: map[string]*pairing{}, Boxes: map[string]*mailbox{}, Lists: map[string]*list{},
		Messages: map[string]*message{}, Pasts: map[string]past{},
	}
}

// register is a value with one writer. "" stands for none.
type register struct {
	Value string  `json:"value"`           // acknowledged
	Maybe *string `json:"maybe,omitempty"` // sent, and not answered
}

// next gives a value that was never used.
func (m *model) next() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.Last++
	return "v" + strconv.Itoa(m.Last)
}

func (m *model) register(key string) *register {
	r := m.Values[key]
	if r == nil {
		r = &register{}
		m.Values[key] = r
	}
	return r
}

// try notes that a value is being sent.
func (m *model) try(key, value string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.register(key).Maybe = &value
}

// ack notes that the last try was acknowledged.
func (m *model) ack(key string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	r := m.register(key)
	r.Value, r.Maybe = *r.Maybe, nil
}

func (m *model) value(key string) string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.register(key).Value
}

// settle compares a value with what the box has, and takes that over.
func (m *model) settle(key, got string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	r := m.register(key)
	defer func() { r.Value, r.Maybe = got, nil }()
	switch {
	case got == r.Value, r.Maybe != nil && got == *r.Maybe:
		return nil
	case r.Maybe != nil:
		return fmt.Errorf("%s: acknowledged was %q, sent after it %q, and it is %q", key, r.Value, *r.Maybe, got)
	}
	return fmt.Errorf("%s: acknowledged was %q, and it is %q", key, r.Value, got)
}

// keys are those that begin with a prefix, in order.
func (m *model) keys(prefix string) []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.DeleteFunc(slices.Sorted(maps.Keys(m.Values)), func(k string) bool { return !strings.HasPrefix(k, prefix) })
}

// pairing is the subscription between two accounts of the box.
type pairing struct {
	Seen string `json:"seen"` // both sides, as they were after the last acknowledged change
	Open bool   `json:"open"` // a change was sent and not answered
}

// mailbox is what was sent to an account while it was away.
type mailbox struct {
	Acked []string        `json:"acked"`           // acknowledged and not collected yet, in order
	Again map[string]bool `json:"again,omitempty"` // those that were sent again: they may come twice, and at either place
}

func (m *model) mailbox(account string) *mailbox {
	b := m.Boxes[account]
	if b == nil {
		b = &mailbox{}
		m.Boxes[account] = b
	}
	return b
}

// missing are the acknowledged messages that did not come.
func (m *model) missing(account string) []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.mailbox(account).Acked)
}

// repeated: it was sent more than once.
func (m *model) repeated(account, id string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.mailbox(account).Again[id]
}

// forgotten clears a mailbox whose loss was told.
func (m *model) forgotten(account string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	*m.mailbox(account) = mailbox{}
}

// list is a roster as a client keeps it that never forgets (RFC 6121 §2.6): items, and the version they are of.
type list struct {
	Version uint64            `json:"version"`
	Text    string            `json:"text"` // of the version, as the box wrote it
	Items   map[string]string `json:"items"`
	// What stood at a version. No version may stand for two states.
	At map[uint64]string `json:"at"`
}

const keepVersions = 5000

func (m *model) list(account string) *list {
	m.mu.Lock()
	defer m.mu.Unlock()
	l := m.Lists[account]
	if l == nil {
		l = &list{Items: map[string]string{}, At: map[uint64]string{}}
		m.Lists[account] = l
	}
	return l
}

// versionNumber is the counter in a roster version.
func versionNumber(ver string) (uint64, error) {
	return strconv.ParseUint(ver[strings.LastIndex(ver, ".")+1:], 10, 64)
}

// push takes a roster push over and says what is wrong with it.
func (l *list) push(ver string, item *frame.Node) error {
	n, err := versionNumber(ver)
	if err != nil {
		return fmt.Errorf("a roster push without a version: %q", ver)
	}
	content := itemText(item)
	if was, ok := l.At[n]; ok && was != content {
		err = fmt.Errorf("roster version %s stands for two states: %s and %s", ver, was, content)
	}
	if n < l.Version {
		err = errors.Join(err, fmt.Errorf("roster version %s comes after %d", ver, l.Version))
	}
	l.At[n] = content
	delete(l.At, n-keepVersions)
	l.Version, l.Text = n, ver
	if item.Attr("subscription") == "remove" {
		delete(l.Items, item.Attr("jid"))
	} else {
		l.Items[item.Attr("jid")] = content
	}
	return err
}

// itemText is a roster item, in one way of writing.
func itemText(n *frame.Node) string {
	var groups []string
	for _, c := range n.Children {
		groups = append(groups, c.Text)
	}
	slices.Sort(groups)
	return strings.Join([]string{
		n.Attr("jid"), n.Attr("name"), n.Attr("subscription"), n.Attr("ask"), n.Attr("approved"), strings.Join(groups, ","),
	}, "|")
}

func pairKey(c [2]string) string {
	if c[0] > c[1] {
		c[0], c[1] = c[1], c[0]
	}
	return c[0] + "+" + c[1]
}

func (m *model) pair(key string) *pairing {
	p := m.Pairs[key]
	if p == nil {
		p = &pairing{Open: true}
		m.Pairs[key] = p
	}
	return p
}

// change notes that a subscription is being changed.
func (m *model) change(key string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.pair(key).Open = true
}

// settled notes how both sides are after an acknowledged change.
func (m *model) settled(key, seen string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	p := m.pair(key)
	p.Seen, p.Open = seen, false
}
