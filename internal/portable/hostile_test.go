package portable_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"pibox/internal/portable"
)

// record is a Sink that writes down what it is given.
type record struct {
	lines []string
	err   error // from the call on whose line holds at
	at    string
}

func (r *record) add(format string, args ...any) error {
	line := fmt.Sprintf(format, args...)
	r.lines = append(r.lines, line)
	if r.err != nil && strings.Contains(line, r.at) {
		return r.err
	}
	return nil
}

func (r *record) User(u portable.User) error {
	return r.add("user %s@%s %q", u.Name, u.Domain, u.Password)
}
func (r *record) Credentials(c portable.Credentials) error {
	return r.add("keys %s %d %q %q %q", c.Mechanism, c.Iterations, c.Salt, c.StoredKey, c.ServerKey)
}
func (r *record) Own(o portable.Own) error           { return r.add("own %+v", o) }
func (r *record) Roster(i portable.RosterItem) error { return r.add("contact %+v", i) }
func (r *record) Pending(st []byte) error            { return r.add("pending %s", st) }
func (r *record) Offline(st []byte) error            { return r.add("offline %s", st) }
func (r *record) Private(el []byte) error            { return r.add("private %s", el) }
func (r *record) VCard(el []byte) error              { return r.add("card %s", el) }
func (r *record) Node(n portable.Node) error         { return r.add("node %+v", n) }
func (r *record) Item(n string, it portable.Item) error {
	return r.add("item %s %s %s", n, it.ID, it.Payload)
}
func (r *record) Archived(m portable.Archived) error {
	return r.add("archived %s %s %s", m.ID, m.At, m.Stanza)
}
func (r *record) ArchivePrefs(el []byte) error  { return r.add("prefs %s", el) }
func (r *record) Blocked(jid string) error      { return r.add("blocked %s", jid) }
func (r *record) Unknown(l portable.Loss) error { return r.add("lost %s: %s", l.What, l.Why) }
func (r *record) End() error                    { return r.add("end") }
func (r *record) has(t *testing.T, want ...string) {
	t.Helper()
	for _, w := range want {
		if !strings.Contains(strings.Join(r.lines, "\n"), w) {
			t.Errorf("no %q in\n%s", w, strings.Join(r.lines, "\n"))
		}
	}
}

func read(file string) (*record, error) {
	r := &record{}
	return r, (&portable.Reader{}).Read(context.Background(), strings.NewReader(file), r)
}

const (
	head = "<?xml version='1.0'?><server-data xmlns='urn:xmpp:pie:0'><host jid='capulet.example'><user name='juliet'>"
	tail = "</user></host></server-data>"
)

