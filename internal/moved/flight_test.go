package moved_test

import (
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pibox/internal/box"
	"pibox/internal/config"
	"pibox/internal/moved"
	"pibox/internal/store"
	"pibox/internal/xmpp"

	"mellium.im/xmpp/stanza"
)

// post is the way to another server: what it can not write waits, and comes back after a while.
type post struct {
	r    *xmpp.Router
	mu   sync.Mutex
	away bool   // nothing is written
	deaf bool   // the server takes everything, and answers nothing
	lost uint64 // streams
	wait []*xmpp.Stanza
	got  map[string]int // subscription stanzas by type
}

func (p *post) Lost() uint64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.lost
}

func (p *post) Send(st *xmpp.Stanza) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.away {
		p.write(st)
		return
	}
	p.wait = append(p.wait, st)
	time.AfterFunc(2*time.Minute, func() {
		p.mu.Lock()
		i := slices.Index(p.wait, st)
		if i >= 0 {
			p.wait = slices.Delete(p.wait, i, i+1)
		}
		p.mu.Unlock()
		if i >= 0 {
			p.r.Bounce(st, xmpp.Errorf("remote-server-timeout", ""))
		}
	})
}

// write is called with the lock held.
func (p *post) write(st *xmpp.Stanza) {
	switch {
	case st.Kind == xmpp.Presence:
		p.got[st.Type]++
	case st.IsRequest() && !p.deaf:
		go p.r.FromPeer(&xmpp.Peer{Domain: st.To.Domain, Proof: xmpp.ProofCertificate}, st.Result(nil))
	}
}

func (p *post) Recall(st *xmpp.Stanza) (n int, why *xmpp.StanzaError) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.wait = slices.DeleteFunc(p.wait, func(have *xmpp.Stanza) bool {
		same := have.ID == st.ID && have.Type == st.Type
		if same {
			n++
		}
		return same
	})
	return n, xmpp.Errorf(stanza.RemoteServerTimeout, "it is away")
}

// count tells how often a type of stanza was written.
func (p *post) count(typ string) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.got[typ]
}

// turn is what becomes of the way, and of a stream of it.
func (p *post) turn(away, loses, deaf bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.deaf = deaf
	if p.away = away; loses {
		p.lost++
	}
	if !away {
		for _, st := range p.wait {
			p.write(st)
		}
		p.wait = nil
	}
}

// A request is undone while the contact's server is away. What never left the box reaches nobody, neither the request nor that it is taken back; what
// may have left it is taken back, and nobody is asked afterwards.
func TestUndoOfARequestOnItsWay(t *testing.T) {
	for name, tt := range map[string]struct {
		before func(p *post)
		asked  int // most
		back   bool
	}{
		"still on its way": {before: func(*post) {}},
		"came back, is sent again later": {before: func(*post) {
			time.Sleep(2*time.Minute + 10*time.Second)
		}},
		"came back, and is on its way again": {before: func(*post) {
			time.Sleep(3*time.Minute + 30*time.Second)
		}},
		"a stream was lost before it came back": {back: true, before: func(p *post) {
			p.turn(true, true, false)
			time.Sleep(10 * time.Minute)
		}},
		"written, and nothing shows that it arrived": {asked: 1, back: true, before: func(p *post) {
			p.turn(false, false, true)
			synctest.Wait()
			p.turn(true, true, true)
		}},
	} {
		for _, stop := range []string{"undo", "cancel, then undo"} {
			t.Run(name+"; "+stop, func(t *testing.T) {
				path := filepath.Join(t.TempDir(), "pibox.db")
				synctest.Test(t, func(t *testing.T) {
					p := &post{got: map[string]int{}, away: true}
					b, st := undoBox(t, path, p)
					defer func() { _ = b.Close() }()
					new := xmpp.MustJID("juliet@new.example")
					if err := b.Moved.Move(xmpp.MustJID("juliet@old.example"), new, moved.StartOptions{}); err != nil {
						t.Fatal(err)
					}
					synctest.Wait()
					tt.before(p)
					synctest.Wait()
					if stop != "undo" {
						if _, err := b.Moved.Cancel(new); err != nil {
							t.Fatal(err)
						}
					}
					before := p.count("subscribe")
					if _, err := b.Moved.Undo(new); err != nil {
						t.Fatal(err)
					}
					synctest.Wait()
					p.turn(false, false, false)
					time.Sleep(24 * time.Hour)
					synctest.Wait()
					if after := p.count("subscribe"); after != before || before > tt.asked {
						t.Errorf("asked %d times before, then %d times more", before, after-before)
					}
					if back := p.count("unsubscribe") > 0; back != tt.back {
						t.Errorf("taken back: %v", back)
					}
					(&house{t: t, st: st}).holds("juliet@new.example: romeo@montague.example none\njuliet@old.example: romeo@montague.example both") // the first is a tombstone
				})
			})
		}
	}
}

// undoBox has a member with a contact on another server.
func undoBox(t *testing.T, path string, p *post) (*box.Box, *store.Store) {
	st, err := store.Open(path, store.Options{Reserve: 1})
	if err != nil {
		t.Fatal(err)
	}
	if err := st.Update(func(tx *store.Tx) error {
		store.Accounts.Put(tx, "juliet@old.example", store.Account{Created: time.Now()})
		store.Roster.Put(tx, store.Key("juliet@old.example", "romeo@montague.example"), store.RosterItem{Sub: store.SubBoth})
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	b := newBox(t, st, config.Default(), []string{"old.example", "new.example"}, p)
	p.r = b.Router
	return b, st
}
