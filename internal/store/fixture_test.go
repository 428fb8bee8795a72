package store

import (
	"bytes"
	"encoding/json"
	"errors"
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
	if check == nil {
		offline.Put(tx, SeqKey(3, juliet), offlineMessage{Stanza: []byte("<message/>"), Received: fixtureTime})
	} else {
		e, _ := OwnedEntry(tx, juliet, 1)
		check("offline", e, Owned{Seq: 1, Role: Owed | Archived, Entry: Entry{
			At: fixtureTime, Stanza: []byte("<message/>"), Owners: []Owner{{Account: juliet, Role: Owed | Archived}},
		}})
	}
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
	frozen, err := os.ReadFile(filepath.Join("testdata", "schema1.db"))
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
	defer func() { _ = s.Close() }()
	if err := s.View(func(tx *Tx) error {
		fixture(tx, func(what string, have, want any) {
			if diff := cmp.Diff(want, have); diff != "" {
				t.Errorf("%s:\n%s", what, diff)
			}
		})
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

// TestFreezeSchema1 wrote the fixture, once. It writes only where there is none.
func TestFreezeSchema1(t *testing.T) {
	path := filepath.Join("testdata", "schema1.db")
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		return
	}
	tmp := filepath.Join(t.TempDir(), "schema1.db")
	db, err := bolt.Open(tmp, 0o644, &bolt.Options{PageSize: 4096})
	if err != nil {
		t.Fatal(err)
	}
	db.AllocSize = 4096
	if err := db.Update(func(b *bolt.Tx) error {
		if err := migrate(b, 0); err != nil {
			return err
		}
		tx := &Tx{bolt: b, writable: true}
		fixture(tx, nil)
		return tx.err
	}); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(db.Close(), os.MkdirAll("testdata", 0o755)); err != nil {
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
