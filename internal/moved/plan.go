package moved

import (
	"cmp"
	"slices"
	"strings"
	"sync"
	"time"

	"pibox/internal/store"
	"pibox/internal/xmpp"
)

// Prospect is what a move will mean for a contact.
type Prospect string

// The prospects.
const (
	WillFollow  Prospect = "follows"     // his server verifies moves: nobody has to do anything
	MustApprove Prospect = "approves"    // he has to approve the new address
	MustAdd     Prospect = "adds"        // he only sees the owner: a message tells him
	Unreachable Prospect = "unreachable" // his server does not answer now; it will be tried for 60 days
	HasMoved    Prospect = "moved"       // he moved himself, and is asked at his new address
	ComesAlong  Prospect = "kept"        // nothing is asked or told
)

// PlannedContact is one contact in a plan.
type PlannedContact struct {
	Address, Name string
	Was           store.Subscription
	Prospect      Prospect
	Why           string
	Request       bool // his own request, which waits at the old address, comes along
}

// Plan is what a move would do.
type Plan struct {
	Old, New string
	// Exists: there is an account at the new address already; the contacts it has stay.
	Exists bool
	// Announced: the statement is served already, or published by the start where the old address is on this box.
	Announced bool
	// ArchiveStays: the archive can not become part of that of the new account, which has messages of its own.
	ArchiveStays bool
	Contacts     []PlannedContact
}

const (
	probeTimeout = 20 * time.Second
	// maxProbes is up to how many contacts are asked for one by one; beyond it only their servers are.
	maxProbes = 300
)

const nsDiscoInfo = "http://jabber.org/protocol/disco#info"

// planned is a contact that a plan is made for.
type planned struct {
	who xmpp.JID
	c   store.MoveContact
}

// Plan tells, contact by contact, what a move from an account of this box, or a job that is planned, would do. It asks other servers, for up to 40
// seconds, and changes nothing. members are the new addresses of those who move along.
func (m *Moved) Plan(old, new xmpp.JID, members map[xmpp.JID]xmpp.JID) (Plan, error) {
	p := Plan{Old: old.String(), New: new.String()}
	var all []planned
	err := m.r.Store.View(func(tx *store.Tx) error {
		p.Exists = store.Accounts.Has(tx, new.String())
		job, ok := store.MoveJobs.Get(tx, new.String())
		ours := ok && job.Old == old.String() && job.State != store.MoveUndone
		contacts := map[string]store.MoveContact{}
		switch {
		case m.r.IsLocal(old.Domain):
			if acc, ok := store.Accounts.Get(tx, old.String()); !ok || acc.Closed != nil {
				return refuse(ErrNotReady, "there is no account %s", old)
			}
			p.Announced = true
			p.ArchiveStays = m.r.IsLocal(new.Domain) && !store.LogsMerge(tx, new.String(), old.String())
			contacts = snapshot(tx, old)
		case ours:
			p.Announced = !job.Announced.IsZero()
			for key, c := range store.MoveContacts.All(tx, job.New) {
				contacts[strings.TrimPrefix(key, store.Key(job.New, ""))] = c
			}
		default:
			return refuse(ErrNoJob, "%s is not on this box, and no move from there to %s is planned", old, new)
		}
		for name, c := range contacts {
			who, err := xmpp.ParseJID(name)
			if err != nil {
				return err
			}
			if member, ok := members[who]; ok {
				c.Member = member.String()
			}
			e := PlannedContact{Address: name, Name: c.Name, Was: c.Sub, Request: c.Pending != nil}
			if m.foresee(tx, old, new, who, c, &e) {
				all = append(all, planned{who, c})
			}
			p.Contacts = append(p.Contacts, e)
		}
		return nil
	})
	if err != nil {
		return p, err
	}
	slices.SortFunc(p.Contacts, func(a, b PlannedContact) int { return cmp.Compare(a.Address, b.Address) })
	m.probe(old, new, all, func(who xmpp.JID, what Prospect, why string) {
		i := slices.IndexFunc(p.Contacts, func(e PlannedContact) bool { return e.Address == who.String() })
		p.Contacts[i].Prospect, p.Contacts[i].Why = what, why
	})
	return p, nil
}

