package frame

import (
	"errors"
	"io"
	"reflect"
)

const (
	idleBuffer = 512  // kept by every connection
	readBuffer = 4096 // what is read beyond an element at most
)

// Kind tells what an [Event] is.
type Kind int

// Kinds of events. KindSpace is white space between elements (a keepalive, RFC 6120 §4.6.1), one event for what came at once.
const (
	KindHeader Kind = iota
	KindElement
	KindEnd
	KindSpace
)

// Event is what a stream consists of at its top level.
type Event struct {
	Kind    Kind
	Header  *Header
	Element *Element
}

// Reader reads a stream. It buffers at most Limits.Bytes and 4 KiB, and half a KiB between elements; and notes of bounded size about
// the element that is being read. It is not for concurrent use.
type Reader struct {
	src    io.Reader
	s      scanner
	small  [idleBuffer]byte
	buf    []byte
	rd, wr int   // what was read and not used yet
	full   bool  // the last read filled buf
	srcErr error // came with the last bytes

	state     state
	name      string // of the stream element, with its prefix
	restarted bool   // this is not the first stream of the connection
	decl      bool   // an XML declaration was read
	err       error  // fault of the peer; for good
}

type state uint8

const (
	beforeHeader state = iota
	inStream
	afterEnd
)

// NewReader returns a Reader that expects a stream header.
func NewReader(r io.Reader, lim Limits) *Reader {
	rd := &Reader{src: r}
	rd.buf = rd.small[:]
	rd.s.lim = lim.orDefault()
	return rd
}

// SetLimits changes the limits from the next element on, and for one that is partly read.
func (r *Reader) SetLimits(lim Limits) { r.s.lim = lim.orDefault() }

// Buffered returns how many bytes were read from the connection and not handed out yet.
func (r *Reader) Buffered() int { return r.wr - r.rd }

// Restart expects the header of a new stream on the same connection (RFC 6120 §4.3.3). Bytes that came already stay if src is the source
// so far (SASL). With another one (STARTTLS) they are thrown away: they came without protection; ask [Reader.Buffered] first and refuse
// a peer that sent any.
func (r *Reader) Restart(src io.Reader) {
	same := reflect.ValueOf(src).Comparable() && src == r.src
	if !same {
		r.buf, r.rd, r.wr, r.full, r.srcErr = r.small[:], 0, 0, false, nil
	}
	r.src = src
	r.s = scanner{lim: r.s.lim}
	r.state, r.name, r.restarted, r.decl, r.err = beforeHeader, "", true, false, nil
}

// Next returns the next event. At the end of the connection it returns io.EOF, or io.ErrUnexpectedEOF within an element or header. A
// fault of the peer is an *[Error] and final. Errors of the source are returned as they are, and Next may be called again after, say, a
// deadline passed.
func (r *Reader) Next() (Event, error) {
	for r.err == nil {
		if r.rd < r.wr {
			ev, ok, err := r.parse(r.buf[r.rd:r.wr])
			if err != nil {
				r.err = err
				r.buf, r.rd, r.wr = r.small[:], 0, 0
				break
			}
			if ok {
				return ev, nil
			}
		}
		if err := r.fill(); err != nil {
			if errors.Is(err, io.EOF) && r.partial() {
				err = io.ErrUnexpectedEOF
			}
			return Event{}, err
		}
	}
	return Event{}, r.err
}

// partial tells whether an element or header has begun.
func (r *Reader) partial() bool {
	b := r.buf[r.rd:r.wr]
	return skipSpace(b, 0) < len(b)
}

// parse looks for an event in b, all that is there since the last one.
func (r *Reader) parse(b []byte) (Event, bool, error) {
	if r.state == beforeHeader {
		h, err := r.header(b)
		if h == nil || err != nil {
			return Event{}, false, err
		}
		r.use()
		return Event{Kind: KindHeader, Header: h}, true, nil
	}
	if n := skipSpace(b, 0); n > 0 && r.s.pos == 0 {
		r.rd += n
		return Event{Kind: KindSpace}, true, nil
	}
	if r.state == afterEnd {
		return Event{}, false, notWellFormed("something after the end of the stream")
	}
	if r.s.pos == 0 && len(b) > 1 && b[0] == '<' && b[1] == '/' {
		end, err := r.s.closing(b, []byte(r.name))
		if end == 0 || err != nil {
			return Event{}, false, err
		}
		r.s.pos, r.state = end, afterEnd
		r.use()
		return Event{Kind: KindEnd}, true, nil
	}
	done, err := r.s.element(b)
	if !done || err != nil {
		return Event{}, false, err
	}
	e := r.s.build(b[:r.s.pos], false)
	r.use()
	return Event{Kind: KindElement, Element: e}, true, nil
}

// use takes what was scanned out of the buffer.
func (r *Reader) use() {
	r.rd += r.s.pos
	r.s.reset()
}

// fill reads more bytes.
func (r *Reader) fill() error {
	if err := r.srcErr; err != nil {
		r.srcErr = nil
		return err
	}
	r.room()
	for range 100 {
		n, err := r.src.Read(r.buf[r.wr:])
		r.wr += n
		r.full = r.wr == len(r.buf)
		if n > 0 {
			r.srcErr = err
			return nil
		}
		if err != nil {
			return err
		}
	}
	return io.ErrNoProgress
}

// room makes room in the buffer: none is kept that the bytes at hand do not ask for.
func (r *Reader) room() {
	have := r.wr - r.rd
	size := len(r.buf)
	switch {
	case have == 0:
		size = idleBuffer
		if r.full {
			size = readBuffer
		}
	case r.wr == len(r.buf) && (have > size/2 || size < readBuffer):
		size = min(max(2*size, readBuffer), r.s.lim.Bytes+readBuffer)
	case size > readBuffer && have <= readBuffer/2:
		size = readBuffer
	case r.wr < len(r.buf):
		return
	}
	old := r.buf[r.rd:r.wr]
	switch {
	case size == len(r.buf):
	case size == idleBuffer:
		r.buf = r.small[:]
	default:
		r.buf = make([]byte, size)
	}
	copy(r.buf, old)
	r.rd, r.wr = 0, have
}