func TestRefusedFiles(t *testing.T) {
	for name, test := range map[string]struct{ file, why string }{
		"nothing":           {"", "no account export"},
		"text":              {"hello", "no account export"},
		"UTF-16":            {"\xff\xfe<\x00", "no account export"},
		"Latin-1":           {"<?xml version='1.0' encoding='ISO-8859-1'?>" + head + tail, "UTF-8"},
		"another document":  {"<html/>", "no account export"},
		"a host without":    {"<server-data xmlns='urn:xmpp:pie:0'><host jid='a@b'/></server-data>", "no domain"},
		"a user without":    {"<server-data xmlns='urn:xmpp:pie:0'><host jid='a'><user/></host></server-data>", "without a name"},
		"cut off":           {head, "it ends too early"},
		"cut off in a tag":  {head + "<vCard", "it ends too early"},
		"cut off in a text": {head + "<vCard xmlns='vcard-temp'><FN>x", "it ends too early"},
		"two documents":     {head + tail + "<server-data xmlns='urn:xmpp:pie:0'/>", "after the end"},
		"text behind":       {head + tail + "x", "after the end"},
		"wrong end":         {head + "</host></user></server-data>", "does not match"},
		"wrong end inside":  {head + "<vCard xmlns='vcard-temp'><FN></N></vCard>" + tail, "does not match"},
		"undeclared prefix": {head + "<x:y/>" + tail, "prefix"},
		"twice":             {head + "<vCard xmlns='vcard-temp' a='1' a='2'/>" + tail, "twice"},
		"entity":            {head + "<vCard xmlns='vcard-temp'><FN>&xxe;</FN></vCard>" + tail, "reference"},
		"laughs": {`<?xml version="1.0"?><!DOCTYPE lolz [<!ENTITY lol "lol"><!ENTITY lol2 "&lol;&lol;">]>` +
			"<server-data xmlns='urn:xmpp:pie:0'>&lol2;</server-data>", "document type"},
		"laughs inside":   {head + `<!DOCTYPE x [<!ENTITY a "b">]>` + tail, "document type"},
		"laughs deeper":   {head + `<vCard xmlns='vcard-temp'><!DOCTYPE x></vCard>` + tail, "document type"},
		"external entity": {`<!DOCTYPE x SYSTEM "file:///etc/passwd"><x/>`, "document type"},
		"a huge tag":      {head + "<vCard xmlns='vcard-temp' a='" + strings.Repeat("x", 70_000) + "'/>" + tail, "64 KiB"},
		"many attributes": {head + "<vCard xmlns='vcard-temp'" + strings.Repeat(" a='1'", 5000) + "/>" + tail, "attribute"},
		"many prefixes":   {head + "<vCard xmlns='vcard-temp' " + prefixes(300) + "/>" + tail, "too many"},
		"prefixes around": {"<server-data xmlns='urn:xmpp:pie:0' " + prefixes(40) + "><host jid='a' " + strings.ReplaceAll(prefixes(40), ":p", ":q") + "> </host></server-data>", "too many namespaces"},
		"deep":            {head + "<vCard xmlns='vcard-temp'>" + strings.Repeat("<a>", 100) + strings.Repeat("</a>", 100) + "</vCard>" + tail, "deep"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := read(test.file)
			var format *portable.FormatError
			if !errors.As(err, &format) || !strings.Contains(err.Error(), test.why) {
				t.Errorf("%v instead of %q", err, test.why)
			}
		})
	}
}

func prefixes(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "xmlns:p%d='urn:p' ", i)
	}
	return b.String()
}

// What is strange, but does no harm, is told and left out.
func TestLeftOut(t *testing.T) {
	r, err := read("\xef\xbb\xbf<?xml version='1.0' encoding=\"utf-8\"?>\n<!-- a -->\n<server-data xmlns='urn:xmpp:pie:0' xmlns:z='urn:z'><z:a><b/>text</z:a>" +
		"<host jid='capulet.example'><?pi x?><z:c/>" +
		"<user name='juliet' z:more='1' password='p&amp;w'>text<![CDATA[more]]><!-- <vCard/> -->" +
		"<z:d><vCard xmlns='vcard-temp'/></z:d><muc xmlns='urn:muc'>" + strings.Repeat("<x>y</x>", 300_000) + "</muc>" +
		"<vCard xmlns='vcard-temp'><!-- no --><FN>a<?no?></FN><N z:k='1'/></vCard>" +
		"<vCard xmlns='vcard-temp'><PHOTO>" + strings.Repeat("x", 2<<20) + "</PHOTO></vCard>" +
		"<xi:include xmlns:xi='http://www.w3.org/2001/XInclude' href='file:///etc/passwd'/>" +
		"<query xmlns='jabber:iq:roster'><item jid='romeo@montague.example' subscription='both'><group>a</group></item><z:item/></query>" +
		"</user></host></server-data><!-- end -->\n")
	if err != nil {
		t.Fatal(err)
	}
	r.has(t, `user juliet@capulet.example "p&w"`, "lost <a/> in urn:z", "lost <c/> in urn:z", "lost <d/> in urn:z", "lost <muc/> in urn:muc", "lost user's attribute more",
		"card <vCard xmlns:z='urn:z' xmlns='vcard-temp'><FN>a</FN><N z:k='1'/></vCard>", "lost <vCard/>: it is larger", "lost <include/>", "JID:romeo@montague.example", "Groups:[a]", "lost <item/> in urn:z")
	if n := len(r.lines); n != 12 {
		t.Errorf("%d lines: %s", n, strings.Join(r.lines, "\n"))
	}
}

