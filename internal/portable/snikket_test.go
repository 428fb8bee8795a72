package portable_test

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"pibox/internal/portable"
	"pibox/internal/store"
	"pibox/internal/xmpp"
)

// snikket is what mod_http_xep227 gave out over HTTP, with the stores that Snikket's web portal asks for, on a Prosody (trunk of 2025-05) with Snikket's
// own configuration and its modules; Juliet's account was made for it. The nurse, and the room of its chat, come from a circle.
func snikket(t *testing.T) *os.File {
	t.Helper()
	f, err := os.Open("testdata/snikket.xml")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return f
}

// A box that takes Snikket's place: the account is what it was, with a new password, for there is none in the file.
func TestSnikketSameAddress(t *testing.T) {
	h := newHome(t, t.TempDir(), "snikket-before.example")
	defer h.close()
	results, err := h.load(snikket(t), nil)
	if err != nil || len(results) != 1 {
		t.Fatalf("%v %+v", err, results)
	}
	r := results[0]
	if r.OneTime == "" || r.Moving || !r.OMEMO || r.Counts.Contacts != 4 || r.Counts.Requests != 1 {
		t.Errorf("%+v", r)
	}
	for _, l := range r.Losses {
		if !strings.Contains(l.What, "axolotl") {
			t.Errorf("lost: %+v", l)
		}
	}
	l := h.read(xmpp.MustJID("juliet.import-snikket@snikket-before.example"))
	want := map[string]store.RosterItem{
		"nurse.import-snikket@snikket-before.example": {Sub: store.SubBoth, Groups: []string{"Family"}},
		"romeo.import-snikket@montague.example":       {Sub: store.SubBoth, Name: "My <love> ♥", Groups: []string{"Montagues", "a & b"}},
		"paris.import-snikket@montague.example":       {Sub: store.SubTo},
		"tybalt.import-snikket@montague.example":      {Sub: store.SubNone, Ask: true},
	}
	if fmt.Sprint(l.Roster) != fmt.Sprint(want) || len(l.Pending) != 1 {
		t.Errorf("%+v, %+v", l.Roster, l.Pending)
	}
	access := map[string]string{}
	for name, n := range l.Nodes {
		access[name] = strings.Join(n.Config["access_model"], " ")
	}
	if fmt.Sprint(access) != "map[http://jabber.org/protocol/nick: storage:bookmarks:whitelist urn:xmpp:avatar:data: urn:xmpp:avatar:metadata: urn:xmpp:bookmarks:1:whitelist urn:xmpp:vcard4:open]" {
		t.Errorf("%v", access)
	}
	if len(l.Items) != r.Counts.Items || r.Counts.Items != 7 {
		t.Errorf("%v, %+v", slices.Sorted(maps.Keys(l.Items)), r.Counts)
	}
}

// Under another address it moves: who was in the circle is a contact as any other, in its group, and is told.
func TestSnikketOtherAddress(t *testing.T) {
	h := newHome(t, t.TempDir())
	defer h.close()
	results, err := h.load(snikket(t), func(o *portable.ImportOptions) { o.As = juliet })
	if err != nil || len(results) != 1 || !results[0].Moving {
		t.Fatalf("%v %+v", err, results)
	}
	if l := h.read(juliet); len(l.Roster) != 0 || len(l.Pending) != 0 || len(l.Nodes) != 6 {
		t.Errorf("%+v", l)
	}
	if err := h.Store.View(func(tx *store.Tx) error {
		nurse, _ := store.MoveContacts.Get(tx, store.Key(juliet.String(), "nurse.import-snikket@snikket-before.example"))
		tybalt, _ := store.MoveContacts.Get(tx, store.Key(juliet.String(), "tybalt.import-snikket@montague.example"))
		if nurse.Sub != store.SubBoth || fmt.Sprint(nurse.Groups) != "[Family]" || tybalt.Sub != store.SubNone || !tybalt.Ask || tybalt.Pending == nil {
			t.Errorf("%+v, %+v", nurse, tybalt)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}
