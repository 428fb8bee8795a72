package store

import "time"

// Delivered is the sequence up to which everything that is owed to the account's devices was delivered.
func Delivered(tx *Tx, account string) uint64 {
	n, _ := Progress.Get(tx, Key(ProgressDelivered, account))
	return uint64(n)
}

// SetDelivered moves it, never back. What was only Owed up to there is nobody's any more: PurgeLog frees it.
func SetDelivered(tx *Tx, account string, seq uint64) {
	if seq > Delivered(tx, account) {
		Progress.Put(tx, Key(ProgressDelivered, account), Count(seq))
	}
}

// OwedCount tells how many entries wait for one of the account's devices.
func OwedCount(tx *Tx, account string) int {
	n, _ := OwedSize(tx, account)
	return n
}

// OwedSize is OwedCount, and the bytes of their stanzas. It costs a few nanoseconds for each.
func OwedSize(tx *Tx, account string) (n int, bytes int64) {
	for p := range postings(tx, readHolder(tx, account), Range{Role: Owed}) {
		n++
		bytes += int64(p.size)
	}
	return n, bytes
}

// LogStat describes what an account has in its archive.
type LogStat struct {
	Count       int
	Bytes       int64  // of the stanzas
	First, Last uint64 // sequences; 0 where there is none
}

// LogStats tells what an account has in its archive, at a cost that does not grow with it.
func LogStats(tx *Tx, account string) LogStat {
	h := readHolder(tx, account)
	s := LogStat{Count: int(h.count), Bytes: int64(h.bytes)}
	for _, p := range tailPostings(tx, account, "", max(h.gone, h.floor), 1<<64-1, nil) {
		if p.role&Archived != 0 {
			s.Count++
			s.Bytes += int64(p.size)
		}
	}
	for p := range postings(tx, h, Range{Role: Archived}) {
		s.First = p.seq
		break
	}
	for p := range postings(tx, h, Range{Role: Archived, Backwards: true}) {
		s.Last = p.seq
		break
	}
	return s
}

// LogIndexed is LogStat.Bytes without what came last, a part of bounded size: it costs one look.
func LogIndexed(tx *Tx, account string) int64 { return int64(readHolder(tx, account).bytes) }

// retainMost bounds how many entries one Retain looks at; it reads of them the index alone.
const retainMost = 1 << 14

// Retain takes out of an account's archive what is older than olderThan (zero: nothing is too old), and of the rest the oldest until no more than
// maxBytes are left (0: as much as there is). What is still to be delivered is delivered nevertheless. One call does a limited part of it; more tells
// that it is to be called again, in another transaction. PurgeLog then frees the space.
func Retain(tx *Tx, account string, olderThan time.Time, maxBytes int64) (more bool) {
	h := readHolder(tx, account)
	kept := LogSeqAt(tx, account, olderThan)
	left := LogStats(tx, account).Bytes
	floor, seen := h.floor, 0
	for p := range postings(tx, h, Range{Role: Archived}) {
		if p.seq >= kept && (maxBytes <= 0 || left <= maxBytes) {
			break
		}
		if seen++; seen > retainMost {
			more = true
			break
		}
		floor, left = p.seq, left-int64(p.size)
		if !p.tail {
			h.count--
			h.bytes -= uint64(p.size)
		}
	}
	if floor != h.floor {
		h.purged = min(h.purged, h.floor)
		h.floor = floor
		h.save(tx)
	}
	return more
}

// clearLog makes everything in the log that an account has invisible to it, and to an account that is made under the same name later.
func clearLog(tx *Tx, account string) {
	Progress.Delete(tx, Key(ProgressDelivered, account))
	if last := LastLogSeq(tx); last > 0 {
		was, _ := logAccounts.Get(tx, account)
		logAccounts.Put(tx, account, logAccount{gone: last, heirs: was.heirs, former: was.former, lost: len(was.former) > 0})
	}
}
