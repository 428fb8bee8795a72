package box

import (
	"fmt"
	"slices"
	"strings"

	"pibox/internal/admin"
	"pibox/internal/store"
	"pibox/internal/xmpp"
)

// A person may mean another address, or sit at the other box: the errors here say what there is, and which command is wanted.

// maxNamed is how many moves an error names.
const maxNamed = 8

// moves tells whether anything is known of a move to an address.
func (b *Box) moves(tx *store.Tx, new xmpp.JID) bool {
	_, marked := store.Migrating(tx, new.String())
	return marked || store.MoveJobs.Has(tx, new.String()) || b.migrations.get(new) != nil
}

// noMove is the error for a name of which no move is known, with what there is: it may be misspelt, or that of the other end.
func (b *Box) noMove(tx *store.Tx, name string, new xmpp.JID) error {
	domains := b.Router.Domains()
	err := admin.Errorf(admin.CodeNotFound, "there is no move to %s", new)
	if !strings.Contains(name, "@") && strings.Contains(name, ".") {
		err = admin.Errorf(admin.CodeNotFound, "%s is no domain of this box, and no member who moves", name)
	}
	var to []string
	from := ""
	for key, job := range store.MoveJobs.All(tx) {
		if job.Old == new.String() && (from == "" || job.State != store.MoveUndone) {
			from = key
		}
		to = append(to, key)
	}
	if from != "" {
		return admin.Errorf(admin.CodeNotFound, "%s is the old address of a move", new).Then("Name it by the new one: %s.", from)
	}
	next := ""
	if like := nearest(name, slices.Concat(domains, to)); like != "" {
		next = "Did you mean " + like + "? "
	}
	next += "Domains of this box: " + strings.Join(domains, ", ") + "."
	switch more := len(to) - maxNamed; {
	case len(to) == 0:
		next += " Nobody moves."
	case more > 0:
		next += fmt.Sprintf(" Moves go to: %s, and %d more ('pibox move status --all').", strings.Join(to[:maxNamed], ", "), more)
	default:
		next += " Moves go to: " + strings.Join(to, ", ") + "."
	}
	return err.Then("%s", next)
}

// nearest is the name that is a slip of the pen away from another one; "" where none is.
func nearest(name string, all []string) (like string) {
	least := 3
	for _, one := range all {
		if d := distance(strings.ToLower(name), one); d < least {
			like, least = one, d
		}
	}
	return like
}

// distance is how many bytes have to be put in, left out, changed or, next to each other, exchanged to make b of a.
func distance(a, b string) int {
	var before []int
	last := make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := range len(a) {
		now := make([]int, len(b)+1)
		now[0] = i + 1
		for j := range len(b) {
			now[j+1] = min(last[j+1]+1, now[j]+1, last[j]+1)
			if a[i] == b[j] {
				now[j+1] = min(now[j+1], last[j])
			}
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				now[j+1] = min(now[j+1], before[j-1]+1)
			}
		}
		before, last = last, now
	}
	return last[len(b)]
}

// within refuses what 'pibox move start' can not do, because one of the addresses is at another server.
func (b *Box) within(old, new xmpp.JID) error {
	here, stays := b.Router.IsLocal(old.Domain), b.Router.IsLocal(new.Domain)
	switch {
	case here && stays:
		return nil
	case !here && !stays:
		return admin.Errorf(admin.CodeInvalid, "neither %s nor %s is on this box (%s)", old, new, strings.Join(b.Router.Domains(), ", ")).
			Then("Run this on the box where one of them is: 'pibox move bring %[1]s %[2]s' where %[2]s is to be, or 'pibox move leave %[1]s %[2]s' where %[1]s is.", old, new)
	}
	return b.Store.View(func(tx *store.Tx) error {
		job, ok := store.MoveJobs.Get(tx, new.String())
		switch ok = ok && job.Old == old.String() && job.State != store.MoveUndone; {
		case ok:
		case here:
			if like := nearest(new.Domain, b.Router.Domains()); like != "" {
				return b.slip(admin.CodeInvalid, new).
					Then("Did you mean %s@%s? To an account at another server 'pibox move leave %s %s --build' moves it.", new.Local, like, old, new)
			}
			return admin.Errorf(admin.CodeInvalid, "%s is at another server: from here an account leaves", new).
				Then("'pibox move leave %s %s --build' moves it there.", old, new)
		default:
			if like := nearest(old.Domain, b.Router.Domains()); like != "" {
				return b.slip(admin.CodeNotFound, old).
					Then("Did you mean %s@%s? From an account at another server 'pibox move bring %s %s' brings what it has.", old.Local, like, old, new)
			}
			return admin.Errorf(admin.CodeNotFound, "%s is not on this box, and its contacts are not known", old).
				Then("'pibox move bring %s %s' logs in there and brings them; 'pibox import' reads them from an export.", old, new)
		}
		return nil
	})
}

// slip is the error for an address at a domain that is very near to one of this box.
func (b *Box) slip(code admin.Code, j xmpp.JID) *admin.Error {
	return admin.Errorf(code, "%s is not a domain of this box (%s)", j.Domain, strings.Join(b.Router.Domains(), ", "))
}

// likeDomain tells whether a name that is no domain of this box is one all the same: a member may have a dot in the name, too.
func (b *Box) likeDomain(name string) bool {
	if strings.Contains(name, "@") || !strings.Contains(name, ".") || b.isDomain(name) {
		return false
	}
	member := false
	j, err := b.Accounts.Parse(name)
	if err == nil {
		err = b.Store.View(func(tx *store.Tx) error {
			member = store.Accounts.Has(tx, j.String())
			return nil
		})
	}
	return err == nil && !member
}

// noDomain is the error for a name that is neither a domain of this box nor a member.
func (b *Box) noDomain(name string) error {
	err := admin.Errorf(admin.CodeNotFound, "%s is not a domain of this box (%s), and no member", name, strings.Join(b.Router.Domains(), ", "))
	if like := nearest(name, b.Router.Domains()); like != "" {
		return err.Then("Did you mean %s?", like)
	}
	return err.Then("'pibox user list' shows who there is.")
}

// ownDomains refuses to move a family of, or to, a domain that is not served here.
func (b *Box) ownDomains(old, new string) error {
	for _, name := range []string{old, new} {
		if b.isDomain(name) {
			continue
		}
		next := "A family moves within one box: put its new domain into domains of the configuration, behind the old one, and start the box again."
		if like := nearest(name, b.Router.Domains()); like != "" {
			next = "Did you mean " + like + "?"
		} else if name == old {
			next = "Where it is on another box: 'pibox transfer' brings everything here, 'pibox move bring' one account."
		}
		return admin.Errorf(admin.CodeInvalid, "%s is not a domain of this box (%s)", name, strings.Join(b.Router.Domains(), ", ")).Then("%s", next)
	}
	return nil
}
