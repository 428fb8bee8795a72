package accounts

import (
	"fmt"
	"slices"
	"testing"

	"pibox/internal/store"
	"pibox/internal/xmpp"
	"pibox/internal/xmpp/sasl"
)

// Who came from another server with the keys of one mechanism is offered that one.
func TestUnusable(t *testing.T) {
	b := newHome(t)
	const domain = "capulet.example"
	both, err := record1("secret word")
	if err != nil {
		t.Fatal(err)
	}
	only1, only256 := both, both
	only1.SHA256, only256.SHA1 = store.Credentials{}, store.Credentials{}
	put := func(name string, acc store.Account) {
		t.Helper()
		if err := b.router.Store.Update(func(tx *store.Tx) error {
			store.Accounts.Put(tx, name+"@"+domain, acc)
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	check := func(who string, want ...string) {
		t.Helper()
		var j xmpp.JID
		if who != "" {
			j = xmpp.MustJID(who)
		}
		if got := b.Unusable(j, domain); !slices.Equal(got, want) {
			t.Errorf("%q: %v instead of %v", who, got, want)
		}
	}
	put("both", both)
	check("")
	put("one", only1)
	check("", sasl.ScramSHA256)
	check("other@montague.example", sasl.ScramSHA256)
	check("one@"+domain, sasl.ScramSHA256)
	check("both@" + domain)
	check("nobody@" + domain)
	put("strong", only256)
	check("strong@"+domain, sasl.ScramSHA1)
	check("") // no mechanism is everybody's
}

func record1(password string) (store.Account, error) {
	acc, _, err := newRecord(password)
	return acc, err
}

// A stream that names nobody, before any login, does not read every account.
func TestUnusableOfMany(t *testing.T) {
	b := newHome(t)
	acc, err := record1("secret word")
	if err != nil {
		t.Fatal(err)
	}
	if err := b.router.Store.Update(func(tx *store.Tx) error {
		for i := range 1000 {
			store.Accounts.Put(tx, fmt.Sprintf("u%d@capulet.example", i), acc)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if n := testing.AllocsPerRun(20, func() { b.Unusable(xmpp.JID{}, "capulet.example") }); n > 50 {
		t.Errorf("%.0f allocations", n)
	}
}
