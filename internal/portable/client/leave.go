package client

import (
	"cmp"
	"context"
	"time"

	"pibox/internal/portable"
	"pibox/internal/xmpp"
	"pibox/internal/xmpp/frame"
)

// Contact is somebody in the old contact list, as he was there.
type Contact struct {
	portable.RosterItem
	// Claim is the old address that he knows: XEP-0283's <old-jid/>.
	Claim xmpp.JID
	// Asked tells that he was asked in an earlier session. Where he refused, nobody asks him again.
	Asked bool
}

// Step is how far the new account is with a contact.
type Step string

// The steps.
const (
	StepFollowed Step = "followed" // he sees the new address, or is seen by it, as far as he was before
	StepWaiting  Step = "waiting"  // he was asked and has not answered
	StepApproved Step = "approved" // nothing was asked: he may ask, and is approved in advance
	StepExpected Step = "expected" // he may ask, and is approved while this session lasts: the server can not do so in advance
	StepKept     Step = "kept"     // the contact came along, and there was nothing to ask
	StepRefused  Step = "refused"  // he said no
	StepFailed   Step = "failed"   // the server refused something
)

// Report is what came of one contact.
type Report struct {
	JID  string `json:"jid"`
	Step Step   `json:"step"`
	Why  string `json:"why,omitempty"`
}

// Mover is the new home's part of a move (docs/moved.md), done by a client at the new account. It is driven contact by contact; telling the same one
// again does nothing that was done before, so a job can go on with its list after a stop.
type Mover struct {
	s *Session
	// Status is what contacts read whose app does not know of moving.
	Status string
	// Language of Status; empty: none is named.
	Language string
	// AskAgain repeats a request that was not answered yet.
	AskAgain bool

	advance  bool // the server approves in advance, RFC 6121 §3.4
	expected map[xmpp.JID]bool
	denied   map[xmpp.JID]bool   // said no in this session
	bounced  map[xmpp.JID]string // could not be reached, and why
	err      error
}

// Mover begins the part. It asks for the contact list, and becomes available with a negative priority: requests come only to such.
func (s *Session) Mover(ctx context.Context, status string) (*Mover, error) {
	m := &Mover{s: s, Status: status, expected: map[xmpp.JID]bool{}, denied: map[xmpp.JID]bool{}, bounced: map[xmpp.JID]string{}}
	m.advance = s.features != nil && s.features.HasChild(nsPreApprov, "sub")
	if _, err := s.roster(ctx); err != nil {
		return nil, err
	}
	s.presence = func(el *frame.Element) error { m.heard(ctx, el); return m.err }
	return m, s.send(ctx, xmpp.NewXML("presence").Leaf("show", "", "xa").Leaf("priority", "", "-1").Bytes())
}

// heard answers the request of a contact who is expected: he was one before (XEP-0283 §publish-notification).
func (m *Mover) heard(ctx context.Context, el *frame.Element) {
	from, err := xmpp.ParseJID(el.Attr("from"))
	switch {
	case err != nil:
	case el.Attr("type") == "subscribe" && m.expected[from.Bare()]:
		m.err = m.presence(ctx, "subscribed", from.Bare())
	case el.Attr("type") == "unsubscribed":
		m.denied[from.Bare()] = true
	case el.Attr("type") == "error" && len(m.bounced) < m.s.c.Limits.Roster:
		if r, ok := refusal(el.Node()).(*Refusal); ok {
			m.bounced[from.Bare()] = "it came back (" + r.Condition + ")"
		}
	}
}

func (m *Mover) presence(ctx context.Context, typ string, to xmpp.JID) error {
	return m.s.send(ctx, xmpp.NewXML("presence").Attr("type", typ).Attr("to", to.String()).Bytes())
}

