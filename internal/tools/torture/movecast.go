package main

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"pibox/internal/store"
)

// The domains of a move: the family's old and new one, and the one that it goes on to, on one box; that of their contacts, and one that members come from
// and go to, on another.
const (
	domainOld   = "old.example"
	domainNew   = "new.example"
	domainLast  = "last.example"
	domainOther = "montague.example"
	domainAway  = "away.example"
)

// cast is who moves, and who knows whom.
type cast struct {
	Members  []string
	Contacts []string // at domainOther
	Ties     []tie
	// Alone are the ties of two who move by themselves over the border of the boxes: one comes from domainAway, the other goes there.
	Alone []tie
}

// The two of cast.Alone.
const (
	comer = "lucia"
	goer  = "ursula"
)

// tie is what a member and a contact are to each other.
type tie struct {
	Member, Contact string
	Kind            string
	Answer          answer // of the contact, should he be asked
}

type answer string

const (
	silent   answer = ""
	approves answer = "subscribed"
	denies   answer = "unsubscribed"
)

// tieKind is a state of two rosters before the move, and what it comes to.
type tieKind struct {
	name         string
	weight       int
	mine, theirs *store.RosterItem // of the member, and of the contact
	askedMe      bool              // a request of the contact waits at the member
	askedThem    bool              // and one of the member at the contact
	iBlock       bool              // the member blocks the contact
	theyBlock    bool              // the contact blocks the new address
	requests     bool              // the contact's server gets a request
	state        string            // of the contact in the job when nobody has answered anything
	person       bool              // a person is asked
}

func item(sub store.Subscription) *store.RosterItem { return &store.RosterItem{Sub: sub} }

func asking(sub store.Subscription) *store.RosterItem { return &store.RosterItem{Sub: sub, Ask: true} }

// tieKinds are all roster states (RFC 6121 appendix A.1), and what may stand in the way.
func tieKinds() []tieKind {
	return []tieKind{
		{name: "both", weight: 5, mine: item(store.SubBoth), theirs: item(store.SubBoth), requests: true, state: "followed"},
		{name: "to", weight: 2, mine: item(store.SubTo), theirs: item(store.SubFrom), requests: true, state: "followed"},
		{name: "from", weight: 2, mine: item(store.SubFrom), theirs: item(store.SubTo), state: "told"},
		{name: "none", weight: 1, mine: item(store.SubNone), theirs: item(store.SubNone), state: "kept"},
		{name: "out", weight: 2, mine: asking(store.SubNone), askedThem: true, requests: true, state: "asked", person: true},
		{name: "in", weight: 2, theirs: asking(store.SubNone), askedMe: true, state: "kept"},
		{name: "to and in", weight: 1, mine: item(store.SubTo), theirs: asking(store.SubFrom), askedMe: true, requests: true, state: "followed"},
		{name: "from and out", weight: 1, mine: asking(store.SubFrom), theirs: item(store.SubTo), askedThem: true, requests: true, state: "asked", person: true},
		{name: "pre-approved", weight: 1, mine: &store.RosterItem{Sub: store.SubNone, Approved: true}, state: "kept"},
		{name: "forgotten", weight: 2, mine: item(store.SubBoth), requests: true, state: "asked", person: true},
		{name: "blocked", weight: 1, mine: item(store.SubBoth), theirs: item(store.SubBoth), iBlock: true, state: "kept"},
		{name: "blocks", weight: 1, mine: item(store.SubBoth), theirs: item(store.SubBoth), theyBlock: true, requests: true, state: "asked"},
	}
}

func kindOf(name string) tieKind {
	all := tieKinds()
	return all[slices.IndexFunc(all, func(k tieKind) bool { return k.name == name })]
}

// manyRequests is how many requests a server is sent at once at the most (docs/moved.md, "pace"): a move with more takes longer than a round should.
const manyRequests = 15

func newCast(rng *rand.Rand) *cast {
	c := &cast{Members: []string{"juliet", "romeo", "nurse", "tybalt"}[:2+rng.IntN(3)]}
	for i := range 6 + rng.IntN(5) {
		c.Contacts = append(c.Contacts, fmt.Sprintf("c%02d", i))
	}
	var lots []tieKind
	for _, k := range tieKinds() {
		lots = append(lots, slices.Repeat([]tieKind{k}, k.weight)...)
	}
	requests := 0
	for _, m := range c.Members {
		for _, who := range c.Contacts {
			k := lots[rng.IntN(len(lots))]
			if k.requests && requests >= manyRequests || rng.IntN(4) == 0 {
				continue
			}
			if k.requests {
				requests++
			}
			c.Ties = append(c.Ties, tie{m, who, k.name, []answer{silent, approves, denies}[rng.IntN(3)]})
		}
	}
	for _, m := range []string{comer, goer} {
		for i, who := range c.Contacts {
			if i < len(aloneKinds()) {
				c.Alone = append(c.Alone, tie{m, who, aloneKinds()[i], []answer{silent, approves, denies}[rng.IntN(3)]})
			}
		}
	}
	return c
}

// aloneKinds are ties that come to the same end whether the old home's session shows the owner to his contacts or not.
func aloneKinds() []string { return []string{"both", "from", "out", "to", "in", "none"} }

