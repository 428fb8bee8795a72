package accounts

import (
	"encoding/json"
	"reflect"
	"slices"
	"strings"
	"time"

	"pibox/internal/store"
	"pibox/internal/xmpp"
	"pibox/internal/xmpp/sasl"
)

// Offer is a way in for an administrator that the box shows to whoever holds its card, until somebody used it.
type Offer struct {
	Account  xmpp.JID
	Password string
	// Grace: the password is a one-time one, which ends to work so long after its first login. 0: a person chose it.
	Grace time.Duration
	// Order names what a person ordered. Each is carried out once.
	Order string
}

// OnFirstLogin is a hook that runs in the transaction that notes the first login with a password that was offered; until is when that ends to work, or
// nil.
type OnFirstLogin func(tx *store.Tx, out *xmpp.Out, account xmpp.JID, until *time.Time)

// OnFirstLogin adds a hook.
func (a *Accounts) OnFirstLogin(f OnFirstLogin) { a.onFirst = append(a.onFirst, f) }

// LoggedIn is told of each login whose password was right, before the client is. A *sasl.Failure refuses it.
func (a *Accounts) LoggedIn(account xmpp.JID) error {
	var acc store.Account
	if err := a.router.Store.View(func(tx *store.Tx) error {
		acc, _ = store.Accounts.Get(tx, account.String())
		return nil
	}); err != nil {
		return err
	}
	if acc.Until != nil && time.Now().After(*acc.Until) { // RFC 6120 §6.5.4
		return &sasl.Failure{
			Condition: sasl.CredentialsExpired, Text: "This password was for the first days only. Whoever runs the box can make a new one.", Detail: "the one-time password ended",
		}
	}
	if !acc.Fresh {
		return nil
	}
	return a.router.Update(func(tx *store.Tx, out *xmpp.Out) error {
		acc, ok := store.Accounts.Get(tx, account.String())
		if !ok || !acc.Fresh {
			return nil
		}
		acc.Fresh = false
		if acc.OneTime && acc.Grace > 0 {
			until := time.Now().UTC().Add(acc.Grace)
			acc.Until = &until
		}
		store.Accounts.Put(tx, account.String(), acc)
		for _, f := range a.onFirst {
			f(tx, out, account, acc.Until)
		}
		return nil
	})
}

// Offered tells whether the account waits for its first login by this password; "" stands for one that a person chose.
func (a *Accounts) Offered(account xmpp.JID, password string) (bool, error) {
	var acc store.Account
	err := a.router.Store.View(func(tx *store.Tx) error {
		acc, _ = store.Accounts.Get(tx, account.String())
		return nil
	})
	if err != nil || !acc.Fresh || acc.Closed != nil || acc.OneTime == (password == "") {
		return false, err
	}
	if password == "" {
		return true, nil
	}
	c, err := sasl.NewCredentials(password, strings.NewReader(string(acc.SHA256.Salt)+string(acc.SHA1.Salt)))
	return err == nil && reflect.DeepEqual(store.Credentials(c.SHA256), acc.SHA256), nil
}

// Begun tells whether the family has begun: somebody logged in, or there is an account beside the one that is offered, which is returned.
func Begun(tx *store.Tx) (offered string, begun bool) {
	for key, acc := range store.Accounts.All(tx) {
		if offered != "" || !acc.Fresh {
			return "", true
		}
		offered = key
	}
	return offered, false
}

// OfferFirst makes the first administrator, in place of one that was offered and never used. It does nothing where the family has begun.
func (a *Accounts) OfferFirst(o Offer) error {
	acc, err := o.record()
	if err != nil {
		return err
	}
	return a.router.Update(func(tx *store.Tx, out *xmpp.Out) error {
		old, begun := Begun(tx)
		if begun {
			return nil
		}
		if j, err := xmpp.ParseJID(old); old != "" && old != o.Account.String() {
			if err != nil {
				return err
			}
			if err := a.clear(tx, out, j, false, new(int)); err != nil {
				return err
			}
			store.Accounts.Delete(tx, old)
		}
		acc.Admin, acc.Created = true, time.Now().UTC()
		store.Accounts.Put(tx, o.Account.String(), acc)
		o.carriedOut(tx)
		out.After(func() { a.router.SetExists(o.Account, true) })
		return nil
	})
}

