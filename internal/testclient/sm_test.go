package testclient

import (
	"slices"
	"testing"

	"pibox/internal/xmpp/frame"
)

func managed(s SMSession) *management {
	return &management{on: true, session: s, more: make(chan struct{})}
}

// What is sent is kept until the server has handled it; numbers wrap at 2^32 (XEP-0198 §4).
func TestHandled(t *testing.T) {
	m := managed(SMSession{Acked: 1<<32 - 2})
	for _, raw := range []string{"<message id='a'/>", "<r xmlns='urn:xmpp:sm:3'/>", "<iq id='b'/>", "<presence id='c'/>", "<a xmlns='urn:xmpp:sm:3' h='1'/>", "<message id='d'/>"} {
		m.sending(raw)
	}
	for _, step := range []struct {
		h    uint32
		done []string
		ok   bool
	}{
		{1<<32 - 2, nil, true},
		{1<<32 - 1, []string{"<message id='a'/>"}, true},
		{1, []string{"<iq id='b'/>", "<presence id='c'/>"}, true},
		{3, nil, false}, // one more than was sent
		{0, nil, false}, // back
		{2, []string{"<message id='d'/>"}, true},
	} {
		done, err := m.handled(step.h)
		if (err == nil) != step.ok || !slices.Equal(done, step.done) {
			t.Errorf("h='%d': %q, error %v", step.h, done, err)
		}
	}
	if len(m.session.Unacked) > 0 {
		t.Errorf("kept: %q", m.session.Unacked)
	}
}

func TestNotManaged(t *testing.T) {
	c := &Client{}
	c.sm.sending("<message/>")
	c.sm.received()
	c.sm.ended()
	if c.SM() || c.SMSession() != nil || c.Resumption().Asked {
		t.Error("a client without stream management has it")
	}
}

// Results go to the query that they answer; other messages are not taken.
func TestArchived(t *testing.T) {
	var one, two []Archived
	c := &Client{queries: map[string]*[]Archived{"q1": &one, "q2": &two}}
	result := func(query, id string) string {
		return "<message><result xmlns='urn:xmpp:mam:2' queryid='" + query + "' id='" + id + "'><forwarded xmlns='urn:xmpp:forward:0'>" +
			"<delay xmlns='urn:xmpp:delay' stamp='2026-11-22T12:00:00Z'/><message xmlns='jabber:client' id='m'><body>hi</body></message></forwarded></result></message>"
	}
	for _, tc := range []struct {
		raw   string
		taken bool
	}{
		{result("q1", "1"), true},
		{result("q2", "2"), true},
		{result("q1", "3"), true},
		{result("q3", "4"), false},
		{"<message><body>hi</body></message>", false},
	} {
		el, err := frame.Parse([]byte(tc.raw), frame.NSClient, frame.Limits{})
		if err != nil {
			t.Fatal(err)
		}
		if got := c.archived(el); got != tc.taken {
			t.Errorf("%s: taken: %t", tc.raw, got)
		}
	}
	if len(one) != 2 || len(two) != 1 || one[1].ID != "3" || two[0].Message.ChildText(frame.NSClient, "body") != "hi" || two[0].Stamp == "" {
		t.Errorf("%+v, %+v", one, two)
	}
}
