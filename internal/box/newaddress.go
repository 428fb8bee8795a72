package box

import (
	"strings"
	"time"

	"pibox/internal/store"
	"pibox/internal/xmpp"
)

// newAddress reads the address of an account that is to be made: a name alone is one at the domain that the family lives at.
func (b *Box) newAddress(name string) (xmpp.JID, error) {
	if !strings.Contains(name, "@") {
		domain, err := b.home()
		if err != nil {
			return xmpp.JID{}, err
		}
		if domain != b.Router.Domains()[0] {
			name += "@" + domain
		}
	}
	return b.Accounts.Parse(name)
}

// home is the main domain, or that of this box to which the family moved from there.
func (b *Box) home() (domain string, err error) {
	domain = b.Router.Domains()[0]
	err = b.Store.View(func(tx *store.Tx) error {
		left := map[string]map[string]time.Time{} // when, by the old domain, then the new one
		for _, job := range store.MoveJobs.All(tx) {
			from, to, ok := strings.Cut(job.Family, " ")
			if !ok || job.State != store.MoveRunning && job.State != store.MoveDone || !b.Router.IsLocal(to) {
				continue
			}
			if left[from] == nil {
				left[from] = map[string]time.Time{}
			}
			if job.Started.After(left[from][to]) {
				left[from][to] = job.Started
			}
		}
		for at, more := (time.Time{}), true; more; { // later and later: a family may have come back
			here := domain
			for to, when := range left[here] {
				if when.After(at) {
					domain, at = to, when
				}
			}
			more = domain != here
		}
		return nil
	})
	return domain, err
}
