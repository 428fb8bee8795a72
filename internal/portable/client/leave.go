package client

import (
	"cmp"
	"context"
	"strings"
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
	// Again tells that nothing showed that his server got that request: it is repeated, as long as it waits.
	Again bool
	// Listed tells that the new list had him as one whom it sees before he was asked there: that alone shows nothing.
	Listed bool
	// Admitted tells that he was approved in advance in an earlier session.
	Admitted bool
	// Left tells that he has moved away from this address, and is another contact now: nothing is asked here, and what was asked or approved ends.
	Left bool
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
	JID  string
	Step Step
	Why  string
	// Again: he was asked, and nothing shows that his server got it.
	Again bool
}

// Words are what contacts read whose app does not know of moving.
type Words struct{ Lang, Text string }

// Mover is the new home's part of a move (docs/moved.md), done by a client at the new account. Telling the same contact again does nothing that was
// done before, so a job can go on with its list after a stop.
type Mover struct {
	s     *Session
	words Words

	advance   bool // the server approves in advance, RFC 6121 §3.4
	available bool
	expected  map[xmpp.JID]bool
	approved  map[xmpp.JID]bool // in advance, in this session; not every server shows it in the contact list
	asked     map[xmpp.JID]bool // in this session
	denied    map[xmpp.JID]bool // said no in this session
	listed    map[xmpp.JID]bool // Contact.Listed
	seen      map[xmpp.JID]bool // have sent presence
	verified  map[string]bool   // servers that could object to what the list says, by domain; false: not heard of
	bounced   map[xmpp.JID]bounce
	servers   map[string]reach // of who was asked, by domain
	err       error
}

// Mover begins the part. It asks for the contact list. Where nobody was asked yet it becomes available, with a negative priority: requests come only to
// such. Where somebody was, that waits: many servers repeat all requests then, without what tells of the move (RFC 6121 §3.1.2).
func (s *Session) Mover(ctx context.Context, words Words) (*Mover, error) {
	m := &Mover{
		s: s, words: words, expected: map[xmpp.JID]bool{}, approved: map[xmpp.JID]bool{}, asked: map[xmpp.JID]bool{}, denied: map[xmpp.JID]bool{},
		bounced: map[xmpp.JID]bounce{}, servers: map[string]reach{}, listed: map[xmpp.JID]bool{}, seen: map[xmpp.JID]bool{}, verified: map[string]bool{},
	}
	m.advance = s.features != nil && s.features.HasChild(nsPreApprov, "sub")
	list, err := s.roster(ctx)
	if err != nil {
		return nil, err
	}
	s.presence = func(el *frame.Element) error { m.heard(ctx, el); return m.err }
	for _, item := range list.items {
		if item.Ask {
			return m, nil
		}
	}
	return m, m.appear(ctx)
}

// appear makes the session available.
func (m *Mover) appear(ctx context.Context) error {
	if m.available {
		return nil
	}
	m.available = true
	return m.s.send(ctx, xmpp.NewXML("presence").Leaf("show", "", "xa").Leaf("priority", "", "-1").Bytes())
}

// heard answers the request of a contact who is expected: he was one before (XEP-0283 §publish-notification). What comes from nobody on the contact
// list is not noted.
func (m *Mover) heard(ctx context.Context, el *frame.Element) {
	from, err := xmpp.ParseJID(strings.Clone(el.Attr("from"))) // which shares memory with the whole tag
	_, listed := m.s.Contact(from.Bare())
	switch {
	case err != nil:
	case el.Attr("type") == "subscribe" && m.expected[from.Bare()]:
		m.err = m.s.send(ctx, presence("subscribed", from.Bare()).Bytes())
	case !listed:
	case el.Attr("type") == "unsubscribed":
		m.refused(from.Bare())
	case el.Attr("type") == "" || el.Attr("type") == "unavailable": // only who is subscribed to gets that (RFC 6121 §4)
		m.seen[from.Bare()] = true
	case el.Attr("type") == "error":
		if r, ok := refusal(el.Node()).(*Refusal); ok {
			m.bounced[from.Bare()] = bounce{why: r.words("it came back"), away: away(r)}
		}
	}
}

