package store

import (
	"encoding/binary"
	"slices"
)

// An account that moved within the box takes its archive along: the new one is its heir. The entries stay as they are, with the owners that they have;
// only the heir's indexes are written, a few bytes for each entry. Records of the log never grow, as each page that did would become two.

// Inherited entries were another account's before (Owned.Former); the account that has them is not named in them.
const Inherited Role = 8

// inheritance is what an account has of another one: what was Archived there behind after and up to upTo. Of one account there may be several; open is the
// one where InheritLog goes on.
type inheritance struct {
	account     string
	after, upTo uint64
	open        bool
}

func (i inheritance) covers(seq uint64) bool { return i.after < seq && seq <= i.upTo }

func appendText(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

func cutText(b []byte) (s string, rest []byte, ok bool) {
	n, rest, ok := cutUvarint(b)
	if !ok || n > uint64(len(rest)) {
		return "", nil, false
	}
	return string(rest[:n]), rest[n:], true
}

// appendKin writes an account's heirs and what it inherited; nothing where there is neither.
func (a *logAccount) appendKin(b []byte) []byte {
	if !a.lost && len(a.former) == 0 && len(a.heirs) == 0 {
		return b
	}
	lost := uint64(0)
	if a.lost {
		lost = 1
	}
	b = binary.AppendUvarint(binary.AppendUvarint(b, lost), uint64(len(a.former)))
	for _, f := range a.former {
		open := uint64(0)
		if f.open {
			open = 1
		}
		b = binary.AppendUvarint(binary.AppendUvarint(appendText(b, f.account), f.after), f.upTo<<1|open)
	}
	for _, name := range a.heirs {
		b = appendText(b, name)
	}
	return b
}

func (a *logAccount) cutKin(b []byte) error {
	if len(b) == 0 {
		return nil
	}
	lost, b, ok := cutUvarint(b)
	n, b, ok2 := cutUvarint(b)
	if !ok || !ok2 {
		return errCount
	}
	a.lost = lost == 1
	for range n {
		var f inheritance
		var ok3 bool
		f.account, b, ok = cutText(b)
		if f.after, b, ok2 = cutUvarint(b); ok && ok2 {
			f.upTo, b, ok3 = cutUvarint(b)
		}
		if !ok3 {
			return errCount
		}
		f.upTo, f.open = f.upTo>>1, f.upTo&1 == 1
		a.former = append(a.former, f)
	}
	for len(b) > 0 {
		var name string
		if name, b, ok = cutText(b); !ok {
			return errCount
		}
		a.heirs = append(a.heirs, name)
	}
	return nil
}

// first is the sequence behind which an account's postings begin.
func (h *holder) first() uint64 {
	if len(h.former) > 0 && !h.lost {
		return 0 // what is its own and too old has no role
	}
	return h.gone
}

// inherited is the role that an account has from an owner of an entry; 0: none.
func (h *holder) inherited(seq uint64, owner string, role Role) Role {
	if role&Archived == 0 || h.lost {
		return 0
	}
	for _, f := range h.former {
		if f.account == owner && f.covers(seq) {
			return h.role(seq, role&(Archived|ByOwner)|Inherited)
		}
	}
	return 0
}

// had tells whether an owner of an entry is one whom the account inherits from, or did.
func (h *holder) had(seq uint64, owner string) bool {
	return slices.ContainsFunc(h.former, func(f inheritance) bool { return f.account == owner && f.covers(seq) })
}

// other is the other side of an inherited entry: what the owner wrote to himself stays so.
func (h *holder) other(owner, with string) string {
	if with == owner {
		return h.account
	}
	return with
}

// holds tells whether an owner, or an heir of his, has an entry.
func (hs *holders) holds(seq uint64, owner []byte, role Role) bool {
	h := hs.of(owner)
	if h.role(seq, role) != 0 {
		return true
	}
	for _, name := range h.heirs {
		if hs.of([]byte(name)).inherited(seq, h.account, role) != 0 {
			return true
		}
	}
	return false
}

// dropHeirs takes an entry that goes out of the indexes of an owner's heirs.
func (hs *holders) dropHeirs(seq uint64, owner []byte, with string, ed *edits) {
	for _, name := range hs.of(owner).heirs {
		if h := hs.of([]byte(name)); h.had(seq, string(owner)) {
			ed.set(name, h.other(string(owner), with), posting{seq: seq})
		}
	}
}

// InheritLog gives an account what another one, the former, has in its archive and it has not yet, in the place where it belongs by its sequence. One call
// looks at no more than limit entries; more tells that it is to be called again, in another transaction. It goes on where it stopped; what the former gets
// later is given by a later call, but not what it inherits later. Where their times do not allow it (LogsMerge), nobody should.
func InheritLog(tx *Tx, account, former string, limit int) (n int, more bool) {
	moveTail(tx)
	h := readHolder(tx, account)
	if h.lost { // what an earlier account of this name inherited goes first
		p := purge{tx: tx, hs: holders{tx: tx}, ed: edits{tx: tx}, left: limit}
		if p.account(h); p.left <= 0 {
			return 0, true
		}
		h.lost, h.former = false, nil
		h.save(tx)
	}
	f := readHolder(tx, former)
	i := h.inherits(tx, f)
	ed := edits{tx: tx}
	last, seen := h.former[i].upTo, 0
	for p := range postings(tx, f, Range{After: last, Role: Archived}) {
		if seen++; seen > limit {
			more = true
			break
		}
		last = p.seq
		if p.seq > h.floor && h.take(tx, f, p, &ed) {
			n++
		}
	}
	if !more {
		last = max(last, LastLogSeq(tx))
	}
	h.former[i].upTo = last
	ed.each(func(ix index, prefix string, ps []posting) { ix.insert(tx, prefix, ps) })
	h.save(tx)
	return n, more
}

// inherits makes an account the heir of a former one, and of those whose heir that one is; it returns the place of the former.
func (h *holder) inherits(tx *Tx, f *holder) (at int) {
	at = slices.IndexFunc(h.former, func(i inheritance) bool { return i.open && i.account == f.account })
	from := uint64(0)
	if at >= 0 {
		if from = h.former[at].upTo; from < max(f.gone, f.floor) { // what lies between was not inherited
			h.former[at].open, at = false, -1
		}
	}
	for _, one := range f.former {
		if one.after, one.open = max(one.after, f.floor, from), false; !f.lost && one.after < one.upTo && !h.covers(one) {
			h.former = append(h.former, one)
			of := h // an account can come back to an address
			if one.account != h.account {
				of = readHolder(tx, one.account)
			}
			of.addHeir(tx, h.account)
		}
	}
	if at < 0 {
		at = len(h.former)
		h.former = append(h.former, inheritance{f.account, max(f.gone, f.floor), from, true})
		f.addHeir(tx, h.account)
	}
	return at
}

// covers tells whether something is inherited already.
func (h *holder) covers(one inheritance) bool {
	return slices.ContainsFunc(h.former, func(i inheritance) bool {
		return i.account == one.account && i.after <= one.after && i.upTo >= one.upTo
	})
}

func (h *holder) addHeir(tx *Tx, account string) {
	if !slices.Contains(h.heirs, account) {
		h.heirs = append(h.heirs, account)
		h.save(tx)
	}
}

// take collects the postings of an entry that the account gets; false where it has that already, as one of its two sides or from another former account.
func (h *holder) take(tx *Tx, f *holder, p posting, ed *edits) bool {
	for _, have := range readPostings(tx, h.account, Range{}, p.seq-1, p.seq+1, nil) {
		if have.seq == p.seq && h.role(have.seq, have.role)&Archived != 0 {
			return false
		}
	}
	raw, table := findEntry(tx, p.seq)
	if raw == nil {
		return false
	}
	e, err := readHead(raw)
	with := ""
	if err == nil {
		_, err = e.walk(func(owner, w []byte, _ Role) {
			if string(owner) == f.account || with == "" && f.had(p.seq, string(owner)) {
				with = h.other(string(owner), string(w))
			}
		})
	}
	if err != nil {
		tx.damagedRecord(table, []byte(SeqKey(p.seq)), err)
		return false
	}
	if with == "" {
		return false
	}
	ed.set(h.account, with, posting{seq: p.seq, role: p.role&(Archived|ByOwner) | Inherited, size: p.size})
	h.count++
	h.bytes += uint64(p.size)
	return true
}

// insert puts postings, given in the order of the log, among those that are there; one that is there already is replaced.
func (ix index) insert(tx *Tx, prefix string, ps []posting) {
	for len(ps) > 0 {
		b := tx.bucket(string(ix))
		if b == nil {
			return
		}
		_, last, _ := upTo(b, chunkKey(live+prefix, 1<<64-1))
		hasLive := slices.Equal(last[:min(len(last), len(live+prefix))], []byte(live+prefix))
		if hasLive && ps[0].seq >= SeqOf(string(last)) {
			ix.mergeLive(tx, prefix, string(last), ps)
			return
		}
		end := uint64(1<<64 - 1)
		if hasLive {
			end = SeqOf(string(last))
		}
		c, k, v := upTo(b, chunkKey(prefix, ps[0].seq))
		key, all := "", []posting(nil)
		if slices.Equal(k[:min(len(k), len(prefix))], []byte(prefix)) && len(k) == len(prefix)+8 {
			key, all = string(k), ix.decode(tx, k, v, nil)
			k, _ = c.Next()
		} else {
			k, _ = c.Seek(chunkKey(prefix, ps[0].seq))
		}
		sealed := len(k) == len(prefix)+8 && string(k[:len(prefix)]) == prefix
		if sealed {
			end = SeqOf(string(k))
		}
		if !sealed && !hasLive && (len(all) == 0 || all[len(all)-1].seq < ps[0].seq) {
			ix.add(tx, prefix, ps)
			return
		}
		n, _ := slices.BinarySearchFunc(ps, end, func(p posting, end uint64) int {
			if p.seq < end {
				return -1
			}
			return 1
		})
		ix.seal(tx, prefix, key, mergePostings(all, ps[:n]))
		ps = ps[n:]
	}
}

// mergeLive merges postings into the latest chunk; what is too much for it becomes chunks before it.
func (ix index) mergeLive(tx *Tx, prefix, key string, ps []posting) {
	raw := tx.bucket(string(ix)).Get([]byte(key))
	all := mergePostings(ix.decode(tx, []byte(key), raw, nil), ps)
	tx.delete(string(ix), key)
	ix.add(tx, prefix, all)
}

// seal writes postings as chunks in the place of one.
func (ix index) seal(tx *Tx, prefix, key string, ps []posting) {
	if key != "" {
		tx.delete(string(ix), key)
	}
	for len(ps) > 0 {
		n := min(chunkMost, len(ps))
		ix.save(tx, string(chunkKey(prefix, ps[0].seq)), ps[:n])
		ps = ps[n:]
	}
}

// mergePostings merges two lists in the order of the log; of two of one entry the second one's stays.
func mergePostings(a, b []posting) []posting {
	all := make([]posting, 0, len(a)+len(b))
	for len(a) > 0 || len(b) > 0 {
		switch {
		case len(b) == 0 || len(a) > 0 && a[0].seq < b[0].seq:
			all, a = append(all, a[0]), a[1:]
		default:
			if len(a) > 0 && a[0].seq == b[0].seq {
				a = a[1:]
			}
			all, b = append(all, b[0]), b[1:]
		}
	}
	return all
}

// LogsMerge tells whether the archives of two accounts can be one: whether the order in which they were stored is that of their times. It is, but for
// messages that were imported beside others that are older here. Where both have many it costs a look at each.
func LogsMerge(tx *Tx, a, b string) bool {
	ha, hb := readHolder(tx, a), readHolder(tx, b)
	for range postings(tx, ha, Range{Role: Archived}) {
		return inOneOrder(tx, ha, hb)
	}
	return true
}

func inOneOrder(tx *Tx, a, b *holder) bool {
	last := int64(0)
	later := func(p posting) bool {
		raw, table := findEntry(tx, p.seq)
		if raw == nil {
			return true
		}
		ms := tx.entryTime(table, []byte(SeqKey(p.seq)), raw).UnixMilli()
		ok := ms >= last
		last = max(last, ms)
		return ok
	}
	var before uint64
	for p := range postings(tx, b, Range{Role: Archived}) {
		for q := range postings(tx, a, Range{Role: Archived, After: before, Before: p.seq}) {
			if !later(q) {
				return false
			}
		}
		if before = p.seq; !later(p) {
			return false
		}
	}
	for q := range postings(tx, a, Range{Role: Archived, After: before}) {
		if !later(q) {
			return false
		}
		break // the rest is in order, as they are one account's
	}
	return true
}
