package moved_test

import (
	"fmt"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pibox/internal/config"
	"pibox/internal/store"
	"pibox/internal/xmpp"
)

// Each move that is verified leaves the old address on the contact list. Who moves again and again, and proves it each time, can not make it grow past
// what a list may hold: then his request is one that a person answers.
func TestFollowIntoAFullContactList(t *testing.T) {
	for _, tt := range []struct {
		name   string
		others int
		follow bool
	}{{"room for one", 1998, true}, {"full", 1999, false}} {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "pibox.db")
			synctest.Test(t, func(t *testing.T) {
				st, err := store.Open(path, store.Options{Reserve: 1})
				if err != nil {
					t.Fatal(err)
				}
				const romeo, old, new = "romeo@montague.example", "juliet@a.example", "juliet@b.example"
				if err := st.Update(func(tx *store.Tx) error {
					store.Accounts.Put(tx, romeo, store.Account{Created: time.Now()})
					for i := range tt.others {
						store.Roster.Put(tx, store.Key(romeo, fmt.Sprintf("friend%d@verona.example", i)), store.RosterItem{Sub: store.SubBoth})
					}
					store.Roster.Put(tx, store.Key(romeo, old), store.RosterItem{Sub: store.SubBoth, Name: "Jule"})
					return nil
				}); err != nil {
					t.Fatal(err)
				}
				w := &listening{}
				b := newBox(t, st, config.Default(), []string{"montague.example"}, w)
				defer func() { _ = b.Close() }()
				says := func(domain, stanza string) {
					b.Router.FromPeer(&xmpp.Peer{Domain: domain, Proof: xmpp.ProofCertificate}, xmpp.Make([]byte(stanza)))
					synctest.Wait()
				}
				says("b.example", "<presence type='subscribe' from='"+new+"' to='"+romeo+"'><moved xmlns='urn:xmpp:moved:1'><old-jid>"+old+"</old-jid></moved></presence>")
				asked := regexp.MustCompile(`<iq [^>]*\bid='([^']+)'`).FindStringSubmatch(strings.Join(w.sent, ""))
				if asked == nil {
					t.Fatalf("no question in %q", w.sent)
				}
				says("a.example", "<iq type='result' id='"+asked[1]+"' from='"+old+"' to='"+romeo+"'><pubsub xmlns='http://jabber.org/protocol/pubsub'><items node='urn:xmpp:moved:1'>"+
					"<item id='current'><moved xmlns='urn:xmpp:moved:1'><new-jid>"+new+"</new-jid></moved></item></items></pubsub></iq>")
				if err := st.View(func(tx *store.Tx) error {
					item, there := store.Roster.Get(tx, store.Key(romeo, new))
					p, waits := store.Pending.Get(tx, store.Key(romeo, new))
					if followed := there && item.Sub.From(); followed != tt.follow || waits == tt.follow || waits && p.Verifying || store.Roster.Count(tx, romeo) > 2000 {
						t.Errorf("followed: %v, waiting: %v, %d contacts", followed, waits, store.Roster.Count(tx, romeo))
					}
					return nil
				}); err != nil {
					t.Error(err)
				}
			})
		})
	}
}
