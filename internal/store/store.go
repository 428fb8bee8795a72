// Package store keeps everything that survives a power cut: one bbolt file, one committer.
//
// Writers hand the committer functions (Op). It runs all that are queued in one transaction, syncs, and only then lets
// their effects out, in order: nothing is acknowledged or delivered that a power cut could still take back. There is no
// timer: a lone operation is committed at once, many share one sync. It is the only package that imports bbolt.
//
// Reads and writes on a Tx return no errors: the first failure sticks to the transaction and fails the operation
// as a whole, so a handler can not forget one.
package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	bolt "go.etcd.io/bbolt"
)

var (
	// ErrUnavailable: a write or sync failed, so what the kernel holds of the file is not known any more.
	ErrUnavailable = errors.New("the store is not available")
	// ErrFull: free space on the file system is below the reserve. Nothing was changed.
	ErrFull = errors.New("the disk is full: free space is below the reserve")
	// ErrClosed: the store was closed.
	ErrClosed = errors.New("the store is closed")
)

// Options of a store. The zero value has sensible defaults.
type Options struct {
	Log *slog.Logger
	// Reserve is the free space, in bytes, below which writes are refused. Default 32 MiB.
	Reserve int64
	// QueueBytes bounds what is queued for the committer, in bytes; see WaitRoom. Default 8 MiB.
	QueueBytes int64
	// OnFailure is told when a write or sync failed, from any goroutine. The store is unusable from then on: it is to be closed and opened again.
	OnFailure func(err error)
	// WayBack refuses to migrate a file of which no copy can be kept for want of space.
	WayBack bool
	// FreeSpace tells the free bytes of the file system that holds path. Default: statfs.
	FreeSpace func(path string) (int64, error)
	// OnStep is told of each step of the committer, from its goroutine, so that tests can end the process there. May be nil.
	OnStep func(Step)
}

// Step is a moment at which a power cut makes a difference.
type Step string

// The steps, in their order; the last one comes once for each effect.
const (
	StepCommit Step = "before the commit"
	StepSynced Step = "after the sync"
	StepEffect Step = "after an effect"
)

// Store is the database. Its methods may be called from any goroutine.
type Store struct {
	path string
	opt  Options
	log  *slog.Logger

	dbMu sync.RWMutex // held for writing only while the file is closed
	db   *bolt.DB
	down error // why db is nil

	mu     sync.Mutex
	queue  []*Op
	bytes  int64
	room   chan struct{} // closed and replaced when the queue has room again
	closed bool
	wake   chan struct{}
	done   chan struct{}

	batches     uint64       // tried so far; the committer's own
	commitStart atomic.Int64 // unix nanoseconds while a batch is being committed, else 0
}

// Op is one operation for the committer.
type Op struct {
	// Run reads and writes inside the transaction. It may run more than once (a batch is repeated without an operation
	// that failed), so everything it wants to happen outside goes through Tx.OnCommit. An error discards its writes.
	Run func(*Tx) error
	// Done is called after Run's effects, in queue order, from the committer's goroutine: it must not block.
	Done func(error)
	// Size is the memory that the operation holds while it is queued, in bytes.
	Size int

	err     error
	effects []func()
}

// Submit queues an operation. It never blocks; readers of connections bound the queue by WaitRoom.
func (s *Store) Submit(op *Op) {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		if op.Done != nil {
			go op.Done(ErrClosed)
		}
		return
	}
	s.queue = append(s.queue, op)
	s.bytes += int64(op.Size) + opOverhead
	s.mu.Unlock()
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

const opOverhead = 256

// Hold counts n bytes that wait for the committer outside of its queue, for WaitRoom; a negative n takes them back.
func (s *Store) Hold(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.freed(int64(-n))
}

// freed takes bytes from what is queued and tells who waits for room; called with the lock.
func (s *Store) freed(n int64) {
	s.bytes -= n
	if n > 0 && s.bytes < s.opt.QueueBytes {
		close(s.room)
		s.room = make(chan struct{})
	}
}

// WaitRoom returns when the committer's queue is below its limit, or when ctx ends: connections are not read from while it is full.
func (s *Store) WaitRoom(ctx context.Context) error {
	for {
		s.mu.Lock()
		if s.bytes < s.opt.QueueBytes || s.closed {
			s.mu.Unlock()
			return nil
		}
		room := s.room
		s.mu.Unlock()
		select {
		case <-room:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Update runs an operation and waits until it is durable and its effects are out. Never call it from an effect.
func (s *Store) Update(run func(*Tx) error) error {
	done := make(chan error, 1)
	s.Submit(&Op{Run: run, Done: func(err error) { done <- err }})
	return <-done
}

// Ping is the watchdog's round trip: an operation that writes nothing.
func (s *Store) Ping(ctx context.Context) error {
	done := make(chan error, 1)
	s.Submit(&Op{Run: func(*Tx) error { return nil }, Done: func(err error) { done <- err }})
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// CommitRunning tells for how long the current commit has been going on; 0 when there is none.
func (s *Store) CommitRunning() time.Duration {
	start := s.commitStart.Load()
	if start == 0 {
		return 0
	}
	return time.Since(time.Unix(0, start))
}

// View runs a short read. It sees only what is committed. Never do slow I/O inside: a remap waits for every open reader.
func (s *Store) View(read func(*Tx) error) error {
	s.dbMu.RLock()
	defer s.dbMu.RUnlock()
	if s.db == nil {
		return s.unavailable()
	}
	return s.db.View(func(b *bolt.Tx) error {
		tx := &Tx{bolt: b}
		if err := read(tx); err != nil {
			return err
		}
		return tx.err
	})
}

func (s *Store) unavailable() error {
	if s.down == nil {
		return ErrUnavailable
	}
	return fmt.Errorf("%w: %w", ErrUnavailable, s.down)
}

// commitLoop is the committer: it takes what is queued, commits it, and lets it out.
func (s *Store) commitLoop() {
	defer close(s.done)
	for range s.wake {
		for {
			s.mu.Lock()
			batch := s.queue
			s.queue = nil
			closed := s.closed
			s.mu.Unlock()
			if len(batch) == 0 {
				if closed {
					return
				}
				break
			}
			s.commit(batch)
			s.release(batch)
		}
	}
}

func (s *Store) release(batch []*Op) {
	for _, op := range batch {
		if op.err == nil {
			for _, f := range op.effects {
				s.guard("effect", f)
				s.step(StepEffect)
			}
		}
		if op.Done != nil {
			s.guard("done", func() { op.Done(op.err) })
		}
	}
	var done int64
	for _, op := range batch {
		done += int64(op.Size) + opOverhead
	}
	s.mu.Lock()
	s.freed(done)
	s.mu.Unlock()
}

// guard keeps a fault in one operation's effects from reaching another.
func (s *Store) guard(what string, f func()) {
	defer func() {
		if p := recover(); p != nil {
			s.log.Error("store: panic in "+what, "panic", p, "stack", stack())
		}
	}()
	f()
}

func (s *Store) step(step Step) {
	if s.opt.OnStep != nil {
		s.opt.OnStep(step)
	}
}
