//go:build !nocard

package update

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"pibox/internal/admin"
)

func hurried() patience {
	return patience{stall: 100 * time.Millisecond, pause: time.Millisecond, tries: 4, enough: 1000, all: 20 * time.Second, redirects: 3, skip: 1000}
}

func testContent() []byte {
	b := make([]byte, 50_000)
	for i := range b {
		b[i] = byte(i) ^ byte(i>>8)
	}
	return b
}

// ranged answers as a good server does, but sends no more than some bytes of each answer.
func ranged(content []byte, most int, etag string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		from := 0
		if h := r.Header.Get("Range"); h != "" {
			_, _ = fmt.Sscanf(h, "bytes=%d-", &from)
		}
		w.Header().Set("ETag", etag)
		w.Header().Set("Content-Length", strconv.Itoa(len(content)-from))
		if from > 0 {
			w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", from, len(content)-1, len(content)))
			w.WriteHeader(http.StatusPartialContent)
		}
		_, _ = w.Write(content[from:min(from+most, len(content))])
	}
}

func fetch(t *testing.T, h http.Handler, p patience) ([]byte, error) {
	t.Helper()
	srv := httptest.NewServer(h)
	defer srv.Close()
	defer srv.CloseClientConnections()
	s, err := openURL(t.Context(), srv.URL+"/x", p)
	if err != nil {
		return nil, err
	}
	defer func() { _ = s.Close() }()
	return io.ReadAll(io.LimitReader(s, 1<<20))
}

func TestURL(t *testing.T) {
	content := testContent()
	for name, h := range map[string]http.HandlerFunc{
		"at once":                ranged(content, 1<<20, ""),
		"breaks off and resumes": ranged(content, 3333, `"a"`),
		"knows no ranges": func(w http.ResponseWriter, r *http.Request) {
			r.Header.Del("Range")
			ranged(content, 1<<20, "")(w, r)
		},
		"does not tell how long it is": func(w http.ResponseWriter, _ *http.Request) {
			for part := content; len(part) > 0; part = part[min(1000, len(part)):] {
				_, _ = w.Write(part[:min(1000, len(part))])
				w.(http.Flusher).Flush()
			}
		},
		"sends elsewhere": func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/x" {
				http.Redirect(w, r, "/y", http.StatusFound)
				return
			}
			ranged(content, 1<<20, "")(w, r)
		},
	} {
		t.Run(name, func(t *testing.T) {
			if got, err := fetch(t, h, hurried()); err != nil || !bytes.Equal(got, content) {
				t.Errorf("%d bytes, %v", len(got), err)
			}
		})
	}
}

func TestURLWithABusyServer(t *testing.T) {
	content, calls := testContent(), atomic.Int32{}
	got, err := fetch(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if calls.Add(1)%2 == 1 {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		ranged(content, 5000, "")(w, r)
	}), hurried())
	if err != nil || !bytes.Equal(got, content) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
}

func TestURLSkip(t *testing.T) {
	content := testContent()
	srv := httptest.NewServer(ranged(content, 1<<20, ""))
	defer srv.Close()
	s, err := openURL(t.Context(), srv.URL, hurried())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	at := 0
	for _, n := range []int{10, 500, 20_000, 1, 900, 5000} { // near and far
		if err := s.Skip(int64(n)); err != nil {
			t.Fatal(err)
		}
		at += n
		p := make([]byte, 7)
		if _, err := io.ReadFull(s, p); err != nil || !bytes.Equal(p, content[at:at+7]) {
			t.Fatalf("at %d: %x, %v", at, p, err)
		}
		at += 7
	}
}

// Nothing that a server does keeps the box busy without end, or makes it take bytes of another file.
func TestURLHostile(t *testing.T) {
	content := testContent()
	silent := func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }
	calls := atomic.Int32{}
	for name, h := range map[string]http.HandlerFunc{
		"says nothing": silent,
		"says nothing after the beginning": func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", "50000")
			_, _ = w.Write(content[:10])
			w.(http.Flusher).Flush()
			<-r.Context().Done()
		},
		"a byte a connection":   ranged(content, 1, ""),
		"nothing but the head":  ranged(content, 0, ""),
		"redirects without end": func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, r.URL.Path+"x", http.StatusFound) },
		"redirects to a file": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "file:///etc/passwd", http.StatusFound)
		},
		"not found":   func(w http.ResponseWriter, r *http.Request) { http.NotFound(w, r) },
		"always busy": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) },
		"endless head": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("X", strings.Repeat("x", 1<<20))
			w.WriteHeader(http.StatusOK)
		},
		"another file after a break": func(w http.ResponseWriter, r *http.Request) {
			ranged(content, 5000, fmt.Sprintf(`"%d"`, calls.Add(1)))(w, without(r))
		},
		"a range that was not asked for": func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Range") != "" {
				r.Header.Set("Range", "bytes=17-")
			}
			ranged(content, 5000, "")(w, r)
		},
		"another length after a break": func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Range") != "" {
				ranged(append(bytes.Clone(content), 1), 5000, "")(w, r)
				return
			}
			ranged(content, 5000, "")(w, r)
		},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := fetch(t, h, hurried())
			var known *admin.Error
			if !errors.As(err, &known) {
				t.Errorf("%d bytes, %v", len(got), err)
			}
			if !bytes.HasPrefix(content, got) {
				t.Error("bytes of another file")
			}
		})
	}
}

// without is a request whose range the server does not see.
func without(r *http.Request) *http.Request {
	c := r.Clone(r.Context())
	c.Header.Del("Range")
	return c
}

func TestURLTakesOnlySoLong(t *testing.T) {
	p := hurried()
	p.all = 300 * time.Millisecond
	_, err := fetch(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		tick := time.NewTicker(10 * time.Millisecond) // always something, never enough
		defer tick.Stop()
		for {
			if _, err := w.Write([]byte("x")); err != nil {
				return
			}
			w.(http.Flusher).Flush()
			select {
			case <-tick.C:
			case <-r.Context().Done():
				return
			}
		}
	}), p)
	if err == nil {
		t.Error("it went on")
	}
}

func TestURLNames(t *testing.T) {
	for _, name := range []string{"ftp://example.org/x", "file:///x", "http://", "http:///x", "://x"} {
		if _, err := openStream(t.Context(), name); err == nil {
			t.Errorf("%s was opened", name)
		}
	}
}

func FuzzContentRange(f *testing.F) {
	f.Add("bytes 5-9/10")
	f.Add("bytes 5-9/*")
	f.Fuzz(func(t *testing.T, h string) {
		if from, size, ok := contentRange(h); ok && (from < 0 || size >= 0 && size <= from) {
			t.Errorf("%q: %d of %d", h, from, size)
		}
	})
}
