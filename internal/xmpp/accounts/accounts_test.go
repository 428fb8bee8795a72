package accounts

import (
	"errors"
	"math"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"pibox/internal/store"
	"pibox/internal/xmpp"
	"pibox/internal/xmpp/sasl"
)

// home is a box with nothing but accounts.
type home struct {
	*Accounts
	t     *testing.T
	path  string
	store *store.Store
}

func newHome(t *testing.T) *home {
	h := &home{t: t, path: filepath.Join(t.TempDir(), "pibox.db")}
	h.start()
	t.Cleanup(func() { _ = h.store.Close() })
	return h
}

func (h *home) start() {
	h.t.Helper()
	var err error
	if h.store, err = store.Open(h.path, store.Options{Reserve: 1}); err != nil {
		h.t.Fatal(err)
	}
	r := xmpp.NewRouter(h.store, nil, []string{"montague.example", "münchen.example"})
	if h.Accounts, err = New(r); err != nil {
		h.t.Fatal(err)
	}
	if err := r.LoadDirectory(); err != nil {
		h.t.Fatal(err)
	}
}

func (h *home) restart() {
	h.t.Helper()
	if err := h.store.Close(); err != nil {
		h.t.Fatal(err)
	}
	h.start()
}

func (h *home) create(name, password string) xmpp.JID {
	h.t.Helper()
	j, err := h.Parse(name)
	if err != nil {
		h.t.Fatal(err)
	}
	if _, err := h.Create(j, password, Role{}); err != nil {
		h.t.Fatal(err)
	}
	return j
}

// knows tells whether the password opens the account.
func (h *home) knows(name, password string) bool {
	h.t.Helper()
	acc, err := h.Credentials(name, "montague.example")
	if err != nil {
		h.t.Fatal(err)
	}
	if !acc.Known {
		return false
	}
	want, err := sasl.NewCredentials(password, strings.NewReader(string(acc.Credentials.SHA256.Salt)+string(acc.Credentials.SHA1.Salt)))
	if err != nil {
		h.t.Fatal(err)
	}
	return reflect.DeepEqual(want, acc.Credentials)
}

func TestCreate(t *testing.T) {
	h := newHome(t)
	j := h.create("Romeo", "wherefore")
	if j != xmpp.MustJID("romeo@montague.example") {
		t.Errorf("made %s", j)
	}
	for range 2 {
		if !h.knows("romeo", "wherefore") || !h.knows("ROMEO", "wherefore") || h.knows("romeo", "Wherefore") || !h.router.Exists(j) {
			t.Error("the account is not as it was made")
		}
		h.restart()
	}
	if _, err := h.Create(j, "another", Role{}); !errors.Is(err, ErrExists) {
		t.Errorf("made twice: %v", err)
	}
	if h.knows("romeo", "another") {
		t.Error("the password of an account was taken over")
	}
	var pw *sasl.PasswordError
	if _, err := h.Create(xmpp.MustJID("mercutio@montague.example"), "\x00", Role{}); !errors.As(err, &pw) {
		t.Errorf("a password that can not be used: %v", err)
	}
	if h.router.Exists(xmpp.MustJID("mercutio@montague.example")) {
		t.Error("an account without a password was made")
	}
}

func TestParse(t *testing.T) {
	h := newHome(t)
	for in, want := range map[string]string{
		"romeo": "romeo@montague.example", "ROMEO@Montague.Example": "romeo@montague.example", "jürgen": "jürgen@montague.example",
		"Ｒｏｍｅｏ": "romeo@montague.example", // UsernameCaseMapped maps widths
		"":      "", "@": "", "a b": "", "romeo@": "", "@montague.example": "", "romeo@verona.example": "", "romeo@montague.example/orchard": "",
		"ro/meo": "", "ro@meo@montague.example": "", "<romeo>": "", "romeo\u202e": "", strings.Repeat("a", 1024): "",
	} {
		j, err := h.Parse(in)
		if (err == nil) != (want != "") || (err == nil && j.String() != want) {
			t.Errorf("%q: %q, %v", in, j, err)
		}
		kind := ErrName
		if strings.HasSuffix(in, "@verona.example") {
			kind = ErrDomain
		}
		if err != nil && !errors.Is(err, kind) {
			t.Errorf("%q: %v", in, err)
		}
	}
}

// What a client may send as a user name is never an error, and of what is no account the prepared name comes back.
func TestCredentialsOfNobody(t *testing.T) {
	h := newHome(t)
	for in, want := range map[string]string{
		"Nobody": "nobody@montague.example", "a b": "a b@montague.example", "": "@montague.example", "romeo@montague.example": "romeo@montague.example@montague.example",
		"x/y": "x/y@montague.example",
	} {
		acc, err := h.Credentials(in, "montague.example")
		if err != nil || acc.Known || acc.Name != want {
			t.Errorf("%q: %+v, %v", in, acc.Name, err)
		}
	}
}