// Tell does what is to be done for one contact. The error is one that ends the session; what the server refuses is in the report.
func (m *Mover) Tell(ctx context.Context, c Contact) (Report, error) {
	j, err := xmpp.ParseJID(c.JID)
	if err != nil || j == m.s.me.Bare() {
		return Report{JID: c.JID, Step: StepFailed, Why: "the address can not be read, or is the new one itself"}, nil
	}
	if err := m.enter(ctx, j, c.RosterItem); err != nil {
		if refused(err) {
			return Report{JID: j.String(), Step: StepFailed, Why: err.Error()}, nil
		}
		return Report{}, err
	}
	approves, err := m.approve(ctx, j, c)
	if err != nil {
		return Report{}, err
	}
	asks, err := m.ask(ctx, j, c)
	if err != nil {
		return Report{}, err
	}
	// The server tells by its pushes when it is done.
	err = m.s.idle(ctx, m.s.c.Limits.Settle, func() bool {
		now, there := m.s.Contact(j)
		return there && (!approves || now.Approved || now.Sub.From()) && (!asks || now.Ask || now.Sub.To() || m.denied[j])
	})
	return m.Report(c), err
}

// approve lets a contact see the new address who saw the old one: in advance, or, where the server can not do that, when he asks.
func (m *Mover) approve(ctx context.Context, j xmpp.JID, c Contact) (sent bool, err error) {
	now, _ := m.s.Contact(j)
	if !c.Sub.From() || now.Sub.From() {
		return false, nil
	}
	m.expected[j] = true
	if !m.advance || now.Approved {
		return false, nil
	}
	return true, m.presence(ctx, "subscribed", j)
}

// enter puts the contact on the new list. What the user changed there since stays.
func (m *Mover) enter(ctx context.Context, j xmpp.JID, c portable.RosterItem) error {
	now, there := m.s.Contact(j)
	if there && (now.Name != "" || len(now.Groups) > 0 || c.Name == "" && len(c.Groups) == 0) {
		return nil
	}
	x := xmpp.NewXMLNS("query", nsRoster).Open("item", "").Attr("jid", j.String()).Attr("name", c.Name)
	for _, g := range c.Groups {
		x.Leaf("group", "", g)
	}
	_, err := m.s.ask(ctx, query{typ: "set", raw: x.Bytes()})
	return err
}

// ask sends the request, where it is due: with <moved/> to who let her see him at the old address, a plain one to who had not answered that one.
func (m *Mover) ask(ctx context.Context, j xmpp.JID, c Contact) (sent bool, err error) {
	now, _ := m.s.Contact(j)
	due := !c.Asked && !m.denied[j]
	if now.Ask {
		due = m.AskAgain
	}
	if !c.Sub.To() && !c.Ask || now.Sub.To() || !due {
		return false, nil
	}
	p := xmpp.NewXML("presence").Attr("type", "subscribe").Attr("to", j.String())
	if c.Sub.To() && !c.Claim.IsZero() {
		p.Open("status", "").Attr("xml:lang", m.Language).Text(m.Status).Close().Open("moved", nsMoved).Leaf("old-jid", "", c.Claim.String()).Close()
	}
	return true, m.s.send(ctx, p.Bytes())
}

// Report tells how it stands with a contact now.
func (m *Mover) Report(c Contact) Report {
	r := Report{JID: c.JID}
	j, err := xmpp.ParseJID(c.JID)
	if err != nil {
		return Report{JID: c.JID, Step: StepFailed}
	}
	now, there := m.s.Contact(j)
	asked, approved := c.Sub.To() || c.Ask, c.Sub.From()
	switch {
	case !there && !approved:
		r.Step, r.Why = StepFailed, "the server did not keep the contact"
	case asked && !now.Sub.To() && now.Ask:
		r.Step, r.Why = StepWaiting, m.bounced[j]
	case asked && !now.Sub.To() && (c.Asked || m.denied[j]):
		r.Step = StepRefused
	case asked && !now.Sub.To():
		r.Step, r.Why = StepFailed, cmp.Or(m.bounced[j], "the server did not take the request")
	case approved && !now.Sub.From() && now.Approved:
		r.Step = StepApproved
	case approved && !now.Sub.From():
		r.Step = StepExpected
	case !asked && !approved:
		r.Step = StepKept
	default:
		r.Step = StepFollowed
	}
	return r
}

// Wait listens for answers, and answers requests of contacts who are expected, for a time or until what is waited for has come; nil waits for nothing.
func (m *Mover) Wait(ctx context.Context, d time.Duration, come func() bool) error {
	return m.s.idle(ctx, d, come)
}

// Open tells whether there are contacts whose requests only this session can answer.
func (m *Mover) Open() bool {
	for j := range m.expected {
		if now, _ := m.s.Contact(j); !now.Sub.From() && !now.Approved {
			return true
		}
	}
	return false
}
