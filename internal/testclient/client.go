// Package testclient is a small XMPP client for the tools that try pibox and other servers from outside: TLS, SCRAM, one resource, stanzas as
// they come. It is part of no product binary.
//
// A goroutine reads. It answers pings and roster pushes, hands replies to whoever asked, and queues the rest in order.
package testclient

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"

	"pibox/internal/xmpp/frame"
)

// Config of a client.
type Config struct {
	Addr     string // host:port
	Direct   bool   // TLS from the first byte, else STARTTLS
	Account  string // bare JID
	Password string
	Resource string // "": the server chooses
	// Mechanism is the SCRAM mechanism, one without -PLUS. "": SCRAM-SHA-256.
	Mechanism string
	// TLS needs RootCAs; the server's name is that of the account.
	TLS *tls.Config
	// Salted, when not nil, keeps salted passwords, which take milliseconds to compute, from one login to the next.
	Salted *SaltCache
	// SM turns stream management (XEP-0198) on where the server offers it; then each Send holds one stanza at the most. See sm.go.
	SM bool
	// Resume, when not nil, is a session to be resumed before a resource is bound; without success one is bound.
	Resume *SMSession
	// On, when not nil, sees every stanza first, from the reading goroutine; true takes it out of the queue.
	On func(c *Client, st *frame.Element) bool
}

// Client is a logged-in resource.
type Client struct {
	cfg    Config
	domain string
	jid    string
	conn   net.Conn
	rd     *frame.Reader
	sm     *management // nil without stream management

	writing sync.Mutex

	mu      sync.Mutex
	lastID  int
	waiting map[string]chan *frame.Element // by id of an IQ
	queries map[string]*[]Archived         // by queryid: what came from an archive
	queue   []*frame.Element
	more    chan struct{} // holds a token when queue or err changed
	err     error         // why nothing more comes
}

// Dial logs in and binds. ctx bounds that, not the client's life.
func Dial(ctx context.Context, cfg Config) (*Client, error) {
	_, domain, ok := strings.Cut(cfg.Account, "@")
	if !ok {
		return nil, fmt.Errorf("testclient: %q is no bare address", cfg.Account)
	}
	c := &Client{cfg: cfg, domain: domain, waiting: map[string]chan *frame.Element{}, more: make(chan struct{}, 1)}
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", cfg.Addr)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	c.conn = conn
	if err := c.negotiate(); err != nil {
		stop()
		_ = conn.Close()
		return nil, fmt.Errorf("logging in as %s: %w", cfg.Account, errors.Join(ctx.Err(), err))
	}
	if !stop() {
		_ = conn.Close()
		return nil, ctx.Err()
	}
	go c.read()
	return c, c.retransmit()
}

// JID is the full JID.
func (c *Client) JID() string { return c.jid }

// Account is the bare JID.
func (c *Client) Account() string { return c.cfg.Account }

// Send writes bytes of the stream: whole stanzas.
func (c *Client) Send(raw string) error {
	c.writing.Lock()
	defer c.writing.Unlock()
	c.sm.sending(raw)
	_, err := io.WriteString(c.conn, raw)
	return err
}

// IQ sends a request and waits for its reply, which may be an error. to "" is the own account.
func (c *Client) IQ(ctx context.Context, typ, to, payload string) (*frame.Element, error) {
	reply, err := c.Ask(typ, to, payload)
	if err != nil {
		return nil, err
	}
	select {
	case st, ok := <-reply:
		if !ok {
			return nil, c.Err()
		}
		return st, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("no reply to an iq of %s to %q: %w", c.jid, to, ctx.Err())
	}
}

// Ask sends a request; its reply comes on the channel, which is closed without one when the connection is lost.
func (c *Client) Ask(typ, to, payload string) (<-chan *frame.Element, error) {
	reply := make(chan *frame.Element, 1)
	c.mu.Lock()
	if c.err != nil {
		defer c.mu.Unlock()
		return nil, c.err
	}
	c.lastID++
	id := "q" + strconv.Itoa(c.lastID)
	c.waiting[id] = reply
	c.mu.Unlock()
	if to != "" {
		to = " to='" + Escape(to) + "'"
	}
	return reply, c.Send("<iq type='" + typ + "' id='" + id + "'" + to + ">" + payload + "</iq>")
}

