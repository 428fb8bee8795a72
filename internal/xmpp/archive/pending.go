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

// logCount is how many messages are in an archive.
func logCount(tx *store.Tx, account string) (n int) {
	for range store.LogOf(tx, store.Range{Account: account, Role: store.Archived}) {
		n++
	}
	return n
}

// retain takes out of an archive what is older than olderThan, and of the rest the oldest until no more than maxBytes are left (0: as much as there is).
// One call does a limited part of it; more tells that it is to be called again.
func retain(tx *store.Tx, account string, olderThan time.Time, maxBytes int64) (more bool) {
	size := int64(0)
	for o := range store.LogOf(tx, store.Range{Account: account, Role: store.Archived}) {
		size += int64(len(o.Stanza))
	}
	n := 100
	for o := range store.LogOf(tx, store.Range{Account: account, Role: store.Archived}) {
		if !o.At.Before(olderThan) && (maxBytes <= 0 || size <= maxBytes) {
			return false
		}
		if n--; n < 0 {
			return true
		}
		size -= int64(len(o.Stanza))
		store.DropRole(tx, account, o.Seq, store.Archived)
	}
	return false
}

// purge frees what nobody owns any more, a limited part of it in one call.
func purge(*store.Tx, int) (more bool) { return false }
