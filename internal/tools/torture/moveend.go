package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"pibox/internal/admin"
	"pibox/internal/backup"
	"pibox/internal/store"
	"pibox/internal/xmpp/frame"
)

// ending is what two boxes hold when all is quiet.
type ending struct {
	lines  []string // everything that must be as without power cuts, sorted; the same twice is there twice
	busy   []string // what still goes on
	boxes  int
	roster map[[2]string]store.RosterItem // by account and contact
	asked  map[[2]string]bool             // account and who asks him
	blocks map[[2]string]bool
	here   map[string]bool // accounts
	closed map[string]bool // of those: what contacts hold about them stays as it was
	owners map[string]bool // of contacts
	steps  map[[2]string]store.MoveContact
}

func newEnding() *ending {
	return &ending{
		roster: map[[2]string]store.RosterItem{}, asked: map[[2]string]bool{}, blocks: map[[2]string]bool{}, here: map[string]bool{}, closed: map[string]bool{}, owners: map[string]bool{},
		steps: map[[2]string]store.MoveContact{},
	}
}

func (e *ending) say(format string, args ...any) {
	e.lines = append(e.lines, fmt.Sprintf(format, args...))
}

func (e *ending) goesOn(format string, args ...any) {
	e.busy = append(e.busy, fmt.Sprintf(format, args...))
}

// look reads what a running box holds.
func (e *ending) look(ctx context.Context, h *house) error {
	status, err := h.Admin().Status(ctx, admin.StatusRequest{})
	if err != nil {
		return err
	}
	if status.Queued > 0 {
		e.goesOn("%d stanzas of %s wait for another server", status.Queued, h.Domain)
	}
	var raw bytes.Buffer
	if _, err := h.Admin().Backup(ctx, admin.BackupRequest{}, &raw); err != nil {
		return err
	}
	path := filepath.Join(h.Dir, "look.db")
	loader, err := store.NewLoader(path)
	if err != nil {
		return err
	}
	_, _, err = backup.Read(&raw, onlyRecords{loader})
	return errors.Join(err, loader.Close(), e.read(path), os.Remove(path))
}

// onlyRecords is a backup.Sink that takes the database of a backup.
type onlyRecords struct{ *store.Loader }

func (onlyRecords) Begin(backup.Manifest) error { return nil }

func (o onlyRecords) Entry(part, _ string, _ int64, r *bufio.Reader) error {
	if part == backup.PartDatabase {
		return o.Load(r)
	}
	_, err := io.Copy(io.Discard, r)
	return err
}

// read takes in a database, which nobody else has open.
func (e *ending) read(path string) (err error) {
	s, err := store.Open(path, store.Options{Reserve: 1})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	e.boxes++
	return s.View(func(tx *store.Tx) error {
		e.readAccounts(tx)
		e.readMoves(tx)
		slices.Sort(e.lines)
		return nil
	})
}

func pairOf(key string) [2]string {
	a, b, _ := strings.Cut(key, "\x00")
	return [2]string{a, b}
}

func (e *ending) readAccounts(tx *store.Tx) {
	for name, acc := range store.Accounts.All(tx) {
		e.here[name], e.closed[name] = true, acc.Closed != nil
		e.say("account %s closed %t", name, acc.Closed != nil)
		for o := range store.LogOf(tx, store.Range{Account: name}) {
			e.say("archive %s role %d from %s to %s: %.200s", name, o.Role, bare(attribute(o.Stanza, "from")), attribute(o.Stanza, "to"), body(o.Stanza))
		}
	}
	for key, it := range store.Roster.All(tx) {
		if p := pairOf(key); !it.Removed {
			e.roster[p] = it
			e.owners[p[0]] = true
			e.say("roster %s %s %s ask %t approved %t name %q groups %q", p[0], p[1], it.Sub, it.Ask, it.Approved, it.Name, it.Groups)
		}
	}
	for name := range e.here {
		_, card := store.VCards.Get(tx, name)
		e.say("account %s has %d private elements, card %t, %d nodes and items", name, store.Private.Count(tx, name), card, store.PEPStamps.Count(tx, name))
		e.here[name] = true
	}
	for key, p := range store.Pending.All(tx) {
		e.asked[pairOf(key)] = true
		e.say("asked %q hidden %t move %t", pairOf(key), p.Verifying, bytes.Contains(p.Stanza, []byte("urn:xmpp:moved:1")))
	}
	for key := range store.Blocks.All(tx) {
		e.blocks[pairOf(key)] = true
		e.say("block %q", pairOf(key))
	}
}

