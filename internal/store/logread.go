package store

import (
	"iter"
	"slices"
	"sort"
	"time"
)

// LastLogSeq is the sequence of the last entry ever stored.
func LastLogSeq(tx *Tx) uint64 {
	b := tx.bucket(logTail.name)
	if b == nil {
		return 0
	}
	return b.Sequence()
}

// lastLogTime is when the last entry that is there was stored.
func lastLogTime(tx *Tx) time.Time {
	for _, table := range [...]string{logTail.name, logTable.name} {
		b := tx.bucket(table)
		if b == nil {
			break
		}
		if _, k, raw := upTo(b, []byte(SeqKey(1<<64-1))); k != nil {
			h, err := readHead(raw)
			if err != nil {
				tx.damagedRecord(table, k, err)
			}
			return time.UnixMilli(h.stored)
		}
	}
	return time.Time{}
}

func (tx *Tx) entryTime(table string, key, raw []byte) time.Time {
	h, err := readHead(raw)
	if err != nil {
		tx.damagedRecord(table, key, err)
	}
	return time.UnixMilli(h.ms)
}

// LogSeqAt divides an account's entries by time: those before the sequence are earlier than at, those from it on are not.
func LogSeqAt(tx *Tx, account string, at time.Time) uint64 {
	low, high := readHolder(tx, account).first(), LastLogSeq(tx)+1
	var space []posting
	for low+1 < high {
		mid := low + (high-low)/2
		space = readPostings(tx, account, Range{}, mid-1, high, space[:0])
		n := sort.Search(len(space), func(i int) bool { return space[i].seq >= high || !tx.earlier(space[i].seq, at) })
		switch {
		case n == 0: // of what is from here on
			high = mid
		case n < len(space):
			return min(high, space[n].seq)
		default:
			low = space[n-1].seq
		}
	}
	return high
}

func (tx *Tx) earlier(seq uint64, at time.Time) bool {
	raw, table := findEntry(tx, seq)
	return raw == nil || tx.entryTime(table, []byte(SeqKey(seq)), raw).Before(at)
}

// findEntry is an entry as it lies in the file, and whether in the tail.
func findEntry(tx *Tx, seq uint64) (raw []byte, table string) {
	key := []byte(SeqKey(seq))
	for _, table := range [...]string{logTail.name, logTable.name} {
		b := tx.bucket(table)
		if b == nil {
			break
		}
		if raw := b.Get(key); raw != nil {
			return raw, table
		}
	}
	return nil, ""
}

// LogEntry is one entry, whoever owns it.
func LogEntry(tx *Tx, seq uint64) (e Entry, ok bool) {
	raw, table := findEntry(tx, seq)
	if raw == nil {
		return e, false
	}
	return logTable.decode(tx, table+" "+SeqKey(seq), raw)
}

// OwnedEntry is one entry of an account.
func OwnedEntry(tx *Tx, account string, seq uint64) (Owned, bool) {
	h := readHolder(tx, account)
	return h.entry(tx, seq)
}

// LogRemote iterates over entries that are owed to other servers, after a sequence.
func LogRemote(tx *Tx, after uint64) iter.Seq2[uint64, Entry] {
	return func(yield func(uint64, Entry) bool) {
		for p := range postings(tx, readHolder(tx, ""), Range{After: after}) {
			if e, ok := LogEntry(tx, p.seq); ok && e.Remote && !yield(p.seq, e) {
				return
			}
		}
	}
}

// entry is an entry as the account has it.
func (h *holder) entry(tx *Tx, seq uint64) (o Owned, ok bool) {
	e, ok := LogEntry(tx, seq)
	i := slices.IndexFunc(e.Owners, func(o Owner) bool { return o.Account == h.account })
	if ok && i >= 0 {
		if role := h.role(seq, e.Owners[i].Role); role != 0 {
			return Owned{Seq: seq, Role: role, Entry: e}, true
		}
	}
	for _, o := range e.Owners {
		if role := h.inherited(seq, o.Account, o.Role); role != 0 {
			return Owned{Seq: seq, Role: role, Former: o.Account, Entry: e}, true
		}
	}
	return o, false
}

