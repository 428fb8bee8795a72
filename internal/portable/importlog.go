package portable

import (
	"bytes"
	"time"

	"pibox/internal/store"
	"pibox/internal/xmpp"
)

// logImport is what is known of an account's messages while they are imported: first, mostly, what waited for its devices, then its archive, oldest
// first. What is in both is one entry of the log. Of what waits the bytes lie in the store, until their place is known.
type logImport struct {
	last    time.Time // of the entries so far
	waiting []waiting
	byID    map[string]int // in waiting, by the id in the archive
	next    int            // waiting[:next] are in the log
	bytes   int
	any     bool // the archive has begun
	looked  int  // messages of the archive that were compared with what waits
}

type waiting struct {
	id   string
	at   time.Time
	done bool
}

// Offline implements Sink.
func (im *Importer) Offline(raw []byte) error {
	a := im.cur
	st, at, id, ok := a.stanza(raw, true)
	if !ok || st.Kind != xmpp.Message {
		return a.lose("a message that waited", "it is none, or larger than 512 KiB")
	}
	if at.IsZero() || at.After(a.began) {
		at = a.began
	}
	l := &a.log
	if len(l.waiting) >= maxOwed || l.bytes+len(st.Raw) > maxOwedBytes {
		return a.lose("a message that waited", "too many wait")
	}
	l.bytes += len(st.Raw)
	n := uint64(len(l.waiting))
	if _, twice := l.byID[id]; id != "" && !twice {
		l.byID[id] = int(n)
	}
	l.waiting = append(l.waiting, waiting{id: id, at: at})
	a.result.Counts.Waiting++
	m := store.Spooled{At: at, Stanza: bytes.Clone(a.toMe(st).Raw)}
	return a.write(len(m.Stanza)*4/3, func(tx *store.Tx) error {
		store.Spool(tx, a.to.String(), n, m)
		return nil
	})
}

// toMe is a message as it reads here.
func (a *incoming) toMe(st *xmpp.Stanza) *xmpp.Stanza {
	from, to := a.mine(st.From), a.mine(st.To)
	if to.IsZero() && from.Bare() != a.to {
		to = a.to
	}
	if from.IsZero() {
		from = a.to
	}
	return st.Addressed(from, to)
}

// side tells who the other side is and whether the account is the sender; false where it is neither side.
func (a *incoming) side(st *xmpp.Stanza) (with xmpp.JID, role store.Role, ok bool) {
	switch {
	case st.From.Bare() == a.to:
		if with = st.To.Bare(); with.IsZero() {
			with = a.to
		}
		return with, store.ByOwner, true
	case st.To.Bare() == a.to:
		return st.From.Bare(), 0, true
	}
	return with, 0, false
}

// Archived implements Sink.
func (im *Importer) Archived(m Archived) error {
	a, l := im.cur, &im.cur.log
	st, _, _, ok := a.stanza(m.Stanza, false)
	if !ok || st.Kind != xmpp.Message {
		return a.lose("a message of the archive", "it is none, or larger than 512 KiB")
	}
	st = a.toMe(st)
	with, role, ok := a.side(st)
	if !ok {
		return a.lose("a message of the archive", "it is neither from nor to the account")
	}
	at := m.At.Truncate(time.Millisecond)
	switch {
	case at.After(a.began):
		at = a.began
		_ = a.lose("the time of a message of the archive", "it lies ahead")
	case m.At.IsZero() || at.Before(l.last):
		at = l.last
		_ = a.lose("the time of a message of the archive", "it is not known, or earlier than that of the message before it")
	}
	n, owed := l.byID[m.ID]
	owed = owed && m.ID != "" && !l.waiting[n].done
	if im.opt.MaxAge > 0 && !owed && a.began.Sub(at) > im.opt.MaxAge {
		return a.lose("a message of the archive", "it is older than what archives keep here (archive.max_age)")
	}
	if err := a.before(at); err != nil {
		return err
	}
	role |= store.Archived
	if owed {
		l.waiting[n].done = true
		role |= store.Owed
	}
	l.any = true
	a.result.Counts.Archived++
	return a.entry(st.Raw, at, with, role, n, owed)
}