func presence(typ string, to xmpp.JID) *xmpp.XML {
	return xmpp.NewXML("presence").Attr("type", typ).Attr("to", to.String())
}

// Tell does what is to be done for all of these contacts, and reports on each. The error is one that ends the session; what the server refuses is in
// the reports. Nothing waits for a single contact: all are entered, then approved, then asked.
func (m *Mover) Tell(ctx context.Context, all []Contact) ([]Report, error) {
	refusals := make([]string, len(all))
	var approvals, requests [][]byte
	if err := m.enter(ctx, all, refusals); err != nil {
		return nil, err
	}
	for i, c := range all {
		switch j, ok := m.address(c); {
		case !ok || refusals[i] != "":
		case c.Left:
			requests = m.letGo(requests, j)
		default:
			approvals = m.approve(approvals, j, c)
			requests = m.ask(requests, j, c)
		}
	}
	if err := m.s.sendAll(ctx, approvals); err != nil {
		return nil, err
	}
	if err := m.s.sendAll(ctx, requests); err != nil {
		return nil, err
	}
	if err := m.probe(ctx); err != nil {
		return nil, err
	}
	if !m.advance && len(m.expected) > 0 {
		if err := m.appear(ctx); err != nil {
			return nil, err
		}
	}
	err := m.settled(ctx, all, refusals)
	reports := make([]Report, len(all))
	for i, c := range all {
		if reports[i] = m.Report(c); refusals[i] != "" {
			reports[i] = Report{JID: c.JID, Step: StepFailed, Why: refusals[i]}
		}
	}
	return reports, err
}

// settled waits for the server, which has everything, to tell by its pushes what it made of it. Approvals in advance are not waited for: not every
// server shows them.
func (m *Mover) settled(ctx context.Context, all []Contact, refusals []string) error {
	i := 0
	return m.s.idle(ctx, m.s.c.Limits.Settle, func() bool {
		for ; i < len(all); i++ {
			j, ok := m.address(all[i])
			if !ok || refusals[i] != "" || all[i].Left {
				continue
			}
			_, back := m.bounced[j]
			if now, there := m.s.Contact(j); !there || m.asked[j] && !back && !now.Ask && !now.Sub.To() && !m.denied[j] {
				return false
			}
		}
		return true
	})
}

// address is that of a contact who can be told.
func (m *Mover) address(c Contact) (xmpp.JID, bool) {
	j, err := xmpp.ParseJID(c.JID)
	return j, err == nil && j != m.s.me.Bare()
}

// approve lets a contact see the new address who saw the old one, and nobody else: in advance, or, where the server can not do that, when he asks.
func (m *Mover) approve(to [][]byte, j xmpp.JID, c Contact) [][]byte {
	now, _ := m.s.Contact(j)
	if !c.Sub.From() || now.Sub.From() {
		return to
	}
	m.expected[j] = true
	if !m.advance || now.Approved || m.approved[j] {
		return to
	}
	m.approved[j] = true
	return append(to, presence("subscribed", j).Bytes())
}

// letGo ends what the new address gave and asked an address that a contact has left: the one that he has now gets both (XEP-0283 §security-contact).
// Not every server shows whom it approved in advance, so that is taken back unseen.
func (m *Mover) letGo(to [][]byte, j xmpp.JID) [][]byte {
	now, there := m.s.Contact(j)
	delete(m.expected, j)
	if !there {
		return to
	}
	if now.Ask {
		to = append(to, presence("unsubscribe", j).Bytes())
	}
	return append(to, presence("unsubscribed", j).Bytes())
}