func TestSecretStays(t *testing.T) {
	h := newHome(t)
	before := string(h.Secret())
	h.restart()
	if string(h.Secret()) != before || len(before) < sasl.MinSecret {
		t.Error("the secret changed or is short")
	}
}

func TestOneTimePassword(t *testing.T) {
	if bits := 20 * math.Log2(float64(len(passwordLetters))); bits < 80 {
		t.Errorf("%f bits", bits)
	}
	seen, letters := map[string]bool{}, map[rune]int{}
	for range 2000 {
		p := OneTimePassword()
		if seen[p] || len(p) != 24 {
			t.Fatalf("%q", p)
		}
		seen[p] = true
		for i, group := range strings.Split(p, "-") {
			if len(group) != 4 || i > 4 {
				t.Fatalf("%q", p)
			}
			for _, r := range group {
				letters[r]++
			}
		}
	}
	for _, r := range passwordLetters { // 40000 letters, 1290 of each
		if letters[r] < 1000 || letters[r] > 1600 {
			t.Errorf("%c was drawn %d times", r, letters[r])
		}
	}
	h := newHome(t)
	j := xmpp.MustJID("romeo@montague.example")
	p, err := h.Create(j, "", Role{})
	if err != nil || !h.knows("romeo", p) {
		t.Errorf("%q does not open the account: %v", p, err)
	}
	if list, err := h.List(); err != nil || !list[0].OneTime {
		t.Errorf("%+v, %v", list, err)
	}
	if p, _, err = h.SetPassword(j, "chosen"); p != "" || err != nil {
		t.Errorf("%q, %v", p, err)
	}
	if list, err := h.List(); err != nil || list[0].OneTime {
		t.Errorf("%+v, %v", list, err)
	}
}

// outlet is a session's connection.
type outlet struct{ end *xmpp.StreamError }

func (*outlet) Deliver(*xmpp.Stanza) bool     { return true }
func (o *outlet) Close(err *xmpp.StreamError) { o.end = err }

func (h *home) connect(j xmpp.JID) *outlet {
	o := &outlet{}
	h.router.Bind(j, "", "c1", o, xmpp.ConflictReplace)
	return o
}

func TestSetPassword(t *testing.T) {
	h := newHome(t)
	j := h.create("romeo", "old")
	o := h.connect(j)
	if _, _, err := h.SetPassword(j, ""); err != nil {
		t.Fatal(err)
	}
	p, ended, err := h.SetPassword(j, "")
	if err != nil || ended != 1 || o.end == nil || o.end.Condition != "reset" {
		t.Errorf("%d sessions ended, with %v; %v", ended, o.end, err)
	}
	if h.knows("romeo", "old") || !h.knows("romeo", p) {
		t.Error("the password is not the new one")
	}
	if _, _, err := h.SetPassword(xmpp.MustJID("nobody@montague.example"), "x"); !errors.Is(err, ErrNone) {
		t.Errorf("a password for nobody: %v", err)
	}
}

func TestRemove(t *testing.T) {
	h := newHome(t)
	j, other := h.create("romeo", "romeo"), h.create("romeo2", "other")
	h.fill(j)
	h.fill(other)
	o := h.connect(j)
	fault := errors.New("not now")
	var fails error
	h.OnRemove(func(tx *store.Tx, _ *xmpp.Out, account xmpp.JID, forward bool) error {
		if forward || account != j || !store.Roster.Has(tx, store.Key(account.String(), "nurse@capulet.example")) {
			t.Error("the hook runs too late, or for another account")
		}
		return fails
	})
	fails = fault
	if _, err := h.Remove(j); !errors.Is(err, fault) || !h.knows("romeo", "romeo") || o.end != nil {
		t.Fatalf("removed in spite of %v", err)
	}
	fails = nil
	ended, err := h.Remove(j)
	if err != nil || ended != 1 || o.end == nil || o.end.Condition != "not-authorized" {
		t.Errorf("%d sessions ended, with %v; %v", ended, o.end, err)
	}
	if h.router.Exists(j) || h.knows("romeo", "romeo") {
		t.Error("the account is still there")
	}
	if n := h.records(j); n != 0 {
		t.Errorf("%d records are left", n)
	}
	if n := h.records(other); n != 4 {
		t.Errorf("%d records of somebody else are left", n)
	}
	if _, err := h.Remove(j); !errors.Is(err, ErrNone) {
		t.Errorf("removed twice: %v", err)
	}
	h.create("romeo", "anew")
	if h.records(j) != 1 {
		t.Error("a new account has something of the old one")
	}
}

// fill keeps something of an account, in tables of all kinds of keys; records counts what is kept. store's test looks at each table.
func (h *home) fill(j xmpp.JID) {
	h.t.Helper()
	err := h.store.Update(func(tx *store.Tx) error {
		store.Roster.Put(tx, store.Key(j.String(), "nurse@capulet.example"), store.RosterItem{Sub: store.SubBoth})
		store.LastSeen.Put(tx, j.String(), store.Last{At: time.Now()})
		store.AppendLog(tx, &store.Entry{Owners: []store.Owner{{Account: j.String(), Role: store.Owed}}})
		return nil
	})
	if err != nil {
		h.t.Fatal(err)
	}
}

