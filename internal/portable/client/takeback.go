package client

import (
	"context"
	"errors"

	"pibox/internal/xmpp"
)

// Trace is what a move did at the new account for a contact, beside what was there.
type Trace struct {
	JID      string
	Entered  bool // on the list
	Asked    bool
	Approved bool // in advance
	Listed   bool // Contact.Listed; nothing was done
}

// Taken is what became of a Trace that was to be taken back.
type Taken struct {
	JID string
	// Why something of it is still there; empty: nothing is.
	Why string
}

// Will tells what Tell is about to do for a contact that was not there or done before, so that it can be noted first.
func (m *Mover) Will(c Contact) (t Trace) {
	t.JID = c.JID
	j, ok := m.address(c)
	if !ok || c.Left {
		return t
	}
	now, there := m.s.Contact(j)
	t.Entered = !there
	t.Asked = (c.Sub.To() || c.Ask) && !now.Sub.To() && !now.Ask
	t.Listed = m.believes(j, c)
	t.Approved = c.Sub.From() && !now.Sub.From() && !now.Approved
	return t
}

// TakeBack takes a move back from contacts who have not answered it: requests and approvals are withdrawn (RFC 6121 §3.3.2, §3.2.2), then contacts whom
// it entered leave the list. Who lets the new address see him, or sees it, stays. It may be repeated.
func (s *Session) TakeBack(ctx context.Context, all []Trace) ([]Taken, error) {
	if _, err := s.roster(ctx); err != nil {
		return nil, err
	}
	var stanzas [][]byte
	taken := make([]Taken, len(all))
	at := make([]xmpp.JID, len(all))
	for i, t := range all {
		taken[i].JID = t.JID
		j, err := xmpp.ParseJID(t.JID)
		if at[i] = j; err != nil {
			continue
		}
		now, _ := s.Contact(j)
		if t.Asked && now.Ask {
			stanzas = append(stanzas, presence("unsubscribe", j).Bytes())
		}
		if t.Approved && !now.Sub.From() {
			stanzas = append(stanzas, presence("unsubscribed", j).Bytes())
		}
	}
	if err := s.sendAll(ctx, stanzas); err != nil {
		return nil, err
	}
	var leave []int
	for i, t := range all {
		now, there := s.Contact(at[i])
		switch {
		case !there || at[i].IsZero():
		case now.Sub.To() || now.Sub.From():
			taken[i].Why = "follows the new address"
		case t.Entered:
			leave = append(leave, i)
		}
	}
	err := s.askAll(ctx, len(leave), func(i int) query {
		x := xmpp.NewXMLNS("query", nsRoster).Open("item", "").Attr("jid", at[leave[i]].String()).Attr("subscription", "remove")
		return query{typ: "set", raw: x.Bytes()}
	}, func(i int, err error) {
		var r *Refusal
		if errors.As(err, &r) && r.Condition == "item-not-found" {
			err = nil // it is gone
		}
		if err != nil {
			taken[leave[i]].Why = err.Error()
		}
	})
	return taken, err
}
