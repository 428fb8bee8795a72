package box

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pibox/internal/admin"
	"pibox/internal/config"
	"pibox/internal/store"
	"pibox/internal/testclient"
	"pibox/internal/xmpp"
	"pibox/internal/xmpp/frame"
)

// Who is blocked, whichever way, learns nothing of the new address. Whose server can not be reached is tried again, also after a stop.
func TestLeaveQuietly(t *testing.T) {
	away, address, authority := elsewhere(t, "away.example")
	addUser(t, away, "julia", "wherefore-art")
	home := serve(t, t.TempDir(), 0, func(c *config.Config) { c.S2S.SystemRoot, c.S2S.Trust = false, []string{authority} })
	home.hears("READY=1")
	addUser(t, home, "juliet", "another-one")
	const me = "juliet@home.example"
	for _, who := range []string{"bare@away.example", "anybody@foe.example", "full@away.example"} {
		befriend(t, home, me, who, store.SubBoth)
	}
	befriend(t, home, me, "mercutio@down.example", store.SubBoth)
	sets(t, logIn(t, home, me, "another-one"),
		"<block xmlns='urn:xmpp:blocking'><item jid='bare@away.example'/><item jid='foe.example'/><item jid='full@away.example/phone'/></block>")
	julia := logIn(t, away, "julia@away.example", "wherefore-art")
	ask := admin.MoveLeaveRequest{Account: "juliet", New: "julia@away.example", Password: "wherefore-art", Server: address, DirectTLS: true}
	for range 2 {
		if _, err := home.client().MoveLeave(t.Context(), ask); err != nil {
			t.Fatal(err)
		}
		is := repeating(t, home, ask.New)
		if is.Counts.Unreached != 1 || is.Counts.Told != is.Counts.Contacts {
			t.Errorf("%+v", is)
		}
		if _, err := home.client().MigrationStop(t.Context(), admin.MigrationRequest{New: ask.New}); err != nil {
			t.Fatal(err)
		}
		if is := over(t, home, ask.New); is.State != admin.MigrationFailed {
			t.Errorf("%+v", is)
		}
	}
	roster := gets(t, julia, "<query xmlns='jabber:iq:roster'/>")
	if strings.Count(roster, "ask='subscribe'") != 1 || strings.Count(roster, "approved='true'") != 1 || strings.Count(roster, "<item") != 4 {
		t.Error(roster)
	}
	mv, err := home.client().MoveStatus(t.Context(), admin.MoveStatusRequest{New: ask.New})
	if err != nil || len(mv.Moves) != 1 {
		t.Fatalf("%+v, %v", mv, err)
	}
	for _, c := range mv.Moves[0].Contacts {
		if blocked := !strings.Contains(c.Address, "mercutio"); (c.Detail == blockedWhy) != blocked {
			t.Errorf("%+v", c)
		}
	}
}

