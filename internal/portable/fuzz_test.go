package portable_test

import (
	"bytes"
	"context"
	"io"
	"strings"
	"testing"

	"pibox/internal/portable"
)

// tee gives everything to two sinks.
type tee struct {
	record
	w *portable.Writer
}

func (t *tee) User(u portable.User) error {
	return first(t.record.User(portable.User{Name: u.Name, Domain: u.Domain}), t.w.User(u))
}
func (t *tee) Credentials(c portable.Credentials) error {
	return first(t.record.Credentials(c), t.w.Credentials(c))
}
func (t *tee) Own(o portable.Own) error           { return first(nil, t.w.Own(o)) }
func (t *tee) Roster(i portable.RosterItem) error { return first(t.record.Roster(i), t.w.Roster(i)) }
func (t *tee) Pending(st []byte) error            { return first(t.record.Pending(st), t.w.Pending(st)) }
func (t *tee) Offline(st []byte) error            { return first(t.record.Offline(st), t.w.Offline(st)) }
func (t *tee) Private(el []byte) error            { return first(t.record.Private(el), t.w.Private(el)) }
func (t *tee) VCard(el []byte) error              { return first(t.record.VCard(el), t.w.VCard(el)) }
func (t *tee) Item(n string, it portable.Item) error {
	return first(t.record.Item(n, it), t.w.Item(n, it))
}
func (t *tee) Archived(m portable.Archived) error {
	return first(t.record.Archived(m), t.w.Archived(m))
}
func (t *tee) ArchivePrefs(el []byte) error {
	return first(t.record.ArchivePrefs(el), t.w.ArchivePrefs(el))
}
func (t *tee) Node(portable.Node) error    { return nil } // is read in parts
func (t *tee) Blocked(string) error        { return nil } // is written twice
func (t *tee) Unknown(portable.Loss) error { return nil }
func (t *tee) End() error                  { return first(t.record.End(), t.w.End()) }

func first(a, b error) error {
	if a != nil {
		return a
	}
	return b
}

// FuzzReader: whatever a file holds, reading ends, without a panic. What was read and is written reads as the same, and so does the file when it was
// put together from several.
func FuzzReader(f *testing.F) {
	f.Add([]byte(head + tail))
	f.Add([]byte(head + "<query xmlns='jabber:iq:roster'><item jid='a@b' subscription='both'><group>x</group></item></query><vCard xmlns='vcard-temp'><!-- c --><FN><![CDATA[<&]]></FN></vCard>" + tail))
	f.Add([]byte(head + "<offline-messages>" + message("1", nurse, me, "") + "</offline-messages><archive xmlns='urn:xmpp:pie:0#mam'>" + result("a", "2020-01-01T00:00:00Z", message("2", me, nurse, "")) + "</archive>" + tail))
	f.Add([]byte(head + "<presence type='subscribe' from='a@b'/><pubsub xmlns='http://jabber.org/protocol/pubsub'><items node='n'><item id='1'><a xmlns='b'/></item></items></pubsub>" + tail))
	f.Add([]byte("<p:server-data xmlns:p='urn:xmpp:pie:0' xmlns:c='jabber:client'><p:host jid='a'><p:user name='b'><p:offline-messages><c:message from='x@y'><c:body/></c:message></p:offline-messages></p:user></p:host></p:server-data>"))
	f.Add([]byte("<?xml version='1.0'?><!DOCTYPE a [<!ENTITY b 'c'>]><a/>"))
	f.Add([]byte(including("../x.xml")))
	f.Fuzz(func(t *testing.T, file []byte) {
		var out bytes.Buffer
		one := &tee{w: portable.NewWriter(&out)}
		if err := (&portable.Reader{}).Read(context.Background(), bytes.NewReader(file), one); err != nil {
			return
		}
		if err := one.w.Close(); err != nil {
			t.Fatal(err)
		}
		two := &tee{w: portable.NewWriter(io.Discard)}
		if err := (&portable.Reader{}).Read(context.Background(), bytes.NewReader(out.Bytes()), two); err != nil {
			t.Fatalf("%v\n%s", err, out.Bytes())
		}
		if a, b := strings.Join(one.lines, "\n"), strings.Join(two.lines, "\n"); a != b {
			t.Fatalf("%s\nbecame\n%s\nby\n%s", a, b, out.Bytes())
		}
		if bytes.Contains(file, []byte("XInclude")) {
			return
		}
		var flat bytes.Buffer
		if portable.Flatten(context.Background(), bytes.NewReader(file), "", nil, &flat) != nil {
			return // it looks at what is skipped elsewhere
		}
		three := &tee{w: portable.NewWriter(io.Discard)}
		if err := (&portable.Reader{}).Read(context.Background(), bytes.NewReader(flat.Bytes()), three); err != nil {
			t.Fatalf("%v\n%s", err, flat.Bytes())
		}
		if a, b := strings.Join(one.lines, "\n"), strings.Join(three.lines, "\n"); a != b {
			t.Fatalf("%s\nflattened became\n%s\nby\n%s", a, b, flat.Bytes())
		}
	})
}