// The reader's memory does not grow with the file.
func TestMemory(t *testing.T) {
	piece := []byte("<result xmlns='urn:xmpp:mam:2' id='1'><forwarded xmlns='urn:xmpp:forward:0'><delay xmlns='urn:xmpp:delay' stamp='2010-07-10T23:08:25Z'/>" +
		"<message xmlns='jabber:client' from='a@b/c' to='d@e'><body>x</body></message></forwarded></result>")
	huge := io.MultiReader(strings.NewReader(head+"<archive xmlns='urn:xmpp:pie:0#mam'>"), &repeat{piece: piece, n: 100_000},
		strings.NewReader("</archive><unknown xmlns='urn:x'>"), &repeat{piece: []byte("<a>text"), n: 3_000_000}, &repeat{piece: []byte("</a>"), n: 3_000_000}, strings.NewReader("</unknown>"+tail))
	s := &count{}
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	s.look = func() {
		if s.n%50_000 != 0 {
			return
		}
		runtime.GC()
		runtime.ReadMemStats(&after)
		if after.HeapAlloc > before.HeapAlloc+8<<20 {
			t.Fatalf("after %d messages there are %d MiB", s.n, (after.HeapAlloc-before.HeapAlloc)>>20)
		}
	}
	if err := (&portable.Reader{}).Read(t.Context(), huge, s); err != nil {
		t.Fatal(err)
	}
	if s.n != 100_000 {
		t.Errorf("%d messages", s.n)
	}
}

type count struct {
	record
	n    int
	look func()
}

func (c *count) Archived(portable.Archived) error {
	c.n++
	c.look()
	return nil
}

// repeat reads a piece n times.
type repeat struct {
	piece []byte
	n, at int
}

func (r *repeat) Read(p []byte) (n int, err error) {
	for n < len(p) && r.n > 0 {
		k := copy(p[n:], r.piece[r.at:])
		n += k
		if r.at += k; r.at == len(r.piece) {
			r.at, r.n = 0, r.n-1
		}
	}
	if n == 0 {
		return 0, io.EOF
	}
	return n, nil
}