// A move to another server is undone there, too: what it did is taken back, what was there before stays, and a wrong password changes nothing.
func TestLeaveUndone(t *testing.T) {
	away, address, authority := elsewhere(t, "away.example")
	addUser(t, away, "julia", "wherefore-art")
	befriend(t, away, "julia@away.example", "own@down.example", store.SubNone)
	befriend(t, away, "julia@away.example", "friend@down.example", store.SubBoth)
	home := serve(t, t.TempDir(), 0, func(c *config.Config) { c.S2S.SystemRoot, c.S2S.Trust = false, []string{authority} })
	home.hears("READY=1")
	addUser(t, home, "juliet", "another-one")
	for who, sub := range map[string]store.Subscription{"own": store.SubBoth, "friend": store.SubBoth, "mercutio": store.SubBoth, "nurse": store.SubFrom, "name": store.SubNone} {
		befriend(t, home, "juliet@home.example", who+"@down.example", sub)
	}
	julia := logIn(t, away, "julia@away.example", "wherefore-art")
	list := func() string { return gets(t, julia, "<query xmlns='jabber:iq:roster'/>") }
	if _, err := home.client().MoveLeave(t.Context(), admin.MoveLeaveRequest{
		Account: "juliet", New: "julia@away.example", Password: "wherefore-art", Server: address, DirectTLS: true,
	}); err != nil {
		t.Fatal(err)
	}
	repeating(t, home, "julia@away.example")
	if l := list(); strings.Count(l, "<item") != 5 || strings.Count(l, "ask='subscribe'") != 2 || strings.Count(l, "approved='true'") != 3 {
		t.Fatal(l)
	}
	noted(t, home, "julia@away.example", true)
	req := admin.MoveUndoRequest{New: "julia@away.example", Password: "wrong", Server: address, DirectTLS: true}
	if resp, err := home.client().MoveUndo(t.Context(), req); err == nil {
		t.Errorf("%+v", resp)
	}
	req.Password = "wherefore-art"
	for i := range 2 { // the second time goes on with nothing
		resp, err := home.client().MoveUndo(t.Context(), req)
		if err != nil || len(resp.Undone) != 1 || resp.Undone[0].Statement != "retracted" {
			t.Fatalf("%+v, %v", resp, err)
		}
		if n := len(resp.Undone[0].TakenThere); i == 0 && n != 4 || i == 1 && n != 0 || len(resp.Undone[0].There) > 0 {
			t.Errorf("%+v", resp.Undone[0])
		}
		l := list()
		if strings.Count(l, "<item") != 2 || strings.Contains(l, "ask=") || strings.Contains(l, "approved=") || !strings.Contains(l, "own@down.example") {
			t.Error(l)
		}
	}
	// An earlier version noted nothing of what it did: that is said, with the names. The friend is among them: that he is on the list shows nothing.
	noted(t, home, "julia@away.example", false)
	if resp, err := home.client().MoveUndo(t.Context(), req); err != nil || len(resp.Undone) != 1 || !resp.Undone[0].Unnoted || len(resp.Undone[0].There) != 5 {
		t.Errorf("%+v, %v", resp, err)
	}
	if u, err := home.client().UserGet(t.Context(), admin.UserGetRequest{User: "juliet"}); err != nil || u.User.State != admin.UserActive {
		t.Errorf("%+v, %v", u, err)
	}
}

// noted wants a job to be marked as one that notes what it does, or makes it one of before.
func noted(t *testing.T, d *daemon, new string, want bool) {
	t.Helper()
	if err := d.daemon.running().box.Router.Update(func(tx *store.Tx, _ *xmpp.Out) error {
		job, _ := store.MoveJobs.Get(tx, new)
		if want && job.Steps[stepNoted].IsZero() {
			t.Error("it does not note what it does")
		}
		if !want {
			delete(job.Steps, stepNoted)
			store.MoveJobs.Put(tx, new, job)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}

func repeating(t *testing.T, d *daemon, new string) admin.Migration {
	t.Helper()
	for until := time.Now().Add(patience); ; {
		resp, err := d.client().Migration(t.Context(), admin.MigrationRequest{New: new})
		if err != nil || resp.Migration.State.Over() || time.Now().After(until) {
			t.Fatalf("%+v, %v, %v", resp, resp.Migration.Error, err)
		}
		if resp.Migration.State == admin.MigrationRepeating {
			return resp.Migration
		}
	}
}

// More accounts than go at a time wait for their turn, which the ones that only repeat something leave to them; and there is an end to it.
func TestTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ts := newMigrations()
		defer ts.stop()
		running, most, done := 0, 0, 0
		var mu sync.Mutex // guards the three
		run := func(ctx context.Context, m *migration) error {
			for _, d := range []int{1, -1} {
				mu.Lock()
				running += d
				most = max(most, running)
				mu.Unlock()
				if d > 0 {
					m.part("work")
					time.Sleep(time.Minute)
				}
			}
			err := m.pause(ctx, time.Hour, nil)
			mu.Lock()
			done++
			mu.Unlock()
			return err
		}
		begin := func(i int) (admin.Migration, error) {
			return ts.begin(t.Context(), admin.Migration{Old: fmt.Sprint(i)}, xmpp.MustJID(fmt.Sprintf("n%d@away.example", i)), run)
		}
		for i := range maxAllMigrations {
			want := admin.MigrationRunning
			if i >= maxMigrations {
				want = admin.MigrationWaiting
			}
			if is, err := begin(i); err != nil || is.State != want {
				t.Fatalf("%d: %+v, %v", i, is, err)
			}
		}
		if _, err := begin(maxAllMigrations); err == nil {
			t.Error("there is no bound")
		}
		m := ts.get(xmpp.MustJID("n20@away.example"))
		m.cancel() // while it waits
		time.Sleep(30 * time.Minute)
		mu.Lock()
		if m.state().State != admin.MigrationFailed || running != 0 || most != maxMigrations {
			t.Errorf("%+v, %d, %d", m.state(), running, most)
		}
		mu.Unlock()
		time.Sleep(2 * time.Hour)
		mu.Lock()
		defer mu.Unlock()
		if done != maxAllMigrations-1 || len(ts.turns) != 0 {
			t.Error(done, len(ts.turns))
		}
	})
}