// foresee says what is known of a contact without asking anybody; true where his server has to be asked.
func (m *Moved) foresee(tx *store.Tx, old, new, who xmpp.JID, c store.MoveContact, e *PlannedContact) (ask bool) {
	item, _ := m.needs.Roster.Item(tx, new, who)
	say := func(p Prospect, why string) { e.Prospect, e.Why = p, why }
	local := m.r.IsLocal(who.Domain)
	_, there := store.Accounts.Get(tx, who.String())
	to, gone := m.movedHere(tx, old, who)
	switch {
	case who == old || who == new:
		say(ComesAlong, "this is the account itself")
	case c.Member != "":
		say(WillFollow, "moves along, to "+c.Member)
	case m.blocked(tx, old, who) || m.blocked(tx, new, who):
		say(ComesAlong, "blocked: not told")
	case gone:
		say(HasMoved, "moved to "+to.String()+" themselves")
	case local && who.Local != "" && !there:
		say(ComesAlong, "there is no such account on this box")
	case item.Sub.To() && (c.Sub.To() || c.Ask):
		say(WillFollow, "is a contact of the new address already")
	case c.Sub == store.SubFrom && !c.Ask:
		say(MustAdd, "only sees you: is told in a message from the old address")
		return !local
	case !c.Sub.To() && !c.Ask:
		say(ComesAlong, "no subscription: only the name comes along")
	case c.Ask:
		say(MustApprove, "had not approved the old address either")
		return !local
	case who.Local == "":
		say(MustApprove, "a service: you may have to register there anew")
		return !local
	case local:
		say(WillFollow, "is on this box")
	default:
		say(MustApprove, "")
		return true
	}
	return false
}

// probe asks the contacts' servers now. found is called for those of whom that says more; never twice at once.
func (m *Moved) probe(old, new xmpp.JID, all []planned, found func(who xmpp.JID, what Prospect, why string)) {
	var mu sync.Mutex
	var wait sync.WaitGroup
	byDomain := map[string][]planned{}
	for _, c := range all {
		byDomain[c.who.Domain] = append(byDomain[c.who.Domain], c)
	}
	ask := func(from, to xmpp.JID, done func(reply *xmpp.Request)) {
		wait.Add(1)
		m.r.Ask(xmpp.Ask{From: from, To: to, Type: "get", Timeout: probeTimeout, Payload: xmpp.NewXMLNS("query", nsDiscoInfo).Bytes(), Done: func(reply *xmpp.Request) {
			defer wait.Done()
			done(reply)
		}})
	}
	tell := func(c planned, what Prospect, why string) {
		mu.Lock()
		defer mu.Unlock()
		found(c.who, what, why)
	}
	from := new.Host()
	if !m.r.IsLocal(from.Domain) { // the account leaves the box
		from = old.Host()
	}
	for domain, list := range byDomain {
		ask(from, xmpp.JID{Domain: domain}, func(reply *xmpp.Request) {
			why := unreachable(domain, reply)
			verifies := announces(reply)
			for _, c := range list {
				plain := c.c.Ask || !c.c.Sub.To() || c.who.Local == ""
				switch {
				case why != "":
					tell(c, Unreachable, why)
				case plain:
				case verifies:
					tell(c, WillFollow, domain+" announces that it verifies moves")
				default:
					tell(c, MustApprove, domain+" does not announce that it verifies moves")
				}
				if why != "" || plain || len(all) > maxProbes || !m.r.IsLocal(old.Domain) {
					continue
				}
				ask(old, c.who, func(reply *xmpp.Request) { m.foreseeAccount(c, reply, tell) })
			}
		})
	}
	wait.Wait()
}

// foreseeAccount reads what a contact's account says to the address that he knows.
func (m *Moved) foreseeAccount(c planned, reply *xmpp.Request, tell func(c planned, what Prospect, why string)) {
	switch {
	case reply == nil || reply.Peer == nil:
	case announces(reply):
		tell(c, WillFollow, c.who.Domain+" announces that it verifies moves")
	default:
		if to, ok := goneTo(reply.Node()); ok && reply.Type == "error" && m.trusted(c.who, reply.Peer) {
			tell(c, HasMoved, "moved to "+to.String()+" themselves")
		}
	}
}

// unreachable says why a server did not answer; what our own side says has no peer.
func unreachable(domain string, reply *xmpp.Request) string {
	switch {
	case reply == nil:
		return domain + " did not answer within " + probeTimeout.String()
	case reply.Peer == nil:
		return ownWords(domain, reply)
	}
	return ""
}

// ownWords are those in which our own side says that it could not reach a server.
func ownWords(domain string, reply *xmpp.Request) string {
	if e := reply.Node().Child(xmpp.NSClient, "error"); e != nil {
		if text := e.Child(xmpp.NSStanzas, "text"); text != nil && text.Text != "" {
			return text.Text
		}
	}
	condition, _ := errorOf(reply.Node())
	return domain + " can not be reached: " + condition
}

func announces(reply *xmpp.Request) bool {
	if reply == nil || reply.Type != "result" {
		return false
	}
	query := reply.Node().Child(nsDiscoInfo, "query")
	if query == nil {
		return false
	}
	for _, c := range query.Children {
		if c.Name == "feature" && c.Attr("var") == NS {
			return true
		}
	}
	return false
}
