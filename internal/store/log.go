package store

import (
	"encoding/binary"
	"errors"
	"iter"
	"slices"
	"time"
)

// The log keeps every stored stanza once, in the order in which they were stored: what members have in their archives, what waits for one of their
// devices, and what is owed to other servers. An entry has owners, and dies with the last of them. The tables:
var (
	logTable = Table[Entry]{"log"}      // sequence; its numbers are never given twice
	logOwned = Table[Role]{"logowned"}  // account, sequence
	logWith  = Table[Role]{"logwith"}   // account, bare JID of the other side, sequence
	Progress = Table[Count]{"progress"} // one of the prefixes below, and its key: the small numbers that change with every stanza
)

// Prefixes of the keys in Progress.
const (
	// ProgressDelivered, account: up to this sequence, what is owed to the account's devices was delivered.
	ProgressDelivered = "a"
	// ProgressHandled, stream management id: how many stanzas of that session were handled (XEP-0198 §4).
	ProgressHandled = "s"
	// ProgressSent, own domain, other domain: up to this sequence, what is owed to the other server has arrived there. Absent: nothing is owed.
	ProgressSent = "d"
)

// Role says why an account owns an entry.
type Role uint8

// The roles.
const (
	// Archived entries are in the account's archive (XEP-0313).
	Archived Role = 1 << iota
	// Owed entries are to reach one of the account's devices (offline messages), until Progress says that they did: what is read is Owed only
	// where it is after Delivered.
	Owed
	// ByOwner: the account is the sender.
	ByOwner
)

// Entry is one stanza of the log.
type Entry struct {
	At time.Time // when it was stored, to the millisecond; later entries are never earlier
	// Remote: it is owed to the server that its to names, until Progress says that it arrived.
	Remote bool
	Owners []Owner
	Stanza []byte // as it was routed, from and to included, without anybody's stanza-id
}

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
	Entry
}

// Range selects entries of one account.
type Range struct {
	Account   string
	With      string // bare JID of the other side; "" all
	After     uint64 // only later ones
	Before    uint64 // only earlier ones; 0: all
	Backwards bool   // the latest first
	Role      Role   // only entries with all of these roles
}

// AppendLog stores an entry and returns its sequence. The entry's time is set, to now or, where the clock was put back, to that of the last one.
func AppendLog(tx *Tx, e *Entry) (seq uint64) {
	e.At = time.Now().UTC().Truncate(time.Millisecond)
	if _, last, ok := logTable.last(tx); ok && last.At.After(e.At) {
		e.At = last.At
	}
	seq = logTable.Append(tx, *e)
	for _, o := range e.Owners { // an account is named once
		logOwned.Put(tx, SeqKey(seq, o.Account), o.Role)
		logWith.Put(tx, SeqKey(seq, o.Account, o.With), o.Role)
	}
	return seq
}

// LastLogSeq is the sequence of the last entry ever stored.
func LastLogSeq(tx *Tx) uint64 {
	b := tx.bucket(logTable.name)
	if b == nil {
		return 0
	}
	return b.Sequence()
}

// LogSeqAt is the sequence of the first entry that is not earlier than at; one that is not given yet, where there is none.
func LogSeqAt(tx *Tx, at time.Time) uint64 {
	for key, e := range logTable.All(tx) {
		if !e.At.Before(at) {
			return SeqOf(key)
		}
	}
	return LastLogSeq(tx) + 1
}

// LogEntry is one entry, whoever owns it.
func LogEntry(tx *Tx, seq uint64) (Entry, bool) { return logTable.Get(tx, SeqKey(seq)) }

// OwnedEntry is one entry of an account.
func OwnedEntry(tx *Tx, account string, seq uint64) (Owned, bool) {
	role, ok := logOwned.Get(tx, SeqKey(seq, account))
	if !ok {
		return Owned{}, false
	}
	if seq <= Delivered(tx, account) {
		role &^= Owed
	}
	if role&(Archived|Owed) == 0 {
		return Owned{}, false
	}
	e, ok := logTable.Get(tx, SeqKey(seq))
	return Owned{Seq: seq, Role: role, Entry: e}, ok
}