// Two leave the box, one after the other: they find each other at their new addresses, and let the old ones go.
func TestLeaveTogether(t *testing.T) {
	away, address, authority := elsewhere(t, "away.example")
	home := serve(t, t.TempDir(), 0, func(c *config.Config) { c.S2S.SystemRoot, c.S2S.Trust = false, []string{authority} })
	home.hears("READY=1")
	const password = "wherefore-art"
	for _, name := range []string{"juliet", "romeo", "nurse"} {
		addUser(t, home, name, password)
		addUser(t, away, name, password)
	}
	befriend(t, home, "juliet@home.example", "romeo@home.example", store.SubBoth)
	befriend(t, home, "juliet@home.example", "nurse@home.example", store.SubFrom)
	befriend(t, home, "romeo@home.example", "juliet@home.example", store.SubBoth)
	befriend(t, home, "nurse@home.example", "juliet@home.example", store.SubTo)
	for _, name := range []string{"juliet", "romeo", "nurse"} {
		ask := admin.MoveLeaveRequest{Account: name, New: name + "@away.example", Password: password, Server: address, DirectTLS: true}
		if _, err := home.client().MoveLeave(t.Context(), ask); err != nil {
			t.Fatal(err)
		}
		if name == "juliet" {
			repeating(t, home, ask.New) // for whoever leaves, too
		}
	}
	for _, tt := range []struct{ account, want string }{
		{"juliet", "jid='romeo@away.example' name='romeo@home.example' subscription='both'"},
		{"juliet", "jid='romeo@home.example' name='romeo@home.example' subscription='none'"},
		{"juliet", "jid='nurse@away.example' name='nurse@home.example' subscription='from'"},
		{"romeo", "jid='juliet@away.example' name='juliet@home.example' subscription='both'"},
		{"nurse", "jid='juliet@away.example' name='juliet@home.example' subscription='to'"},
	} {
		there := logIn(t, away, tt.account+"@away.example", password)
		roster := ""
		for until := time.Now().Add(patience); !strings.Contains(roster, "<item "+tt.want+"/>"); {
			if roster = gets(t, there, "<query xmlns='jabber:iq:roster'/>"); time.Now().After(until) {
				t.Fatalf("%s has no %s: %s", tt.account, tt.want, roster)
			}
		}
	}
}

