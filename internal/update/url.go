//go:build !nocard

package update

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"pibox/internal/admin"
)

// patience is how much a server may ask of the box.
type patience struct {
	stall     time.Duration // without a byte, before the connection is given up and made anew
	pause     time.Duration // before that; it doubles, up to 64 times
	tries     int           // connections in a row that brought less than enough
	enough    int64         // bytes
	all       time.Duration // for the whole file
	redirects int
	skip      int64 // bytes that are read and thrown away rather than asked for anew
}

func defaultPatience() patience {
	return patience{stall: 30 * time.Second, pause: time.Second, tries: 10, enough: 64 << 10, all: 12 * time.Hour, redirects: 5, skip: 256 << 10}
}

// urlStream reads a URL, and goes on where it was when the connection broke. What it reads is verified by others; here it is bounded.
type urlStream struct {
	ctx    context.Context
	cancel context.CancelFunc
	url    string
	p      patience
	client *http.Client

	body  io.ReadCloser // nil while there is no connection
	stall *time.Timer   // ends the connection
	end   context.CancelFunc
	at    int64
	began int64  // where the connection began
	bad   int    // connections in a row that brought too little
	size  int64  // -1: not known
	etag  string // of the first answer: what follows must be of the same file
}

func openURL(ctx context.Context, name string, p patience) (*urlStream, error) {
	u, err := url.Parse(name)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return nil, admin.Errorf(admin.CodeInvalid, "%s is no address that an update can be fetched from", name).
			Then("It begins with https:// or http://.")
	}
	s := &urlStream{url: name, p: p, size: -1}
	s.ctx, s.cancel = context.WithTimeout(ctx, p.all)
	s.client = &http.Client{
		Transport: &http.Transport{
			Proxy: http.ProxyFromEnvironment, DisableCompression: true, MaxResponseHeaderBytes: 64 << 10, DisableKeepAlives: true,
			TLSHandshakeTimeout: p.stall, ResponseHeaderTimeout: p.stall,
		},
		CheckRedirect: func(_ *http.Request, via []*http.Request) error {
			if len(via) > p.redirects {
				return admin.Errorf(admin.CodeFailed, "the server sends the box from one address to the next without end")
			}
			return nil
		},
	}
	if err := s.again(); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// Read implements io.Reader.
func (s *urlStream) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for {
		if s.size >= 0 && s.at >= s.size {
			return 0, io.EOF
		}
		if s.body == nil {
			if err := s.again(); err != nil {
				return 0, err
			}
		}
		s.stall.Reset(s.p.stall)
		n, err := s.body.Read(p)
		s.at += int64(n)
		if s.at-s.began >= s.p.enough {
			s.bad = 0
		}
		if errors.Is(err, io.EOF) && s.size < 0 {
			s.size = s.at
		}
		if err != nil {
			s.hangUp()
		}
		if n > 0 {
			return n, nil
		}
	}
}

// Skip implements Stream.
func (s *urlStream) Skip(n int64) error {
	if n <= s.p.skip {
		_, err := io.CopyN(io.Discard, s, n)
		return ended(err, errTruncated)
	}
	s.hangUp()
	s.at += n
	s.bad = 0 // it was not the server that ended it
	return nil
}

// Close implements Stream.
func (s *urlStream) Close() error {
	s.hangUp()
	s.cancel()
	return nil
}

func (s *urlStream) rest(want int64) error {
	if s.size >= 0 && s.size-s.at != want {
		return errTruncated
	}
	return nil
}

func (s *urlStream) hangUp() {
	if s.body == nil {
		return
	}
	s.stall.Stop()
	s.end()
	_ = s.body.Close()
	s.body = nil
}

// again connects, and tries that a few times. A connection counts as bad until it has brought enough.
func (s *urlStream) again() error {
	err := io.ErrUnexpectedEOF
	for s.bad < s.p.tries && s.ctx.Err() == nil {
		if s.bad > 0 {
			wait := time.NewTimer(s.p.pause << min(s.bad-1, 6))
			select {
			case <-wait.C:
			case <-s.ctx.Done():
				wait.Stop()
			}
		}
		s.bad++
		var known *admin.Error
		if err = s.connect(); err == nil || errors.As(err, &known) {
			return err
		}
	}
	if s.ctx.Err() != nil {
		err = s.ctx.Err()
	}
	var wrapped *url.Error
	if errors.As(err, &wrapped) {
		err = wrapped.Err // it repeats the address
	}
	return admin.Errorf(admin.CodeFailed, "the update can not be fetched: %v", err).Then("What was fetched stays: the same command goes on where this one stopped.")
}

