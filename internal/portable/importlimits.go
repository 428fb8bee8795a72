package portable

import (
	"errors"
	"strconv"
)

// Limits of what is imported into one account: what the box would have let its owner have. What is beyond is a loss.
const (
	maxContacts   = 2000
	maxRosterText = 512 << 10 // bytes of the addresses, names and groups together
	maxName       = 1023      // bytes of a name or group
	maxGroups     = 64
	maxRequests   = 200
	maxRequest    = 16 << 10
	maxStatus     = 1023 // bytes of what was said when the last session ended
	maxPrivate    = 100
	maxPrivateXML = 128 << 10
	maxKeyText    = 1024 // bytes of a name that is a key in the store
	maxVCard      = 256 << 10
	maxNodes      = 256
	maxItems      = 4096
	maxEntities   = 500
	maxEntityText = 4 << 20 // bytes of who has a part in the nodes, all together
	maxParts      = 64      // in which a node may come, beside its items
	maxPayload    = 256 << 10
	maxPEP        = 32 << 20
	maxBlocked    = 2000
	maxListed     = 1000
	maxOwed       = 5000
	maxOwedBytes  = 32 << 20
	maxStanza     = 512 << 10
	maxCompared   = 200_000 // messages of the archive that are compared with what waits
	batchBytes    = 256 << 10 // that are written in one transaction, and one stanza more
)

// Limits of one file, whatever is in it.
const (
	maxAccounts     = 10_000
	maxAccountBytes = 2 << 20 // of their addresses
	maxAllLosses    = 5000    // kinds that are listed, of all accounts together
)

// ErrTooMany ends the reading of a file with more accounts than any box has.
var ErrTooMany = errors.New("too many accounts in one file")

// result notes what became of an account.
func (im *Importer) result(r Result) error {
	if im.resultBytes += len(r.From) + len(r.To); len(im.results) >= maxAccounts || im.resultBytes > maxAccountBytes {
		return ErrTooMany
	}
	if im.listed += len(r.Losses); im.listed > maxAllLosses {
		n := 0
		for _, l := range r.Losses {
			n += l.Count
		}
		r.Losses = []LossCount{{Loss{What: strconv.Itoa(n) + " things", Why: "the list is too long: import this account alone to see it"}, 1}}
	}
	im.results = append(im.results, r)
	return nil
}
