package archive

import (
	"strconv"
	"strings"
	"time"

	"pibox/internal/store"
)

// What internal/store is about to have; until then:

func logID(_ *store.Tx, account string, seq uint64) string {
	return strconv.Itoa(len(account)) + "-" + strconv.FormatUint(seq, 36)
}

func parseLogID(_ *store.Tx, account, id string) (uint64, bool) {
	rest, ok := strings.CutPrefix(id, strconv.Itoa(len(account))+"-")
	if !ok {
		return 0, false
	}
	seq, err := strconv.ParseUint(rest, 36, 64)
	return seq, err == nil && seq > 0
}

// logCount is how many messages are in an archive; known is false where the store does not count.
func logCount(*store.Tx, string) (n int, known bool) { return 0, false }

// retain drops up to n of the oldest messages of an archive that are older than before (zero: none is), or too many for size bytes (0: none is), and
// tells whether there is more to drop.
func retain(tx *store.Tx, account string, before time.Time, _ int64, n int) (more bool) {
	if before.IsZero() {
		return false
	}
	for o := range store.LogOf(tx, store.Range{Account: account, Before: store.LogSeqAt(tx, before), Role: store.Archived}) {
		if n--; n < 0 {
			return true
		}
		store.DropRole(tx, account, o.Seq, store.Archived)
	}
	return false
}
