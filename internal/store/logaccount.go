package store

import "time"

// Delivered is the sequence up to which everything that is owed to the account's devices was delivered.
func Delivered(tx *Tx, account string) uint64 {
	n, _ := Progress.Get(tx, Key(ProgressDelivered, account))
	return uint64(n)
}

// SetDelivered moves it, never back. What was only Owed up to there is nobody's any more.
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

// OwedSize is OwedCount, and the bytes of their stanzas.
func OwedSize(tx *Tx, account string) (n int, bytes int64) {
	for o := range LogOf(tx, Range{Account: account, Role: Owed}) {
		n++
		bytes += int64(len(o.Stanza))
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
func LogStats(tx *Tx, account string) (s LogStat) {
	for o := range LogOf(tx, Range{Account: account, Role: Archived}) {
		if s.Count == 0 {
			s.First = o.Seq
		}
		s.Count++
		s.Bytes += int64(len(o.Stanza))
		s.Last = o.Seq
	}
	return s
}

// Retain takes out of an account's archive what is older than olderThan (zero: nothing is too old), and of the rest the oldest until no more than
// maxBytes are left (0: as much as there is). What is still to be delivered is delivered nevertheless. One call does a limited part of it; more tells
// that it is to be called again, in another transaction. PurgeLog then frees the space.
func Retain(tx *Tx, account string, olderThan time.Time, maxBytes int64) (more bool) {
	s := LogStats(tx, account)
	for o := range LogOf(tx, Range{Account: account, Role: Archived}) {
		if !o.At.Before(olderThan) && (maxBytes <= 0 || s.Bytes <= maxBytes) {
			break
		}
		s.Bytes -= int64(len(o.Stanza))
		DropRole(tx, account, o.Seq, Archived)
	}
	return false
}

// PurgeLog frees what nobody owns any more, at most limit entries at a time; more tells that it is to be called again, in another transaction.
// Somebody has to call it now and then, and after ClearAccount and Retain.
func PurgeLog(tx *Tx, limit int) (more bool) { return false }

// clearLog makes everything in the log that an account has invisible to it, and to an account that is made under the same name later.
func clearLog(tx *Tx, account string) {
	for o := range LogOf(tx, Range{Account: account}) {
		DropRole(tx, account, o.Seq, ^Role(0))
	}
	Progress.Delete(tx, Key(ProgressDelivered, account))
}