// enter puts the contacts on the new list. What the user changed there since stays. refusals gets why one is not.
func (m *Mover) enter(ctx context.Context, all []Contact, refusals []string) error {
	var lacking []int
	for i, c := range all {
		j, ok := m.address(c)
		if !ok {
			refusals[i] = "the address can not be read, or is the new one itself"
			continue
		}
		now, there := m.s.Contact(j)
		if c.Left {
			continue
		}
		if !there || now.Name == "" && len(now.Groups) == 0 && (c.Name != "" || len(c.Groups) > 0) {
			lacking = append(lacking, i)
		}
	}
	return m.s.askAll(ctx, len(lacking), func(i int) query {
		c := all[lacking[i]]
		j, _ := m.address(c)
		x := xmpp.NewXMLNS("query", nsRoster).Open("item", "").Attr("jid", j.String()).Attr("name", c.Name)
		for _, g := range c.Groups {
			x.Leaf("group", "", g)
		}
		return query{typ: "set", raw: x.Bytes()}
	}, func(i int, err error) {
		if err != nil {
			refusals[lacking[i]] = err.Error()
		}
	})
}

// ask is the request, where it is due: with <moved/> to who let her see him at the old address, a plain one to who had not answered that one.
func (m *Mover) ask(to [][]byte, j xmpp.JID, c Contact) [][]byte {
	now, _ := m.s.Contact(j)
	due := !c.Asked || now.Ask && c.Again || c.Listed && !now.Ask && (c.Again || !now.Sub.To())
	if !c.Sub.To() && !c.Ask || now.Sub.To() && !m.listed[j] || !due || m.denied[j] || m.asked[j] {
		return to
	}
	m.asked[j] = true
	p := presence("subscribe", j)
	if m.words.Text != "" {
		p.Open("status", "")
		if m.words.Lang != "" {
			p.Attr("xml:lang", m.words.Lang)
		}
		p.Text(m.words.Text).Close()
	}
	if c.Sub.To() && !c.Claim.IsZero() && j.Local != "" {
		p.Open("moved", nsMoved).Leaf("old-jid", "", c.Claim.String()).Close()
	}
	return append(to, p.Bytes())
}

// Report tells how it stands with a contact now.
func (m *Mover) Report(c Contact) Report {
	r := Report{JID: c.JID}
	j, err := xmpp.ParseJID(c.JID)
	if err != nil {
		return Report{JID: c.JID, Step: StepFailed, Why: "the address can not be read"}
	}
	now, there := m.s.Contact(j)
	asked, approved := c.Sub.To() || c.Ask, c.Sub.From()
	switch {
	case c.Left:
		r.Step = StepKept
	case !there && !approved:
		r.Step, r.Why = StepFailed, "the server did not keep the contact"
	case asked && !now.Sub.To() && now.Ask, asked && now.Sub.To() && m.unproven(j):
		r.Step = StepWaiting
		r.Why, r.Again = m.arrived(j)
	case asked && !now.Sub.To() && m.listed[j] && !m.denied[j]:
		r.Step, r.Why, r.Again = StepWaiting, "their server did not know of the new address", true
	case asked && !now.Sub.To() && (c.Asked && !m.asked[j] || m.denied[j]):
		r.Step = StepRefused
	case asked && !now.Sub.To():
		r.Step, r.Why = StepFailed, cmp.Or(m.bounced[j].why, "the server did not take the request")
	case approved && !now.Sub.From() && (now.Approved || m.approved[j]):
		r.Step = StepApproved
	case approved && !now.Sub.From():
		r.Step = StepExpected
	case !asked && !approved:
		r.Step = StepKept
	case !asked && !m.expected[j] && !c.Admitted: // let in before: that shows nothing of him
		r.Step = StepApproved
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
		if now, _ := m.s.Contact(j); !now.Sub.From() && !now.Approved && !m.approved[j] {
			return true
		}
	}
	return false
}
