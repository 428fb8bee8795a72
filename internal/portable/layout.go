package portable

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strings"

	"pibox/internal/xmpp"
)

// Flatten writes an export that is in several files as one document, without looking at the contents of accounts.
func Flatten(ctx context.Context, src io.Reader, name string, include func(from, href string) (io.ReadCloser, string, error), w io.Writer) error {
	out := bufio.NewWriterSize(w, 64<<10)
	_, _ = out.WriteString("<?xml version='1.0' encoding='UTF-8'?>\n")
	f := &flattener{Reader: Reader{Include: include, ctx: ctx, sink: &Writer{w: out}}, out: out}
	c := newCutter(src, name)
	t, err := c.root()
	if err != nil {
		return err
	}
	if err := f.element(c, t); err != nil {
		return err
	}
	if err := c.finish(); err != nil {
		return err
	}
	return out.Flush()
}

// flattener uses what Reader does with files; its sink takes nothing.
type flattener struct {
	Reader
	out *bufio.Writer
}

// element writes an element, with other files in the place of what includes them.
func (f *flattener) element(c *cutter, t tag) error {
	if err := f.ctx.Err(); err != nil {
		return err
	}
	structure := pie(t.NS) && (t.Name == "server-data" || t.Name == "host" || t.Name == "user")
	switch {
	case t.NS == nsXInclude && len(c.open) <= 3:
		return f.include(c, t, f.element)
	case t.empty || !structure:
		return c.skip(t, f.out)
	}
	raw := string(c.buf[c.rd : c.rd+t.size])
	name := raw[1:]
	name = name[:strings.IndexAny(name, " \t\r\n/>")]
	if _, err := f.out.WriteString(raw); err != nil {
		return err
	}
	if err := c.children(t, f.element); err != nil {
		return err
	}
	_, err := f.out.WriteString("</" + name + ">\n")
	return err
}

// Split writes a document as the files of XEP-0227 §5.1: the main one, one for each host, one for each user. create makes a file by its name, which
// may have one folder in it.
func Split(ctx context.Context, src io.Reader, mainFile string, create func(name string) (io.WriteCloser, error)) error {
	s := &splitter{ctx: ctx, create: create}
	c := newCutter(src, "")
	t, err := c.root()
	if err != nil {
		return err
	}
	if !pie(t.NS) || t.Name != "server-data" {
		return c.fault(errNotPortable)
	}
	err = s.file(mainFile, "server-data", "", func(w io.Writer) error {
		return c.children(t, func(c *cutter, t tag) error { return s.host(c, t, w) })
	})
	if err != nil {
		return err
	}
	return c.finish()
}

type splitter struct {
	ctx    context.Context
	create func(name string) (io.WriteCloser, error)
}

// file writes one of the files, whose root element has one attribute.
func (s *splitter) file(name, root, attr string, contents func(io.Writer) error) (err error) {
	f, err := s.create(name)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	w := bufio.NewWriterSize(f, 64<<10)
	_, _ = fmt.Fprintf(w, "<?xml version='1.0' encoding='UTF-8'?>\n<%s xmlns='%s' xmlns:xi='%s'%s>\n", root, NSPortable, nsXInclude, attr)
	if err := contents(w); err != nil {
		return err
	}
	_, _ = fmt.Fprintf(w, "</%s>\n", root)
	return w.Flush()
}

func including(w io.Writer, name string) error {
	_, err := w.Write(append(xmpp.NewXML("xi:include").Attr("href", strings.ReplaceAll((&url.URL{Path: name}).EscapedPath(), ":", "%3A")).Bytes(), '\n'))
	return err
}

func attribute(name, value string) string {
	tag := string(xmpp.NewXML("a").AttrAlways(name, value).Bytes())
	return tag[2 : len(tag)-2]
}

func (s *splitter) host(c *cutter, t tag, w io.Writer) error {
	if t.Name != "host" || !pie(t.NS) {
		return c.skip(t, w)
	}
	domain := t.Attr("jid")
	folder := fileName(domain)
	if err := including(w, folder+".xml"); err != nil {
		return err
	}
	return s.file(folder+".xml", "host", attribute("jid", domain), func(w io.Writer) error {
		return c.children(t, func(c *cutter, t tag) error { return s.user(c, t, folder, w) })
	})
}

func (s *splitter) user(c *cutter, t tag, folder string, w io.Writer) error {
	if err := s.ctx.Err(); err != nil {
		return err
	}
	if t.Name != "user" || !pie(t.NS) {
		return c.skip(t, w)
	}
	name := folder + "/" + fileName(t.Attr("name")) + ".xml"
	if err := including(w, name); err != nil {
		return err
	}
	return s.file(name, "user", attribute("name", t.Attr("name")), func(w io.Writer) error {
		return c.children(t, func(c *cutter, t tag) error {
			if err := c.skip(t, w); err != nil {
				return err
			}
			_, err := io.WriteString(w, "\n")
			return err
		})
	})
}

// fileName is a name of a domain or an account for the file system: localparts may have more bytes than file names.
func fileName(s string) string {
	if s != "" && len(s) <= 200 && !strings.ContainsAny(s, "/\\\x00") && s[0] != '.' {
		return s
	}
	sum := sha256.Sum256([]byte(s))
	return "name-" + hex.EncodeToString(sum[:16])
}
