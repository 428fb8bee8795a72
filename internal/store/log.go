package store

import (
	"math/rand/v2"
	"slices"
	"time"

	bolt "go.etcd.io/bbolt"
)

// The log keeps every stanza once, in the order in which they were stored: what members have in their archives, what waits for one of their
// devices, and what is owed to other servers. An entry has owners, and dies with the last of them.
//
// A new entry goes to the small table logtail, whose pages are few however long the log is. When it has tailMost entries they move to the table log
// together, and are indexed then. So all that is in log is indexed, and what is not indexed is in logtail, which is short enough to be searched whole.
var (
	logTable = Table[Entry]{"log"}     // sequence
	logTail  = Table[Entry]{"logtail"} // sequence; the table's counter is that of the log, and gives no number twice
	// Progress holds, under one of the prefixes below and its key, the small numbers that change with every stanza.
	Progress = Table[Count]{"logprogress"}
)

const (
	tailMost = 256
	// tailLarge: an entry of that many bytes lets the others move at once, so that what moves in one transaction is bounded.
	tailLarge = 8 << 10
	// inOrder fills the pages of tables whose keys only grow; their records never do.
	inOrder = 1.0
)

// Prefixes of the keys in Progress.
const (
	// ProgressDelivered, account: up to this sequence, what is owed to the account's devices was delivered.
	ProgressDelivered = "a"
	// ProgressHandled, account, stream management id: how many stanzas of that session were handled (XEP-0198 §4).
	ProgressHandled = "s"
	// ProgressSent, own domain, other domain: up to this sequence, what is owed to the other server has arrived there. Absent: nothing is owed. It
	// is written in the transaction that appends.
	ProgressSent = "d"
)

// Role says why an account owns an entry.
type Role uint8

// The roles.
const (
	// Archived entries are in the account's archive (XEP-0313).
	Archived Role = 1 << iota
	// Owed entries are to reach one of the account's devices (offline messages). It is stored for good; what is read is Owed only after Delivered.
	Owed
	// ByOwner: the account is the sender.
	ByOwner
)

// owns tells whether a role makes an account an owner.
func (r Role) owns() bool { return r&(Archived|Owed) != 0 }

// Entry is one stanza of the log.
type Entry struct {
	// At is when it was stored, to the millisecond, or, where Stored is set, when the box that it came from did. Of one account's entries the later
	// ones are never earlier.
	At time.Time
	// Stored is when an entry was stored that was imported; zero for others. ImportLog sets it.
	Stored time.Time
	// Remote: it is owed to the server that its to names, until ProgressSent tells that it has arrived, or ForgetRemote does; after RemoteMost
	// nobody keeps it for that server.
	Remote bool
	Owners []Owner
	Stanza []byte // as it was routed, from and to included, without anybody's stanza-id
}

// RemoteMost is how long an entry is kept for another server at the most.
const RemoteMost = 30 * 24 * time.Hour

// Owner of an entry.
type Owner struct {
	Account string // bare JID
	With    string // bare JID of the other side
	Role    Role
}

// Owned is an entry as one account has it.
type Owned struct {
	Seq  uint64
	Role Role
	// Former is the account that an inherited entry was one of: in the stanza and among the owners that one's address stands.
	Former string
	Entry
}

// AppendLog stores an entry and returns its sequence. The entry's time is set, to now or, where the clock was put back, to that of the last one. An
// account that is named twice becomes one owner with both roles.
func AppendLog(tx *Tx, e *Entry) (seq uint64) { return appendLog(tx, e, time.Now()) }

func appendLog(tx *Tx, e *Entry, now time.Time) (seq uint64) {
	b := tx.inOrder(logTail.name)
	if b == nil {
		return 0
	}
	e.At, e.Stored = storedNow(tx, now), time.Time{}
	return putLog(tx, b, e)
}

func storedNow(tx *Tx, now time.Time) time.Time {
	now = now.UTC().Truncate(time.Millisecond)
	if last := lastLogTime(tx); now.Before(last) {
		return last
	}
	return now
}

// ImportLog stores an entry that has its time already: At, cut to milliseconds and not after now. It has one owner, whose entries are imported in the
// order of their times, before any others of his.
func ImportLog(tx *Tx, e *Entry) (seq uint64) {
	b := tx.inOrder(logTail.name)
	if b == nil {
		return 0
	}
	e.Stored = storedNow(tx, time.Now())
	if e.At = e.At.UTC().Truncate(time.Millisecond); e.At.After(e.Stored) {
		e.At = e.Stored
	}
	return putLog(tx, b, e)
}

func putLog(tx *Tx, b *bolt.Bucket, e *Entry) (seq uint64) {
	e.Owners = mergeOwners(e.Owners)
	seq = logTail.Append(tx, *e)
	if first, _ := b.Cursor().First(); seq-SeqOf(string(first)) >= tailMost-1 || len(e.Stanza) >= tailLarge {
		moveTail(tx)
	}
	return seq
}

func mergeOwners(owners []Owner) []Owner {
	merged := owners[:0]
	for _, o := range owners {
		if i := slices.IndexFunc(merged, func(m Owner) bool { return m.Account == o.Account }); i >= 0 {
			merged[i].Role |= o.Role
			continue
		}
		merged = append(merged, o)
	}
	return merged
}

