package store

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	bolt "go.etcd.io/bbolt"
)

// testdata/schema1.db was written by the first version that had schema 1, and is never written again: what this test reads from it every later
// version must be able to read. To freeze another schema, remove nothing: add a file and a test beside it.

var (
	fixtureTime = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	keys        = Credentials{Salt: []byte("salt"), Iterations: 10000, StoredKey: []byte("stored"), ServerKey: []byte("server")}
)

// fixture is one record of every kind.
func fixture(tx *Tx, check func(what string, have, want any)) {
	const juliet, romeo, nurse = "juliet@capulet.example", "romeo@montague.example", "nurse@capulet.example"
	closed := fixtureTime.Add(time.Hour)
	raw, _ := json.Marshal("capulet.example")
	record(tx, check, Settings, "domain", json.RawMessage(raw))
	record(tx, check, Accounts, juliet, Account{Created: fixtureTime, Admin: true, Restricted: true, OneTime: true, SHA1: keys, SHA256: keys})
	record(tx, check, Accounts, nurse, Account{Created: fixtureTime, Closed: &closed})
	record(tx, check, Roster, Key(juliet, romeo), RosterItem{Name: "Romeo ♥", Groups: []string{"Verona", "Friends"}, Sub: SubTo, Ask: true, Approved: true, Version: 7})
	record(tx, check, Roster, Key(juliet, nurse), RosterItem{Sub: SubNone, Version: 8, Removed: true})
	record(tx, check, RosterV, juliet, RosterVersion{Version: 8, Floor: 2})
	record(tx, check, Pending, Key(juliet, "paris@verona.example"), PendingIn{Stanza: []byte("<presence type='subscribe'/>"), Received: fixtureTime, Verifying: true})
	record(tx, check, Private, Key(juliet, "exodus:prefs", "exodus"), PrivateXML{XML: []byte("<exodus xmlns='exodus:prefs'/>")})
	record(tx, check, VCards, juliet, []byte("<vCard xmlns='vcard-temp'/>"))
	record(tx, check, Blocks, Key(juliet, "tybalt@capulet.example"), Block{Since: fixtureTime})
	record(tx, check, PEPNodes, Key(juliet, "urn:xmpp:moved:1"), PEPNode{
		Created: fixtureTime, Config: map[string][]string{"access_model": {"whitelist"}},
		Affiliations: map[string]string{romeo: "member"}, Subscriptions: map[string]string{romeo: "pending"},
	})
	record(tx, check, PEPItems, Key(juliet, "urn:xmpp:moved:1", "current"), PEPItem{At: fixtureTime, Publisher: juliet + "/balcony", Payload: []byte("<moved xmlns='urn:xmpp:moved:1'/>")})
	record(tx, check, LastSeen, juliet, Last{At: fixtureTime, Status: "good night"})
	record(tx, check, Outbox, SeqKey(5), OutboxEntry{Stanza: []byte("<presence/>"), From: juliet, To: romeo, Queued: fixtureTime, Attempts: 2})
	record(tx, check, Moves, juliet, Move{
		To: "juliet@new.example", Published: fixtureTime, Visible: fixtureTime, Readers: []string{romeo}, Left: map[string]time.Time{romeo: fixtureTime}, Closed: true,
	})
	record(tx, check, Claims, Key(juliet, "paris@verona.example"), Claim{Old: "paris@old.example", Received: fixtureTime})
}

// record writes where there is no check, else compares.
func record[T any](tx *Tx, check func(what string, have, want any), t Table[T], key string, v T) {
	if check == nil {
		t.Put(tx, key, v)
		return
	}
	have, ok := t.Get(tx, key)
	if !ok {
		check(t.name+" "+key, nil, v)
		return
	}
	check(t.name+" "+key, have, v)
}

