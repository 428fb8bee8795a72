package backup

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"testing"
	"testing/synctest"
	"time"
)

// slow takes a piece each so often.
type slow struct {
	bytes.Buffer
	pause time.Duration
	fail  error
}

func (s *slow) Write(p []byte) (int, error) {
	time.Sleep(s.pause) // virtual
	if s.fail != nil && s.Len() > 1<<20 {
		return 0, s.fail
	}
	return s.Buffer.Write(p)
}

func TestSpool(t *testing.T) {
	data := make([]byte, 24<<20)
	for i := range data {
		data[i] = byte(i * i >> 7)
	}
	for name, c := range map[string]struct {
		pause  time.Duration
		room   bool
		waited bool // the writer for the reader
	}{
		"fast":           {0, true, false},
		"slow":           {time.Minute, true, false},
		"slow, no room":  {time.Minute, false, true},
		"fast, no space": {0, false, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := NewSpool(t.TempDir(), func(int64) bool { return c.room })
				out := &slow{pause: c.pause}
				done := make(chan error)
				go func() { done <- s.Copy(out) }()
				began := time.Now()
				for rest := data; len(rest) > 0; {
					n := min(len(rest), rand.IntN(1<<20))
					if _, err := s.Write(rest[:n]); err != nil {
						t.Error(err)
					}
					rest = rest[n:]
				}
				if waited := time.Since(began) > 0; waited != c.waited {
					t.Errorf("the writer waited for %v", time.Since(began))
				}
				s.Close(nil)
				if err := <-done; err != nil || !bytes.Equal(out.Bytes(), data) {
					t.Errorf("%v, %d bytes", err, out.Len())
				}
			})
		})
	}
}

func TestSpoolErrors(t *testing.T) {
	full, torn := errors.New("full"), errors.New("torn")
	synctest.Test(t, func(t *testing.T) {
		s := NewSpool(t.TempDir(), func(int64) bool { return false })
		done := make(chan error)
		go func() { done <- s.Copy(&slow{pause: time.Second, fail: full}) }()
		var err error
		for err == nil {
			_, err = s.Write(make([]byte, 1<<20))
		}
		if got := <-done; !errors.Is(err, full) || !errors.Is(got, full) {
			t.Errorf("%v %v", err, got)
		}
	})
	s := NewSpool(t.TempDir(), func(int64) bool { return true })
	_, _ = s.Write([]byte("half"))
	s.Close(torn)
	if err := s.Copy(io.Discard); !errors.Is(err, torn) {
		t.Error(err)
	}
	if _, err := s.Write(nil); err == nil {
		t.Error("written after the end")
	}
	dir := t.TempDir()
	s = NewSpool(dir, func(int64) bool { return true })
	for range 3 * spoolMemory >> 20 {
		_, _ = s.Write(make([]byte, 1<<20))
	}
	if list, _ := os.ReadDir(dir); len(list) != 0 || s.file == nil {
		t.Errorf("%v has a name", list)
	}
}