// Who only sees the old address is told by it, also where he was asked besides, and again where his server is away.
func TestBringTells(t *testing.T) {
	old, address, authority := elsewhere(t, "old.example") // which reaches no other server
	const password, me = "wherefore-art", "juliet@old.example"
	addUser(t, old, "juliet", password)
	addUser(t, old, "nurse", password)
	nurse := logIn(t, old, "nurse@old.example", password)
	for _, who := range []string{"nurse@old.example", "mercutio@down.example"} {
		befriend(t, old, me, who, store.SubFrom)
	}
	for c, text := range map[*testclient.Client]string{nurse: "<presence/>", logIn(t, old, me, password): "<presence type='subscribe' to='nurse@old.example'/>"} {
		if err := c.Send(text); err != nil {
			t.Fatal(err)
		}
		gets(t, c, "<query xmlns='jabber:iq:roster'/>")
	}
	home := serve(t, t.TempDir(), 0, func(c *config.Config) { c.S2S.SystemRoot, c.S2S.Trust = false, []string{authority} })
	home.hears("READY=1")
	ask := admin.MoveBringRequest{Old: me, OldPassword: password, Server: address, DirectTLS: true}
	if _, err := home.client().MoveBring(t.Context(), ask); err != nil {
		t.Fatal(err)
	}
	if is := repeating(t, home, "juliet@home.example"); is.Counts.Unreached != 1 || len(is.Losses) != 0 {
		t.Errorf("%+v", is)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if told, err := nurse.Await(ctx, func(el *frame.Element) bool { return el.Name == "message" }); err != nil || !strings.Contains(string(told.Raw), "My address is juliet@home.example now.") {
		t.Errorf("%+v, %v", told, err)
	}
	mv, err := home.client().MoveStatus(t.Context(), admin.MoveStatusRequest{New: "juliet@home.example"})
	if err != nil || len(mv.Moves) != 1 || len(mv.Moves[0].Contacts) != 2 {
		t.Fatalf("%+v, %v", mv, err)
	}
	if c := mv.Moves[0].Contacts; c[0].State != "to tell" || c[1].State == "told" || strings.Contains(c[1].Detail, "tell them") {
		t.Errorf("%+v", c)
	}
	if _, err := home.client().MigrationStop(t.Context(), admin.MigrationRequest{New: "juliet@home.example"}); err != nil {
		t.Fatal(err)
	}
	over(t, home, "juliet@home.example")
}

// Who moved already leaves from the new address; what is refused leaves nothing behind.
func TestLeaveRefused(t *testing.T) {
	away, address, authority := elsewhere(t, "away.example")
	const password = "wherefore-art"
	addUser(t, away, "julia", password)
	home := serve(t, t.TempDir(), 0, func(c *config.Config) {
		c.Domains = []string{"home.example", "new.example"}
		c.S2S.SystemRoot, c.S2S.Trust = false, []string{authority}
	})
	home.hears("READY=1")
	addUser(t, home, "juliet", password)
	addUser(t, home, "paris", password)
	if _, err := home.client().MoveStart(t.Context(), admin.MoveStartRequest{Old: "juliet", New: "juliet@new.example"}); err != nil {
		t.Fatal(err)
	}
	moves := func() []admin.Move {
		mv, err := home.client().MoveStatus(t.Context(), admin.MoveStatusRequest{})
		if err != nil {
			t.Fatal(err)
		}
		return mv.Moves
	}
	ask := admin.MoveLeaveRequest{Account: "juliet", New: "julia@away.example", Password: password, Server: address, DirectTLS: true}
	var known *admin.Error
	if _, err := home.client().MoveLeave(t.Context(), ask); !errors.As(err, &known) || !strings.Contains(known.Next, "pibox move leave juliet@new.example julia@away.example") {
		t.Errorf("%+v", err)
	}
	ask.Account = "nobody"
	if _, err := home.client().MoveLeave(t.Context(), ask); err == nil {
		t.Error("nobody leaves")
	}
	if all := moves(); len(all) != 1 {
		t.Errorf("%+v", all)
	}
	ask.Account = "paris"
	if _, err := home.client().MoveLeave(t.Context(), ask); err != nil {
		t.Fatal(err)
	}
	over(t, home, ask.New)
	if all := moves(); len(all) != 2 {
		t.Errorf("%+v", all)
	}
}

// Asked whether it could begin, with a password, it logs in there, and changes nothing.
func TestLeaveLooksFirst(t *testing.T) {
	away, address, authority := elsewhere(t, "away.example")
	addUser(t, away, "julia", "wherefore-art")
	home := serve(t, t.TempDir(), 0, func(c *config.Config) { c.S2S.SystemRoot, c.S2S.Trust = false, []string{authority} })
	home.hears("READY=1")
	addUser(t, home, "juliet", "another-one")
	ask := admin.MoveLeaveRequest{Account: "juliet", New: "julia@away.example", Server: address, DirectTLS: true, DryRun: true}
	for password, want := range map[string]string{"": "", "wherefore-art": "", "wrong": "password"} {
		ask.Password = password
		_, err := home.client().MoveLeave(t.Context(), ask)
		if (err != nil) != (want != "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", password, err)
		}
	}
	ask.Password, ask.Server = "wherefore-art", "127.0.0.1:1"
	if _, err := home.client().MoveLeave(t.Context(), ask); err == nil {
		t.Error("no server, no error")
	}
	if mv, err := home.client().MoveStatus(t.Context(), admin.MoveStatusRequest{}); err != nil || len(mv.Moves) > 0 {
		t.Errorf("%+v, %v", mv, err)
	}
}
