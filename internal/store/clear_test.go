package store

import (
	"path/filepath"
	"reflect"
	"slices"
	"testing"
)

// Every table is either cleared with an account, or one that stays for a reason; a new one has to be put somewhere.
func TestClearAccountKnowsEveryTable(t *testing.T) {
	stay := append(slices.Clone(logTables), metaTable.name, Settings.name, Accounts.name, Moves.name, Outbox.name) // the log: see TestLogAgainstModel
	for _, table := range accountTables {
		stay = append(stay, reflect.ValueOf(table).FieldByName("name").String())
	}
	slices.Sort(stay)
	all := slices.DeleteFunc(slices.Concat(schema1, schema2, schema3), func(name string) bool { return name == offline.name })
	slices.Sort(all)
	if !slices.Equal(stay, all) {
		t.Errorf("ClearAccount and its exceptions know\n%v\nthe schema has\n%v", stay, all)
	}
}

func TestClearAccount(t *testing.T) {
	st, err := Open(filepath.Join(t.TempDir(), "pibox.db"), Options{Reserve: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = st.Close() }()
	const me, other = "romeo@montague.example", "romeo@montague.example2"
	keys := []string{me, Key(me, "x"), SeqKey(7, me), Key(me, "x", "y"), other, Key(other, "x")}
	if err := st.Update(func(tx *Tx) error {
		for _, table := range accountTables {
			for _, k := range keys {
				tx.put(reflect.ValueOf(table).FieldByName("name").String(), k, []byte("{}"))
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if err := st.Update(func(tx *Tx) error {
		ClearAccount(tx, me)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if err := st.View(func(tx *Tx) error {
		for _, table := range accountTables {
			name := reflect.ValueOf(table).FieldByName("name").String()
			left := 0
			_ = tx.bolt.Bucket([]byte(name)).ForEach(func(_, _ []byte) error {
				left++
				return nil
			})
			if left != 2 {
				t.Errorf("table %s has %d records left, not the 2 of another account", name, left)
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}
