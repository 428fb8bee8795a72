package archive_test

import (
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"pibox/internal/store"
	"pibox/internal/transcript"
	"pibox/internal/xmpp"
	"pibox/internal/xmpp/archive"
)

// Steps of these transcripts, beside the usual ones:
//
//	romeo got juliet@capulet.example/balcony TEXT       a message is archived that romeo got
//	romeo/orchard sent tybalt@montague.example TEXT     one that he sent; it is in the archive of a local recipient, too
//	romeo waits juliet@capulet.example TEXT             one that is to be delivered, but is in no archive
//	romeo drops N                                       the oldest N leave his archive
func TestTranscripts(t *testing.T) {
	transcript.RunFiles(t, "testdata/*.txt", start(archive.Options{PageBytes: 8 << 10, MaxListed: 4}))
}

func start(opt archive.Options) transcript.Start {
	return func(_ testing.TB, st *store.Store, domains []string, remote xmpp.Remote) transcript.Box {
		r := xmpp.NewRouter(st, slog.New(slog.DiscardHandler), domains)
		r.SetRemote(remote)
		a := archive.Register(r, opt)
		a.Start()
		return transcript.Box{Router: r, Close: a.Stop, Do: func(words []string) error { return do(r, words) }}
	}
}

func do(r *xmpp.Router, words []string) error {
	name, resource, _ := strings.Cut(words[0], "/")
	account := xmpp.MustJID(name + "@" + r.Domains()[0])
	return r.Update(func(tx *store.Tx, _ *xmpp.Out) error {
		if words[1] == "drops" {
			var n int
			if _, err := fmt.Sscan(words[2], &n); err != nil {
				return err
			}
			for o := range store.LogOf(tx, store.Range{Account: account.String(), Role: store.Archived}) {
				if n--; n < 0 {
					break
				}
				store.DropRole(tx, account.String(), o.Seq, store.Archived)
			}
			return nil
		}
		other, text := xmpp.MustJID(words[2]), strings.Join(words[3:], " ")
		role := map[string]store.Role{"got": store.Archived | store.Owed, "sent": store.Archived | store.ByOwner, "waits": store.Owed}[words[1]]
		switch words[1] {
		case "got", "waits":
			add(tx, r, other, account, text, role)
		case "sent":
			add(tx, r, account.With(resource), other, text, role)
		default:
			return fmt.Errorf("%s is no step", words[1])
		}
		return nil
	})
}

// add puts a message into the log, for those of both sides who live here.
func add(tx *store.Tx, r *xmpp.Router, from, to xmpp.JID, text string, role store.Role) uint64 {
	x := xmpp.NewXML("message").Attr("from", from.String()).Attr("to", to.String()).Attr("type", "chat").Leaf("body", "", text)
	e := store.Entry{Stanza: x.Bytes(), Remote: !r.IsLocal(to.Domain)}
	if r.IsLocal(from.Domain) {
		e.Owners = append(e.Owners, store.Owner{Account: from.Bare().String(), With: to.Bare().String(), Role: store.Archived | store.ByOwner})
	}
	if r.Exists(to.Bare()) && to.Bare() != from.Bare() {
		e.Owners = append(e.Owners, store.Owner{Account: to.Bare().String(), With: from.Bare().String(), Role: role &^ store.ByOwner})
	}
	return store.AppendLog(tx, &e)
}

func TestPrefsDecide(t *testing.T) {
	const contact, stranger, gone = "juliet@capulet.example", "tybalt@capulet.example", "paris@verona.example"
	account := xmpp.MustJID("romeo@montague.example")
	for _, c := range []struct {
		name string
		pref *store.ArchivePref
		yes  []string
		no   []string
	}{
		{"none", nil, []string{contact, stranger, gone + "/x"}, nil},
		{"always", &store.ArchivePref{Default: "always", Never: []string{stranger}}, []string{contact, gone}, []string{stranger, stranger + "/x"}},
		{"never", &store.ArchivePref{Default: "never", Always: []string{stranger + "/x"}}, []string{stranger + "/x"}, []string{contact, stranger, stranger + "/y"}},
		{"roster", &store.ArchivePref{Default: "roster"}, []string{contact, contact + "/x"}, []string{stranger, gone, account.String()}},
		{"roster and lists", &store.ArchivePref{Default: "roster", Always: []string{stranger}, Never: []string{contact + "/x"}}, []string{contact, contact + "/y", stranger}, []string{contact + "/x"}},
		{"full before bare", &store.ArchivePref{Default: "never", Always: []string{contact + "/x"}, Never: []string{contact}}, []string{contact + "/x"}, []string{contact, contact + "/y"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBox(t, archive.Options{})
			b.update(func(tx *store.Tx) {
				store.Roster.Put(tx, store.Key(account.String(), contact), store.RosterItem{Sub: store.SubNone})
				store.Roster.Put(tx, store.Key(account.String(), gone), store.RosterItem{Removed: true})
				if c.pref != nil {
					store.ArchivePrefs.Put(tx, account.String(), *c.pref)
				}
				for _, j := range c.yes {
					if !b.archive.Archives(tx, account, xmpp.MustJID(j)) {
						t.Errorf("%s is not archived", j)
					}
				}
				for _, j := range c.no {
					if b.archive.Archives(tx, account, xmpp.MustJID(j)) {
						t.Errorf("%s is archived", j)
					}
				}
			})
		})
	}
}
