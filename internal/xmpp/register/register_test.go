package register_test

import (
	"bytes"
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"testing"

	"pibox/internal/store"
	"pibox/internal/transcript"
	"pibox/internal/xmpp"
	"pibox/internal/xmpp/accounts"
	"pibox/internal/xmpp/disco"
	"pibox/internal/xmpp/presence"
	"pibox/internal/xmpp/register"
	"pibox/internal/xmpp/sasl"
)

// Steps of the test's own:
//
//	romeo's password = WORD      the password of the account is this one, and whether it is one-time: "one-time" behind it
//	romeo is given one           the administrator gives it a one-time password
func TestTranscripts(t *testing.T) {
	transcript.RunFiles(t, "testdata/*.txt", func(_ testing.TB, st *store.Store, domains []string, remote xmpp.Remote) transcript.Box {
		r := xmpp.NewRouter(st, slog.New(slog.DiscardHandler), domains)
		r.SetRemote(remote)
		presence.Register(r, presence.Options{})
		disco.Register(r, disco.Options{})
		a, err := accounts.New(r)
		if err != nil {
			t.Fatal(err)
		}
		register.Register(r, a)
		return transcript.Box{Router: r, Do: func(words []string) error { return administer(a, words) }}
	})
}

func administer(a *accounts.Accounts, words []string) error {
	j := xmpp.JID{Local: words[0], Domain: "montague.example"}
	switch {
	case len(words) == 4 && words[1] == "is" && words[2] == "given":
		_, _, err := a.SetPassword(j, "")
		return err
	case len(words) >= 4 && words[1] == "password":
		return check(a, j, words[3], len(words) == 5)
	}
	return fmt.Errorf("%q is no step", words)
}

// check logs in as a client would, as far as the keys go.
func check(a *accounts.Accounts, j xmpp.JID, password string, oneTime bool) error {
	acc, err := a.Credentials(j.Local, j.Domain)
	if err != nil {
		return err
	}
	if !acc.Known || !matches(acc.Credentials.SHA256, password) {
		return fmt.Errorf("the password is another one")
	}
	list, err := a.List()
	for _, i := range list {
		if i.JID == j && i.OneTime != oneTime {
			return fmt.Errorf("one-time is %v", i.OneTime)
		}
	}
	return err
}

// matches: RFC 5802 §3.
func matches(keys sasl.Keys, password string) bool {
	salted, err := pbkdf2.Key(sha256.New, password, keys.Salt, max(keys.Iterations, 1), sha256.Size)
	if err != nil {
		return false
	}
	h := hmac.New(sha256.New, salted)
	h.Write([]byte("Client Key"))
	stored := sha256.Sum256(h.Sum(nil))
	return bytes.Equal(stored[:], keys.StoredKey)
}

// ends remembers how a connection was ended.
type ends struct{ by *xmpp.StreamError }

func (e *ends) Deliver(*xmpp.Stanza) bool   { return true }
func (e *ends) Close(err *xmpp.StreamError) { e.by = err }

// What began before the administrator's reset does not undo it, and only other sessions of the same account end.
func TestChangeOwn(t *testing.T) {
	st, err := store.Open(filepath.Join(t.TempDir(), "pibox.db"), store.Options{Reserve: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = st.Close() }()
	r := xmpp.NewRouter(st, slog.New(slog.DiscardHandler), []string{"montague.example"})
	a, err := accounts.New(r)
	if err != nil {
		t.Fatal(err)
	}
	romeo, tybalt := xmpp.MustJID("romeo@montague.example"), xmpp.MustJID("tybalt@montague.example")
	for _, j := range []xmpp.JID{romeo, tybalt} {
		if _, err := a.Create(j, "old password", accounts.Role{}); err != nil {
			t.Fatal(err)
		}
	}
	var own, phone, other ends
	s := r.Bind(romeo, "orchard", "1", &own, xmpp.ConflictReplace)
	r.Bind(romeo, "phone", "2", &phone, xmpp.ConflictReplace)
	r.Bind(tybalt, "tomb", "3", &other, xmpp.ConflictReplace)
	standing := func() (now string) {
		_ = st.View(func(tx *store.Tx) (err error) { now, err = a.Standing(tx, romeo); return err })
		return now
	}
	before := standing()
	if err := a.ChangeOwn(s, before, "but-soft"); err != nil {
		t.Fatal(err)
	}
	if own.by != nil || other.by != nil || phone.by == nil || phone.by.Condition != "reset" {
		t.Errorf("ended: own %v, phone %v, tybalt's %v", own.by, phone.by, other.by)
	}
	for _, stale := range []func(){
		func() {},
		func() { _, _, err = a.SetPassword(romeo, "the administrator's") },
		func() { _, err = a.Remove(romeo) },
	} {
		if stale(); err != nil {
			t.Fatal(err)
		}
		now := standing()
		var refused *xmpp.StanzaError
		if err := a.ChangeOwn(s, before, "mine again"); !errors.As(err, &refused) {
			t.Errorf("changed on an old standing: %v", err)
		}
		if standing() != now {
			t.Error("the password was changed")
		}
	}
}