func (o Offer) record() (store.Account, error) {
	acc, _, err := newRecord(o.Password)
	acc.Fresh, acc.OneTime, acc.Grace = true, o.Grace > 0, o.Grace
	return acc, err
}

const orderSetting = "card-order"

// LastOrder is the last one that was carried out.
func LastOrder(tx *store.Tx) (order string) {
	if raw, ok := store.Settings.Get(tx, orderSetting); ok {
		_ = json.Unmarshal(raw, &order)
	}
	return order
}

// carriedOut notes it with what it did.
func (o Offer) carriedOut(tx *store.Tx) {
	if o.Order == "" {
		return
	}
	if raw, err := json.Marshal(o.Order); err == nil {
		store.Settings.Put(tx, orderSetting, raw)
	}
}

// Administrator is the account that gets a new password when none is known any more: the one of that name, else the oldest administrator that somebody
// can log in to; where there is none, a name that is free.
func (a *Accounts) Administrator(name string) (j xmpp.JID, err error) {
	type candidate struct {
		jid     xmpp.JID
		created time.Time
	}
	var list []candidate
	taken := map[string]bool{}
	err = a.router.Store.View(func(tx *store.Tx) error {
		for key, acc := range store.Accounts.All(tx) {
			taken[key] = true
			if j, err := xmpp.ParseJID(key); err == nil && acc.Admin && acc.Closed == nil && a.router.IsLocal(j.Domain) {
				list = append(list, candidate{j, acc.Created})
			}
		}
		return nil
	})
	if err != nil {
		return j, err
	}
	slices.SortFunc(list, func(x, y candidate) int { return x.created.Compare(y.created) })
	named, nameErr := a.Parse(name)
	if i := slices.IndexFunc(list, func(c candidate) bool { return nameErr == nil && c.jid == named }); i >= 0 {
		return named, nil
	}
	if len(list) > 0 {
		return list[0].jid, nil
	}
	for _, n := range []string{name, "admin", "admin2", "admin3", "admin4"} {
		if j, err = a.Parse(n); err == nil && !taken[j.String()] {
			return j, nil
		}
	}
	return j, refuse(ErrExists, "no name is left for an administrator")
}

// OfferAgain gives an administrator a new password by an order, which is carried out once, and makes the account where there is none.
func (a *Accounts) OfferAgain(o Offer) error {
	fresh, err := o.record()
	if err != nil {
		return err
	}
	return a.router.Update(func(tx *store.Tx, out *xmpp.Out) error {
		if LastOrder(tx) == o.Order {
			return nil
		}
		o.carriedOut(tx)
		if !store.Accounts.Has(tx, o.Account.String()) {
			fresh.Admin, fresh.Created = true, time.Now().UTC()
			store.Accounts.Put(tx, o.Account.String(), fresh)
			out.After(func() { a.router.SetExists(o.Account, true) })
			return nil
		}
		acc, err := open(tx, o.Account)
		if err != nil {
			return err
		}
		acc.Admin = true
		a.replace(tx, out, o.Account, acc, fresh, nil, func() {
			a.endSessions(o.Account, nil, "reset", "the password was changed: log in with the new one")
		})
		return nil
	})
}

// Extend gives passwords that end so much more time: the clock was set forward, which is no time that passed. It returns when the first of them ends.
func (a *Accounts) Extend(by time.Duration) (first time.Time, err error) {
	look := func(tx *store.Tx, f func(key string, acc store.Account)) {
		for key, acc := range store.Accounts.All(tx) {
			if acc.Until != nil {
				f(key, acc)
			}
		}
	}
	note := func(_ string, acc store.Account) {
		if first.IsZero() || acc.Until.Before(first) {
			first = *acc.Until
		}
	}
	if by <= 0 {
		err = a.router.Store.View(func(tx *store.Tx) error { look(tx, note); return nil })
		return first, err
	}
	err = a.router.Store.Update(func(tx *store.Tx) error {
		first = time.Time{}
		look(tx, func(key string, acc store.Account) {
			until := acc.Until.Add(by)
			acc.Until = &until
			store.Accounts.Put(tx, key, acc)
			note(key, acc)
		})
		return nil
	})
	return first, err
}