// files makes a folder.
func files(t *testing.T, all map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range all {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func readFolder(t *testing.T, dir string) (*record, error) {
	t.Helper()
	folder, f, err := portable.OpenFolder(filepath.Join(dir, "main.xml"))
	if err != nil {
		t.Fatal(err)
	}
	r := &record{}
	err = (&portable.Reader{Include: folder.Open, Name: "main.xml"}).Read(t.Context(), f, r)
	_ = f.Close()
	_ = folder.Close()
	// One document says the same, or is refused as well.
	folder, f, openErr := portable.OpenFolder(filepath.Join(dir, "main.xml"))
	if openErr != nil {
		t.Fatal(openErr)
	}
	defer func() { _ = folder.Close() }()
	var flat bytes.Buffer
	flatErr := portable.Flatten(t.Context(), f, "main.xml", folder.Open, &flat)
	_ = f.Close()
	if (err == nil) != (flatErr == nil) {
		t.Errorf("read: %v, flattened: %v", err, flatErr)
	}
	if err == nil {
		again, err := read(flat.String())
		if err != nil || strings.Join(again.lines, "\n") != strings.Join(r.lines, "\n") {
			t.Errorf("flattened it reads %v\n%s\ninstead of\n%s", err, strings.Join(again.lines, "\n"), strings.Join(r.lines, "\n"))
		}
	}
	return r, err
}

func including(href string) string {
	return "<server-data xmlns='urn:xmpp:pie:0' xmlns:xi='http://www.w3.org/2001/XInclude'><xi:include href='" + href + "'/></server-data>"
}

func TestIncludes(t *testing.T) {
	dir := files(t, map[string]string{
		"main.xml":             including("a%20b/host.xml"),
		"a b/host.xml":         "<?xml version='1.0'?>\n<host xmlns='urn:xmpp:pie:0' xmlns:i='http://www.w3.org/2001/XInclude' jid='capulet.example'>\n<i:include href='users/juliet.xml'/></host>",
		"a b/users/juliet.xml": "<user xmlns='urn:xmpp:pie:0' name='juliet'><include xmlns='http://www.w3.org/2001/XInclude' href='card.xml'/></user>",
		"a b/users/card.xml":   "<vCard xmlns='vcard-temp'><include xmlns='http://www.w3.org/2001/XInclude' href='opaque.xml'/></vCard>",
	})
	r, err := readFolder(t, dir)
	if err != nil {
		t.Fatal(err)
	}
	r.has(t, "user juliet@capulet.example", "card <vCard xmlns='vcard-temp'><include xmlns='http://www.w3.org/2001/XInclude' href='opaque.xml'/></vCard>")
}

func TestIncludeTricks(t *testing.T) {
	host := "<host xmlns='urn:xmpp:pie:0' jid='capulet.example'/>"
	secret := filepath.Join(t.TempDir(), "secret.xml")
	if err := os.WriteFile(secret, []byte(host), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, href := range []string{
		"../secret.xml", "../../../../../../etc/passwd", "/etc/passwd", secret, "file:///etc/passwd", "file:etc", "http://evil.example/x.xml", "//evil.example/x.xml", "",
		".", "./host.xml", "sub/../host.xml", "sub//host.xml", "sub/", "%2e%2e/secret.xml", "..%2fsecret.xml", "%2fetc%2fpasswd", "host.xml?x", "host.xml#x", "a\\b", "host.xml%00",
		"link.xml", "linked/host.xml", "pipe.xml", "sub", "missing.xml", "main.xml", "inside.xml",
	} {
		t.Run(href, func(t *testing.T) {
			dir := files(t, map[string]string{"main.xml": including(href), "host.xml": host, "sub/host.xml": host})
			for from, to := range map[string]string{"link.xml": secret, "linked": filepath.Dir(secret), "inside.xml": "host.xml"} {
				if err := os.Symlink(to, filepath.Join(dir, from)); err != nil {
					t.Fatal(err)
				}
			}
			if err := syscall.Mkfifo(filepath.Join(dir, "pipe.xml"), 0o600); err != nil {
				t.Fatal(err)
			}
			if r, err := readFolder(t, dir); err == nil {
				t.Errorf("it is read: %v", r.lines)
			}
		})
	}
}

// What is named as the main file may be a pipe that nobody writes to.
func TestMainFileIsAPipe(t *testing.T) {
	path := filepath.Join(t.TempDir(), "main.xml")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() {
		_, _, err := portable.OpenFolder(path)
		done <- err
	}()
	select {
	case err := <-done:
		if err == nil {
			t.Error("it is opened")
		}
	case <-time.After(10 * time.Second):
		t.Error("it is waited for")
	}
}

// Files that include each other end: each is read once, and not deeper than there is anything to include.
func TestIncludeLoops(t *testing.T) {
	inc := func(root, href string) string {
		return "<" + root + " xmlns='urn:xmpp:pie:0' xmlns:xi='http://www.w3.org/2001/XInclude' jid='capulet.example' name='x'><xi:include href='" + href + "'/></" + root + ">"
	}
	for name, all := range map[string]map[string]string{
		"itself":     {"main.xml": including("main.xml")},
		"each other": {"main.xml": including("a.xml"), "a.xml": inc("host", "main.xml")},
		"twice":      {"main.xml": strings.Replace(including("a.xml"), "</server", "<xi:include href='a.xml'/></server", 1), "a.xml": "<host xmlns='urn:xmpp:pie:0' jid='a'/>"},
		"deep": {
			"main.xml": including("a.xml"), "a.xml": inc("host", "b.xml"), "b.xml": inc("user", "c.xml"),
			"c.xml": "<include xmlns='http://www.w3.org/2001/XInclude' href='d.xml'/>", "d.xml": "<vCard xmlns='vcard-temp'/>",
		},
	} {
		t.Run(name, func(t *testing.T) {
			if r, err := readFolder(t, files(t, all)); err == nil {
				t.Errorf("it is read: %v", r.lines)
			}
		})
	}
}
