package box

import (
	"fmt"
	"time"

	"pibox/internal/admin"
	"pibox/internal/store"
	"pibox/internal/xmpp"
	"pibox/internal/xmpp/accounts"
)

// toClose are the accounts that a request closes: the one that it names, or those of a domain that have forwarded for long enough.
func (b *Box) toClose(req admin.MoveCloseRequest) (all []admin.User, err error) {
	domain := b.isDomain(req.Old)
	var one xmpp.JID
	if !domain {
		if b.likeDomain(req.Old) {
			return nil, b.noDomain(req.Old)
		}
		if one, err = b.Accounts.Parse(req.Old); err != nil {
			return nil, told(err)
		}
	}
	var first time.Time
	waiting := 0
	err = b.Store.View(func(tx *store.Tx) error {
		for key, acc := range store.Accounts.All(tx) {
			j, err := xmpp.ParseJID(key)
			if err != nil {
				return err
			}
			u := b.describe(tx, j, acc)
			switch {
			case domain && (j.Domain != xmpp.MustJID(req.Old).Domain || u.State != admin.UserForwarding), !domain && j != one:
				continue
			case u.State == admin.UserClosed:
				return admin.Errorf(admin.CodeInvalid, "%s is closed already, and tells its contacts that it moved to %s", j, u.MovedTo)
			case u.State != admin.UserForwarding:
				return admin.Errorf(admin.CodeInvalid, "%s has not announced a move: there is no new address to tell", j).Then("'pibox user remove' deletes an account.")
			case !req.Now && time.Now().Before(u.ForwardingUntil):
				waiting++
				if first.IsZero() || u.ForwardingUntil.Before(first) {
					first = u.ForwardingUntil
				}
				continue
			}
			all = append(all, u)
		}
		return nil
	})
	switch {
	case err != nil:
		return nil, err
	case len(all) == 0 && waiting > 0:
		left := max(1, int(time.Until(first).Hours()/24+1))
		return nil, admin.Errorf(admin.CodeBusy, "%s is still forwarding: until %s, %d more days, contacts who have not followed may need it", req.Old, first.Format(time.DateOnly), left).
			Then("Wait, or add --now.")
	case len(all) == 0 && domain:
		return nil, admin.Errorf(admin.CodeNotFound, "nobody at %s is forwarding", req.Old)
	case len(all) == 0:
		return nil, told(fmt.Errorf("%s: %w", one, accounts.ErrNone))
	}
	return all, nil
}
