package archive

import (
	"iter"
	"slices"
	"time"

	"pibox/internal/store"
	"pibox/internal/xmpp"

	"mellium.im/xmpp/stanza"
)

// page is what a query finds, read in one transaction or, where it has to look at much, in several.
type page struct {
	account string
	q       query
	bytes   int // that it may hold

	begun         bool
	after, before uint64 // what is still to be looked at, exclusive; before 0: up to the end
	named         []uint64
	size          int

	found    []found // in the order of the archive
	done     bool
	complete bool // nothing is left behind it, or before it where it was read backwards
	count    int
	counted  bool
}

// found is one result.
type found struct {
	id string
	store.Owned
}

// scans tells that no index finds what the query asks for, so that it has to look at more than it finds.
func (q *query) scans() bool { return q.with.Resource != "" && q.ids == nil }

// filtered tells that the query asks for a part of the archive.
func (q *query) filtered() bool {
	return !q.with.IsZero() || !q.start.IsZero() || !q.end.IsZero() || q.ids != nil || q.afterID != nil || q.beforeID != nil
}

// backwards tells that the page is the last one of what is asked for.
func (q *query) backwards() bool { return q.before != nil }

// read goes on, looking at no more than so many entries.
func (p *page) read(tx *store.Tx, look int) error {
	if !p.begun {
		if err := p.begin(tx); err != nil {
			return err
		}
		p.begun = true
	}
	for o := range p.entries(tx) {
		if p.q.backwards() {
			p.before = o.Seq
		} else {
			p.after = o.Seq
		}
		if p.matches(o) && !p.take(tx, o) {
			p.end(false)
			return nil
		}
		if look--; look <= 0 {
			return nil
		}
	}
	p.end(true)
	return nil
}

func (p *page) end(complete bool) {
	p.done, p.complete = true, complete
	if p.q.backwards() {
		slices.Reverse(p.found)
	}
}

// take adds a result; false where the page is full.
func (p *page) take(tx *store.Tx, o store.Owned) bool {
	p.size += len(o.Stanza) + resultCost
	if len(p.found) == p.q.max || len(p.found) > 0 && p.size > p.bytes {
		return false
	}
	p.found = append(p.found, found{store.LogID(tx, p.account, o.Seq), o})
	return true
}

// entries are those between after and before, in the direction of the page.
func (p *page) entries(tx *store.Tx) iter.Seq[store.Owned] {
	if p.q.ids != nil {
		return p.entriesNamed(tx)
	}
	r := store.Range{Account: p.account, After: p.after, Before: p.before, Backwards: p.q.backwards(), Role: store.Archived}
	// The index has the other side; a resource of the account's own may have written to, or got from, anybody.
	if other := p.q.with.Bare().String(); !p.q.with.IsZero() && (other != p.account || p.q.with.IsBare()) {
		r.With = other
	}
	return store.LogOf(tx, r)
}

func (p *page) entriesNamed(tx *store.Tx) iter.Seq[store.Owned] {
	return func(yield func(store.Owned) bool) {
		for i := range p.named {
			if p.q.backwards() {
				i = len(p.named) - 1 - i
			}
			seq := p.named[i]
			if seq <= p.after || p.before > 0 && seq >= p.before {
				continue
			}
			if o, ok := store.OwnedEntry(tx, p.account, seq); ok && !yield(o) {
				return
			}
		}
	}
}

// matches is what of the with filter the index does not tell (XEP-0313 §"Filtering by JID").
func (p *page) matches(o store.Owned) bool {
	with := p.q.with
	if with.IsZero() || with.IsBare() && p.q.ids == nil {
		return true
	}
	st, err := xmpp.ParseStanza(xmpp.OwnedStanza(o, p.account))
	switch {
	case err != nil:
		return false
	case !with.IsBare():
		return st.From == with || st.To == with
	case with.String() == p.account: // what the member sent to himself: every message is from or to him
		return st.From.Bare() == with && st.To.Bare() == with
	}
	return st.From.Bare() == with || st.To.Bare() == with
}

// begin finds out where the page lies. An id that is not in the archive is an error, whichever field it is in.
func (p *page) begin(tx *store.Tx) error {
	for _, b := range []struct {
		id    *string
		bound func(uint64)
	}{{p.q.afterID, p.from}, {p.q.after, p.from}, {p.q.beforeID, p.to}, {p.q.before, p.to}} {
		if b.id == nil || b.id == p.q.before && *b.id == "" { // XEP-0059 §2.5: the last page
			continue
		}
		seq, err := p.seq(tx, *b.id)
		if err != nil {
			return err
		}
		b.bound(seq)
	}
	for _, id := range p.q.ids {
		seq, err := p.seq(tx, id)
		if err != nil {
			return err
		}
		p.named = append(p.named, seq)
	}
	slices.Sort(p.named)
	p.named = slices.Compact(p.named)
	if t := p.q.start; !t.IsZero() {
		p.from(store.LogSeqAt(tx, p.account, ceil(t)) - 1)
	}
	if t := p.q.end; !t.IsZero() {
		p.to(store.LogSeqAt(tx, p.account, t.Truncate(time.Millisecond).Add(time.Millisecond)))
	}
	if !p.q.filtered() {
		p.count, p.counted = store.LogStats(tx, p.account).Count, true
	}
	return nil
}

// ceil is the first millisecond that is not earlier.
func ceil(t time.Time) time.Time {
	if ms := t.Truncate(time.Millisecond); ms.Before(t) {
		return ms.Add(time.Millisecond)
	}
	return t
}

func (p *page) from(after uint64) { p.after = max(p.after, after) }

func (p *page) to(before uint64) {
	if p.before == 0 || before < p.before {
		p.before = before
	}
}

// seq finds an id of the archive.
func (p *page) seq(tx *store.Tx, id string) (uint64, error) {
	if len(id) <= maxIDLen {
		if seq, ok := store.ParseLogID(tx, p.account, id); ok {
			if o, ok := store.OwnedEntry(tx, p.account, seq); ok && o.Role&store.Archived != 0 {
				return seq, nil
			}
		}
	}
	return 0, xmpp.Errorf(stanza.ItemNotFound, "the archive has no message of that id")
}
