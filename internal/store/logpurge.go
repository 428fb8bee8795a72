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

// remote gives up what another server did not take for too long.
func (p *purge) remote() {
	latest := time.Now().Add(-RemoteMost)
	for one := range postings(p.tx, readHolder(p.tx, ""), Range{}) {
		raw, table := findEntry(p.tx, one.seq)
		if p.left <= 0 || raw == nil || !p.tx.entryTime(table, []byte(SeqKey(one.seq)), raw).Before(latest) {
			return
		}
		p.left--
		ForgetRemote(p.tx, one.seq)
	}
}

// account frees what an account lost.
func (p *purge) account(h *holder) {
	if h.held != 0 && h.held <= max(h.delivered, h.gone) { // it was delivered since: once more from there
		h.purged, h.held = h.held-1, 0
	}
	was, read := h.logAccount, 0
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
	if h.logAccount != was && (p.left <= 0 || p.freed > 0 || read > 4*chunkMost) {
		h.save(p.tx)
	}
}

func (p *purge) posting(h *holder, one posting) {
	switch role := h.role(one.seq, one.role); {
	case role == 0:
		p.left--
		p.freed++
		p.free(h, one.seq)
	case role&Archived == 0 && h.held == 0: // once it is delivered it is nobody's
		h.held = one.seq
	}
}

// free ends an account's part in an entry, and the entry where that was the last. What another server is to get yet stays as it is: ForgetRemote
// ends it.
func (p *purge) free(h *holder, seq uint64) {
	gone := posting{seq: seq}
	raw, table := findEntry(p.tx, seq)
	if raw == nil {
		p.ed.set(h.account, "", gone)
		return
	}
	e, err := readHead(raw)
	if err != nil {
		p.tx.damagedRecord(table, []byte(SeqKey(seq)), err)
		return
	}
	with, held := "", false
	_, err = e.walk(func(account, w []byte, role Role) {
		if string(account) == h.account {
			with = string(w)
		}
		held = held || p.hs.of(account).role(seq, role) != 0
	})
	switch {
	case err != nil:
		p.tx.damagedRecord(table, []byte(SeqKey(seq)), err)
	case held:
		p.ed.set(h.account, with, gone)
	case !e.remote:
		_, _ = e.walk(func(account, w []byte, _ Role) { p.ed.set(string(account), string(w), gone) })
		p.tx.delete(table, SeqKey(seq))
	}
}
