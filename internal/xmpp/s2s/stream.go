package s2s

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"sync"
	"time"

	"pibox/internal/xmpp"
	"pibox/internal/xmpp/frame"
)

const (
	streamEnd    = "</stream:stream>"
	closeTimeout = 2 * time.Second  // for the peer's end of the stream after ours
	endTimeout   = time.Second      // for writing the end of a stream
	drainBytes   = 1 << 20          // read after a stream error, so that it is not lost to a reset
	tickLeast    = 10 * time.Second // between two looks at an idle stream
)

// Ends of a stream that are nobody's fault.
var (
	errPeerEnded = errors.New("the peer ended the stream")
	errEnded     = errors.New("the stream is ended")
)

// peerError is a stream error that the peer sent.
type peerError struct{ condition, text string }

func (e *peerError) Error() string { return "the peer says " + e.condition + ": " + e.text }

// stream is one connection with another server, in either direction. What has no lock belongs to the goroutine that reads.
type stream struct {
	s        *Server
	id       string // connection id for the log
	log      *slog.Logger
	socket   net.Conn // below TLS
	incoming bool     // they connected
	r        *frame.Reader

	pair          pair   // of the stream header; remote is "" while the peer did not say
	streamID      string // given by the side that was connected to
	certs         []*x509.Certificate
	headerSent    bool
	sasl          bool // incoming: SASL is done
	saslWait      bool // incoming: an empty challenge was sent
	failures      int  // of SASL
	before        int  // elements read before authentication
	bidi          bool
	offered       offer               // outgoing: the last features
	enabled       bool                // incoming: stream management was enabled or resumed
	attachPending bool                // incoming: we are to send on it, when the peer had time to enable stream management
	peers         map[pair]*xmpp.Peer // what the peer may send
	checking      map[pair]bool       // dialback keys that are being verified
	rate          rate

	// Guarded by the server's lock.
	mgmt           *management
	closing        bool // our last word is, or is about to be, said: what comes behind it is not handled where it is counted
	controlling    bool // somebody is writing what is due
	ackDue, askDue bool // <a/>, <r/>
	pingDue        bool

	mu       sync.Mutex
	conn     net.Conn // socket, or TLS over it
	deadline time.Time
	posts    []func() error
	started  bool          // authenticated for at least one pair
	ended    bool          // our end of the stream is sent, or can not be sent any more
	writing  chan struct{} // holds an element while somebody writes
	timer    *time.Timer
	lastOut  time.Time
	lastUse  time.Time // a stanza in either direction
}

func (s *Server) newStream(conn net.Conn, p pair, incoming bool) *stream {
	kind := "s2s-out"
	if incoming {
		kind = "s2s-in"
	}
	now := time.Now()
	t := &stream{
		s: s, id: s.connID(kind), socket: conn, conn: conn, incoming: incoming, pair: p, lastOut: now, lastUse: now,
		peers: map[pair]*xmpp.Peer{}, checking: map[pair]bool{}, writing: make(chan struct{}, 1),
		rate: newRate(s.opt.StanzaRate, s.opt.ByteRate),
	}
	t.mgmt = &management{stream: t}
	t.log = s.log.With("conn", t.id)
	t.r = frame.NewReader(conn, t.limits(unauthenticated))
	t.setDeadline(now.Add(s.opt.AuthTimeout))
	tune(conn, s.opt.DeadAfter)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.streams[t] = true
	if s.stopping {
		_ = conn.Close() // Shutdown may have looked at the streams before
	}
	return t
}

func (t *stream) limits(size int) frame.Limits {
	l := t.s.opt.Shape
	l.Bytes = size
	return l
}

// setDeadline bounds reading; the zero time is no bound.
func (t *stream) setDeadline(d time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.deadline = d
	if len(t.posts) == 0 {
		_ = t.conn.SetReadDeadline(d)
	}
}

