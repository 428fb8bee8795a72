// Package accounts keeps the family's accounts: made, listed, changed and removed by the administrator, looked up by a login.
//
// Invariants: each change is one transaction, and what it means for the running box (who exists, which sessions end) happens after the sync.
// A localpart that was closed (its owner moved away) is never given to anybody else. Nothing of a password is kept but SCRAM's keys.
package accounts

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"pibox/internal/store"
	"pibox/internal/xmpp"
	"pibox/internal/xmpp/sasl"
)

// What can be wrong with a request; the text of an error that wraps one of them is for the person who asked.
var (
	ErrName   = errors.New("not a usable name")
	ErrExists = errors.New("the account exists already")
	ErrNone   = errors.New("there is no such account")
	ErrClosed = errors.New("the account is closed")
	// ErrDomain: the domain is not one of the box.
	ErrDomain = errors.New("not a domain of this box")
	// ErrUnserved: the account is kept, but its domain is not one of the box any more.
	ErrUnserved = errors.New("the account's domain is not served")
)

// refusal is one of these errors with a text of its own for the person.
type refusal struct {
	kind error
	text string
}

func (e *refusal) Error() string { return e.text }
func (e *refusal) Unwrap() error { return e.kind }

func refuse(kind error, format string, args ...any) error {
	return &refusal{kind, fmt.Sprintf(format, args...)}
}

// Accounts is the administration of accounts, and what logging in looks up.
type Accounts struct {
	router   *xmpp.Router
	secret   []byte
	decoy    []byte // an account's record, read where there is none
	common   common
	onRemove []OnRemove
	onChange []OnPassword
	onFirst  []OnFirstLogin
}

// New reads, or makes, the server's secret.
func New(r *xmpp.Router) (*Accounts, error) {
	a := &Accounts{router: r}
	var err error
	if a.secret, err = a.loadSecret(); err != nil {
		return nil, err
	}
	a.decoy, err = json.Marshal(record(sasl.Credentials{
		SHA1:   sasl.Keys{Salt: make([]byte, 16), Iterations: sasl.Iterations, StoredKey: make([]byte, 20), ServerKey: make([]byte, 20)},
		SHA256: sasl.Keys{Salt: make([]byte, 16), Iterations: sasl.Iterations, StoredKey: make([]byte, 32), ServerKey: make([]byte, 32)},
	}))
	return a, err
}

const secretSetting = "login-secret"

func (a *Accounts) loadSecret() ([]byte, error) {
	var secret []byte
	err := a.router.Store.Update(func(tx *store.Tx) error {
		if raw, ok := store.Settings.Get(tx, secretSetting); ok {
			return json.Unmarshal(raw, &secret)
		}
		secret = make([]byte, 32)
		if _, err := rand.Read(secret); err != nil {
			return err
		}
		raw, err := json.Marshal(secret)
		if err != nil {
			return err
		}
		store.Settings.Put(tx, secretSetting, raw)
		return nil
	})
	if err == nil && len(secret) < sasl.MinSecret {
		err = errors.New("the secret in the store is damaged")
	}
	if err != nil {
		return nil, fmt.Errorf("accounts: the server's secret: %w", err)
	}
	return secret, nil
}

// Secret makes up the salts of accounts that do not exist.
func (a *Accounts) Secret() []byte { return a.secret }

// OnRemove is a hook that runs in the transaction that removes or closes an account, before its records go. forward tells that it is closed
// and leaves a forwarding address: its contacts keep it in their rosters, because that is what lets them verify the move. An error keeps the
// account.
type OnRemove func(tx *store.Tx, out *xmpp.Out, account xmpp.JID, forward bool) error

// OnRemove adds a hook.
func (a *Accounts) OnRemove(f OnRemove) { a.onRemove = append(a.onRemove, f) }

// OnPassword is a hook that runs in the transaction that changes an account's password. but is the session that did it and goes on; nil where
// the administrator did.
type OnPassword func(tx *store.Tx, out *xmpp.Out, account xmpp.JID, but *xmpp.Session)

// OnPassword adds a hook.
func (a *Accounts) OnPassword(f OnPassword) { a.onChange = append(a.onChange, f) }

// Credentials finds what a user name, as a client sent it, stands for at a domain of ours. It takes as long for an account that does not
// exist as for one that does.
func (a *Accounts) Credentials(username, domain string) (sasl.Account, error) {
	j, err := prepare(username, domain)
	if err != nil {
		return sasl.Account{Name: username + "@" + domain}, nil
	}
	answer := sasl.Account{Name: j.String()}
	var acc store.Account
	err = a.router.Store.View(func(tx *store.Tx) error {
		var ok bool
		acc, ok = store.Accounts.Get(tx, j.String())
		if !ok {
			var decoy store.Account
			return json.Unmarshal(a.decoy, &decoy)
		}
		answer.Known = acc.Closed == nil
		return nil
	})
	if answer.Known {
		answer.Credentials = sasl.Credentials{SHA1: sasl.Keys(acc.SHA1), SHA256: sasl.Keys(acc.SHA256)}
	}
	return answer, err
}

