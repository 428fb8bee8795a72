package archive

import (
	"errors"
	"time"

	"pibox/internal/store"
)

const (
	firstRetention = 10 * time.Minute // after start, when everybody has logged in
	retentionPause = time.Hour
	// A batch is short enough for nobody to notice, and waits until no message was stored for quietTime. All batches of one kind wait no longer than
	// busyTime together; then they follow each other after busyPause, which frees more than other servers may send.
	purgeBatch = 200
	quietTime  = 2 * time.Second
	busyTime   = time.Minute
	busyPause  = 100 * time.Millisecond
)

// retention drops, again and again, what is too old or too much, the oldest first, so that an archive has no holes (XEP-0313 §"Message retention
// and deletion").
func (a *Archive) retention() {
	for pause := firstRetention; a.pause(pause); pause = retentionPause {
		if err := a.retainAll(); err != nil && a.ctx.Err() == nil && !errors.Is(err, store.ErrClosed) {
			a.opt.Log.Error("archive: dropping old messages", "error", err)
		}
	}
}

// pause is sleep, until an archive is too large.
func (a *Archive) pause(d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-a.large:
	case <-a.ctx.Done():
	}
	return a.ctx.Err() == nil
}

// room tells whether an account's archive takes more. Retention holds it to MaxBytes now and then, and at once where it is an eighth above that; until
// it has, a flood ends at a quarter above.
func (a *Archive) room(tx *store.Tx, account string) bool {
	if a.opt.MaxBytes <= 0 {
		return true
	}
	size := store.LogIndexed(tx, account)
	if size > a.opt.MaxBytes+a.opt.MaxBytes/8 {
		select {
		case a.large <- struct{}{}:
		default:
		}
	}
	return size <= a.opt.MaxBytes+a.opt.MaxBytes/4
}

// sleep is false when the work is to end.
func (a *Archive) sleep(d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-a.ctx.Done():
		return false
	}
}

func (a *Archive) retainAll() error {
	var accounts []string
	if err := a.r.Store.View(func(tx *store.Tx) error {
		for account := range store.Accounts.All(tx) {
			accounts = append(accounts, account)
		}
		return nil
	}); err != nil {
		return err
	}
	for _, account := range accounts {
		if a.opt.MaxAge <= 0 && a.opt.MaxBytes <= 0 {
			break
		}
		if err := a.inBatches(func(tx *store.Tx) bool {
			var olderThan time.Time
			if a.opt.MaxAge > 0 {
				olderThan = time.Now().Add(-a.opt.MaxAge)
			}
			return store.Retain(tx, account, olderThan, a.opt.MaxBytes)
		}); err != nil {
			return err
		}
	}
	return a.inBatches(func(tx *store.Tx) bool { return store.PurgeLog(tx, purgeBatch) })
}

// inBatches calls step, each time in a transaction of its own and at a quiet moment, until it tells that there is no more to do.
func (a *Archive) inBatches(step func(tx *store.Tx) (more bool)) error {
	patience := busyTime
	for more := true; more; {
		if err := a.quiet(&patience); err != nil {
			return err
		}
		if err := a.r.Store.Update(func(tx *store.Tx) error {
			more = step(tx)
			return nil
		}); err != nil {
			return err
		}
	}
	return nil
}

// quiet waits until nobody writes, or there is no patience left.
func (a *Archive) quiet(patience *time.Duration) error {
	last := func() (seq uint64, err error) {
		err = a.r.Store.View(func(tx *store.Tx) error {
			seq = store.LastLogSeq(tx)
			return nil
		})
		return seq, err
	}
	seq, err := last()
	for err == nil {
		pause := quietTime
		if *patience <= 0 {
			pause = busyPause
		}
		if !a.sleep(pause) {
			return a.ctx.Err()
		}
		before := seq
		if seq, err = last(); seq == before || *patience <= 0 {
			break
		}
		*patience -= quietTime
	}
	return err
}