// post has f run by the goroutine that reads, whose wait for the peer it interrupts. An error of f ends the stream.
func (t *stream) post(f func() error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.posts = append(t.posts, f)
	_ = t.conn.SetReadDeadline(time.Unix(1, 0))
}

// posted runs what was posted; timedOut tells that there was nothing and the deadline has passed.
func (t *stream) posted() (timedOut bool, err error) {
	t.mu.Lock()
	posts := t.posts
	t.posts = nil
	_ = t.conn.SetReadDeadline(t.deadline)
	timedOut = len(posts) == 0 && !t.deadline.IsZero() && !time.Now().Before(t.deadline)
	t.mu.Unlock()
	for _, f := range posts {
		if err := f(); err != nil {
			return false, err
		}
	}
	return timedOut, nil
}

// next reads the next event but white space.
func (t *stream) next() (frame.Event, error) {
	for {
		ev, err := t.r.Next()
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			timedOut, err := t.posted()
			if err != nil {
				return ev, err
			}
			if timedOut {
				return ev, t.late()
			}
		case err != nil:
			return ev, err
		case ev.Kind == frame.KindEnd:
			return ev, errPeerEnded
		case ev.Kind != frame.KindSpace:
			return ev, nil
		}
	}
}

// late is why the deadline passed: it took the peer too long to say who it is, or to end the stream after us.
func (t *stream) late() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.ended {
		return errEnded
	}
	return os.ErrDeadlineExceeded
}

// element reads the next element; a stream error of the peer is an error.
func (t *stream) element() (*frame.Element, error) {
	ev, err := t.next()
	if err != nil {
		return nil, err
	}
	el := ev.Element
	if el.NS == frame.NSStreams && el.Name == "error" {
		pe := &peerError{condition: "undefined-condition"}
		for _, c := range el.Node().Children {
			switch {
			case c.NS != xmpp.NSStreams:
			case c.Name == "text":
				pe.text = c.Text
			default:
				pe.condition = c.Name
			}
		}
		return nil, pe
	}
	return el, nil
}

func (t *stream) header() (*frame.Header, error) {
	ev, err := t.next()
	return ev.Header, err
}

// write sends bytes; n is how many may have reached the peer.
func (t *stream) write(b []byte) (n int, err error) {
	t.writing <- struct{}{}
	defer func() { <-t.writing }()
	return t.writeNow(b)
}

// writeNow is write for who has the turn.
func (t *stream) writeNow(b []byte) (n int, err error) {
	t.mu.Lock()
	if t.ended {
		t.mu.Unlock()
		return 0, errEnded
	}
	conn := t.conn
	t.lastOut = time.Now()
	_ = conn.SetWriteDeadline(t.lastOut.Add(t.s.opt.WriteTimeout))
	t.mu.Unlock()
	n, err = conn.Write(b)
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.ended {
		_ = conn.SetWriteDeadline(time.Time{}) // TLS writes too, of its own accord
	}
	return n, err
}

func (t *stream) send(b []byte) error {
	_, err := t.write(b)
	return err
}

func appendHeader(b []byte, from, to, id string) []byte {
	attr := func(name, value string) {
		if value != "" {
			b = append(append(append(b, ' '), name...), '=', '\'')
			b = append(frame.AppendEscaped(b, value), '\'')
		}
	}
	b = append(b, "<?xml version='1.0'?><stream:stream xmlns='jabber:server' xmlns:stream='http://etherx.jabber.org/streams' xmlns:db='jabber:server:dialback'"...)
	attr("from", from)
	attr("to", to)
	attr("id", id)
	return append(b, " version='1.0' xml:lang='en'>"...)
}

// useTLS goes on over TLS.
func (t *stream) useTLS(conn *tls.Conn) {
	t.mu.Lock()
	t.conn = conn
	t.mu.Unlock()
	t.certs = conn.ConnectionState().PeerCertificates
	t.r.Restart(conn)
}

