package box

import (
	"context"
	"errors"
	"strings"
	"testing"

	"pibox/internal/admin"
	"pibox/internal/config"
	"pibox/internal/xmpp"
)

// Who was brought is not brought to another address as well: a second account would be made, and everybody be sent there.
func TestBringTwice(t *testing.T) {
	old, address, authority := elsewhere(t, "old.example")
	addUser(t, old, "juliet", "wherefore-art")
	home := serve(t, t.TempDir(), 0, func(c *config.Config) { c.S2S.SystemRoot, c.S2S.Trust = false, []string{authority} })
	home.hears("READY=1")
	ask := admin.MoveBringRequest{Old: "juliet@old.example", New: "julia", OldPassword: "wherefore-art", Server: address, DirectTLS: true}
	if _, err := home.client().MoveBring(t.Context(), ask); err != nil {
		t.Fatal(err)
	}
	if got := over(t, home, "julia@home.example"); got.State != admin.MigrationDone {
		t.Fatalf("%+v, %v", got, got.Error)
	}
	code := func(change func(*admin.MoveBringRequest)) (*admin.Error, error) {
		req := ask
		change(&req)
		_, err := home.client().MoveBring(t.Context(), req)
		var known *admin.Error
		_ = errors.As(err, &known)
		return known, err
	}
	for name, change := range map[string]func(*admin.MoveBringRequest){
		"without NEW":    func(r *admin.MoveBringRequest) { r.New = "" },
		"another NEW":    func(r *admin.MoveBringRequest) { r.New = "jules" },
		"to look only":   func(r *admin.MoveBringRequest) { r.New, r.DryRun = "", true },
		"nothing asked":  func(r *admin.MoveBringRequest) { r.New, r.OldPassword = "", "" },
		"other capitals": func(r *admin.MoveBringRequest) { r.Old, r.New, r.OldPassword = "Juliet@OLD.example", "", "" },
	} {
		t.Run(name, func(t *testing.T) {
			known, err := code(change)
			if known == nil || known.Code != admin.CodeExists || !strings.Contains(known.Message, "juliet@old.example was brought already, on 2") ||
				!strings.HasSuffix(known.Message, ", as julia@home.example") || !strings.Contains(known.Next, "'pibox move status julia@home.example'") ||
				!strings.Contains(known.Next, "'pibox move start julia@home.example NEW'") || !strings.Contains(known.Next, "'pibox move undo julia@home.example'") {
				t.Errorf("%+v", err)
			}
		})
	}
	for _, name := range []string{"juliet", "jules"} {
		if _, err := home.client().UserGet(t.Context(), admin.UserGetRequest{User: name}); err == nil {
			t.Errorf("%s was made", name)
		}
	}
	if said := gets(t, logIn(t, old, "juliet@old.example", "wherefore-art"), readMove); !strings.Contains(said, "<new-jid>julia@home.example</new-jid>") {
		t.Error(said)
	}
	// Taken back, it may come as somebody else.
	if _, err := home.client().MoveUndo(t.Context(), admin.MoveUndoRequest{New: "julia@home.example"}); err != nil {
		t.Fatal(err)
	}
	if known, err := code(func(r *admin.MoveBringRequest) { r.New = "" }); err != nil {
		t.Errorf("%+v, %v", known, err)
	}
	if got := over(t, home, "juliet@home.example"); got.State != admin.MigrationDone {
		t.Errorf("%+v, %v", got, got.Error)
	}
}

// Nor while it is on its way: nothing may be written of that yet.
func TestBringTwiceAtOnce(t *testing.T) {
	ts := newMigrations()
	defer ts.stop()
	run := func(ctx context.Context, m *migration) error {
		m.part("contacts")
		<-ctx.Done()
		return ctx.Err()
	}
	begin := func(kind, new string) error {
		_, err := ts.begin(t.Context(), admin.Migration{Kind: kind, Old: "juliet@old.example", New: new}, xmpp.MustJID(new), run)
		return err
	}
	if err := begin(kindBring, "julia@home.example"); err != nil {
		t.Fatal(err)
	}
	var known *admin.Error
	if err := begin(kindBring, "juliet@home.example"); !errors.As(err, &known) || known.Code != admin.CodeBusy || !strings.Contains(known.Message, "on its way to julia@home.example") {
		t.Errorf("%+v", err)
	}
	if err := begin(kindBring, "julia@home.example"); err != nil { // it is shown
		t.Error(err)
	}
}
