package store

import (
	"fmt"
	"runtime/debug"
	"time"

	bolt "go.etcd.io/bbolt"
)

// commit runs a batch in one transaction. Operations that fail get their error and are left out; the rest is committed
// together or fails together.
func (s *Store) commit(batch []*Op) {
	s.commitStart.Store(time.Now().UnixNano())
	defer s.commitStart.Store(0)
	for {
		again, err := s.tryBatch(batch)
		if err != nil {
			s.log.Error("store: commit failed", "operations", len(batch), "error", err)
			for _, op := range batch {
				if op.err == nil {
					op.err = err
				}
			}
		}
		if !again {
			return
		}
	}
}

// tryBatch reports again when an operation failed after it had written: its writes can only be discarded with the
// whole transaction.
func (s *Store) tryBatch(batch []*Op) (again bool, err error) {
	s.dbMu.RLock()
	defer s.dbMu.RUnlock()
	if s.db == nil {
		return false, s.unavailable()
	}
	var b *bolt.Tx
	defer func() {
		if p := recover(); p != nil { // bbolt came upon a damaged page
			again, err = false, s.damaged(b, p)
		}
	}()
	if b, err = s.db.Begin(true); err != nil {
		return false, s.broken(err)
	}
	defer func() {
		if !again && err == nil {
			return
		}
		_ = b.Rollback()
	}()
	writes := 0
	s.batches++
	for _, op := range batch {
		if op.err != nil {
			continue
		}
		tx := &Tx{bolt: b, writable: true, batch: s.batches}
		op.effects = nil
		op.err = runOp(op, tx)
		op.effects = tx.effects
		if op.err != nil && tx.writes > 0 {
			return true, nil
		}
		writes += tx.writes
	}
	if writes == 0 {
		return false, b.Rollback()
	}
	if err := s.checkSpace(); err != nil {
		return false, err
	}
	s.step(StepCommit)
	if err := b.Commit(); err != nil {
		return false, s.broken(err)
	}
	s.step(StepSynced)
	return false, nil
}

func runOp(op *Op, tx *Tx) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("store: panic in an operation: %v\n%s", p, debug.Stack())
			tx.writes++ // whatever it wrote must go
		}
	}()
	if err := op.Run(tx); err != nil {
		return err
	}
	return tx.err
}

func stack() string { return string(debug.Stack()) }

func (s *Store) checkSpace() error {
	free, err := s.opt.FreeSpace(s.path)
	if err != nil {
		return fmt.Errorf("store: asking for free space: %w", err)
	}
	if free < s.opt.Reserve {
		return fmt.Errorf("%w (%d MiB free, %d MiB kept)", ErrFull, free>>20, s.opt.Reserve>>20)
	}
	return nil
}

// broken takes the file out of use after a failed write or sync: what the kernel holds of it is not known any more, so
// nothing is acknowledged, or read, until it was opened again.
func (s *Store) broken(err error) error {
	go s.abandon(err)
	return fmt.Errorf("%w: %w", ErrUnavailable, err)
}

// damaged is broken for a panic. Where the transaction can not be undone, bbolt keeps its locks: then the file stays open, and only a new
// process can use it again.
func (s *Store) damaged(b *bolt.Tx, cause any) error {
	err := fmt.Errorf("the file is damaged (%v): move it away and restore a backup with `pibox restore`", cause)
	undone := false
	func() {
		defer func() { _ = recover() }()
		if b != nil {
			_ = b.Rollback()
		}
		undone = true
	}()
	if undone {
		return s.broken(err)
	}
	go func() {
		s.dbMu.Lock()
		s.db, s.down = nil, err
		s.dbMu.Unlock()
		s.opt.OnFailure(err)
	}()
	return fmt.Errorf("%w: %w", ErrUnavailable, err)
}

func (s *Store) abandon(cause error) {
	s.dbMu.Lock()
	first := s.db != nil
	if first {
		_ = s.db.Close()
		s.db, s.down = nil, cause
	}
	s.dbMu.Unlock()
	if first {
		s.opt.OnFailure(cause)
	}
}
