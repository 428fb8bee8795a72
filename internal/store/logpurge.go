package store

import "time"

// purge is one call of PurgeLog.
type purge struct {
	tx    *Tx
	hs    holders
	ed    edits
	left  int // how much may be done yet
	freed int
}

// PurgeLog frees what nobody owns any more, at most limit entries at a time; more tells that it is to be called again, in another transaction.
// Somebody has to call it now and then, and after ClearAccount and Retain.
func PurgeLog(tx *Tx, limit int) (more bool) {
	p := purge{tx: tx, hs: holders{tx: tx}, ed: edits{tx: tx}, left: limit}
	p.remote()
	for account := range logAccounts.All(tx) {
		if p.left <= 0 {
			break
		}
		p.account(readHolder(tx, account))
	}
	return p.left <= 0 && tx.err == nil
}

// remote ends what other servers have.
func (p *purge) remote() {
	for one := range postings(p.tx, readHolder(p.tx, ""), Range{}) {
		raw, table := findEntry(p.tx, one.seq)
		if p.left <= 0 || one.tail || raw != nil && p.hs.pending(one.seq, p.tx.entryTime(table, []byte(SeqKey(one.seq)), raw)) {
			break
		}
		p.left--
		p.free("", one.seq)
	}
	p.ed.apply()
}

// account frees what an account lost.
func (p *purge) account(h *holder) {
	if h.held != 0 && h.held <= max(h.delivered, h.gone) { // it was delivered since: once more from there
		h.purged, h.held = h.held-1, 0
	}
	was, read := h.numbers(), 0
	p.freed = 0
	target := max(h.gone, h.floor, h.delivered)
	for h.purged < target && p.left > 0 {
		ps := ownedIndex.next(p.tx, ownedIndex.prefix(h.account, ""), h.purged, nil)
		if len(ps) == 0 || ps[0].seq > target {
			break // what is in the tail is looked at when it moves
		}
		p.left--
		read += len(ps)
		for _, one := range ps {
			if one.seq > target || p.left < 0 {
				break
			}
			p.posting(h, one)
			h.purged = one.seq
		}
		p.ed.apply()
	}
	// Where nothing was done, and little would be done again, it is not written how far it came.
	if h.numbers() != was && (p.left <= 0 || p.freed > 0 || read > 4*chunkMost) {
		h.save(p.tx)
	}
}

func (p *purge) posting(h *holder, one posting) {
	switch role := h.role(one.seq, one.role); {
	case role == 0:
		p.left--
		p.freed++
		p.free(h.account, one.seq)
	case role&Archived == 0 && h.held == 0: // once it is delivered it is nobody's
		h.held = one.seq
	}
}

// free ends an account's part in an entry, and the entry where that was the last.
func (p *purge) free(account string, seq uint64) {
	gone := posting{seq: seq}
	raw, table := findEntry(p.tx, seq)
	if raw == nil {
		p.ed.set(account, "", gone)
		return
	}
	e, err := readHead(raw)
	held := e.remote && p.hs.pending(seq, time.UnixMilli(e.ms))
	with := ""
	if err == nil {
		_, err = e.walk(func(owner, w []byte, role Role) {
			if h := p.hs.of([]byte(account)); string(owner) == account && with == "" {
				with = string(w)
			} else if h.had(seq, string(owner)) {
				with = h.other(string(owner), string(w))
			}
			held = held || p.hs.holds(seq, owner, role)
		})
	}
	switch {
	case err != nil:
		p.tx.damagedRecord(table, []byte(SeqKey(seq)), err)
	case held:
		p.ed.set(account, with, gone)
	default:
		p.ed.set("", "", gone)
		_, _ = e.walk(func(owner, w []byte, _ Role) {
			p.ed.set(string(owner), string(w), gone)
			p.hs.dropHeirs(seq, owner, string(w), &p.ed)
		})
		p.tx.delete(table, SeqKey(seq))
	}
}