// entry queues an entry of the log. unspool: it waited under that number.
func (a *incoming) entry(stanza []byte, at time.Time, with xmpp.JID, role store.Role, n int, unspool bool) error {
	if at.Before(a.log.last) {
		at = a.log.last
	}
	a.log.last = at
	name := a.to.String()
	return a.write(len(stanza), func(tx *store.Tx) error {
		if unspool {
			store.Unspool(tx, name, uint64(n))
		}
		store.ImportLog(tx, &store.Entry{At: at, Owners: []store.Owner{{Account: name, With: with.String(), Role: role}}, Stanza: stanza})
		return nil
	})
}

// before stores what waited and is not in the archive, as far as it came before the archive's next message. Only of a pibox's file is it known, by
// its missing id, what is not in the archive.
func (a *incoming) before(at time.Time) error {
	l := &a.log
	if !a.ownFile {
		return nil
	}
	for l.next < len(l.waiting) && (l.waiting[l.next].done || l.waiting[l.next].id == "" && !l.waiting[l.next].at.After(at)) {
		if !l.waiting[l.next].done {
			if err := a.unarchived(l.next); err != nil {
				return err
			}
		}
		l.next++
	}
	return nil
}

// unarchived stores a message that waits and is in no archive.
func (a *incoming) unarchived(n int) error {
	w := &a.log.waiting[n]
	w.done = true
	if w.at.Before(a.log.last) {
		w.at = a.log.last
	}
	a.log.last = w.at
	at, name := w.at, a.to.String()
	return a.write(4096, func(tx *store.Tx) error {
		m, ok := store.Unspool(tx, name, uint64(n))
		if !ok {
			return nil
		}
		st, err := xmpp.ParseStanza(m.Stanza)
		if err != nil {
			return err
		}
		with, role, _ := a.side(st)
		if with.IsZero() {
			with = st.From.Bare()
		}
		store.ImportLog(tx, &store.Entry{At: at, Owners: []store.Owner{{Account: name, With: with.String(), Role: role | store.Owed}}, Stanza: m.Stanza})
		return nil
	})
}

// finishLog places what waits yet. Where the archive came first, or its ids are others, what waits may be in it nevertheless.
func (a *incoming) finishLog() error {
	if err := a.sync(); err != nil {
		return err
	}
	taken := map[uint64]bool{}
	for n, w := range a.log.waiting {
		if w.done {
			continue
		}
		seq, err := a.inArchive(n, taken)
		if err != nil {
			return err
		}
		if seq == 0 {
			if err := a.unarchived(n); err != nil {
				return err
			}
			continue
		}
		taken[seq] = true
		if err := a.write(1024, func(tx *store.Tx) error {
			store.Unspool(tx, a.to.String(), uint64(n))
			store.Owe(tx, a.to.String(), seq)
			return nil
		}); err != nil {
			return err
		}
	}
	return nil
}

// around is how far the times of one message in the archive and beside it may lie apart: they have whole seconds in some files.
const around = 2 * time.Second

// inArchive finds a message that waits in the archive; 0: it is not there.
func (a *incoming) inArchive(n int, taken map[uint64]bool) (seq uint64, err error) {
	if !a.log.any || a.im.opt.DryRun {
		return 0, nil
	}
	name, at := a.to.String(), a.log.waiting[n].at
	err = a.im.opt.Router.Store.View(func(tx *store.Tx) error {
		m, ok := store.Spooling(tx, name, uint64(n))
		if !ok {
			return nil
		}
		st, err := xmpp.ParseStanza(m.Stanza)
		if err != nil {
			return err
		}
		for o := range store.LogOf(tx, store.Range{Account: name, After: store.LogSeqAt(tx, name, at.Add(-around)) - 1, Role: store.Archived}) {
			if a.log.looked++; o.At.After(at.Add(around)) || a.log.looked > maxCompared {
				break
			}
			if o.Role&store.Owed == 0 && !taken[o.Seq] && same(st, o.Stanza) {
				seq = o.Seq
				break
			}
		}
		return nil
	})
	return seq, err
}

// same tells whether two stanzas are one message.
func same(st *xmpp.Stanza, stored []byte) bool {
	other, err := xmpp.ParseStanza(stored)
	return err == nil && st.From == other.From && st.ID == other.ID && (st.ID != "" || bytes.Equal(st.Raw, other.Raw))
}
