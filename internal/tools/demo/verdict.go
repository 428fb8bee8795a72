package main

import (
	"context"
	"fmt"
	"slices"
	"strings"

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
			p.check(false, "Romeo is not asked about Juliet")
		case isPresence("", newJuliet)(st):
			there = true
		}
	}
	return nil
}

// verdict holds the contact lists against docs/moved.md, row 8.
func (p *play) verdict(ctx context.Context) error {
	p.chapter("Contact lists after")
	people := []person{p.romeo, p.atNew, p.atOld}
	lists := map[string][]item{}
	for _, who := range people {
		items, err := p.contacts(ctx, who)
		if err != nil {
			return err
		}
		p.roster(who.Account(), items)
		lists[who.Account()] = items
	}
	p.chapter("Checked against docs/moved.md, row 8")
	for _, want := range []struct {
		whose string
		item  item
		words string
	}{
		{romeo, item{newJuliet, nickname, "both", "", group}, "Romeo has the new address, with the name and group that he gave her"},
		{romeo, item{oldJuliet, nickname, "to", "", group}, "the old address sees Romeo no more"},
		{newJuliet, item{romeo, "", "both", "", ""}, "Juliet has Romeo at her new home"},
		{oldJuliet, item{romeo, "", "from", "", ""}, "her old home knows that Romeo followed"},
	} {
		p.check(slices.Contains(lists[want.whose], want.item), "%s: %s", want.words, want.item)
	}
	p.check(len(lists[romeo]) == 2, "nobody else came into Romeo's contact list, nobody is there twice")
	return p.progress(ctx)
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