func (e *ending) readMoves(tx *store.Tx) {
	for account, mv := range store.Moves.All(tx) {
		var left []string
		for who := range mv.Left {
			left = append(left, who)
		}
		slices.Sort(left)
		e.say("statement %s to %s closed %t readers %v left %v gone %v", account, mv.To, mv.Closed, mv.Readers, left, mv.Gone)
		item, ok := store.PEPItems.Get(tx, store.Key(account, "urn:xmpp:moved:1", "current"))
		e.say("statement %s item %t %s", account, ok, item.Payload)
	}
	for key, j := range store.MoveJobs.All(tx) {
		e.say("job %s of %s %s family %q steps %d", key, j.Old, j.State, j.Family, len(j.Steps))
	}
	for key, c := range store.MoveContacts.All(tx) {
		e.steps[pairOf(key)] = c
		e.say("job %q was %s: %q %s %s made %t pre-approved %t carried %t", pairOf(key), c.Sub, c.Step, c.Failure, c.Address, c.Made, c.PreApproved, c.Carried)
		job, _ := store.MoveJobs.Get(tx, pairOf(key)[0])
		if c.Step == store.StepWaiting && job.State == store.MoveRunning {
			e.goesOn("%q waits", pairOf(key))
		}
	}
	for key := range store.Claims.All(tx) {
		e.goesOn("%q is being verified", pairOf(key))
	}
	for _, o := range store.Outbox.All(tx) {
		e.goesOn("owed: %s", o.Stanza)
	}
}

func attribute(stanza []byte, name string) string {
	el, err := frame.Parse(stanza, frame.NSClient, frame.Limits{})
	if err != nil {
		return err.Error()
	}
	return el.Attr(name)
}

// bare is an address without a resource, which may be another one each time.
func bare(jid string) string {
	jid, _, _ = strings.Cut(jid, "/")
	return jid
}

func body(stanza []byte) string {
	el, err := frame.Parse(stanza, frame.NSClient, frame.Limits{})
	if err != nil {
		return err.Error()
	}
	return el.Node().ChildText(frame.NSClient, "body")
}

// sane tells what can not be, however it came to it.
func (e *ending) sane(c *cast) (wrong []error) {
	bad := func(format string, args ...any) { wrong = append(wrong, fmt.Errorf(format, args...)) }
	for p, mine := range e.roster {
		theirs, known := e.roster[[2]string{p[1], p[0]}]
		if !e.here[p[1]] || !e.here[p[0]] || e.closed[p[0]] || e.closed[p[1]] || forged(c, p) {
			continue
		}
		if mine.Sub.To() != theirs.Sub.From() || mine.Sub.From() != theirs.Sub.To() {
			bad("%s holds %s with %s, who holds him with %s (%t)", p[0], p[1], mine.Sub, theirs.Sub, known)
		}
		unsent := e.steps[p].Unsure // the job was cancelled before the request was known to be there
		if mine.Ask && !unsent && !e.asked[[2]string{p[1], p[0]}] && !e.blocks[[2]string{p[1], p[0]}] {
			bad("%s asks %s, who knows nothing of it", p[0], p[1])
		}
	}
	for p, it := range e.roster {
		if it.Sub.From() && e.asked[p] {
			bad("%s let %s in, and is asked about him", p[0], p[1])
		}
	}
	for who := range e.owners {
		if !e.here[who] {
			bad("%s has contacts, and is no account", who)
		}
	}
	for i, l := range e.lines[:max(0, len(e.lines)-1)] {
		if e.lines[i+1] == l && strings.HasPrefix(l, "archive ") {
			bad("twice: %s", l)
		}
	}
	return wrong
}

// forged: the cast gave the two what does not fit together.
func forged(c *cast, p [2]string) bool {
	name := func(jid string) string { n, _, _ := strings.Cut(jid, "@"); return n }
	return slices.ContainsFunc(c.Ties, func(t tie) bool {
		return t.Kind == "forgotten" && (strings.HasSuffix(p[0], "@"+domainOld) || strings.HasSuffix(p[1], "@"+domainOld)) &&
			(name(p[0]) == t.Member && name(p[1]) == t.Contact || name(p[1]) == t.Member && name(p[0]) == t.Contact)
	})
}

// apart is an ending without what is said of two members, but for what their new addresses are to each other.
func (c *cast) apart(e *ending) *ending {
	out := newEnding()
	for _, l := range e.lines {
		old, new := 0, 0
		for _, m := range append([]string{friar}, c.Members...) {
			if strings.Contains(l, m+"@"+domainNew) {
				new++
			}
			if strings.Contains(l, m+"@"+domainOld) {
				old++
			}
		}
		if old+new < 2 || (strings.HasPrefix(l, "roster ") && old == 0) {
			out.lines = append(out.lines, l)
		}
	}
	return out
}

// differences tells what one ending has, and how often, that the other has not.
func differences(want, got *ending) string {
	var w strings.Builder
	count := map[string]int{}
	for _, l := range want.lines {
		count[l]++
	}
	for _, l := range got.lines {
		count[l]--
	}
	var all []string
	for l, n := range count {
		for ; n > 0; n-- {
			all = append(all, "without cuts: "+l)
		}
		for ; n < 0; n++ {
			all = append(all, "with cuts:    "+l)
		}
	}
	slices.SortFunc(all, func(a, b string) int { return strings.Compare(a[14:]+a, b[14:]+b) })
	for i, l := range all {
		if i == 40 {
			fmt.Fprintf(&w, "\nand %d more", len(all)-i)
			break
		}
		w.WriteString("\n" + l)
	}
	return w.String()
}