// start lifts the bounds of a stream that is not authenticated.
func (t *stream) start() {
	t.mu.Lock()
	if t.started {
		t.mu.Unlock()
		return
	}
	t.started = true
	t.lastUse = time.Now()
	t.timer = time.AfterFunc(t.tickAfter(), t.tick)
	t.mu.Unlock()
	t.r.SetLimits(t.limits(t.s.opt.Stanza))
	t.setDeadline(time.Time{})
}

func (t *stream) tickAfter() time.Duration {
	return max(min(t.s.opt.Keepalive, t.s.opt.IdleTimeout)/4, min(tickLeast, t.s.opt.Keepalive, t.s.opt.IdleTimeout))
}

// tick looks after a stream that may be silent: white space (RFC 6120 §4.6.1) makes TCP find out that the peer is gone, and what
// is not used is ended.
func (t *stream) tick() {
	t.mu.Lock()
	if t.ended {
		t.mu.Unlock()
		return
	}
	now := time.Now()
	idle := now.Sub(t.lastUse) >= t.s.opt.IdleTimeout
	silent := now.Sub(t.lastOut) >= t.s.opt.Keepalive
	t.mu.Unlock()
	if t.overdue(now) {
		t.log.Warn("another server does not acknowledge what it gets", "local", t.pair.local, "remote", t.pair.remote)
		t.s.detach(t)
		_ = t.socket.Close()
		return
	}
	if idle {
		t.s.detach(t)
		t.end(nil)
		return
	}
	if silent {
		if err := t.send([]byte(" ")); err != nil {
			_ = t.socket.Close()
			return
		}
	}
	t.mu.Lock()
	t.timer.Reset(t.tickAfter())
	t.mu.Unlock()
}

func (t *stream) used() {
	t.mu.Lock()
	t.lastUse = time.Now()
	t.mu.Unlock()
}

// end sends our end of the stream, with an error if there is one, and bounds how long the peer's may take. What the peer still sends is
// taken until then (RFC 6120 §4.4).
func (t *stream) end(se *xmpp.StreamError) {
	t.mu.Lock()
	if t.ended {
		t.mu.Unlock()
		return
	}
	t.ended = true
	if t.timer != nil {
		t.timer.Stop()
	}
	conn := t.conn
	_ = conn.SetWriteDeadline(time.Now().Add(endTimeout)) // also for who is writing now
	t.mu.Unlock()
	ack := t.lastAck()

	t.writing <- struct{}{}
	defer func() { <-t.writing }()
	var b []byte
	if !t.headerSent {
		b = appendHeader(b, t.ownName(), t.pair.remote, t.streamID)
	}
	b = append(b, ack...)
	if se != nil {
		b = append(b, se.XML()...)
	}
	_ = conn.SetWriteDeadline(time.Now().Add(endTimeout))
	_, _ = conn.Write(append(b, streamEnd...))
	t.setDeadline(time.Now().Add(closeTimeout))
}

func (t *stream) ownName() string {
	if t.s.router.IsLocal(t.pair.local) {
		return t.pair.local
	}
	return t.s.router.Domains()[0]
}

// finish ends a stream whose reader has stopped because of err, and closes the connection.
func (t *stream) finish(err error) {
	t.s.detach(t)
	ended, cut := t.isEnded(), t.isCut(err)
	se := asStreamError(err)
	level := slog.LevelInfo
	if errors.Is(err, errPeerEnded) || errors.Is(err, io.EOF) || errors.Is(err, errEnded) || err == nil {
		level = slog.LevelDebug
	}
	t.log.Log(t.s.ctx, level, "stream of another server ended", "local", t.pair.local, "remote", t.pair.remote, "reason", err)
	if cut {
		t.abort()
	} else {
		t.end(se)
	}
	t.writing <- struct{}{} // nobody writes any more
	t.s.forget(t, err, cut, ended && errors.Is(err, errPeerEnded))
	<-t.writing
	if se != nil {
		t.drain()
	}
	_ = t.conn.Close()
}