// Set is IQ of type set that has to succeed.
func (c *Client) Set(ctx context.Context, to, payload string) error {
	st, err := c.IQ(ctx, "set", to, payload)
	if err != nil {
		return err
	}
	return Refusal(st)
}

// Refusal is the error of a stanza of type error.
func Refusal(st *frame.Element) error {
	if st.Attr("type") != "error" {
		return nil
	}
	return fmt.Errorf("refused: %s", st.Raw)
}

// Next is the next stanza of the queue.
func (c *Client) Next(ctx context.Context) (*frame.Element, error) {
	for {
		c.mu.Lock()
		if len(c.queue) > 0 {
			st := c.queue[0]
			c.queue = c.queue[1:]
			c.mu.Unlock()
			return st, nil
		}
		err := c.err
		c.mu.Unlock()
		if err != nil {
			return nil, err
		}
		select {
		case <-c.more:
		case <-ctx.Done():
			return nil, fmt.Errorf("%s waited in vain: %w", c.jid, ctx.Err())
		}
	}
}

// Await drops stanzas until one matches.
func (c *Client) Await(ctx context.Context, match func(*frame.Element) bool) (*frame.Element, error) {
	for {
		st, err := c.Next(ctx)
		if err != nil || match(st) {
			return st, err
		}
	}
}

// Err tells why nothing more comes; nil while the connection is there.
func (c *Client) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// Close ends the stream and waits, until ctx ends, for the server's end.
func (c *Client) Close(ctx context.Context) {
	c.acknowledge() // XEP-0198 §4: right before a stream is closed
	_ = c.Send("</stream:stream>")
	for {
		if _, err := c.Next(ctx); err != nil {
			_ = c.conn.Close()
			return
		}
	}
}

// Cut drops the connection without a word.
func (c *Client) Cut() { _ = c.conn.Close() }

func (c *Client) read() {
	for {
		ev, err := c.rd.Next()
		switch {
		case err == nil && ev.Kind == frame.KindElement && ev.Element.NS != frame.NSStreams:
			c.take(ev.Element)
			continue
		case err == nil && ev.Kind == frame.KindSpace:
			continue
		case err == nil && ev.Kind == frame.KindElement:
			err = fmt.Errorf("the server sent %s", ev.Element.Raw)
		case err == nil:
			err = io.EOF
		}
		c.lost(err)
		return
	}
}

func (c *Client) lost(err error) {
	_ = c.conn.Close()
	c.mu.Lock()
	c.err = err
	for _, reply := range c.waiting {
		close(reply)
	}
	c.waiting = nil
	c.mu.Unlock()
	c.sm.ended()
	c.signal()
}

func (c *Client) take(st *frame.Element) {
	if st.NS == nsSM {
		c.manage(st)
		return
	}
	c.sm.received()
	if st.Name == "message" && c.archived(st) {
		return
	}
	if c.cfg.On != nil && c.cfg.On(c, st) {
		return
	}
	if st.Name == "iq" && c.iq(st) {
		return
	}
	c.mu.Lock()
	c.queue = append(c.queue, st)
	c.mu.Unlock()
	c.signal()
}

func (c *Client) signal() {
	select {
	case c.more <- struct{}{}:
	default:
	}
}

// iq hands a reply to who asked and answers requests; false for a roster push, which is answered and queued all the same.
func (c *Client) iq(st *frame.Element) bool {
	id := st.Attr("id")
	switch typ := st.Attr("type"); {
	case typ == "result" || typ == "error":
		c.mu.Lock()
		reply, ok := c.waiting[id]
		delete(c.waiting, id)
		c.mu.Unlock()
		if ok {
			reply <- st
		}
		return true
	case st.HasChild("urn:xmpp:ping", "ping"):
		_ = c.Send("<iq type='result'" + back(st) + "/>")
		return true
	case st.HasChild("jabber:iq:roster", "query"):
		_ = c.Send("<iq type='result'" + back(st) + "/>")
		return false
	}
	_ = c.Send("<iq type='error'" + back(st) + "><error type='cancel'><service-unavailable xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></iq>")
	return true
}

func back(st *frame.Element) string {
	to := ""
	if from := st.Attr("from"); from != "" {
		to = " to='" + Escape(from) + "'"
	}
	return " id='" + Escape(st.Attr("id")) + "'" + to
}

// Escape makes a string fit for an attribute or text.
func Escape(s string) string { return string(frame.AppendEscaped(nil, s)) }
