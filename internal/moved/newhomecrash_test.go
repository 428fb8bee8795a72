package moved_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"pibox/internal/box"
	"pibox/internal/config"
	"pibox/internal/moved"
	"pibox/internal/store"
	"pibox/internal/xmpp"
)

// A family moves, in a process that is killed at one step of the committer and started again on the same file, until nobody is killed any more. The end
// is always the same, and nobody was asked twice.

const (
	envHomeDir  = "MOVED_HOME_DIR"
	envHomeStep = "MOVED_HOME_STEP"
)

// familyEnd is what is stored in the end.
const familyEnd = `
juliet@new.example: from@montague.example none approved; none@montague.example none "None"; person@verona.example none ask; romeo@new.example both "Romeo"; tybalt@old.example none ask approved; verified@montague.example both "Verified"
juliet@old.example: from@montague.example from; none@montague.example none "None"; person@verona.example to; romeo@old.example none "Romeo"; tybalt@old.example both; verified@montague.example none "Verified"
romeo@new.example: juliet@new.example both "Jule"; verified@montague.example to
romeo@old.example: juliet@old.example none "Jule"; verified@montague.example none
pending: "juliet@new.example\x00asks@montague.example"
pending: "tybalt@old.example\x00juliet@new.example"
job juliet@new.example running: one one one one one asks@montague.example kept; from@montague.example told; none@montague.example kept; person@verona.example asked; romeo@old.example followed; tybalt@old.example asked; verified@montague.example followed
job romeo@new.example done: juliet@old.example followed; verified@montague.example followed`

func TestHomeCrashLife(t *testing.T) {
	dir, at := os.Getenv(envHomeDir), onlySetUp
	if dir != "" {
		var err error
		if at, err = strconv.Atoi(os.Getenv(envHomeStep)); err != nil {
			t.Fatal(err)
		}
		synctest.Test(t, func(t *testing.T) { homeLife(t, dir, ending{kill: at}) })
		return
	}
	dir = t.TempDir()
	synctest.Test(t, func(t *testing.T) { homeLife(t, dir, ending{}) })
	homeCheck(t, dir, "never killed")
}

// TestHomeCrash ends the process at each step of the committer.
func TestHomeCrash(t *testing.T) {
	t.Parallel()
	crashes(t, 20, func(dir string, end ending) {
		synctest.Test(t, func(t *testing.T) { homeLife(t, dir, end) })
	}, func(dir string, at int) bool { return homeProcess(t, dir, at) }, func(dir, when string) { homeCheck(t, dir, when) })
}

func homeProcess(t *testing.T, dir string, at int) (killed bool) {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^TestHomeCrashLife$")
	cmd.Env = append(os.Environ(), envHomeDir+"="+dir, envHomeStep+"="+strconv.Itoa(at))
	said, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.Sys().(syscall.WaitStatus).Signal() == syscall.SIGKILL {
		return true
	}
	if err != nil {
		t.Fatalf("%v\n%s", err, said)
	}
	return false
}

// town is the world of other servers around the family's box.
type town struct {
	t   testing.TB
	log *os.File
	r   *xmpp.Router
	mu  sync.Mutex
}

func (w *town) write(who string, what []byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if _, err := fmt.Fprintf(w.log, "%s: %s\n", who, bytes.ReplaceAll(what, []byte("\n"), []byte(" "))); err != nil {
		w.t.Error(err)
	}
}

func (w *town) hear(xml string) {
	st := xmpp.Make([]byte(xml))
	w.r.FromPeer(&xmpp.Peer{Domain: st.From.Domain, Proof: xmpp.ProofCertificate}, st)
}

// Send is what other servers get. That of "verified" follows, as one that verifies moves does; a person at verona does not answer.
func (w *town) Send(st *xmpp.Stanza) {
	w.write(st.To.Domain, st.Raw)
	switch {
	case st.Kind == xmpp.IQ && st.IsRequest():
		go w.hear("<iq type='result' id='" + st.ID + "' from='" + st.To.String() + "' to='" + st.From.String() + "'/>")
	case st.Type == "subscribe" && st.To.Local == "verified":
		go w.follows(st.To.String(), st.From.String())
	}
}

// follows is what a server that verified a move sends, and sends again until it arrived.
func (w *town) follows(from, to string) {
	old := strings.Replace(to, "new.", "old.", 1)
	w.hear("<presence type='subscribed' from='" + from + "' to='" + to + "'/>")
	if strings.HasPrefix(to, "juliet") {
		w.hear("<presence type='subscribe' id='b' from='" + from + "' to='" + to + "'/>")
	}
	w.hear("<presence type='unsubscribed' from='" + from + "' to='" + old + "'/>")
	w.hear("<presence type='unsubscribe' from='" + from + "' to='" + old + "'/>")
}

// again is what such servers have not seen arrive in a former life.
func (w *town) again(dir string) {
	log, err := os.ReadFile(filepath.Join(dir, "log"))
	if err != nil {
		w.t.Fatal(err)
	}
	for _, m := range sent.FindAllStringSubmatch(string(log), -1) {
		if strings.HasPrefix(m[3], "verified@") {
			w.follows(m[3], m[2])
		}
	}
}