// connect asks for what follows, and returns when its first byte came or the connection turned out to be of no use.
func (s *urlStream) connect() error {
	ctx, end := context.WithCancel(s.ctx)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.url, nil)
	if err != nil {
		end()
		return err
	}
	req.Header.Set("User-Agent", "pibox")
	req.Header.Set("Accept-Encoding", "identity")
	if s.at > 0 {
		req.Header.Set("Range", fmt.Sprintf("bytes=%d-", s.at))
		if s.etag != "" {
			req.Header.Set("If-Range", s.etag)
		}
	}
	s.stall = time.AfterFunc(s.p.stall, end)
	resp, err := s.client.Do(req)
	if err != nil {
		s.stall.Stop()
		end()
		return err
	}
	s.body, s.end = &primed{ReadCloser: resp.Body}, end
	err = s.accept(resp)
	if err == nil {
		// A server that accepts and then says nothing, again and again, must count as failing.
		s.stall.Reset(s.p.stall)
		err = s.body.(*primed).prime()
	}
	if err != nil {
		s.hangUp()
	}
	s.began = s.at
	return err
}

// accept judges an answer.
func (s *urlStream) accept(resp *http.Response) error {
	switch {
	case resp.StatusCode == http.StatusPartialContent && s.at > 0:
		from, size, ok := contentRange(resp.Header.Get("Content-Range"))
		if !ok || from != s.at || s.size >= 0 && size != s.size {
			return errChanged
		}
		s.size = size
	case resp.StatusCode == http.StatusOK:
		if s.size >= 0 && resp.ContentLength != s.size || s.etag != "" && s.etag != strongETag(resp) {
			return errChanged
		}
		s.size, s.etag = resp.ContentLength, strongETag(resp)
		// The server does not do parts: what the box has comes once more.
		if err := s.discard(s.at); err != nil {
			return err
		}
	case resp.StatusCode >= 500, resp.StatusCode == http.StatusTooManyRequests:
		return errors.New("the server says " + resp.Status)
	default:
		return admin.Errorf(admin.CodeFailed, "the server does not give the update: it says %s", resp.Status).Then("Check the address.")
	}
	return nil
}

func (s *urlStream) discard(n int64) error {
	for buf := make([]byte, 64<<10); n > 0; {
		s.stall.Reset(s.p.stall)
		m, err := s.body.Read(buf[:min(n, int64(len(buf)))])
		if n -= int64(m); err != nil && n > 0 {
			return err
		}
	}
	return nil
}

var errChanged = admin.Errorf(admin.CodeFailed, "the file on the server changed while it was fetched").Then("Try again.")

func strongETag(resp *http.Response) string {
	if tag := resp.Header.Get("ETag"); strings.HasPrefix(tag, `"`) {
		return tag
	}
	return ""
}

// contentRange reads "bytes 5-9/10" (RFC 9110 §14.4). size is -1 where it is not told.
func contentRange(h string) (from, size int64, ok bool) {
	rest, ok := strings.CutPrefix(h, "bytes ")
	span, total, cut := strings.Cut(rest, "/")
	first, _, dash := strings.Cut(span, "-")
	if !ok || !cut || !dash {
		return 0, 0, false
	}
	from, err := strconv.ParseInt(first, 10, 64)
	if err != nil || from < 0 {
		return 0, 0, false
	}
	if total == "*" {
		return from, -1, true
	}
	size, err = strconv.ParseInt(total, 10, 64)
	return from, size, err == nil && size > from
}

// primed has read its first byte already.
type primed struct {
	io.ReadCloser
	first []byte
}

func (p *primed) prime() error {
	buf := make([]byte, 1)
	_, err := io.ReadFull(p.ReadCloser, buf)
	if err == nil {
		p.first = buf
	}
	return err
}

func (p *primed) Read(b []byte) (int, error) {
	if len(p.first) > 0 && len(b) > 0 {
		n := copy(b, p.first)
		p.first = p.first[n:]
		return n, nil
	}
	return p.ReadCloser.Read(b)
}
