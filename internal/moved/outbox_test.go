package moved_test

import (
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pibox/internal/box"
	"pibox/internal/config"
	"pibox/internal/store"
	"pibox/internal/xmpp"
)

// lossy is the world of other servers behind streams that can be lost.
type lossy struct {
	r    *xmpp.Router
	mu   sync.Mutex
	lost uint64
	got  map[string]int // subscription stanzas by type and recipient
	away bool           // no other server can be reached
	lose int            // so many pings are answered on a new stream, what was before them is gone
	mute int            // so many pings are not answered
}

func (l *lossy) Lost() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.lost
}

func (l *lossy) Send(st *xmpp.Stanza) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case st.Kind == xmpp.Presence && l.away:
		l.mu.Unlock()
		l.r.Bounce(st, xmpp.Errorf("remote-server-timeout", ""))
		l.mu.Lock()
	case st.Kind == xmpp.Presence:
		l.got[st.Type+" "+st.To.String()]++
	case st.HasChild("urn:xmpp:ping", "ping"):
		if l.mute > 0 {
			l.mute--
			return
		}
		if l.lose > 0 {
			l.lose--
			l.lost++
		}
		go l.r.FromPeer(&xmpp.Peer{Domain: st.To.Domain, Proof: xmpp.ProofCertificate}, st.Result(nil))
	default:
		go l.r.FromPeer(&xmpp.Peer{Domain: st.To.Domain, Proof: xmpp.ProofCertificate},
			st.Failure(&xmpp.StanzaError{Type: "cancel", Condition: "gone", Value: "xmpp:juliet@capulet.example"}))
	}
}

// lossyBox has one contact of Romeo's, who only sees him.
func lossyBox(t *testing.T, dir string, l *lossy) (*box.Box, *store.Store) {
	st, err := store.Open(filepath.Join(dir, "pibox.db"), store.Options{Reserve: 1})
	if err != nil {
		t.Fatal(err)
	}
	if err := st.Update(func(tx *store.Tx) error {
		store.Accounts.Put(tx, romeo, store.Account{})
		store.Roster.Put(tx, store.Key(romeo, "juliet@im.example.net"), store.RosterItem{Sub: store.SubFrom})
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	b := newBox(t, st, config.Default(), []string{"montague.example"}, l)
	l.r = b.Router
	return b, st
}

func claim(l *lossy) {
	l.r.FromPeer(&xmpp.Peer{Domain: "capulet.example", Proof: xmpp.ProofCertificate}, xmpp.Make([]byte(
		"<presence type='subscribe' from='juliet@capulet.example' to='"+romeo+"'><moved xmlns='urn:xmpp:moved:1'><old-jid>juliet@im.example.net</old-jid></moved></presence>")))
}

// The answer to a ping proves nothing when the stream was lost between it and what it stands behind (row 12).
func TestOutboxAndLostStreams(t *testing.T) {
	for lose, want := range []int{1, 2, 3} {
		dir := t.TempDir()
		synctest.Test(t, func(t *testing.T) {
			l := &lossy{got: map[string]int{}, lose: 2 * lose} // one for each of the two domains
			b, st := lossyBox(t, dir, l)
			defer func() { _ = b.Close() }()
			claim(l)
			time.Sleep(time.Hour)
			synctest.Wait()
			l.mu.Lock()
			defer l.mu.Unlock()
			for _, what := range []string{"subscribed juliet@capulet.example", "unsubscribed juliet@im.example.net"} {
				if n := l.got[what]; n < want || n > 2*want {
					t.Errorf("%d streams lost: %s was sent %d times", lose, what, n)
				}
			}
			if left := dump(t, st); strings.Contains(left, "outbox") {
				t.Errorf("%d streams lost: left is\n%s", lose, left)
			}
		})
	}
}

// An answer that would prove nothing, because the stream was lost, is not waited for.
func TestOutboxWaitsForNoAnswerBehindALostStream(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		l := &lossy{got: map[string]int{}, mute: 2}
		b, st := lossyBox(t, dir, l)
		defer func() { _ = b.Close() }()
		claim(l)
		time.Sleep(5 * time.Second)
		l.mu.Lock()
		l.lost++
		l.mu.Unlock()
		time.Sleep(35 * time.Second) // the first pause is 30 s
		synctest.Wait()
		if left := dump(t, st); strings.Contains(left, "outbox") {
			t.Errorf("left is\n%s", left)
		}
		l.mu.Lock()
		defer l.mu.Unlock()
		for what, n := range l.got {
			if n != 2 {
				t.Errorf("%s was sent %d times", what, n)
			}
		}
	})
}

