// Package transcript runs protocol tests that read as what they show: who sends, who receives.
//
//	box montague.example                      the domains of the box under test; every other domain is a peer
//	account romeo = romeo@montague.example    makes the account and a short name for it
//
//	romeo/orchard connects                    binds a resource; "connects acknowledging": its client does XEP-0198
//	romeo/orchard acknowledges                all it was given so far; clients that do not do XEP-0198 have it at once
//	romeo/orchard detaches                    loses its connection and may resume; "resumes"
//	romeo/orchard sends
//	  <presence/>
//	capulet.example sends                     a peer server; its proof: "by dialback" behind it, else a certificate
//	  <presence type='subscribe' from='juliet@capulet.example' to='romeo@montague.example'/>
//	romeo/orchard receives                    the next stanza in its inbox is this one
//	  <presence type='subscribe' from='juliet@capulet.example'/>
//	nobody receives anything                  all inboxes are empty; also checked at the end
//	romeo/orchard forgets                     empties an inbox without looking; "all forget" every inbox
//	romeo/orchard disconnects
//	restart                                   a new process on the same disk: sessions are gone
//	restart keeping romeo/orchard             an orderly one: these sessions go on (XEP-0198 §5), the others end before
//	30s pass
//	roster romeo = juliet@x both ask "Name" [Group,Other]; nurse@y none      the stored roster is this, whole; sorted by JID
//	roster romeo := juliet@x both             adds items to the stored roster, before anybody looks
//	pending romeo = juliet@x verifying        the stored requests that wait; sorted by JID
//	claims romeo = juliet@x juliet@old        the moves that are being verified: new and old address; sorted by the new one
//	moving juliet = juliet@x: romeo@y left    where an account moved to, who may read that, and who of them has left
//	outbox = 2                                stanzas that other servers have not confirmed
//	offline romeo = 1                         messages that his devices do not have, as far as the disk knows
//	archive romeo = to juliet@x: hi; from juliet@x: (displayed)      his archive: bodies, or first elements
//
// Words that are none of these are handed to Box.Do.
//
// Steps may stand in one line with their stanza. In what is expected, id, from, to and xml:lang may be left out; an attribute
// value * is any; text * is any; a child <etc/> stands for any further children. Everything else must be equal.
// $name in an expected attribute keeps its value, in a sent one or as the text of a sent element gives it back; in an expected text $name, and in an
// expected attribute =$name, is the value that was kept.
package transcript

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pibox/internal/store"
	"pibox/internal/xmpp"
	"pibox/internal/xmpp/frame"
)

// Box is what a transcript talks to.
type Box struct {
	Router *xmpp.Router
	Close  func()
	// Do runs a step that only the box under test knows, such as one of its administrator; may be nil.
	Do func(words []string) error
}

// Start makes the box under test on an open store, before anybody connects; remote takes what leaves for other servers.
// It must call Router.SetRemote(remote) and register the features under test.
type Start func(t testing.TB, st *store.Store, domains []string, remote xmpp.Remote) Box

// RunFiles runs every transcript that matches the pattern as a subtest.
func RunFiles(t *testing.T, pattern string, start Start) {
	files, err := filepath.Glob(pattern)
	if err != nil || len(files) == 0 {
		t.Fatalf("no transcripts match %s", pattern)
	}
	for _, f := range files {
		t.Run(strings.TrimSuffix(filepath.Base(f), ".txt"), func(t *testing.T) {
			text, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			Run(t, string(text), start)
		})
	}
}

// Run runs one transcript in a synctest bubble: time is virtual, and "receives" means after everything came to rest.
func Run(t *testing.T, text string, start Start) {
	t.Helper()
	steps, err := parse(text)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		w := &world{
			t: t, start: start, path: filepath.Join(dir, "pibox.db"), names: map[string]xmpp.JID{},
			boxes: map[string]*inbox{}, sessions: map[string]*xmpp.Session{}, values: map[string]string{},
		}
		defer w.stop()
		for _, s := range steps {
			w.line = s.line
			if err := w.do(s); err != nil {
				t.Fatalf("line %d: %s\n%v", s.line, s.text, err)
			}
		}
		if err := w.empty(); err != nil {
			t.Fatalf("at the end: %v", err)
		}
	})
}

type step struct {
	line int
	text string // the words
	xml  string // the stanza
}

