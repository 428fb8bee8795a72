package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"pibox/internal/admin"
)

// romeoSees reads what awaited Romeo until nothing is missing, and holds it against what may be there.
func (p *play) romeoSees(ctx context.Context) error {
	notice, stranger, there := false, false, false
	for !notice || !stranger || !there {
		st, err := p.romeo.Next(ctx)
		if err != nil {
			return fmt.Errorf("what awaits Romeo (the notice: %t, Paris's request: %t, Juliet's presence: %t): %w", notice, stranger, there, err)
		}
		switch {
		case isMessage(p.romeos.Domain)(st):
			notice = strings.Contains(st.Node().ChildText("", "body"), newJuliet)
		case isPresence("subscribe", paris)(st):
			stranger = true
			p.check(oldJID(st) == oldJuliet, "Paris's request is shown as he sent it, claim included")
		case isPresence("subscribe", newJuliet)(st):
			p.asked = true
		case isPresence("", newJuliet)(st):
			there = true
		}
	}
	return nil
}

// outcome is what row 8 makes of the contact lists.
var outcome = []struct {
	whose string
	item  item
	words string
}{
	{romeo, item{newJuliet, nickname, "both", "", group}, "Romeo has the new address, with the name and group that he gave her"},
	{romeo, item{oldJuliet, nickname, "to", "", group}, "the old address sees Romeo no more"},
	{newJuliet, item{romeo, "", "both", "", ""}, "Juliet has Romeo at her new home"},
	{oldJuliet, item{romeo, "", "from", "", ""}, "her old home knows that Romeo followed"},
}

// verdict holds the contact lists against docs/moved.md, row 8.
func (p *play) verdict(ctx context.Context) error {
	p.chapter("Contact lists after")
	lists, err := p.settled(ctx)
	if err != nil {
		return err
	}
	for _, who := range []string{romeo, newJuliet, oldJuliet} {
		p.roster(who, lists[who])
	}
	p.chapter("Checked against docs/moved.md, row 8")
	for _, want := range outcome {
		p.check(slices.Contains(lists[want.whose], want.item), "%s: %s", want.words, want.item)
	}
	p.check(len(lists[romeo]) == 2, "nobody else came into Romeo's contact list, nobody is there twice")
	p.check(!p.asked, "Romeo was not asked about Juliet")
	return p.progress(ctx)
}

// settled waits until the last answers have gone back and forth between the boxes, or no more comes of it.
func (p *play) settled(ctx context.Context) (map[string][]item, error) {
	lists := map[string][]item{}
	for range 100 {
		missing := false
		for _, who := range []person{p.romeo, p.atNew, p.atOld} {
			items, err := p.contacts(ctx, who)
			if err != nil {
				return nil, err
			}
			lists[who.Account()] = items
		}
		for _, want := range outcome {
			missing = missing || !slices.Contains(lists[want.whose], want.item)
		}
		if !missing {
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	return lists, nil
}

// progress looks at what the old home's owner can see of the move.
func (p *play) progress(ctx context.Context) error {
	list, err := p.oldHome.Admin().UserList(ctx, admin.UserListRequest{})
	if err != nil {
		return err
	}
	var juliet admin.User
	for _, u := range list.Users {
		if u.Address == oldJuliet {
			juliet = u
		}
	}
	p.check(juliet.MovedTo == newJuliet && juliet.Contacts == 1 && juliet.ContactsLeft == 1,
		"'pibox user list' at the old home: %s %s to %s, %d of %d contacts followed", oldJuliet, juliet.State, juliet.MovedTo, juliet.ContactsLeft, juliet.Contacts)
	return nil
}

func (p *play) check(ok bool, format string, args ...any) {
	mark := "yes"
	if !ok {
		mark = "NO "
		p.mismatches++
	}
	p.says("%s  %s", mark, fmt.Sprintf(format, args...))
}