func (h *home) records(j xmpp.JID) (n int) {
	h.t.Helper()
	err := h.store.View(func(tx *store.Tx) error {
		n = store.Roster.Count(tx, j.String()) + store.OwedCount(tx, j.String())
		for _, has := range []bool{store.LastSeen.Has(tx, j.String()), store.Accounts.Has(tx, j.String()), store.Moves.Has(tx, j.String())} {
			if has {
				n++
			}
		}
		return nil
	})
	if err != nil {
		h.t.Fatal(err)
	}
	return n
}

func TestClose(t *testing.T) {
	h := newHome(t)
	j := h.create("romeo", "romeo")
	h.fill(j)
	o := h.connect(j)
	h.OnRemove(func(_ *store.Tx, _ *xmpp.Out, account xmpp.JID, forward bool) error {
		if !forward || account != j {
			t.Error("the hook is not told that the account leaves a forwarding address")
		}
		return nil
	})
	err := h.router.Update(func(tx *store.Tx, out *xmpp.Out) error {
		store.Moves.Put(tx, j.String(), store.Move{To: "romeo@mantua.example"})
		return h.Close(tx, out, j)
	})
	if err != nil || o.end == nil {
		t.Fatalf("%v; the session ended with %v", err, o.end)
	}
	if n := h.records(j); n != 3 { // the account, its move, and when it was last seen
		t.Errorf("%d records are left", n)
	}
	for range 2 {
		if h.router.Exists(j) || h.knows("romeo", "romeo") {
			t.Error("the account is still open")
		}
		if _, err := h.Create(j, "anew", Role{}); !errors.Is(err, ErrClosed) {
			t.Errorf("the name was given again: %v", err)
		}
		if _, err := h.Remove(j); !errors.Is(err, ErrClosed) {
			t.Errorf("removed: %v", err)
		}
		if _, _, err := h.SetPassword(j, "anew"); !errors.Is(err, ErrClosed) {
			t.Errorf("opened again: %v", err)
		}
		h.restart()
	}
	list, err := h.List()
	if err != nil || len(list) != 1 || list[0].Closed.IsZero() || list[0].Moved == nil || list[0].Moved.To != "romeo@mantua.example" {
		t.Errorf("%+v, %v", list, err)
	}
}

func TestList(t *testing.T) {
	h := newHome(t)
	h.create("zoe", "x")
	j := h.create("anna@xn--mnchen-3ya.example", "x")
	h.fill(j)
	h.connect(j)
	h.create("b", "x")
	list, err := h.List()
	if err != nil || len(list) != 3 {
		t.Fatalf("%+v, %v", list, err)
	}
	if list[0].JID != j || list[0].Sessions != 1 || list[0].LastSeen.IsZero() || list[0].Created.IsZero() || list[1].JID.Local != "b" || list[2].JID.Local != "zoe" {
		t.Errorf("%+v", list)
	}
}

func FuzzCredentials(f *testing.F) {
	for _, s := range []string{"romeo", "", "@", "a/b", "Ｒ", "\u202e", "ﬁ", strings.Repeat("a", 2000), "\xff"} {
		f.Add(s)
	}
	st, err := store.Open(filepath.Join(f.TempDir(), "pibox.db"), store.Options{Reserve: 1})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { _ = st.Close() })
	a, err := New(xmpp.NewRouter(st, nil, []string{"montague.example"}))
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, name string) {
		acc, err := a.Credentials(name, "montague.example")
		if err != nil || acc.Known || !strings.HasSuffix(acc.Name, "@montague.example") {
			t.Errorf("%q: %+v, %v", name, acc.Name, err)
		}
	})
}

func TestOnPassword(t *testing.T) {
	h := newHome(t)
	j := h.create("romeo", "old")
	owner := h.router.Bind(j, "phone", "c1", &outlet{}, xmpp.ConflictReplace)
	var by []*xmpp.Session
	h.OnPassword(func(_ *store.Tx, out *xmpp.Out, account xmpp.JID, but *xmpp.Session) {
		if account != j {
			t.Error("the hook is told of", account)
		}
		out.After(func() { by = append(by, but) })
	})
	standing := ""
	if err := h.store.View(func(tx *store.Tx) (err error) {
		standing, err = h.Standing(tx, j)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	if err := h.ChangeOwn(owner, standing, "new"); err != nil {
		t.Fatal(err)
	}
	if err := h.ChangeOwn(owner, standing, "newer"); err == nil {
		t.Error("a password was changed that another one had replaced")
	}
	if _, _, err := h.SetPassword(j, "newest"); err != nil {
		t.Fatal(err)
	}
	if len(by) != 2 || by[0] != owner || by[1] != nil {
		t.Errorf("the hook was told of %v", by)
	}
}