func parse(text string) ([]step, error) {
	var steps []step
	for i, line := range strings.Split(text, "\n") {
		words, _, _ := strings.Cut(line, "#")
		if strings.Contains(line, "<") { // no comments beside stanzas
			words = line
		}
		trimmed := strings.TrimSpace(words)
		switch {
		case trimmed == "", strings.HasPrefix(trimmed, "#"):
		case line[0] == ' ' || line[0] == '\t':
			if len(steps) == 0 {
				return nil, fmt.Errorf("line %d: a stanza belongs to a step", i+1)
			}
			steps[len(steps)-1].xml += trimmed
		default:
			s := step{line: i + 1, text: trimmed}
			if at := strings.Index(trimmed, "<"); at >= 0 {
				s.text, s.xml = strings.TrimSpace(trimmed[:at]), trimmed[at:]
			}
			steps = append(steps, s)
		}
	}
	return steps, nil
}

type world struct {
	t        testing.TB
	start    Start
	path     string
	line     int
	domains  []string
	names    map[string]xmpp.JID
	store    *store.Store
	box      Box
	mu       sync.Mutex        // guards boxes against deliveries to peers seen for the first time
	boxes    map[string]*inbox // by session ("romeo/orchard") and peer domain
	sessions map[string]*xmpp.Session
	values   map[string]string
	pending  []string // accounts to make when the box starts
}

func (w *world) do(s step) error {
	f := strings.Fields(s.text)
	switch {
	case f[0] == "box":
		w.domains = f[1:]
		return nil
	case f[0] == "account" && len(f) == 4:
		w.names[f[1]] = xmpp.MustJID(f[3])
		w.pending = append(w.pending, f[3])
		return nil
	}
	if err := w.ready(); err != nil {
		return err
	}
	switch {
	case s.text == "restart":
		return w.restart()
	case len(f) > 2 && f[0] == "restart" && f[1] == "keeping":
		return w.restartKeeping(f[2:])
	case s.text == "nobody receives anything":
		return w.empty()
	case s.text == "all forget":
		for _, who := range w.receivers() {
			w.inbox(who).take()
		}
		return nil
	case len(f) == 2 && f[1] == "pass":
		d, err := time.ParseDuration(f[0])
		time.Sleep(d) // virtual: the bubble's clock
		synctest.Wait()
		return err
	case slices.Contains([]string{"roster", "pending", "claims", "moving", "outbox", "offline", "archive"}, f[0]):
		return w.stored(s.text)
	case len(f) >= 2:
		return w.actor(f[0], f[1], f[2:], s.xml)
	}
	return fmt.Errorf("not understood")
}

func (w *world) actor(who, verb string, rest []string, xml string) error {
	switch verb {
	case "connects":
		return w.connect(who, slices.Equal(rest, []string{"acknowledging"}))
	case "acknowledges":
		for _, st := range w.inbox(who).acknowledge() {
			w.box.Router.Taken(w.sessions[who], st)
		}
	case "detaches", "resumes":
		w.box.Router.SetDetached(w.sessions[who], verb == "detaches")
	case "disconnects":
		w.box.Router.Unbind(w.sessions[who])
		w.box.Router.Unsent(w.sessions[who], w.inbox(who).acknowledge())
		delete(w.sessions, who)
	case "forgets":
		w.inbox(who).take()
	case "sends":
		return w.send(who, rest, w.fill(xml))
	case "receives":
		return w.receive(who, xml)
	default:
		return w.administer(append([]string{who, verb}, rest...))
	}
	synctest.Wait()
	return nil
}

func (w *world) administer(words []string) error {
	if w.box.Do == nil {
		return fmt.Errorf("%s is no step", words[1])
	}
	for i, word := range words {
		if v, ok := w.values[word]; ok {
			words[i] = v
		}
	}
	err := w.box.Do(words)
	synctest.Wait()
	return err
}

// ready starts the box when the first step needs it.
func (w *world) ready() error {
	if w.store == nil {
		if err := w.open(); err != nil {
			return err
		}
	}
	for _, acc := range w.pending {
		j := xmpp.MustJID(acc)
		if err := w.box.Router.Update(func(tx *store.Tx, out *xmpp.Out) error {
			store.Accounts.Put(tx, j.String(), store.Account{Created: time.Now()})
			out.After(func() { w.box.Router.SetExists(j, true) })
			return nil
		}); err != nil {
			return err
		}
	}
	w.pending = nil
	return nil
}