// inOrder is the bucket of a table that is written in the order of its keys.
func (tx *Tx) inOrder(table string) *bolt.Bucket {
	b := tx.bucket(table)
	if b != nil {
		b.FillPercent = inOrder
	}
	return b
}

// moveTail moves the tail to the log and indexes it. What nobody owns any more goes no further.
func moveTail(tx *Tx) {
	tail := tx.bucket(logTail.name)
	if tail == nil {
		return
	}
	type record struct {
		key string
		raw []byte
	}
	var all []record
	_ = tail.ForEach(func(k, raw []byte) error {
		all = append(all, record{string(k), slices.Clone(raw)})
		return nil
	})
	tx.emptyTable(logTail.name)
	tx.inOrder(logTable.name)
	hs, ed := holders{tx: tx}, edits{tx: tx}
	for _, r := range all {
		held, err := hs.index(SeqOf(r.key), r.raw, &ed)
		if err != nil {
			tx.damagedRecord(logTail.name, []byte(r.key), err)
			return
		}
		if held {
			tx.put(logTable.name, r.key, r.raw)
		}
	}
	ed.each(func(ix index, prefix string, ps []posting) { ix.add(tx, prefix, ps) })
	hs.save()
}

// emptyTable deletes all records of a table at once; its counter goes on.
func (tx *Tx) emptyTable(name string) {
	seq := tx.bolt.Bucket([]byte(name)).Sequence()
	tx.writes++
	if err := tx.bolt.DeleteBucket([]byte(name)); err != nil {
		tx.fail(err)
		return
	}
	b, err := tx.bolt.CreateBucket([]byte(name))
	if err == nil {
		err = b.SetSequence(seq)
	}
	if err != nil {
		tx.fail(err)
	}
}

// skipLog lets sequences out, after a restore: those that were given since the backup are not given again.
func skipLog(tx *Tx) {
	if b := tx.bucket(logTail.name); b != nil {
		tx.writes++
		if err := b.SetSequence(b.Sequence() + skipLeast + rand.Uint64N(skipLeast)); err != nil {
			tx.fail(err)
		}
	}
}

// skipLeast is more than a box stores in its life, and lets it be restored a million times.
const skipLeast = 1 << 40

// DropRole takes roles of an account on an entry away; without Archived and Owed it owns it no more. What Delivered or Retain can say needs no
// DropRole, which rewrites the entry.
func DropRole(tx *Tx, account string, seq uint64, drop Role) {
	e, ok := LogEntry(tx, seq)
	i := slices.IndexFunc(e.Owners, func(o Owner) bool { return o.Account == account })
	if !ok || i < 0 {
		return
	}
	h := readHolder(tx, account)
	o := &e.Owners[i]
	have := h.role(seq, o.Role)
	now := have &^ drop
	if now == have {
		return
	}
	if !now.owns() {
		now = 0
	}
	o.Role = now
	ed := edits{tx: tx}
	ed.set(account, o.With, posting{seq: seq, role: now})
	if now == 0 {
		e.Owners = slices.Delete(e.Owners, i, i+1)
	}
	if !putEntry(tx, seq, e, &ed) && have&^now&Archived != 0 {
		h.count--
		h.bytes -= uint64(len(e.Stanza))
		h.save(tx)
	}
	ed.apply()
}

// Owe makes an entry of an account Owed, too, where it lies behind what was delivered.
func Owe(tx *Tx, account string, seq uint64) {
	e, ok := LogEntry(tx, seq)
	i := slices.IndexFunc(e.Owners, func(o Owner) bool { return o.Account == account })
	if !ok || i < 0 {
		return
	}
	o := &e.Owners[i]
	have := readHolder(tx, account).role(seq, o.Role)
	if have == 0 || have&Owed != 0 {
		return
	}
	o.Role |= Owed
	ed := edits{tx: tx}
	ed.set(account, o.With, posting{seq: seq, role: have | Owed})
	putEntry(tx, seq, e, &ed)
	ed.apply()
}

// ForgetRemote tells that an entry is owed to its server no more.
func ForgetRemote(tx *Tx, seq uint64) {
	if e, ok := LogEntry(tx, seq); ok && e.Remote {
		ed := edits{tx: tx}
		ed.set("", "", posting{seq: seq})
		e.Remote = false
		putEntry(tx, seq, e, &ed)
		ed.apply()
	}
}

// putEntry writes an entry that has changed where it is, or deletes it, with what the indexes have of it, when nobody holds it any more.
func putEntry(tx *Tx, seq uint64, e Entry, ed *edits) (tail bool) {
	key := SeqKey(seq)
	table := logTable
	if tail = logTail.Has(tx, key); tail {
		table, ed.m = logTail, nil // is not indexed
	}
	tx.inOrder(table.name)
	hs := holders{tx: tx}
	held := e.Remote && hs.pending(seq, e.At)
	for _, o := range e.Owners {
		held = held || hs.holds(seq, []byte(o.Account), o.Role)
	}
	if held {
		table.Put(tx, key, e)
		return tail
	}
	table.Delete(tx, key)
	if !tail {
		if e.Remote {
			ed.set("", "", posting{seq: seq})
		}
		for _, o := range e.Owners {
			ed.set(o.Account, o.With, posting{seq: seq})
			hs.dropHeirs(seq, []byte(o.Account), o.With, ed)
		}
	}
	return tail
}
