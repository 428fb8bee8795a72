package box

import (
	"pibox/internal/admin"
	"pibox/internal/moved"
	"pibox/internal/store"
)

// once refuses to bring an account that came, or comes, to another address of this box: its contacts would be sent from there to a second account.
func (br *bringing) once() error {
	return br.b.Store.View(func(tx *store.Tx) error {
		came, now, ok := moved.Brought(tx, br.old.String(), br.new.String())
		switch {
		case !ok:
			return nil
		case came.State == store.MovePlanned:
			return admin.Errorf(admin.CodeExists, "%s is to be %s: that was begun on %s", br.old, came.New, moved.BroughtOn(came)).
				Then("'pibox move bring %[1]s %[2]s' goes on with it; 'pibox move cancel %[2]s' forgets it.", br.old, came.New)
		case now != came.New:
			return admin.Errorf(admin.CodeExists, "%s was brought already, on %s, as %s, which moved to %s", br.old, moved.BroughtOn(came), came.New, now).
				Then("'pibox move status %s' shows how that goes.", now)
		}
		return admin.Errorf(admin.CodeExists, "%s was brought already, on %s, as %s", br.old, moved.BroughtOn(came), came.New).
			Then("'pibox move status %[1]s' shows where its contacts stand. 'pibox move start %[1]s NEW' moves it to another address of this box; or take it back first, with 'pibox move undo %[1]s', and bring it again.", came.New)
	})
}