func (w *world) open() (err error) {
	if w.store, err = store.Open(w.path, store.Options{Reserve: 1}); err != nil {
		return err
	}
	w.box = w.start(w.t, w.store, w.domains, remote{w})
	if err := w.box.Router.LoadDirectory(); err != nil {
		return err
	}
	synctest.Wait()
	return nil
}

func (w *world) stop() {
	if w.store == nil {
		return
	}
	if w.box.Close != nil {
		w.box.Close()
	}
	if err := w.store.Close(); err != nil {
		w.t.Error(err)
	}
	w.store = nil
	synctest.Wait()
}

// restart drops what memory held, without the good-byes of an orderly end.
func (w *world) restart() error {
	w.stop()
	w.sessions = map[string]*xmpp.Session{}
	w.mu.Lock()
	w.boxes = map[string]*inbox{}
	w.mu.Unlock()
	return w.open()
}

// restartKeeping ends some sessions and takes the others over to the next run, with what they have received.
func (w *world) restartKeeping(who []string) error {
	for name, s := range w.sessions {
		if !slices.Contains(who, name) {
			w.box.Router.Unbind(s)
		}
	}
	synctest.Wait()
	saved := map[string]store.SessionState{}
	for _, name := range who {
		if w.sessions[name] == nil {
			return fmt.Errorf("%s is not connected", name)
		}
		saved[name] = w.box.Router.SaveSession(w.sessions[name])
	}
	w.stop()
	w.sessions = map[string]*xmpp.Session{}
	if err := w.open(); err != nil {
		return err
	}
	for _, name := range who {
		j, err := w.jid(name)
		if err != nil {
			return err
		}
		if w.sessions[name], err = w.box.Router.BindSaved(j.Bare(), saved[name], name, w.inbox(name)); err != nil {
			return err
		}
	}
	for _, name := range who {
		w.box.Router.RestoreSession(w.sessions[name], saved[name])
		w.box.Router.SetDetached(w.sessions[name], false)
	}
	synctest.Wait()
	return nil
}

func (w *world) jid(who string) (xmpp.JID, error) {
	name, resource, _ := strings.Cut(who, "/")
	j, ok := w.names[name]
	if !ok {
		return xmpp.JID{}, fmt.Errorf("%s is no account", name)
	}
	return j.With(resource), nil
}

func (w *world) connect(who string, acknowledging bool) error {
	j, err := w.jid(who)
	if err != nil {
		return err
	}
	b := &inbox{}
	r := w.box.Router
	if !acknowledging {
		b.taken = func(st *xmpp.Stanza) { r.Taken(w.sessions[who], st) }
	}
	w.mu.Lock()
	w.boxes[who] = b
	w.mu.Unlock()
	w.sessions[who] = r.Bind(j.Bare(), j.Resource, who, b, xmpp.ConflictReplace)
	if acknowledging {
		w.sessions[who].SetConfirms()
	}
	synctest.Wait()
	return nil
}

func (w *world) send(who string, rest []string, xml string) error {
	ns := xmpp.NSClient
	if strings.Contains(who, ".") {
		ns = xmpp.NSServer
	}
	for _, one := range split(xml) {
		el, err := frame.Parse([]byte(one), ns, frame.Limits{Bytes: 1 << 20, Depth: 64, Attrs: 64, Children: 4096})
		if err != nil {
			return err
		}
		if s := w.sessions[who]; s != nil {
			if se := w.box.Router.FromSession(s, el); se != nil {
				w.inbox(who).Close(se)
			}
		} else if strings.Contains(who, ".") {
			st, err := xmpp.NewStanza(el)
			if err != nil {
				return err
			}
			p := &xmpp.Peer{Domain: who, Proof: xmpp.ProofCertificate}
			if slices.Equal(rest, []string{"by", "dialback"}) {
				p.Proof = xmpp.ProofDialback
			}
			w.box.Router.FromPeer(p, st)
		} else {
			return fmt.Errorf("%s is not connected", who)
		}
	}
	synctest.Wait()
	return nil
}

// split parts several stanzas that stand behind each other.
func split(xml string) []string {
	el, err := frame.Parse([]byte("<all>"+xml+"</all>"), xmpp.NSClient, frame.Limits{Bytes: 4 << 20, Depth: 64, Attrs: 64, Children: 4096})
	if err != nil {
		return []string{xml}
	}
	var out []string
	for _, c := range el.Children {
		out = append(out, string(el.Raw[c.Start:c.End]))
	}
	return out
}