// RecentLog iterates over the stanzas of an account's last entries with one other side, the latest first, at most so many. Their bytes are valid until the
// transaction ends.
func RecentLog(tx *Tx, account, with string, most int) iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		for p := range postings(tx, readHolder(tx, account), Range{Account: account, With: with, Backwards: true}) {
			if most--; most < 0 {
				return
			}
			raw, table := findEntry(tx, p.seq)
			if raw == nil {
				continue
			}
			h, err := readHead(raw)
			var stanza []byte
			if err == nil {
				stanza, err = h.walk(func([]byte, []byte, Role) {})
			}
			if err != nil {
				tx.damagedRecord(table, []byte(SeqKey(p.seq)), err)
				return
			}
			if !yield(stanza) {
				return
			}
		}
	}
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

// LogOf iterates over entries of an account, at the cost of what it yields. They may be changed and deleted meanwhile.
func LogOf(tx *Tx, r Range) iter.Seq[Owned] {
	return func(yield func(Owned) bool) {
		h := readHolder(tx, r.Account)
		for p := range postings(tx, h, r) {
			if o, ok := h.entry(tx, p.seq); ok && o.Role&r.Role == r.Role && !yield(o) {
				return
			}
		}
	}
}

// postings iterates over what the indexes and the tail have of a range, with the roles that are left, without reading entries of the log. The place
// that it has come to is a sequence: what changes meanwhile, even that the tail moves, does not confuse it.
func postings(tx *Tx, h *holder, r Range) iter.Seq[posting] {
	after, before := max(r.After, h.first()), r.Before
	if r.Role&Archived != 0 {
		after = max(after, h.floor)
	}
	if r.Role&Owed != 0 {
		after = max(after, h.delivered)
	}
	if before == 0 {
		before = 1<<64 - 1
	}
	return func(yield func(posting) bool) {
		var space []posting
		for after < before {
			space = readPostings(tx, h.account, r, after, before, space[:0])
			for _, p := range space {
				if p.seq <= after || p.seq >= before {
					return
				}
				if p.role = h.role(p.seq, p.role); p.role != 0 && p.role&r.Role == r.Role && !yield(p) {
					return
				}
			}
			switch {
			case len(space) == 0:
				return
			case r.Backwards:
				before = space[len(space)-1].seq
			default:
				after = space[len(space)-1].seq
			}
		}
	}
}

// readPostings reads the next few, of the index or of the tail.
func readPostings(tx *Tx, account string, r Range, after, before uint64, ps []posting) []posting {
	ix, prefix := indexFor(account, r.With)
	if r.Backwards {
		if ps = tailPostings(tx, account, r.With, after, before, ps); len(ps) > 0 {
			slices.Reverse(ps)
			return ps
		}
		return ix.prev(tx, prefix, before, ps)
	}
	if ps = ix.next(tx, prefix, after, ps); len(ps) > 0 {
		return ps
	}
	return tailPostings(tx, account, r.With, after, before, ps)
}

// tailPostings are what the tail has of an account, between two sequences.
func tailPostings(tx *Tx, account, with string, after, before uint64, ps []posting) []posting {
	b := tx.bucket(logTail.name)
	if b == nil || after == 1<<64-1 {
		return ps
	}
	c := b.Cursor()
	for k, raw := c.Seek([]byte(SeqKey(after + 1))); k != nil; k, raw = c.Next() {
		p := posting{seq: SeqOf(string(k)), tail: true}
		if p.seq >= before {
			break
		}
		h, err := readHead(raw)
		if err == nil {
			if h.remote && account == "" {
				p.role = Owed
			}
			var stanza []byte
			stanza, err = h.walk(func(a, w []byte, role Role) {
				if string(a) == account && (with == "" || string(w) == with) {
					p.role = role
				}
			})
			p.size = len(stanza)
		}
		if err != nil {
			tx.damagedRecord(logTail.name, k, err)
			return ps
		}
		if p.role != 0 {
			ps = append(ps, p)
		}
	}
	return ps
}