// homes are the old and the new address of somebody of cast.Alone.
func homes(name string) (old, new string) {
	if name == comer {
		return comer + "@" + domainAway, comer + "@" + domainLast
	}
	return goer + "@" + domainLast, goer + "@" + domainAway
}

// alone writes both sides of the ties of the two, in the box that has an account at a domain.
func (c *cast) alone(tx *store.Tx, like store.Account, here map[string]bool) {
	put := func(account string, write func()) {
		if _, domain, _ := strings.Cut(account, "@"); here[domain] {
			write()
		}
	}
	for _, account := range []string{comer + "@" + domainAway, goer + "@" + domainLast, goer + "@" + domainAway} {
		put(account, func() { store.Accounts.Put(tx, account, like) })
	}
	for _, t := range c.Alone {
		k, who := kindOf(t.Kind), t.Contact+"@"+domainOther
		me, _ := homes(t.Member)
		put(me, func() {
			if k.mine != nil {
				it := *k.mine
				it.Name, it.Groups = "Dear "+t.Contact, []string{"Friends"}
				store.Roster.Put(tx, store.Key(me, who), it)
			}
			if k.askedMe {
				request(tx, who, me)
			}
		})
		put(who, func() {
			if k.theirs != nil {
				store.Roster.Put(tx, store.Key(who, me), *k.theirs)
			}
			if k.askedThem {
				request(tx, me, who)
			}
		})
	}
}

// write makes the data of both boxes, out of what they had after their first start.
func (c *cast) write(rng *rand.Rand, blank [2]string, folders [2]string) error {
	var dbs [2]*store.Store
	for i, folder := range folders {
		if err := errors.Join(os.RemoveAll(folder), os.MkdirAll(folder, 0o700)); err != nil {
			return err
		}
		if err := os.CopyFS(folder, os.DirFS(blank[i])); err != nil {
			return err
		}
		s, err := store.Open(filepath.Join(folder, store1), store.Options{Reserve: 1})
		if err != nil {
			return err
		}
		defer func() { _ = s.Close() }()
		dbs[i] = s
	}
	var like store.Account
	if err := dbs[1].Update(func(tx *store.Tx) error {
		like, _ = store.Accounts.Get(tx, template+"@"+domainOther)
		store.Accounts.Delete(tx, template+"@"+domainOther)
		c.others(tx, like)
		c.alone(tx, like, map[string]bool{domainOther: true, domainAway: true})
		return nil
	}); err != nil {
		return err
	}
	return dbs[0].Update(func(tx *store.Tx) error {
		c.family(tx, like, rng)
		c.alone(tx, like, map[string]bool{domainLast: true})
		return nil
	})
}

// template is an account whose password everybody gets.
const template = "template"

func request(tx *store.Tx, from, to string) {
	store.Pending.Put(tx, store.Key(to, from), store.PendingIn{Stanza: fmt.Appendf(nil, "<presence type='subscribe' id='before' from='%s' to='%s'/>", from, to)})
}

func (c *cast) others(tx *store.Tx, like store.Account) {
	for _, name := range c.Contacts {
		store.Accounts.Put(tx, name+"@"+domainOther, like)
	}
	for _, t := range c.Ties {
		k, me, who := kindOf(t.Kind), t.Member+"@"+domainOld, t.Contact+"@"+domainOther
		if k.theirs != nil {
			it := *k.theirs
			it.Name = "My " + t.Member
			store.Roster.Put(tx, store.Key(who, me), it)
		}
		if k.askedThem {
			request(tx, me, who)
		}
		if k.theyBlock {
			store.Blocks.Put(tx, store.Key(who, t.Member+"@"+domainNew), store.Block{})
		}
	}
}

// friar is one who lives at the new domain already, and stays; ghost is a contact who is not there any more.
const (
	friar = "friar"
	ghost = "ghost"
)

func (c *cast) family(tx *store.Tx, like store.Account, rng *rand.Rand) {
	put := func(account, contact string, sub store.Subscription, name string) {
		store.Roster.Put(tx, store.Key(account, contact), store.RosterItem{Sub: sub, Name: name})
	}
	store.Accounts.Put(tx, friar+"@"+domainNew, like)
	for i, m := range c.Members {
		me := m + "@" + domainOld
		store.Accounts.Put(tx, me, like)
		for _, other := range c.Members[:i] {
			mine := []store.Subscription{store.SubNone, store.SubTo, store.SubFrom, store.SubBoth, store.SubBoth}[rng.IntN(5)]
			put(me, other+"@"+domainOld, mine, other)
			put(other+"@"+domainOld, me, store.With(mine.From(), mine.To()), m)
		}
		put(me, friar+"@"+domainNew, store.SubBoth, "The friar")
		put(friar+"@"+domainNew, me, store.SubBoth, "")
		put(me, ghost+"@"+domainOther, store.SubFrom, "")
	}
	for _, t := range c.Ties {
		k, me, who := kindOf(t.Kind), t.Member+"@"+domainOld, t.Contact+"@"+domainOther
		if k.mine != nil {
			it := *k.mine
			it.Name, it.Groups = "Dear "+t.Contact, []string{"Friends"}
			store.Roster.Put(tx, store.Key(me, who), it)
		}
		if k.askedMe {
			request(tx, who, me)
		}
		if k.iBlock {
			store.Blocks.Put(tx, store.Key(me, who), store.Block{})
		}
	}
}
