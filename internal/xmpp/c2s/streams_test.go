package c2s

import (
	"fmt"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"pibox/internal/store"
	"pibox/internal/xmpp"
)

// counts is a store of counts, and the streams that they are of.
type counts struct {
	t  *testing.T
	st *store.Store
	s  streams
}

func inCounts(t *testing.T, f func(c *counts)) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		st, err := store.Open(filepath.Join(dir, "pibox.db"), store.Options{Reserve: 1})
		if err != nil {
			t.Fatal(err)
		}
		f(&counts{t, st, streams{links: map[string]*link{}}})
		if err := st.Close(); err != nil {
			t.Fatal(err)
		}
	})
}

// end is a session that put its count into the store, with the transactions that it had, and ended.
func (c *counts) end(account xmpp.JID, id string, transactions int) {
	c.t.Helper()
	for range transactions {
		c.update(func(tx *store.Tx) {
			store.Progress.Put(tx, progressKey(account, id), 7)
			c.s.sweep(tx)
		})
	}
	l := &link{session: &xmpp.Session{JID: account.With("r")}, stream: &stream{id: id}}
	l.stream.in.handled = 7
	if c.s.ended(l) {
		c.update(c.s.sweepAll)
		c.s.swept()
	}
}

func (c *counts) update(f func(tx *store.Tx)) {
	c.t.Helper()
	if err := c.st.Update(func(tx *store.Tx) error { f(tx); return nil }); err != nil {
		c.t.Fatal(err)
	}
}

func (c *counts) stored() (n int) {
	c.t.Helper()
	if err := c.st.View(func(tx *store.Tx) error {
		for range store.Progress.All(tx, store.ProgressHandled) {
			n++
		}
		return nil
	}); err != nil {
		c.t.Fatal(err)
	}
	return n
}

// TestPastIsShared: the counts of an account's sessions push out older ones of that account alone, in memory and in the store.
func TestPastIsShared(t *testing.T) {
	inCounts(t, func(c *counts) {
		juliet := xmpp.MustJID("juliet@capulet.example")
		c.end(juliet, "hers", 1)
		for i := range 3 * pastTotal {
			c.end(romeo(), fmt.Sprint(i), i%2) // not each of them stored something
		}
		if n, ok := c.s.handled(juliet, "hers"); !ok || n != 7 {
			t.Errorf("another's count is %d, %v", n, ok)
		}
		for i := range 3 * pastTotal {
			_, ok := c.s.handled(romeo(), fmt.Sprint(i))
			if want := i >= 3*pastTotal-pastMax; ok != want {
				t.Errorf("the count %d is told: %v", i, ok)
			}
		}
		if n := len(c.s.past); n != pastMax+1 {
			t.Errorf("%d are kept", n)
		}
		if n := len(c.s.stale); n > staleMax {
			t.Errorf("%d wait to be taken out of the store", n)
		}
		if n := c.stored(); n > pastMax+1+staleMax {
			t.Errorf("%d are in the store", n)
		}
	})
}

// TestPastIsBounded: many accounts together keep no more than there is room for, also while nothing can be written.
func TestPastIsBounded(t *testing.T) {
	inCounts(t, func(c *counts) {
		for i := range 2 * pastTotal {
			c.end(xmpp.MustJID(fmt.Sprintf("%d@montague.example", i)), "id", 0)
		}
		c.s.sweeping = true
		for i := range 2 * pastTotal {
			c.end(romeo(), fmt.Sprint(i), 0)
		}
		if n := len(c.s.stale); n != pastTotal {
			t.Errorf("%d wait to be taken out of the store", n)
		}
		c.s.sweeping = false
		for i := range 2 * pastTotal {
			c.end(xmpp.MustJID(fmt.Sprintf("%d@montague.example", i)), "id", 0)
		}
		if n := len(c.s.past); n != pastTotal {
			t.Errorf("%d are kept", n)
		}
		if _, ok := c.s.handled(xmpp.MustJID(fmt.Sprintf("%d@montague.example", 2*pastTotal-1)), "id"); !ok {
			t.Error("the last is not")
		}
	})
}

// TestPastEnds: after their time counts are not told, and leave memory and store with what is written anyway; also those of the run before.
func TestPastEnds(t *testing.T) {
	inCounts(t, func(c *counts) {
		for i := range 20 {
			c.end(romeo(), fmt.Sprint(i), 1)
		}
		c.s = streams{links: map[string]*link{"3": {}}} // the one that goes on
		if err := c.st.View(func(tx *store.Tx) error { c.s.load(tx); return nil }); err != nil {
			t.Fatal(err)
		}
		if n := len(c.s.past); n != 19 {
			t.Errorf("%d are loaded", n)
		}
		time.Sleep(pastTime + time.Second) // virtual
		if _, ok := c.s.handled(romeo(), "1"); ok {
			t.Error("it is told after its time")
		}
		for range 4 {
			c.update(c.s.sweep)
		}
		if n, stored := len(c.s.past)+len(c.s.stale), c.stored(); n != 0 || stored != 1 {
			t.Errorf("%d are kept, %d in the store", n, stored)
		}
	})
}
