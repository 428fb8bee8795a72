package accounts

import (
	"strings"
	"sync"

	"pibox/internal/store"
	"pibox/internal/xmpp/sasl"
)

// keys tells which mechanisms accounts have keys for.
type keys struct{ sha1, sha256 bool }

func bothKeys() keys { return keys{sha1: true, sha256: true} }

// limit leaves what the account has as well.
func (k *keys) limit(acc store.Account) {
	if acc.Closed == nil {
		k.sha1, k.sha256 = k.sha1 && len(acc.SHA1.StoredKey) > 0, k.sha256 && len(acc.SHA256.StoredKey) > 0
	}
}

func (k keys) missing() []string {
	switch {
	case k.sha1 == k.sha256: // with neither, it is tried what the client wants
		return nil
	case k.sha1:
		return []string{sasl.ScramSHA256}
	}
	return []string{sasl.ScramSHA1}
}

// common keeps what all accounts of each domain have in common, until an account changes: every stream that names nobody asks for it before
// its login.
type common struct {
	mu      sync.Mutex
	version uint64
	domains map[string]keys
}

func (c *common) unusable(tx *store.Tx, domain string) []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if now := store.AccountsVersion(tx); c.domains == nil || now != c.version {
		c.version, c.domains = now, allKeys(tx)
	}
	have, ok := c.domains[domain]
	if !ok {
		return nil
	}
	return have.missing()
}

func allKeys(tx *store.Tx) map[string]keys {
	domains := map[string]keys{}
	for key, acc := range store.Accounts.All(tx) {
		_, domain, _ := strings.Cut(key, "@")
		have, ok := domains[domain]
		if !ok {
			have = bothKeys()
		}
		have.limit(acc)
		domains[domain] = have
	}
	return domains
}
