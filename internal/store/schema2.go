package store

import (
	"bytes"
	"cmp"
	"encoding/xml"
	"errors"
	"slices"
	"time"

	bolt "go.etcd.io/bbolt"
	"mellium.im/xmpp/jid"
)

var logTables = []string{logTable.name, logTail.name, string(ownedIndex), string(withIndex), logAccounts.name, Progress.name}

var schema2 = append(slices.Clone(logTables), ArchivePrefs.name, SMSessions.name, Pushes.name, PushContents.name)

// toSchema2 brings the log. What waited for members in a table of its own becomes part of it.
func toSchema2(b *bolt.Tx) error {
	if err := createTables(b, schema2); err != nil {
		return err
	}
	tx := &Tx{bolt: b, writable: true}
	makeLogKey(tx)
	type message struct {
		account string
		seq     uint64
		kept    offlineMessage
	}
	var all []message
	for key, m := range offline.All(tx) {
		all = append(all, message{key[:max(0, len(key)-9)], SeqOf(key), m})
	}
	slices.SortFunc(all, func(a, b message) int { return cmp.Compare(a.seq, b.seq) })
	for _, m := range all {
		appendLog(tx, &Entry{
			Owners: []Owner{{Account: m.account, With: bareFrom(m.kept.Stanza), Role: Owed | Archived}},
			Stanza: m.kept.Stanza,
		}, m.kept.Received)
	}
	return errors.Join(tx.err, b.DeleteBucket([]byte(offline.name)))
}

// offline of schema 1, by account and sequence: messages that waited for their recipient.
var offline = Table[offlineMessage]{"offline"}

type offlineMessage struct {
	Stanza   []byte    `json:"stanza"`
	Received time.Time `json:"received"`
}

// bareFrom is the sender of a stanza, prepared.
func bareFrom(stanza []byte) string {
	d := xml.NewDecoder(bytes.NewReader(stanza))
	for {
		t, err := d.RawToken()
		if err != nil {
			return ""
		}
		start, ok := t.(xml.StartElement)
		if !ok {
			continue
		}
		for _, a := range start.Attr {
			if a.Name.Space != "" || a.Name.Local != "from" {
				continue
			}
			if j, err := jid.Parse(a.Value); err == nil {
				return j.Bare().String()
			}
		}
		return ""
	}
}