func TestSchema1IsReadForEver(t *testing.T) {
	const juliet = "juliet@capulet.example"
	s := openCopy(t, "schema1.db")
	if err := s.View(func(tx *Tx) error {
		check := func(what string, have, want any) {
			if diff := cmp.Diff(want, have); diff != "" {
				t.Errorf("%s:\n%s", what, diff)
			}
		}
		fixture(tx, check)
		e, _ := OwnedEntry(tx, juliet, 1)
		check("offline", e, Owned{Seq: 1, Role: Owed | Archived, Entry: Entry{
			At: fixtureTime, Stanza: []byte("<message/>"), Owners: []Owner{{Account: juliet, Role: Owed | Archived}},
		}})
		return nil
	}); err != nil {
		t.Error(err)
	}
}

// What waited in schema 1 is in the log of schema 2, in its order, with times that do not run backwards.
func TestOfflineMessagesMoveToTheLog(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s.db")
	db, err := bolt.Open(path, 0o600, boltOptions())
	if err != nil {
		t.Fatal(err)
	}
	at := func(minutes int) time.Time { return fixtureTime.Add(time.Duration(minutes) * time.Minute) }
	if err := db.Update(func(b *bolt.Tx) error {
		tx := &Tx{bolt: b, writable: true}
		if err := migrations[0](b); err != nil {
			return err
		}
		offline.Put(tx, SeqKey(9, "juliet@a"), offlineMessage{[]byte(`<message to='juliet@a' from='ROMEO@b/x'>2</message>`), at(5)})
		offline.Put(tx, SeqKey(2, "juliet@a"), offlineMessage{[]byte(`<message xmlns='jabber:client' a:from='no@b' from="nurse@b">1</message>`), at(7)})
		offline.Put(tx, SeqKey(5, "juliet@ab"), offlineMessage{[]byte(`<message/>`), at(1)})
		offline.Put(tx, SeqKey(12, "juliet@a"), offlineMessage{[]byte(`<message from='b'>3</message>`), at(8)})
		return errors.Join(tx.err, b.Bucket([]byte(metaTable.name)).Put([]byte("schema"), []byte("1")))
	}); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	s, err := Open(path, Options{Reserve: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	if err := s.View(func(tx *Tx) error {
		type kept struct {
			Seq    uint64
			With   string
			At     time.Time
			Stanza string
		}
		var have []kept
		for o := range LogOf(tx, Range{Account: "juliet@a", Role: Owed | Archived}) {
			have = append(have, kept{o.Seq, o.Owners[0].With, o.At, string(bytes.TrimSuffix(o.Stanza[bytes.IndexByte(o.Stanza, '>')+1:], []byte("</message>")))})
		}
		want := []kept{
			{1, "nurse@b", at(7), "1"}, {3, "romeo@b", at(7), "2"}, {4, "b", at(8), "3"},
		}
		if diff := cmp.Diff(want, have); diff != "" {
			t.Error(diff)
		}
		if n := OwedCount(tx, "juliet@ab"); n != 1 {
			t.Errorf("%d for the other", n)
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
}

// fixture2 is what schema 2 brought.
func fixture2(tx *Tx, check func(what string, have, want any)) {
	const juliet, romeo = "juliet@capulet.example", "romeo@montague.example"
	yes, no := true, false
	record(tx, check, ArchivePrefs, juliet, ArchivePref{Default: ArchiveRoster, Always: []string{romeo}, Never: []string{"tybalt@capulet.example/sword"}})
	record(tx, check, SMSessions, Key(juliet, "ABCDEF"), SMSession{
		Session: SessionState{
			Resource: "balcony", Presence: []byte("<presence/>"), Priority: -3, Marks: []string{"carbons"}, Features: map[string][]byte{"roster": []byte("v7")},
		},
		Handled: 17, Acked: 9, Unacked: []SMStanza{{Stanza: []byte("<message/>"), Seq: 3}, {Stanza: []byte("<iq/>")}},
		Timeout: 10 * time.Minute, Left: 3 * time.Minute, Login: []byte("digest"),
	})
	record(tx, check, Pushes, Key(juliet, "push.example", "node"), Push{Options: []byte("<x/>"), Device: "balcony", Enabled: fixtureTime, Failing: fixtureTime.Add(time.Hour)})
	record(tx, check, PushContents, juliet, PushContent{Sender: &yes, Body: &no})
	record(tx, check, Progress, Key(ProgressHandled, juliet, "ABCDEF"), Count(17))
	record(tx, check, Progress, Key(ProgressSent, "capulet.example", "montague.example"), Count(290))
}

// fixtureLog is a log with a body and a tail, and one of its ids beside it.
const fixtureLog = 300

func writeFixtureLog(tx *Tx) {
	const juliet, romeo, nurse = "juliet@capulet.example", "romeo@montague.example", "nurse@capulet.example"
	for i := range fixtureLog {
		e := &Entry{Stanza: fmt.Appendf(nil, "<message id='%d'/>", i), Remote: i%3 == 0}
		switch {
		case i%3 == 0:
			e.Owners = []Owner{{Account: juliet, With: romeo, Role: Archived | ByOwner}}
		default:
			e.Owners = []Owner{{Account: juliet, With: nurse, Role: Archived | ByOwner}, {Account: nurse, With: juliet, Role: Archived | Owed}}
		}
		seq := AppendLog(tx, e)
		if i == 7 {
			Private.Put(tx, Key(juliet, "fixture", "id"), PrivateXML{XML: []byte(LogID(tx, juliet, seq))})
			SetDelivered(tx, nurse, seq)
		}
	}
}

func checkFixtureLog(t *testing.T, tx *Tx) {
	const juliet, romeo, nurse = "juliet@capulet.example", "romeo@montague.example", "nurse@capulet.example"
	count := func(r Range) (n int) {
		for range LogOf(tx, r) {
			n++
		}
		return n
	}
	for _, c := range []struct {
		want int
		r    Range
	}{
		{fixtureLog, Range{Account: juliet}}, {fixtureLog / 3, Range{Account: juliet, With: romeo}}, {fixtureLog * 2 / 3, Range{Account: juliet, With: nurse}},
		{fixtureLog * 2 / 3, Range{Account: nurse, Backwards: true}}, {0, Range{Account: nurse, With: romeo}},
	} {
		if have := count(c.r); have != c.want {
			t.Errorf("%+v: %d entries, not %d", c.r, have, c.want)
		}
	}
	id, _ := Private.Get(tx, Key(juliet, "fixture", "id"))
	seq, ok := ParseLogID(tx, juliet, string(id.XML))
	o, found := OwnedEntry(tx, juliet, seq)
	if !ok || !found || string(o.Stanza) != "<message id='7'/>" || LogID(tx, juliet, seq) != string(id.XML) {
		t.Errorf("the id %s is of %d, %v, %v: %s", id.XML, seq, ok, found, o.Stanza)
	}
	if n := OwedCount(tx, nurse); n != fixtureLog*2/3-5 || Delivered(tx, nurse) != seq {
		t.Errorf("%d are owed", n)
	}
}

func TestSchema2IsReadForEver(t *testing.T) {
	s := openCopy(t, "schema2.db")
	if err := s.View(func(tx *Tx) error {
		check := func(what string, have, want any) {
			if diff := cmp.Diff(want, have); diff != "" {
				t.Errorf("%s:\n%s", what, diff)
			}
		}
		fixture(tx, check)
		fixture2(tx, check)
		checkFixtureLog(t, tx)
		return nil
	}); err != nil {
		t.Error(err)
	}
}

// openCopy opens a copy of a frozen file.
func openCopy(t *testing.T, name string) *Store {
	t.Helper()
	frozen, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "copy.db")
	if err := os.WriteFile(path, frozen, 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := Open(path, Options{Reserve: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// fixture3 is what schema 3 brought.
func fixture3(tx *Tx, check func(what string, have, want any)) {
	const juliet, romeo = "juliet@capulet.example", "romeo@montague.example"
	at := func(hours int) time.Time { return fixtureTime.Add(time.Duration(hours) * time.Hour) }
	record(tx, check, MoveJobs, juliet, MoveJob{
		Old: "juliet@old.example", New: juliet, Family: "old.example capulet.example", Via: []string{"juliet@older.example"}, State: MoveRunning,
		Announced: at(2), Unverified: true, Outside: true, ThenClose: true, Rooms: map[string]string{"rooms.old.example": "rooms.capulet.example"},
		Steps: map[string]time.Time{"bookmarks": at(3)}, Created: at(0), Started: at(1), Ended: at(4),
	})
	record(tx, check, MoveContacts, Key(juliet, romeo), MoveContact{
		Sub: SubBoth, Ask: true, Approved: true, Name: "Romeo ♥", Groups: []string{"Verona"}, Pending: []byte("<presence type='subscribe'/>"),
		Member: "romeo@new.example", Claim: "juliet@older.example", Step: StepMoved, Since: at(2), Failure: "he moved", Address: "romeo@mantua.example",
		From: "romeo@old.example", Made: true, PreApproved: true, Carried: true,
	})
}

func TestSchema3IsReadForEver(t *testing.T) {
	s := openCopy(t, "schema3.db")
	if err := s.View(func(tx *Tx) error {
		check := func(what string, have, want any) {
			if diff := cmp.Diff(want, have); diff != "" {
				t.Errorf("%s:\n%s", what, diff)
			}
		}
		fixture(tx, check)
		fixture2(tx, check)
		fixture3(tx, check)
		checkFixtureLog(t, tx)
		if Held(tx) {
			t.Error("a box that was not restored is held")
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
}

// TestFreezeSchema3 wrote the fixture, once. It writes only where there is none.
func TestFreezeSchema3(t *testing.T) {
	path := filepath.Join("testdata", "schema3.db")
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		return
	}
	tmp := filepath.Join(t.TempDir(), "schema3.db")
	db, err := bolt.Open(tmp, 0o644, &bolt.Options{PageSize: 4096})
	if err != nil {
		t.Fatal(err)
	}
	db.AllocSize = 4096
	for _, write := range []func(tx *Tx){func(tx *Tx) { fixture(tx, nil); fixture2(tx, nil); fixture3(tx, nil) }, writeFixtureLog} {
		if err := db.Update(func(b *bolt.Tx) error {
			if b.Bucket([]byte(metaTable.name)) == nil {
				if err := migrate(b, 0); err != nil {
					return err
				}
			}
			tx := &Tx{bolt: b, writable: true}
			write(tx)
			return tx.err
		}); err != nil {
			t.Fatal(err)
		}
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(tmp)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, raw, 0o644); err != nil {
		t.Fatal(err)
	}
}

// A migration happens whole or not at all.
func TestMigration(t *testing.T) {
	known := migrations
	defer func() { migrations = known }()
	path := filepath.Join(t.TempDir(), "s.db")
	if err := create(path); err != nil {
		t.Fatal(err)
	}
	fault := errors.New("half-way")
	var fails error = fault
	migrations = append(known[:len(known):len(known)],
		func(b *bolt.Tx) error { return createTables(b, []string{"new"}) },
		func(b *bolt.Tx) error {
			if err := b.Bucket([]byte("new")).Put([]byte("k"), []byte(`"v"`)); err != nil {
				return err
			}
			return fails
		})
	if _, err := Open(path, Options{Reserve: 1}); !errors.Is(err, fault) {
		t.Errorf("error %v", err)
	}
	have := func() (n int, table bool) {
		db, err := bolt.Open(path, 0o600, &bolt.Options{ReadOnly: true})
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = db.Close() }()
		_ = db.View(func(b *bolt.Tx) error {
			n, _ = schemaOf(b)
			table = b.Bucket([]byte("new")) != nil
			return nil
		})
		return n, table
	}
	if n, table := have(); n != len(known) || table {
		t.Errorf("after a migration that failed: schema %d, the new table is there: %v", n, table)
	}
	fails = nil
	s, err := Open(path, Options{Reserve: 1})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if n, table := have(); n != len(known)+2 || !table {
		t.Errorf("after the migration: schema %d, the new table is there: %v", n, table)
	}
	migrations = known
	if _, err := Open(path, Options{Reserve: 1}); err == nil {
		t.Error("a newer file was opened")
	}
}
