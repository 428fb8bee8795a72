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
	"pibox/internal/xmpp/frame"
)

// house is a box with a wire to another one.
type house struct {
	t     *testing.T
	box   *box.Box
	st    *store.Store
	other *house
	mu    sync.Mutex
	sent  []string
	cut   bool // what it sends gets lost
}

func (h *house) cutOff(cut bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.cut = cut
}

func (h *house) Send(st *xmpp.Stanza) {
	h.mu.Lock()
	h.sent = append(h.sent, st.Name+" "+st.Type)
	cut := h.cut
	h.mu.Unlock()
	if cut {
		return
	}
	go h.other.box.Router.FromPeer(&xmpp.Peer{Domain: st.From.Domain, Proof: xmpp.ProofCertificate}, st)
}

func (h *house) open(path string, domains ...string) {
	var err error
	if h.st, err = store.Open(path, store.Options{Reserve: 1}); err != nil {
		h.t.Fatal(err)
	}
	h.box = newBox(h.t, h.st, config.Default(), domains, h)
}

// does lets an account's client send something; the account is made where there is none.
func (h *house) does(account string, all ...string) {
	h.t.Helper()
	j := xmpp.MustJID(account)
	if !h.box.Router.Exists(j) {
		if err := h.box.Router.Update(func(tx *store.Tx, out *xmpp.Out) error {
			store.Accounts.Put(tx, account, store.Account{})
			out.After(func() { h.box.Router.SetExists(j, true) })
			return nil
		}); err != nil {
			h.t.Fatal(err)
		}
	}
	s := h.box.Router.Bind(j, "x", "x", deaf{}, xmpp.ConflictReplace)
	for _, xml := range all {
		el, err := frame.Parse([]byte(xml), xmpp.NSClient, frame.Limits{Bytes: 1 << 16, Depth: 16, Attrs: 16, Children: 64})
		if err != nil {
			h.t.Fatal(err)
		}
		if se := h.box.Router.FromSession(s, el); se != nil {
			h.t.Fatal(se)
		}
		synctest.Wait()
	}
}

func (h *house) holds(want string) {
	h.t.Helper()
	time.Sleep(time.Second) // answers are known to have arrived by then
	synctest.Wait()
	have := ""
	for line := range strings.Lines(dump(h.t, h.st)) {
		if !strings.HasPrefix(line, "message: ") {
			have += line
		}
	}
	if strings.TrimSpace(have) != strings.TrimSpace(want) {
		h.t.Errorf("stored is\n%s\nexpected\n%s", have, want)
	}
}

// deaf is a client that says and hears nothing of its own.
type deaf struct{}

func (deaf) Deliver(*xmpp.Stanza) bool { return true }
func (deaf) Close(*xmpp.StreamError)   {}

func subscribe(to, old string) string {
	return "<presence type='subscribe' to='" + to + "'><moved xmlns='urn:xmpp:moved:1'><old-jid>" + old + "</old-jid></moved></presence>"
}

func approve(to string) string { return "<presence type='subscribed' to='" + to + "'/>" }

func statement(to string) string {
	return "<iq type='set' id='p'><pubsub xmlns='http://jabber.org/protocol/pubsub'><publish node='urn:xmpp:moved:1'><item id='current'><moved xmlns='urn:xmpp:moved:1'><new-jid>" + to + "</new-jid></moved></item></publish></pubsub></iq>"
}

// Romeo and Juliet move at once, each to the other's box, and two servers verify them. Nothing loops, and they find each other.
func TestTwoWhoMoveAtOnce(t *testing.T) {
	dirs := [2]string{t.TempDir(), t.TempDir()}
	synctest.Test(t, func(t *testing.T) {
		a, b := &house{t: t}, &house{t: t}
		a.other, b.other = b, a
		a.open(filepath.Join(dirs[0], "pibox.db"), "montague.example")
		b.open(filepath.Join(dirs[1], "pibox.db"), "capulet.example")
		defer func() { _, _ = a.box.Close(), b.box.Close() }()
		oldRomeo, newRomeo := "romeo@montague.example", "romeo@capulet.example"
		oldJuliet, newJuliet := "juliet@capulet.example", "juliet@montague.example"
		a.does(oldRomeo)
		b.does(oldJuliet)
		a.does(oldRomeo, approve(oldJuliet), "<presence type='subscribe' to='"+oldJuliet+"'/>")
		b.does(oldJuliet, approve(oldRomeo), "<presence type='subscribe' to='"+oldRomeo+"'/>")
		a.holds(oldRomeo + ": " + oldJuliet + " both")
		b.holds(oldJuliet + ": " + oldRomeo + " both")

		a.does(oldRomeo, statement(newRomeo))
		b.does(oldJuliet, statement(newJuliet))
		// Each tells the other's old address, and approved it in advance.
		b.does(newRomeo, approve(oldJuliet), subscribe(oldJuliet, oldRomeo))
		a.does(newJuliet, approve(oldRomeo), subscribe(oldRomeo, oldJuliet))
		time.Sleep(time.Hour)
		synctest.Wait()
		// Their servers followed both moves. Juliet's old account gave Romeo's old one up first, so he does not ask her new one for anything.
		a.holds(newJuliet + ": " + oldRomeo + " to approved\n" + oldRomeo + ": " + oldJuliet + " none; " + newJuliet + " from")
		b.holds(oldJuliet + ": " + newRomeo + " both; " + oldRomeo + " none\n" + newRomeo + ": " + oldJuliet + " both")

		// Now each mover knows the other's new address from the old account's roster, tells it too, and each is verified again: the new
		// addresses joined the readers of the statements.
		b.does(newRomeo, approve(newJuliet), subscribe(newJuliet, oldRomeo))
		a.does(newJuliet, approve(newRomeo), subscribe(newRomeo, oldJuliet))
		time.Sleep(time.Hour)
		synctest.Wait()
		a.holds(newJuliet + ": " + newRomeo + " both; " + oldRomeo + " to approved\n" + oldRomeo + ": " + oldJuliet + " none; " + newJuliet + " from")
		b.holds(oldJuliet + ": " + newRomeo + " from; " + oldRomeo + " none\n" + newRomeo + ": " + oldJuliet + " to; " + newJuliet + " both")
		if n := len(a.sent) + len(b.sent); n > 120 {
			t.Errorf("the two servers exchanged %d stanzas", n)
		}
		a.sent, b.sent = nil, nil
		time.Sleep(24 * time.Hour)
		synctest.Wait()
		if len(a.sent)+len(b.sent) > 0 {
			t.Errorf("they still talk: %v %v", a.sent, b.sent)
		}
	})
}