// Unusable names the mechanisms without -PLUS that an account can not log in by; where nobody is named, or who is not at the domain, those that
// some account there can not log in by. Accounts that came from another server have, until they get a new password, the keys that it had, often
// those of SCRAM-SHA-1 only; many clients try no other mechanism than the strongest that they are offered.
func (a *Accounts) Unusable(who xmpp.JID, domain string) (unusable []string) {
	err := a.router.Store.View(func(tx *store.Tx) error {
		if who.Local == "" || who.Domain != domain {
			unusable = a.common.unusable(tx, domain)
			return nil
		}
		have := bothKeys()
		if acc, ok := store.Accounts.Get(tx, who.String()); ok {
			have.limit(acc)
		}
		unusable = have.missing()
		return nil
	})
	if err != nil {
		return nil
	}
	return unusable
}

func prepare(localpart, domain string) (xmpp.JID, error) {
	if localpart == "" || strings.ContainsAny(localpart, "@/") {
		return xmpp.JID{}, ErrName
	}
	j, err := xmpp.ParseJID(localpart + "@" + domain)
	if err != nil {
		return xmpp.JID{}, fmt.Errorf("%w: %w", ErrName, err)
	}
	return j, nil
}

// Parse reads the address of an account as a person writes it: NAME, which is at the main domain, or NAME@DOMAIN.
func (a *Accounts) Parse(name string) (xmpp.JID, error) {
	local, domain, ok := strings.Cut(name, "@")
	if !ok {
		domain = a.router.Domains()[0]
	}
	j, err := prepare(local, domain)
	switch {
	case err != nil:
		return j, refuse(ErrName, "%q can not be an account: a name has letters, digits, dots, hyphens and underscores, as in juliet@%s",
			name, a.router.Domains()[0])
	case !j.IsBare():
		return j, refuse(ErrName, "%q is no account's address: it has a resource", name)
	case !a.router.IsLocal(j.Domain):
		return j, a.elsewhere(j)
	}
	return j, nil
}

// elsewhere says why an account at a domain that is not ours can not be meant.
func (a *Accounts) elsewhere(j xmpp.JID) error {
	kept := false
	if err := a.router.Store.View(func(tx *store.Tx) error {
		kept = store.Accounts.Has(tx, j.String())
		return nil
	}); err != nil {
		return err
	}
	if kept {
		return refuse(ErrUnserved, "%s is at %s, which this box no longer serves", j, j.Domain)
	}
	return refuse(ErrDomain, "%s is not a domain of this box (%s)", j.Domain, strings.Join(a.router.Domains(), ", "))
}

// record is what is stored of credentials.
func record(c sasl.Credentials) store.Account {
	return store.Account{SHA1: store.Credentials(c.SHA1), SHA256: store.Credentials(c.SHA256)}
}

// Info is what an administrator sees of an account.
type Info struct {
	JID      xmpp.JID
	Role     Role
	Created  time.Time
	OneTime  bool        // the password is one that the box made
	Closed   time.Time   // zero: it is not
	Moved    *store.Move // nil: it did not announce a move
	LastSeen time.Time   // when the last session ended; zero: never
	Sessions int         // that are connected
}

// List gives all accounts, closed ones included, sorted by address.
func (a *Accounts) List() ([]Info, error) {
	var list []Info
	err := a.router.Store.View(func(tx *store.Tx) error {
		for key, acc := range store.Accounts.All(tx) {
			j, err := xmpp.ParseJID(key)
			if err != nil {
				return fmt.Errorf("accounts: the record of %q: %w", key, err)
			}
			list = append(list, info(tx, j, acc))
		}
		return nil
	})
	for i := range list {
		list[i].Sessions = len(a.router.Sessions(list[i].JID))
	}
	slices.SortFunc(list, func(x, y Info) int { return strings.Compare(x.JID.String(), y.JID.String()) })
	return list, err
}

func info(tx *store.Tx, j xmpp.JID, acc store.Account) Info {
	i := Info{JID: j, Role: Role{acc.Admin, acc.Restricted}, Created: acc.Created, OneTime: acc.OneTime}
	if acc.Closed != nil {
		i.Closed = *acc.Closed
	}
	if mv, ok := store.Moves.Get(tx, j.String()); ok {
		i.Moved = &mv
	}
	if last, ok := store.LastSeen.Get(tx, j.String()); ok {
		i.LastSeen = last.At
	}
	return i
}
