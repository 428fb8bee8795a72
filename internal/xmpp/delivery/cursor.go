package delivery

import (
	"cmp"
	"slices"

	"pibox/internal/store"
	"pibox/internal/xmpp"
)

// cursor is how far an account's devices have come in the log: what is owed to them and was not delivered, by sequence. It is as large as that.
type cursor struct {
	waiting []item
	bytes   int      // of waiting
	top     uint64   // what is owed up to it is in waiting or was delivered
	written uint64   // what the store has
	early   []uint64 // delivered although something before it waits
	drop    []uint64 // of these, those of which the store is to be told one by one
}

// item is a message that is owed. With are the sessions that were handed it, or will be, and have not acknowledged it.
type item struct {
	seq  uint64
	size int
	with []*xmpp.Session
	// copied are the sessions that were handed a carbon although they take nothing for the account, and whether they acknowledged that. It
	// counts once they take something: they are not handed the message again.
	copied map[*xmpp.Session]bool
}

// had turns a copy that a session has into the message, now that it takes messages, and tells whether it acknowledged that.
func (it *item) had(s *xmpp.Session) (copied, acknowledged bool) {
	if acknowledged, copied = it.copied[s]; copied {
		delete(it.copied, s)
		if !acknowledged {
			it.with = append(it.with, s)
		}
	}
	return copied, acknowledged
}

// maxEarly bounds what may come again after a power cut because of one old message that nobody takes.
const maxEarly = 64

func (c *cursor) load(tx *store.Tx, account string) {
	c.written = store.Delivered(tx, account)
	c.top = c.written
	for o := range store.LogOf(tx, store.Range{Account: account, After: c.written, Role: store.Owed}) {
		c.add(item{seq: o.Seq, size: len(o.Stanza)})
	}
}

func (c *cursor) add(it item) {
	c.waiting = append(c.waiting, it)
	c.bytes += it.size
	c.top = it.seq
}

// at is up to where everything was delivered.
func (c *cursor) at() uint64 {
	if len(c.waiting) == 0 {
		return c.top
	}
	return c.waiting[0].seq - 1
}

func (c *cursor) find(seq uint64) *item {
	i, ok := c.index(seq)
	if !ok {
		return nil
	}
	return &c.waiting[i]
}

func (c *cursor) index(seq uint64) (int, bool) {
	return slices.BinarySearchFunc(c.waiting, seq, func(it item, seq uint64) int { return cmp.Compare(it.seq, seq) })
}

// done: a device has it.
func (c *cursor) done(seq uint64) {
	i, ok := c.index(seq)
	if !ok {
		return
	}
	c.bytes -= c.waiting[i].size
	if i > 0 {
		c.waiting = slices.Delete(c.waiting, i, i+1)
		if c.early = append(c.early, seq); len(c.early) > maxEarly {
			c.drop, c.early = append(c.drop, c.early...), nil
		}
		return
	}
	c.waiting[0] = item{}
	if c.waiting = c.waiting[1:]; len(c.waiting) == 0 {
		c.waiting = nil
	}
	passed := func(seq uint64) bool { return seq <= c.at() }
	c.early, c.drop = slices.DeleteFunc(c.early, passed), slices.DeleteFunc(c.drop, passed)
}

func (c *cursor) hold(seq uint64, s *xmpp.Session) {
	if it := c.find(seq); it != nil && !slices.Contains(it.with, s) {
		it.with = append(it.with, s)
	}
}

// letGo: the session will not acknowledge it.
func (c *cursor) letGo(seq uint64, s *xmpp.Session) {
	if it := c.find(seq); it != nil {
		it.letGo(s)
	}
}

func (it *item) letGo(s *xmpp.Session) {
	if i := slices.Index(it.with, s); i >= 0 {
		it.with = slices.Delete(it.with, i, i+1)
	}
}

func (c *cursor) letAllGo(s *xmpp.Session) {
	for i := range c.waiting {
		c.waiting[i].letGo(s)
		delete(c.waiting[i].copied, s)
	}
}

// unwritten tells whether the store is to be told something; all: also of single messages.
func (c *cursor) unwritten(all bool) bool {
	if all && len(c.early) > 0 {
		c.drop, c.early = append(c.drop, c.early...), nil
	}
	return c.at() > c.written || len(c.drop) > 0
}

// wrote: a transaction told the store.
func (c *cursor) wrote(at uint64, dropped []uint64) {
	c.written = max(c.written, at)
	c.drop = slices.DeleteFunc(c.drop, func(seq uint64) bool { return slices.Contains(dropped, seq) })
}

// persist tells the store, in a transaction that is on its way anyway, how far an account's devices have come.
func (d *Delivery) persist(tx *store.Tx, jid xmpp.JID) {
	a := d.known(jid)
	if a == nil {
		return
	}
	a.mu.Lock()
	due, at, drop := a.cursor.unwritten(false), a.cursor.at(), slices.Clone(a.cursor.drop)
	a.mu.Unlock()
	if !due {
		return
	}
	name := jid.String()
	store.SetDelivered(tx, name, at)
	for _, seq := range drop {
		store.DropRole(tx, name, seq, store.Owed)
	}
	tx.OnCommit(func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.cursor.wrote(at, drop)
	})
}

// write is persist in a transaction of its own.
func (a *account) write() {
	a.d.r.Submit(64, func(tx *store.Tx, _ *xmpp.Out) error {
		a.d.persist(tx, a.jid)
		return nil
	}, nil)
}

// hasRoom tells whether one more message may wait.
func (d *Delivery) hasRoom(tx *store.Tx, jid xmpp.JID, size int) bool {
	var n, bytes int
	if a := d.known(jid); a != nil {
		a.mu.Lock()
		n, bytes = len(a.cursor.waiting), a.cursor.bytes
		a.mu.Unlock()
	} else {
		count, sum := store.OwedSize(tx, jid.String())
		n, bytes = count, int(sum)
	}
	return n < d.opt.MaxOwed && bytes+size <= d.opt.MaxBytes
}
