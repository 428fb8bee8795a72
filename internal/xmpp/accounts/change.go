package accounts

import (
	"crypto/rand"
	"errors"
	"time"

	"pibox/internal/store"
	"pibox/internal/xmpp"
	"pibox/internal/xmpp/sasl"

	"mellium.im/xmpp/stanza"
)

// Role is what an account may do beside chatting.
type Role struct {
	Admin      bool // may administer the box
	Restricted bool // may not announce a move
}

// Create makes an account and returns the one-time password that it made where password is "": nobody can ever read it again. A password that
// can not be used gives a *sasl.PasswordError, a name that is taken ErrExists or ErrClosed.
func (a *Accounts) Create(account xmpp.JID, password string, role Role) (oneTime string, err error) {
	acc, oneTime, err := newRecord(password)
	if err != nil {
		return "", err
	}
	acc.Admin, acc.Restricted = role.Admin, role.Restricted
	err = a.router.Update(func(tx *store.Tx, out *xmpp.Out) error {
		if old, ok := store.Accounts.Get(tx, account.String()); ok {
			return exists(account, old)
		}
		if _, ok := store.Importing(tx, account.String()); ok {
			return refuse(ErrExists, "%s is being imported", account)
		}
		acc.Created = time.Now().UTC()
		store.Accounts.Put(tx, account.String(), acc)
		out.After(func() { a.router.SetExists(account, true) })
		return nil
	})
	if err != nil {
		return "", err
	}
	return oneTime, nil
}

// Login derives the keys of a password, or of a one-time password that it makes, where password is "".
func (a *Accounts) Login(password string) (keys store.Account, oneTime string, err error) {
	return newRecord(password)
}

func exists(account xmpp.JID, old store.Account) error {
	if old.Closed != nil {
		return refuse(ErrClosed, "%s was closed on %s, and its name stays with its former owner for good; choose another name",
			account, old.Closed.Format(time.DateOnly))
	}
	return refuse(ErrExists, "%s: %v", account, ErrExists)
}

// Copy makes an account of the same person at another address, within a transaction: with the same password and the same role. ErrExists and
// ErrClosed where there is one.
func (a *Accounts) Copy(tx *store.Tx, out *xmpp.Out, from, to xmpp.JID) error {
	acc, err := open(tx, from)
	if err != nil {
		return err
	}
	if old, ok := store.Accounts.Get(tx, to.String()); ok {
		return exists(to, old)
	}
	acc.Created = time.Now().UTC()
	store.Accounts.Put(tx, to.String(), acc)
	out.After(func() { a.router.SetExists(to, true) })
	return nil
}

// newRecord derives the keys, outside of any transaction: that takes its time.
func newRecord(password string) (acc store.Account, oneTime string, err error) {
	if password == "" {
		oneTime = OneTimePassword()
		password = oneTime
	}
	c, err := sasl.NewCredentials(password, rand.Reader)
	if err != nil {
		return acc, "", err
	}
	acc = record(c)
	acc.OneTime = oneTime != ""
	return acc, oneTime, nil
}

// open reads an account that is not closed.
func open(tx *store.Tx, account xmpp.JID) (store.Account, error) {
	acc, ok := store.Accounts.Get(tx, account.String())
	switch {
	case !ok:
		return acc, refuse(ErrNone, "%s: %v", account, ErrNone)
	case acc.Closed != nil:
		return acc, refuse(ErrClosed, "%s was closed on %s: nobody can log in to it any more, and its name and new address are kept for good",
			account, acc.Closed.Format(time.DateOnly))
	}
	return acc, nil
}

// SetPassword gives an account a new password ("": a one-time password, which is returned) and ends its sessions: whoever knows the
// new one logs in again.
func (a *Accounts) SetPassword(account xmpp.JID, password string) (oneTime string, ended int, err error) {
	fresh, oneTime, err := newRecord(password)
	if err != nil {
		return "", 0, err
	}
	err = a.router.Update(func(tx *store.Tx, out *xmpp.Out) error {
		acc, err := open(tx, account)
		if err != nil {
			return err
		}
		a.replace(tx, out, account, acc, fresh, nil, func() {
			ended = a.endSessions(account, nil, "reset", "the password was changed: log in with the new one")
		})
		return nil
	})
	if err != nil {
		return "", 0, err
	}
	return oneTime, ended, nil
}

func (a *Accounts) replace(tx *store.Tx, out *xmpp.Out, account xmpp.JID, acc, fresh store.Account, but *xmpp.Session, after func()) {
	acc.SHA1, acc.SHA256, acc.OneTime = fresh.SHA1, fresh.SHA256, fresh.OneTime
	acc.Fresh, acc.Grace, acc.Until = fresh.Fresh, fresh.Grace, nil
	store.Accounts.Put(tx, account.String(), acc)
	for _, f := range a.onChange {
		f(tx, out, account, but)
	}
	out.After(after) // RFC 6120 §4.9.3.16: what the streams were authenticated by is no more.
}

