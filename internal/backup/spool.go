package backup

import (
	"errors"
	"io"
	"os"
	"sync"
)

// Spool stands between a database, which must not wait for anybody slow, and a reader who may be. What the reader is behind with waits in memory, then
// in a file without a name, which a fast reader never needs. Where the disk has no room for that, the writer waits.
type Spool struct {
	dir  string
	room func(n int64) bool // whether the file may grow by n

	mu     sync.Mutex
	change *sync.Cond
	memory []byte // what comes before the file
	file   *os.File
	from   int64 // of the file: what was read
	to     int64 // of the file: what was written
	closed bool  // by the writer
	err    error // of either side, for the other
}

const (
	// spoolMemory is what waits in memory, in bytes.
	spoolMemory = 4 << 20
	// spoolRead is what the reader takes at once, in bytes.
	spoolRead = 256 << 10
)

// NewSpool makes one. room tells whether the file in dir may grow.
func NewSpool(dir string, room func(n int64) bool) *Spool {
	s := &Spool{dir: dir, room: room}
	s.change = sync.NewCond(&s.mu)
	return s
}

// Write takes what a Copy is to hand on; it fails when that has failed.
func (s *Spool) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.err == nil {
		switch behind := s.to > s.from; {
		case !behind && len(s.memory)+len(p) <= max(spoolMemory, len(p)):
			s.memory = append(s.memory, p...)
			s.change.Broadcast()
			return len(p), nil
		case s.room(int64(len(p))):
			if err := s.toFile(p); err != nil {
				s.err = err
				break
			}
			s.change.Broadcast()
			return len(p), nil
		}
		if s.err == nil {
			s.change.Wait()
		}
	}
	return 0, s.err
}

func (s *Spool) toFile(p []byte) error {
	if s.file == nil {
		f, err := os.CreateTemp(s.dir, ".pibox-*.part") // a name that is removed at start
		if err != nil {
			return err
		}
		s.file = f
		if err := os.Remove(f.Name()); err != nil {
			return err
		}
	}
	n, err := s.file.WriteAt(p, s.to)
	s.to += int64(n)
	return err
}

// Close says that all was written, or with what error the writing ended.
func (s *Spool) Close(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	if s.err == nil {
		s.err = err
	}
	s.change.Broadcast()
}

// Copy hands everything on to w and returns when that is done, or the first error of either side.
func (s *Spool) Copy(w io.Writer) error {
	defer s.free()
	buf := make([]byte, spoolRead)
	for {
		n, err := s.take(buf)
		if n == 0 || err != nil {
			return err
		}
		if _, err := w.Write(buf[:n]); err != nil {
			s.Close(err)
			return err
		}
	}
}

// take waits for the next bytes; none are the end.
func (s *Spool) take(buf []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		switch {
		case s.err != nil:
			return 0, s.err
		case len(s.memory) > 0:
			n := copy(buf, s.memory)
			s.memory = s.memory[:copy(s.memory, s.memory[n:])]
			s.change.Broadcast()
			return n, nil
		case s.to > s.from:
			return s.fromFile(buf)
		case s.closed:
			return 0, nil
		}
		s.change.Wait()
	}
}

func (s *Spool) fromFile(buf []byte) (int, error) {
	n, err := s.file.ReadAt(buf[:min(int64(len(buf)), s.to-s.from)], s.from)
	if errors.Is(err, io.EOF) {
		err = nil
	}
	s.from += int64(n)
	if s.from == s.to && err == nil { // the reader has caught up: nothing is kept
		s.from, s.to = 0, 0
		err = s.file.Truncate(0)
	}
	s.change.Broadcast()
	return n, err
}

func (s *Spool) free() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.file != nil {
		_ = s.file.Close()
		s.file = nil
	}
	if s.err == nil {
		s.err = os.ErrClosed // a writer that goes on is told
	}
}
