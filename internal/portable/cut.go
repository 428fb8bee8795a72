package portable

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"

	"pibox/internal/xmpp/frame"
)

// What is read is cut into start tags of containers, whose contents are looked at one after the other, and whole elements, which are bounded. Both are
// then checked by package frame. Whatever the file, nothing else of it is in memory.
const (
	maxTag     = 64 << 10 // bytes of a start tag
	maxElement = 1 << 20  // bytes of an element that is taken whole; a larger one is left out
	leastRead  = 64 << 10

	maxPrefixes   = 64 // declared by containers around each other
	maxPrefixText = 8 << 10
)

var elementLimits = frame.Limits{Bytes: maxElement, Depth: 64, Attrs: 256, Children: 1 << 16}

var (
	errNotPortable = errors.New("it is no account export (XEP-0227)")
	errDTD         = errors.New("a document type, which nothing here needs and which can do harm")
	errEncoding    = errors.New("it is not written in UTF-8")
	errTag         = errors.New("a tag of more than 64 KiB")
	errEndTag      = errors.New("an end tag that does not match its start tag")
	errTwoRoots    = errors.New("something after the end of the document")
	errPrefixes    = errors.New("too many namespaces are declared around what is in it")
)

// cutter cuts one document.
type cutter struct {
	src    io.Reader
	srcErr error
	name   string // of the file, for errors
	buf    []byte
	rd, wr int
	pos    int64 // bytes that were consumed

	open []container
	ns   []binding // prefixes in scope

	// While an element is taken: flow lets its bytes go, to out where that is not nil.
	flow, big bool
	markup    bool // it has comments or processing instructions
	out       io.Writer
	outErr    error

	stray bool // text where none belongs
}

type container struct {
	name string // as it is written
	def  string // default namespace inside
	ns   int    // len(cutter.ns) before it
}

type binding struct{ prefix, uri string }

// tag is a start tag that lies at the beginning of the buffer.
type tag struct {
	*frame.Element
	size  int
	empty bool
}

func newCutter(src io.Reader, name string) *cutter {
	return &cutter{src: src, name: name, buf: make([]byte, leastRead)}
}

// fault adds the place to an error of the document.
func (c *cutter) fault(err error) error {
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	if c.srcErr != nil && !errors.Is(c.srcErr, io.EOF) {
		return c.srcErr
	}
	if c.outErr != nil {
		return c.outErr
	}
	if errors.Is(err, io.ErrUnexpectedEOF) {
		err = errors.New("it ends too early")
	}
	return &FormatError{File: c.name, At: c.pos, Err: err}
}

// FormatError is what is wrong with a file.
type FormatError struct {
	File string
	At   int64 // in bytes
	Err  error
}

func (e *FormatError) Error() string {
	where := fmt.Sprintf("at byte %d", e.At)
	if e.File != "" {
		where = e.File + ", " + where
	}
	return where + ": " + e.Err.Error()
}

func (e *FormatError) Unwrap() error { return e.Err }

// fill reads more. Places behind rd stay valid when they are counted from there.
func (c *cutter) fill() error {
	if c.srcErr != nil {
		return c.srcErr
	}
	switch {
	case c.rd > 0 && (c.rd == c.wr || c.wr == len(c.buf)):
		copy(c.buf, c.buf[c.rd:c.wr])
		c.rd, c.wr = 0, c.wr-c.rd
	case c.wr == len(c.buf):
		c.buf = append(c.buf, make([]byte, len(c.buf))...)
	}
	for range 100 {
		n, err := c.src.Read(c.buf[c.wr:])
		c.wr += n
		if err != nil {
			c.srcErr = err
		}
		if n > 0 {
			return nil
		}
		if err != nil {
			return err
		}
	}
	c.srcErr = io.ErrNoProgress
	return c.srcErr
}

// need makes n bytes be there.
func (c *cutter) need(n int) error {
	for c.wr-c.rd < n {
		if err := c.fill(); err != nil {
			return err
		}
	}
	return nil
}

func (c *cutter) take(n int) {
	if c.out != nil && c.outErr == nil {
		_, c.outErr = c.out.Write(c.buf[c.rd : c.rd+n])
	}
	c.rd += n
	c.pos += int64(n)
}

