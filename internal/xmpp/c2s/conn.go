package c2s

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"runtime/debug"
	"strconv"
	"sync"
	"time"

	"pibox/internal/xmpp"
	"pibox/internal/xmpp/frame"
	"pibox/internal/xmpp/throttle"

	"golang.org/x/sys/unix"
)

const (
	// trialStanzas is how many stanzas' worth of bytes a client may send before it has a resource: it needs eight elements.
	trialStanzas = 10

	flushTime  = 3 * time.Second // for the last words, at most
	lingerTime = time.Second     // for a peer to read them before the socket is closed
)

var (
	errStreamEnd = errors.New("the client closed the stream")
	errPeerError = errors.New("the client sent a stream error")
	errEnding    = errors.New("the connection is being closed")
	errTooSlow   = errors.New("the client does not take what it is sent")
	errDead      = errors.New("the client does not answer")
)

// conn is one connection. Fields without a remark belong to the reading goroutine.
type conn struct {
	srv     *Server
	id      string
	raw     net.Conn   // as it was accepted
	net     net.Conn   // raw, or TLS over it
	addr    netip.Addr // what limits count by
	direct  bool
	started time.Time
	in      *input
	rd      *frame.Reader
	out     *outbox // the session's, where there is one

	ctx    context.Context
	cancel context.CancelFunc

	domain  string // of ours, which the stream is to
	peer    string // what the client called itself by, for the header's to
	lang    string // of the stream
	account xmpp.JID
	era     uint64 // of the account when its password was looked at
	session *xmpp.Session
	link    *link // the session's; nil before there is one
	stanzas throttle.Bucket
	waiting bool // counted as not logged in

	mu     sync.Mutex
	headed bool // a stream header was sent on this stream
	ending bool
	parts  bool      // ending, and the session goes on without it
	why    error     // the first reason to end
	readBy time.Time // when reading gives up
}

func (s *Server) newConn(nc net.Conn, direct bool) *conn {
	c := &conn{
		srv: s, id: s.newID(), raw: nc, net: nc, addr: addrOf(nc), direct: direct, started: time.Now(),
		domain: s.router.Domains()[0], waiting: true,
		stanzas: throttle.NewBucket(float64(s.opt.StanzaRate), float64(s.opt.StanzaBurst)),
	}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	c.in = &input{
		conn: c, src: nc, last: c.started, trial: trialStanzas * s.opt.StanzaBeforeLogin,
		bytes: throttle.NewBucket(float64(s.opt.ByteRate), float64(s.opt.ByteBurst)),
	}
	c.rd = frame.NewReader(c.in, s.opt.limits(s.opt.StanzaBeforeLogin))
	c.out = &outbox{shared: s.outbox, conn: nc, failed: c.end, held: direct}
	if tc, ok := nc.(*net.TCPConn); ok {
		watch(tc, &s.opt)
	}
	return c
}

func (s *Server) newID() string { return "c" + strconv.FormatUint(s.lastID.Add(1), 10) }

// watch has the kernel find out that the peer is gone, without waking anybody's application: by probes in silence, and by what was sent and is
// not acknowledged. What can not be set is no reason to refuse a connection.
func watch(tc *net.TCPConn, opt *Options) {
	_ = tc.SetKeepAliveConfig(net.KeepAliveConfig{Enable: true, Idle: opt.TCPKeepalive, Interval: 20 * time.Second, Count: 3})
	if sc, err := tc.SyscallConn(); err == nil {
		_ = sc.Control(func(fd uintptr) {
			_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(opt.DeadAfter.Milliseconds()))
		})
	}
}

// input is where a connection is read: it notes when, and slows down what comes too fast.
type input struct {
	conn  *conn
	src   net.Conn
	last  time.Time // of the last byte
	bytes throttle.Bucket
	owed  time.Duration // not to be read before this has passed
	trial int           // bytes that may come before a resource is bound; below zero is too much
	bound bool          // the trial is over
}

func (in *input) Read(p []byte) (int, error) {
	if in.owed > 0 {
		if err := in.conn.pause(in.owed); err != nil {
			return 0, err
		}
		in.owed = 0
	}
	n, err := in.src.Read(p)
	if n > 0 {
		in.last = time.Now()
		in.owed = in.bytes.Take(in.last, n)
		if in.trial -= n; in.trial < 0 && !in.bound {
			return 0, &xmpp.StreamError{Condition: "policy-violation", Text: "too much was sent before a resource was bound"}
		}
		in.trial = max(in.trial, 0)
	}
	return n, err
}

// pause lets time pass without reading.
func (c *conn) pause(d time.Duration) error {
	if d <= 0 {
		return nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-c.ctx.Done():
		return errEnding
	}
}

// serve is all of the connection's life in one goroutine: the garbage collector takes back the deep stack that negotiation leaves behind, and
// another goroutine would wake another thread.
func (c *conn) serve() {
	err := c.guarded(c.negotiate)
	if err == nil {
		err = c.guarded(c.relay)
	}
	c.stop(err)
}

// guarded keeps a fault of the program on one connection from reaching another.
func (c *conn) guarded(f func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			c.log(slog.LevelError, "panic on a connection", "panic", p, "stack", string(debug.Stack()))
			err = &xmpp.StreamError{Condition: "internal-server-error"}
		}
	}()
	return f()
}