// Standing is what an account's logins stand on: it changes with the password, whoever changes it.
func (a *Accounts) Standing(tx *store.Tx, account xmpp.JID) (string, error) {
	acc, err := open(tx, account)
	if err != nil {
		return "", xmpp.Errorf(stanza.ItemNotFound, "the account does not exist any more")
	}
	return string(acc.SHA256.StoredKey) + string(acc.SHA1.StoredKey), nil
}

// ChangeOwn gives the account of a session another password and ends its other sessions. It does nothing where the standing is another one by
// now: then the administrator has reset the password, and the session is about to end. It returns when all is durable; what the
// owner may know is an *xmpp.StanzaError.
func (a *Accounts) ChangeOwn(owner *xmpp.Session, standing, password string) error {
	account := owner.JID.Bare()
	fresh, _, err := newRecord(password)
	var refused *sasl.PasswordError
	switch {
	case errors.As(err, &refused):
		return xmpp.Errorf(stanza.NotAcceptable, "%s", refused.Text)
	case err != nil:
		return err
	}
	return a.router.Update(func(tx *store.Tx, out *xmpp.Out) error {
		now, err := a.Standing(tx, account)
		if err != nil {
			return err
		}
		if now != standing {
			return xmpp.Errorf(stanza.NotAuthorized, "the password was changed meanwhile: log in again")
		}
		acc, err := open(tx, account)
		if err != nil {
			return err
		}
		a.replace(tx, out, account, acc, fresh, owner, func() {
			a.endSessions(account, owner, "reset", "the password was changed in another client: log in with the new one")
		})
		return nil
	})
}

// Remove deletes an account with all that is kept of it and tells its contacts. Its name may be given again. A closed account is not
// removed: its forwarding address and its name stay.
func (a *Accounts) Remove(account xmpp.JID) (ended int, err error) {
	err = a.router.Update(func(tx *store.Tx, out *xmpp.Out) error {
		if _, err := open(tx, account); err != nil {
			return err
		}
		if err := a.clear(tx, out, account, false, &ended); err != nil {
			return err
		}
		store.Moves.Delete(tx, account.String())
		store.Accounts.Delete(tx, account.String())
		return nil
	})
	return ended, err
}

// Close closes an account within a transaction, by its owner's explicit act: nobody logs in any more, all that is kept of it goes but
// its name and its forwarding address (store.Moves), which stay for good.
func (a *Accounts) Close(tx *store.Tx, out *xmpp.Out, account xmpp.JID) error {
	acc, err := open(tx, account)
	if err != nil {
		return err
	}
	now := time.Now().UTC()
	last, seen := store.LastSeen.Get(tx, account.String())
	if len(a.router.Sessions(account)) > 0 {
		last, seen = store.Last{At: now}, true
	}
	if err := a.clear(tx, out, account, true, new(int)); err != nil {
		return err
	}
	if seen { // the administrator goes on seeing when it was used
		store.LastSeen.Put(tx, account.String(), last)
	}
	store.Accounts.Put(tx, account.String(), store.Account{Created: acc.Created, Closed: &now})
	return nil
}

// clear ends an account's life on this box, but for its own record and its move.
func (a *Accounts) clear(tx *store.Tx, out *xmpp.Out, account xmpp.JID, forward bool, ended *int) error {
	for _, f := range a.onRemove {
		if err := f(tx, out, account, forward); err != nil {
			return err
		}
	}
	store.ClearAccount(tx, account.String())
	out.After(func() {
		a.router.SetExists(account, false)
		*ended = a.endSessions(account, nil, "not-authorized", "the account does not exist any more")
	})
	return nil
}

// endSessions ends an account's sessions but one (nil: all).
func (a *Accounts) endSessions(account xmpp.JID, but *xmpp.Session, condition, text string) (ended int) {
	a.router.EndEra(account)
	for _, s := range a.router.Sessions(account) {
		if s != but {
			s.Close(&xmpp.StreamError{Condition: condition, Text: text})
			ended++
		}
	}
	return ended
}

// passwordLetters leaves out what is mistaken for something else when it is read aloud or copied by hand.
const passwordLetters = "abcdefghjkmnpqrstuvwxyz23456789"

// OneTimePassword is 5 groups of 4 letters and digits, 99 bits: easy to read out and to type on a phone.
func OneTimePassword() string {
	var b []byte
	for len(b) < 24 {
		if len(b)%5 == 4 {
			b = append(b, '-')
			continue
		}
		b = append(b, randomLetter())
	}
	return string(b)
}

// randomLetter draws evenly: what lies past the last multiple is drawn again.
func randomLetter() byte {
	var b [1]byte
	for {
		_, _ = rand.Read(b[:]) // never fails
		if n := int(b[0]); n < 256/len(passwordLetters)*len(passwordLetters) {
			return passwordLetters[n%len(passwordLetters)]
		}
	}
}