// LogOf iterates over entries of an account. They may be changed and deleted meanwhile.
func LogOf(tx *Tx, r Range) iter.Seq[Owned] {
	return func(yield func(Owned) bool) {
		var all []Owned
		t, parts := logOwned, []string{r.Account}
		if r.With != "" {
			t, parts = logWith, append(parts, r.With)
		}
		delivered := Delivered(tx, r.Account)
		for key, role := range t.All(tx, parts...) {
			seq := SeqOf(key)
			if seq <= delivered {
				role &^= Owed
			}
			if role&(Archived|Owed) == 0 || role&r.Role != r.Role || seq <= r.After || r.Before > 0 && seq >= r.Before {
				continue
			}
			e, _ := logTable.Get(tx, SeqKey(seq))
			all = append(all, Owned{seq, role, e})
		}
		if r.Backwards {
			slices.Reverse(all)
		}
		for _, o := range all {
			if !yield(o) {
				return
			}
		}
	}
}

// LogRemote iterates over entries that are, or were, owed to other servers, after a sequence.
func LogRemote(tx *Tx, after uint64) iter.Seq2[uint64, Entry] {
	return func(yield func(uint64, Entry) bool) {
		for key, e := range logTable.From(tx, SeqKey(after+1)) {
			if e.Remote && !yield(SeqOf(key), e) {
				return
			}
		}
	}
}

// DropRole takes roles of an account on an entry away; without Archived and Owed it owns it no more.
func DropRole(tx *Tx, account string, seq uint64, drop Role) {
	e, ok := logTable.Get(tx, SeqKey(seq))
	if !ok {
		return
	}
	for i := range e.Owners {
		o := &e.Owners[i]
		if o.Account != account {
			continue
		}
		o.Role &^= drop
		if o.Role&(Archived|Owed) == 0 {
			logOwned.Delete(tx, SeqKey(seq, o.Account))
			logWith.Delete(tx, SeqKey(seq, o.Account, o.With))
			continue
		}
		logOwned.Put(tx, SeqKey(seq, o.Account), o.Role)
		logWith.Put(tx, SeqKey(seq, o.Account, o.With), o.Role)
	}
	e.Owners = slices.DeleteFunc(e.Owners, func(o Owner) bool { return o.Role&(Archived|Owed) == 0 })
	putLog(tx, seq, e)
}

// ForgetRemote tells that an entry is owed to its server no more.
func ForgetRemote(tx *Tx, seq uint64) {
	if e, ok := logTable.Get(tx, SeqKey(seq)); ok && e.Remote {
		e.Remote = false
		putLog(tx, seq, e)
	}
}

func putLog(tx *Tx, seq uint64, e Entry) {
	if len(e.Owners) == 0 && !e.Remote {
		logTable.Delete(tx, SeqKey(seq))
		return
	}
	logTable.Put(tx, SeqKey(seq), e)
}

// Count is a number that is stored in eight bytes.
type Count uint64

var errCount = errors.New("not a number of eight bytes")

// MarshalBinary is big-endian.
func (c Count) MarshalBinary() ([]byte, error) {
	return binary.BigEndian.AppendUint64(nil, uint64(c)), nil
}

// UnmarshalBinary reads what MarshalBinary wrote.
func (c *Count) UnmarshalBinary(b []byte) error {
	if len(b) != 8 {
		return errCount
	}
	*c = Count(binary.BigEndian.Uint64(b))
	return nil
}

// MarshalBinary is the byte.
func (r Role) MarshalBinary() ([]byte, error) { return []byte{byte(r)}, nil }

// UnmarshalBinary reads what MarshalBinary wrote.
func (r *Role) UnmarshalBinary(b []byte) error {
	if len(b) != 1 {
		return errCount
	}
	*r = Role(b[0])
	return nil
}