// next reads up to the next element.
func (c *conn) next() (*frame.Element, error) {
	for {
		ev, err := c.rd.Next()
		switch {
		case err != nil:
			return nil, c.explain(err)
		case ev.Kind == frame.KindEnd:
			return nil, errStreamEnd
		case ev.Kind == frame.KindHeader:
			return nil, &xmpp.StreamError{Condition: "bad-format", Text: "a stream header within a stream"}
		case ev.Kind == frame.KindElement && ev.Element.NS == frame.NSStreams && ev.Element.Name == "error":
			return nil, errPeerError // RFC 6120 §4.9.1.1: it closes the stream
		case ev.Kind == frame.KindElement:
			return ev.Element, nil
		}
	}
}

// explain turns a fault of the stream into what the client is told of it.
func (c *conn) explain(err error) error {
	var fe *frame.Error
	if errors.As(err, &fe) {
		return &xmpp.StreamError{Condition: fe.Condition, Text: fe.Text}
	}
	if c.isEnding() {
		return errEnding
	}
	return err
}

// readUntil sets the time at which reading gives up, unless the connection is ending.
func (c *conn) readUntil(t time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.ending {
		c.readBy = t
		_ = c.raw.SetReadDeadline(t)
	}
}

// readSooner is readUntil, unless reading gives up before that anyway.
func (c *conn) readSooner(t time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.ending && t.Before(c.readBy) {
		c.readBy = t
		_ = c.raw.SetReadDeadline(t)
	}
}

func (c *conn) isEnding() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ending
}

// end makes the connection end, with a stream error where err is one: it queues the last words and wakes the reader. Any goroutine
// may call it; only the first call counts.
func (c *conn) end(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ending {
		return
	}
	c.ending, c.why = true, err
	if c.link != nil && c.link.outlives(err) {
		c.parts = true
	} else {
		c.out.close(c.lastWords(), time.Now().Add(flushTime))
	}
	_ = c.raw.SetReadDeadline(time.Unix(1, 0))
	c.cancel()
}

// lastWords are the end of the stream, if it has begun or is to begin for that; with the lock.
func (c *conn) lastWords() []byte {
	var se *xmpp.StreamError
	errors.As(c.why, &se)
	switch {
	case se != nil && !c.headed: // RFC 6120 §4.9.1.2
		return append(c.header(), closing(se)...)
	case c.headed:
		return closing(se)
	}
	return nil
}

// closing is the end of a stream, after an error (RFC 6120 §4.4, §4.9.1.1).
func closing(se *xmpp.StreamError) []byte {
	const end = "</stream:stream>"
	if se == nil {
		return []byte(end)
	}
	return append(se.XML(), end...)
}

// stop ends the connection for good; the reading goroutine's last act.
func (c *conn) stop(err error) {
	defer c.srv.leave(c)
	c.end(err)
	if c.parts {
		c.part()
		return
	}
	mine := c.link != nil && c.link.unbind(func() bool { return true })
	flushed := c.out.flush(time.Now().Add(flushTime))
	if mine {
		c.link.giveBack()
	}
	if flushed == nil {
		c.closeWrite()
		if !errors.Is(c.why, errStreamEnd) && !errors.Is(c.why, io.EOF) {
			c.linger(time.Now().Add(lingerTime))
		}
	}
	_ = c.raw.Close()
	c.logEnd()
}

// part leaves the session, which may be resumed. The stream breaks off without an end or an error, which clients take for the session's end (XEP-0198
// §7), but where the session goes on over another connection.
func (c *conn) part() {
	by := time.Unix(1, 0)
	if c.srv.isStopping() {
		by = time.Now().Add(flushTime)
	}
	whole := c.out.detach(by)
	c.link.leave()
	if whole && errors.Is(c.why, errTakenOver) {
		_ = c.raw.SetWriteDeadline(time.Now().Add(lingerTime))
		if _, err := c.net.Write(c.lastWords()); err == nil {
			c.closeWrite()
			c.linger(time.Now().Add(lingerTime))
		}
	}
	_ = c.raw.Close()
	c.logEnd()
}

// closeWrite tells the peer that nothing more comes: in TLS, so that it knows that nobody cut the stream, then in TCP.
func (c *conn) closeWrite() {
	if tc, ok := c.net.(*tls.Conn); ok {
		_ = tc.CloseWrite()
	}
	if half, ok := c.raw.(interface{ CloseWrite() error }); ok {
		_ = half.CloseWrite()
	}
}

// linger reads and discards until the peer closes: a socket that is closed with something unread takes back what was written last.
func (c *conn) linger(by time.Time) {
	_ = c.raw.SetReadDeadline(by)
	_, _ = io.CopyN(io.Discard, c.raw, 4<<20)
}

func (c *conn) noLongerWaiting() {
	if c.waiting {
		c.waiting = false
		c.srv.waiting.Release(c.addr)
	}
}

func (c *conn) log(level slog.Level, msg string, args ...any) {
	if c.srv.log.Enabled(context.Background(), level) {
		c.srv.log.Log(context.Background(), level, msg, append([]any{"conn", c.id}, args...)...)
	}
}

func (c *conn) logEnd() {
	c.mu.Lock()
	why := c.why
	c.mu.Unlock()
	who := "nobody"
	if c.session != nil {
		who = c.session.JID.String()
	} else if !c.account.IsZero() {
		who = c.account.String()
	}
	c.log(slog.LevelInfo, "client gone", "address", c.addr.String(), "who", who, "after", time.Since(c.started).Round(time.Millisecond), "reason", why)
}