// find gives the place behind the next sub from place i on.
func (c *cutter) find(i int, sub string) (int, error) {
	for {
		if k := bytes.Index(c.buf[c.rd+i:c.wr], []byte(sub)); k >= 0 {
			return i + k + len(sub), nil
		}
		i = max(i, c.wr-c.rd-len(sub)+1)
		if !c.flow && i > maxElement {
			c.flow, c.big = true, true
		}
		if c.flow {
			c.take(i)
			i = 0
			if c.outErr != nil {
				return 0, c.outErr
			}
		}
		if err := c.fill(); err != nil {
			return 0, err
		}
	}
}

// tagEnd gives the place behind the tag that begins at place i.
func (c *cutter) tagEnd(i int) (int, error) {
	var quote byte
	for j := i + 1; ; j++ {
		if c.rd+j == c.wr {
			if err := c.fill(); err != nil {
				return 0, err
			}
		}
		switch b := c.buf[c.rd+j]; {
		case j-i > maxTag:
			return 0, errTag
		case quote != 0:
			if b == quote {
				quote = 0
			}
		case b == '"' || b == '\'':
			quote = b
		case b == '>':
			return j + 1, nil
		}
	}
}

type token uint8

const (
	tokStart token = iota
	tokEnd
	tokEOF
)

// next consumes everything up to the next tag.
func (c *cutter) next() (token, error) {
	for {
		if err := c.space(); errors.Is(err, io.EOF) && len(c.open) == 0 {
			return tokEOF, nil
		} else if err != nil {
			return 0, err
		}
		if err := c.need(2); err != nil {
			return 0, err
		}
		switch c.buf[c.rd+1] {
		case '/':
			return tokEnd, nil
		case '?', '!':
			if err := c.misc(); err != nil {
				return 0, err
			}
		default:
			return tokStart, nil
		}
	}
}

// space consumes what is before the next markup.
func (c *cutter) space() error {
	for {
		at := bytes.IndexByte(c.buf[c.rd:c.wr], '<')
		n := at
		if at < 0 {
			n = c.wr - c.rd
		}
		text := c.buf[c.rd : c.rd+n]
		if c.pos == 0 {
			text = bytes.TrimPrefix(text, []byte("\xef\xbb\xbf"))
		}
		if len(bytes.TrimSpace(text)) > 0 {
			if len(c.open) == 0 {
				return errNotPortable
			}
			c.stray = true
		}
		c.take(n)
		if at >= 0 {
			return nil
		}
		if err := c.fill(); err != nil {
			return err
		}
	}
}

// misc consumes a comment, a processing instruction, or a CDATA section between elements.
func (c *cutter) misc() error {
	c.flow = true
	defer func() { c.flow = false }()
	end, err := c.skipMarkup(0, c.pos == 0)
	if err != nil {
		return err
	}
	c.take(end)
	return nil
}

// skipMarkup gives the place behind the markup at place i, which is no tag.
func (c *cutter) skipMarkup(i int, first bool) (int, error) {
	if c.buf[c.rd+i+1] == '?' {
		if first {
			return c.declaration()
		}
		c.markup = true
		return c.find(i+2, "?>")
	}
	if err := c.need(i + len("<![CDATA[")); err != nil {
		return 0, err
	}
	switch rest := c.buf[c.rd+i : c.wr]; {
	case bytes.HasPrefix(rest, []byte("<!--")):
		c.markup = true
		return c.find(i+4, "-->")
	case bytes.HasPrefix(rest, []byte("<![CDATA[")):
		return c.find(i+9, "]]>")
	}
	return 0, errDTD
}

// declaration is the XML declaration, or another processing instruction at the beginning.
func (c *cutter) declaration() (int, error) {
	c.flow = false
	end, err := c.find(2, "?>")
	if err != nil {
		return 0, err
	}
	text := strings.ToLower(string(c.buf[c.rd : c.rd+min(end, 1024)]))
	if _, enc, ok := strings.Cut(text, "encoding"); ok {
		enc = strings.Trim(enc, " \t\r\n=?>'\"")
		if enc, _, _ = strings.Cut(enc, "'"); enc != "" {
			enc, _, _ = strings.Cut(enc, "\"")
		}
		if enc != "utf-8" && enc != "us-ascii" {
			return 0, errEncoding
		}
	}
	return end, nil
}

// start reads the start tag that comes next, without consuming it.
func (c *cutter) start() (t tag, err error) {
	if t.size, err = c.tagEnd(0); err != nil {
		return t, err
	}
	raw := c.buf[c.rd : c.rd+t.size]
	t.empty = bytes.HasSuffix(raw, []byte("/>"))
	if !t.empty {
		raw = append(append(make([]byte, 0, len(raw)+1), raw[:len(raw)-1]...), '/', '>')
	}
	t.Element, err = c.parse(raw)
	return t, err
}

