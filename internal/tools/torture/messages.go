package main

import (
	"fmt"
	"hash/fnv"
	"maps"
	"slices"
	"strings"

	"pibox/internal/testclient"
)

// message is one between two accounts, until both their archives were looked at.
type message struct {
	From    string         `json:"from"` // names
	To      string         `json:"to"`
	Acked   bool           `json:"acked,omitempty"`
	Repeats int            `json:"repeats,omitempty"` // how often it was sent again, because it had not been acknowledged
	Seen    []string       `json:"seen,omitempty"`    // stanza-ids (XEP-0359) with which it came to To; "" where it had none
	Found   map[string]int `json:"found,omitempty"`   // by name: how often it is in the archive

	session int // in which it was sent last
}

// past is what is known of an archive up to an entry: nothing before it may ever change.
type past struct {
	Last  string `json:"last"` // id in the archive
	Count int    `json:"count"`
	Sum   uint64 `json:"sum"` // of all entries
}

// add takes one entry in.
func (p past) add(e testclient.Archived) past {
	h := fnv.New64a()
	fmt.Fprintf(h, "%x %s %s", p.Sum, e.ID, e.Message.Raw())
	return past{Last: e.ID, Count: p.Count + 1, Sum: h.Sum64()}
}

// bodyOf is the text of a message: of different lengths, and known from its id.
func bodyOf(id string) string {
	h := fnv.New32a()
	_, _ = h.Write([]byte(id))
	return id + strings.Repeat(" wherefore art thou", int(h.Sum32()%32))
}

// sending notes that a message is being sent, or sent again, in a session.
func (m *model) sending(id, from, to string, session int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if msg := m.Messages[id]; msg != nil {
		msg.Repeats++
		msg.session = session
		return
	}
	m.Messages[id] = &message{From: from, To: to, session: session}
}

// acked notes that the server has taken messages over: they have to come to those recipients who are owed them.
func (m *model) acked(ids []string, owed func(to string) bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, id := range ids {
		msg := m.Messages[id]
		if msg == nil || msg.Acked {
			continue
		}
		msg.Acked = true
		if len(msg.Seen) == 0 && owed(msg.To) {
			b := m.mailbox(msg.To)
			b.Acked = append(b.Acked, id)
			if msg.Repeats > 0 {
				if b.Again == nil {
					b.Again = map[string]bool{}
				}
				b.Again[id] = true
			}
		}
	}
}

// seen notes that a message came to its recipient.
func (m *model) seen(id, name, stanzaID string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	b := m.mailbox(name)
	b.Acked = slices.DeleteFunc(b.Acked, func(x string) bool { return x == id })
	delete(b.Again, id)
	if msg := m.Messages[id]; msg != nil && msg.To == name && !slices.Contains(msg.Seen, stanzaID) {
		msg.Seen = append(msg.Seen, stanzaID)
	}
}

// unacked are the messages of a sender that nobody acknowledged; of a session, if it is not 0.
func (m *model) unacked(from string, session int) []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	var ids []string
	for id, msg := range m.Messages {
		if msg.From == from && !msg.Acked && (session == 0 || msg.session == session) {
			ids = append(ids, id)
		}
	}
	slices.SortFunc(ids, byNumber)
	return ids
}

// byNumber is the order in which values were given.
func byNumber(a, b string) int { return number(a) - number(b) }

func number(id string) (n int) {
	_, _ = fmt.Sscanf(id, "v%d", &n)
	return n
}

// found compares what an archive has got since it was looked at last with what was sent, and says what is wrong. entries are by id of the message, in
// the order of the archive; each holds the ids in the archive.
func (m *model) found(name string, order []string, entries map[string][]string) (wrong []error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, id := range slices.SortedFunc(maps.Keys(m.Messages), byNumber) {
		msg := m.Messages[id]
		if _, known := msg.Found[name]; known || msg.From != name && msg.To != name {
			continue
		}
		if err := msg.check(id, name, entries[id]); err != nil {
			wrong = append(wrong, err)
		}
	}
	last := map[string]int{}
	for _, id := range order {
		msg := m.Messages[id]
		if msg == nil {
			wrong = append(wrong, fmt.Errorf("%s's archive has %s, which was there before, or which nobody sent", name, id))
			continue
		}
		if msg.Repeats > 0 {
			continue
		}
		pair := msg.From + " to " + msg.To
		if n := number(id); n < last[pair] {
			wrong = append(wrong, fmt.Errorf("%s's archive has message %s from %s behind v%d", name, id, pair, last[pair]))
		} else {
			last[pair] = n
		}
	}
	m.forgetFound()
	return wrong
}

// check looks at one message in one archive.
func (msg *message) check(id, name string, entries []string) error {
	n := len(entries)
	what := fmt.Sprintf("message %s from %s to %s (acknowledged: %t, sent again: %d times, came to %s: %d times) is %d times in %s's archive",
		id, msg.From, msg.To, msg.Acked, msg.Repeats, msg.To, len(msg.Seen), n, name)
	if msg.Found == nil {
		msg.Found = map[string]int{}
	}
	msg.Found[name] = n
	switch {
	case n == 0 && (msg.Acked || len(msg.Seen) > 0), n > 1+msg.Repeats:
		return fmt.Errorf("%s", what)
	case len(msg.Found) == 2 && msg.Found[msg.From] != msg.Found[msg.To]:
		return fmt.Errorf("%s, and not so often in the other", what)
	}
	if name == msg.To {
		for _, stanzaID := range msg.Seen {
			if stanzaID != "" && !slices.Contains(entries, stanzaID) {
				return fmt.Errorf("%s as %v; it came as %s", what, entries, stanzaID)
			}
		}
	}
	return nil
}

// forgetFound drops the messages that both archives were looked through for; called with the lock.
func (m *model) forgetFound() {
	maps.DeleteFunc(m.Messages, func(_ string, msg *message) bool { return len(msg.Found) == 2 })
}

// forgetMessages drops those that nothing can be done for, where there is no archive to look at.
func (m *model) forgetMessages() {
	m.mu.Lock()
	defer m.mu.Unlock()
	maps.DeleteFunc(m.Messages, func(_ string, msg *message) bool { return msg.Acked })
}

// past is how an archive was when it was read last.
func (m *model) past(name string) past {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.Pasts[name]
}

// read notes that an archive was read.
func (m *model) read(name string, p past) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.Pasts[name] = p
}