func homeLife(t *testing.T, dir string, end ending) {
	log, err := os.OpenFile(filepath.Join(dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = log.Close() }()
	w, e := &town{t: t, log: log}, &ender{ending: end, t: t, dir: dir}
	open := func(onStep func(store.Step)) *store.Store {
		st, err := store.Open(filepath.Join(dir, "pibox.db"), store.Options{Reserve: 1, OnStep: onStep})
		if err != nil {
			t.Fatal(err)
		}
		return st
	}
	st := open(e.onStep)
	familySetUp(t, st)
	b, err := box.New(st, config.Default(), []string{"old.example", "new.example"}, "test", w, noLog())
	if err != nil {
		t.Fatal(err)
	}
	w.r = b.Router
	if err := b.Start(); err != nil {
		t.Fatal(err)
	}
	synctest.Wait()
	if end.kill == onlySetUp {
		_ = b.Close()
		return
	}
	e.armed = true
	w.again(dir)
	// The person repeats the command when it did not answer.
	if _, err := b.Moved.MoveFamily("old.example", "new.example", moved.FamilyOptions{}); err != nil {
		t.Fatal(err)
	}
	time.Sleep(10 * time.Minute) // the bubble's
	synctest.Wait()
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	st = open(nil)
	defer func() { _ = st.Close() }()
	if err := os.WriteFile(filepath.Join(dir, "end"), []byte(dump(t, st)+jobs(t, st)), 0o600); err != nil {
		t.Fatal(err)
	}
}

func familySetUp(t testing.TB, st *store.Store) {
	if err := st.Update(func(tx *store.Tx) error {
		if store.Accounts.Has(tx, "juliet@old.example") {
			return nil
		}
		for _, name := range []string{"juliet@old.example", "romeo@old.example", "tybalt@old.example"} {
			store.Accounts.Put(tx, name, store.Account{Created: time.Now()})
		}
		put := func(account, contact, name string, sub store.Subscription) {
			store.Roster.Put(tx, store.Key(account, contact), store.RosterItem{Sub: sub, Name: name})
		}
		for range 5 {
			store.AppendLog(tx, &store.Entry{
				Owners: []store.Owner{{Account: "juliet@old.example", With: "person@verona.example", Role: store.Archived}}, Stanza: []byte("<message/>"),
			})
		}
		put("juliet@old.example", "romeo@old.example", "Romeo", store.SubBoth)
		put("juliet@old.example", "tybalt@old.example", "", store.SubBoth) // he holds nothing of it
		put("juliet@old.example", "verified@montague.example", "Verified", store.SubBoth)
		put("juliet@old.example", "from@montague.example", "", store.SubFrom)
		put("juliet@old.example", "none@montague.example", "None", store.SubNone)
		put("juliet@old.example", "person@verona.example", "", store.SubTo)
		put("romeo@old.example", "juliet@old.example", "Jule", store.SubBoth)
		put("romeo@old.example", "verified@montague.example", "", store.SubTo)
		store.Moves.Put(tx, "tybalt@old.example", store.Move{To: "tybalt@else.example", Published: time.Now(), Visible: time.Now()})
		store.Pending.Put(tx, store.Key("juliet@old.example", "asks@montague.example"), store.PendingIn{
			Stanza: []byte("<presence type='subscribe' from='asks@montague.example' to='juliet@old.example'/>"), Received: time.Now(),
		})
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}

// jobs are the jobs that are stored.
func jobs(t testing.TB, st *store.Store) string {
	var b strings.Builder
	if err := st.View(func(tx *store.Tx) error {
		for key, j := range store.MoveJobs.All(tx) {
			fmt.Fprintf(&b, "\njob %s %s:", key, j.State)
			if of := (store.Range{Account: key, With: "person@verona.example"}); strings.HasPrefix(key, "juliet") {
				for range store.LogOf(tx, of) {
					b.WriteString(" one")
				}
			}
			sep := " "
			for who, c := range store.MoveContacts.All(tx, key) {
				fmt.Fprintf(&b, "%s%s %s", sep, strings.TrimPrefix(who, key+"\x00"), c.Step)
				sep = "; "
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

var sent = regexp.MustCompile(`<presence type='subscribe' id='([^']*)' from='([^']*)' to='([^']*)'`)

// homeCheck looks at what is stored in the end, and at what other servers got.
func homeCheck(t *testing.T, dir, when string) {
	t.Helper()
	end, err := os.ReadFile(filepath.Join(dir, "end"))
	if err != nil {
		t.Fatal(when, err)
	}
	log, err := os.ReadFile(filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(when, err)
	}
	have := ""
	for line := range strings.Lines(string(end)) {
		if !strings.HasPrefix(line, "message: ") && !strings.HasPrefix(line, `pending: "juliet@old`) {
			have += line
		}
	}
	want := ""
	for line := range strings.Lines(familyEnd) {
		if !strings.HasSuffix(strings.TrimSpace(line), ":") {
			want += line
		}
	}
	if strings.TrimSpace(have) != strings.TrimSpace(want) {
		t.Errorf("%s: stored is in the end\n%s\nexpected\n%s", when, have, want)
	}
	asked := map[string]string{}
	for _, m := range sent.FindAllStringSubmatch(string(log), -1) {
		pair := m[2] + " " + m[3]
		if asked[pair] != "" && asked[pair] != m[1] {
			t.Errorf("%s: %s was asked by two requests", when, pair)
		}
		asked[pair] = m[1]
		if strings.Contains(m[3], "from@") || strings.Contains(m[3], "none@") {
			t.Errorf("%s: %s", when, m[0])
		}
	}
	if n := strings.Count(string(log), "<message "); n > 1 {
		t.Errorf("%s: %d messages", when, n)
	}
	if len(asked) != 3 {
		t.Errorf("%s: asked were %v", when, asked)
	}
}