// children consumes a container: each is called for what is in it, and consumes that.
func (c *cutter) children(t tag, each func(c *cutter, t tag) error) error {
	if t.empty {
		c.take(t.size)
		return nil
	}
	if err := c.enter(t); err != nil {
		return err
	}
	for {
		k, err := c.next()
		if err != nil {
			return c.fault(err)
		}
		if k == tokEnd {
			return c.leave()
		}
		child, err := c.start()
		if err != nil {
			return c.fault(err)
		}
		if err := each(c, child); err != nil {
			return err
		}
	}
}

// enter consumes the start tag of a container. What it declares is looked at with each element in it.
func (c *cutter) enter(t tag) error {
	raw := string(c.buf[c.rd : c.rd+t.size])
	name := raw[1:]
	name = name[:strings.IndexAny(name, " \t\r\n/>")]
	in := container{name: name, def: c.def(), ns: len(c.ns)}
	for _, d := range declarations(raw) {
		if d.prefix == "" {
			in.def = d.uri
		} else {
			c.ns = append(c.ns, d)
		}
	}
	size := 0
	for _, d := range c.ns {
		size += len(d.prefix) + len(d.uri)
	}
	if len(c.ns) > maxPrefixes || size > maxPrefixText {
		return c.fault(errPrefixes)
	}
	c.open = append(c.open, in)
	c.take(t.size)
	return nil
}

// leave consumes the end tag of a container.
func (c *cutter) leave() error {
	end, err := c.tagEnd(0)
	if err != nil {
		return c.fault(err)
	}
	top := c.open[len(c.open)-1]
	if name := strings.TrimRight(string(c.buf[c.rd+2:c.rd+end-1]), " \t\r\n"); name != top.name {
		return c.fault(errEndTag)
	}
	c.take(end)
	c.open, c.ns = c.open[:len(c.open)-1], c.ns[:top.ns]
	return nil
}

// whole consumes an element and gives it; nil where it is too large.
func (c *cutter) whole(t tag) (*frame.Element, error) {
	c.flow, c.big, c.markup = false, false, false
	end, err := c.elementEnd(t)
	c.flow = false
	if err != nil {
		return nil, c.fault(err)
	}
	if c.big || end > maxElement {
		c.take(end)
		return nil, nil
	}
	raw := c.buf[c.rd : c.rd+end]
	if c.markup {
		raw = withoutMarkup(raw)
	}
	e, err := c.parse(raw)
	if err != nil {
		return nil, c.fault(err)
	}
	c.take(end)
	return e, nil
}

// skip consumes an element, whatever its size; its bytes go to w, which may be nil.
func (c *cutter) skip(t tag, w io.Writer) error {
	c.flow, c.out = true, w
	end, err := c.elementEnd(t)
	if err == nil {
		c.take(end)
		err = c.outErr
	}
	c.flow, c.out = false, nil
	if err != nil {
		return c.fault(err)
	}
	return nil
}

// elementEnd gives the place behind the element whose start tag comes next.
func (c *cutter) elementEnd(t tag) (int, error) {
	i := t.size
	if t.empty {
		return i, nil
	}
	for depth := 1; depth > 0; {
		at, err := c.find(i, "<")
		if err != nil {
			return 0, err
		}
		i = at - 1
		if err := c.need(i + 2); err != nil {
			return 0, err
		}
		switch c.buf[c.rd+i+1] {
		case '!', '?':
			i, err = c.skipMarkup(i, false)
		case '/':
			depth--
			i, err = c.tagEnd(i)
		default:
			if i, err = c.tagEnd(i); err == nil && c.buf[c.rd+i-2] != '/' {
				depth++
			}
		}
		if err != nil {
			return 0, err
		}
		if !c.flow && i > maxElement {
			c.flow, c.big = true, true
		}
		if c.flow {
			c.take(i)
			i = 0
		}
	}
	return i, nil
}

// finish wants the end of the document.
func (c *cutter) finish() error {
	k, err := c.next()
	if err == nil && k != tokEOF {
		err = errTwoRoots
	}
	if errors.Is(err, errNotPortable) {
		err = errTwoRoots
	}
	if err != nil {
		return c.fault(err)
	}
	return nil
}