// silent is a client that must hear nothing of what the outbox can not deliver.
type silent struct{ t *testing.T }

func (s silent) Deliver(st *xmpp.Stanza) bool {
	if st.Kind == xmpp.Presence && st.Type == "error" {
		s.t.Errorf("the client got %s", st.Raw)
	}
	return true
}

func (silent) Close(*xmpp.StreamError) {}

// What can not be sent comes back at once, before anything else is known of it, and is no news for the user.
func TestOutboxWhenNobodyIsThere(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		l := &lossy{got: map[string]int{}, away: true}
		b, st := lossyBox(t, dir, l)
		defer func() { _ = b.Close() }()
		s := b.Router.Bind(xmpp.MustJID(romeo), "x", "x", silent{t}, xmpp.ConflictReplace)
		b.Router.SetPresence(s, xmpp.Make([]byte("<presence/>")), 0)
		claim(l)
		time.Sleep(time.Hour)
		synctest.Wait()
		if left := dump(t, st); strings.Count(left, "outbox: ") != 2 {
			t.Errorf("left is\n%s", left)
		}
	})
}

// What waits for a domain that this box serves by now is delivered here.
func TestOutboxOfADomainThatCameHere(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		l := &lossy{got: map[string]int{}, away: true}
		b, _ := lossyBox(t, dir, l)
		claim(l)
		synctest.Wait()
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
		st, err := store.Open(filepath.Join(dir, "pibox.db"), store.Options{Reserve: 1})
		if err != nil {
			t.Fatal(err)
		}
		b = newBox(t, st, config.Default(), []string{"montague.example", "capulet.example"}, l)
		defer func() { _ = b.Close() }()
		synctest.Wait()
		if left := dump(t, st); strings.Count(left, "outbox: ") != 1 || strings.Contains(left, "to='juliet@capulet.example'") {
			t.Errorf("left is\n%s", left)
		}
	})
}

// A restored box sends nothing until its owner says that the old one is gone; then everything.
func TestOutboxOfAHeldBox(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		l := &lossy{got: map[string]int{}}
		b, st := lossyBox(t, dir, l)
		if err := st.Update(func(tx *store.Tx) error { store.SetHeld(tx, true); return nil }); err != nil {
			t.Fatal(err)
		}
		claim(l)
		time.Sleep(24 * time.Hour)
		synctest.Wait()
		if left := dump(t, st); strings.Count(left, "outbox: ") != 2 || len(l.got) != 0 {
			t.Errorf("sent: %v; left is\n%s", l.got, left)
		}
		if err := b.Close(); err != nil { // also after a start
			t.Fatal(err)
		}
		st, err := store.Open(filepath.Join(dir, "pibox.db"), store.Options{Reserve: 1})
		if err != nil {
			t.Fatal(err)
		}
		b = newBox(t, st, config.Default(), []string{"montague.example"}, l)
		l.r = b.Router
		defer func() { _ = b.Close() }()
		time.Sleep(24 * time.Hour)
		synctest.Wait()
		if len(l.got) != 0 {
			t.Errorf("sent: %v", l.got)
		}
		if err := st.Update(func(tx *store.Tx) error { store.SetHeld(tx, false); return nil }); err != nil {
			t.Fatal(err)
		}
		if err := b.Moved.Resume(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		if left := dump(t, st); strings.Contains(left, "outbox: ") || len(l.got) == 0 {
			t.Errorf("sent: %v; left is\n%s", l.got, left)
		}
	})
}
