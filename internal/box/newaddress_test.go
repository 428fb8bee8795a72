package box

import (
	"errors"
	"testing"
	"time"

	"pibox/internal/admin"
	"pibox/internal/config"
	"pibox/internal/store"
	"pibox/internal/xmpp"
)

// Nobody gets a new account at a domain that the family leaves, unless he names it.
func TestNewAddressBehindAFamily(t *testing.T) {
	home := serve(t, t.TempDir(), 0, func(c *config.Config) {
		c.Domains = []string{"verona.example", "capulet.example", "mantua.example"}
		c.S2S.Enabled = false
	})
	home.hears("READY=1")
	at := time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)
	moves := func(user, from, to string, state store.MoveState, day int) {
		t.Helper()
		if err := home.daemon.running().box.Router.Update(func(tx *store.Tx, _ *xmpp.Out) error {
			new := user + "@" + to
			store.MoveJobs.Put(tx, new, store.MoveJob{Old: user + "@" + from, New: new, Family: from + " " + to, State: state, Started: at.AddDate(0, 0, day)})
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	for i, step := range []struct {
		move func()
		want string
	}{
		{func() {}, "verona.example"},
		{func() { moves("a", "verona.example", "capulet.example", store.MovePlanned, 0) }, "verona.example"},
		{func() { moves("a", "verona.example", "capulet.example", store.MoveUndone, 0) }, "verona.example"},
		{func() { moves("a", "verona.example", "unserved.example", store.MoveDone, 0) }, "verona.example"},
		{func() { moves("a", "verona.example", "capulet.example", store.MoveRunning, 1) }, "capulet.example"},
		{func() { moves("b", "verona.example", "capulet.example", store.MoveDone, 1) }, "capulet.example"},
		{func() { moves("a", "capulet.example", "mantua.example", store.MoveDone, 2) }, "mantua.example"},
		{func() { moves("a", "mantua.example", "verona.example", store.MoveDone, 3) }, "verona.example"}, // and back
	} {
		step.move()
		name := string(rune('k' + i))
		resp, err := home.client().UserAdd(t.Context(), admin.UserAddRequest{User: name, Password: "long-enough-a-word"})
		if err != nil || resp.User.Address != name+"@"+step.want {
			t.Errorf("%d: %+v, %v", i, resp.User.Address, err)
		}
		_, err = home.client().MoveBring(t.Context(), admin.MoveBringRequest{Old: "rosa@friend.example"})
		var known *admin.Error
		if !errors.As(err, &known) || known.Code != admin.CodePassword || known.Account != "rosa@"+step.want {
			t.Errorf("%d: %+v", i, err)
		}
		_, as, err := home.daemon.running().box.importAddresses(admin.ImportRequest{Only: "rosa@friend.example", As: "rosa"})
		if err != nil || as.String() != "rosa@"+step.want {
			t.Errorf("%d: %v, %v", i, as, err)
		}
	}
	if resp, err := home.client().UserAdd(t.Context(), admin.UserAddRequest{User: "z@capulet.example", Password: "long-enough-a-word"}); err != nil || resp.User.Address != "z@capulet.example" {
		t.Errorf("%+v, %v", resp, err)
	}
}
