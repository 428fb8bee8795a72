package roster_test

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"pibox/internal/store"
)

// cell is one row of one of Appendix A's tables.
type cell struct {
	table, typ string
	outbound   bool
	approved   bool // the state comes with a pre-approval
	state      string
	pass       bool   // the stanza is routed (outbound) or delivered (inbound)
	next       string // a state, "no state change", "pre-approval" or "cancellation"
	reply      string // type of the stanza that the server answers with by itself
}

func (c cell) String() string {
	return fmt.Sprintf("table %s, %s, state %q: pass %t, then %q, reply %q", c.table, c.typ, c.state, c.pass, c.next, c.reply)
}

var (
	headForm  = regexp.MustCompile(`Table (\d)(, pre-approved)?: Processing of (outbound|inbound) "(\w+)" stanzas`)
	rowForm   = regexp.MustCompile(`^\|  "([^"]+)" +\|  (MUST|M\.N\.|S\.N\.)( \[\d\])? +\|  "?([^"|\[]+?)"?(?: \[\d\])? +\|$`)
	replyForm = regexp.MustCompile(`^(\[\d\]) Server SHOULD auto-reply with "(\w+)"`)
)

// readTables reads the transcription. A row that it can not read is an error.
func readTables(text string) (cells []cell, err error) {
	var table cell
	notes := map[string]string{} // of the rows of the table being read, by index in cells
	for _, line := range strings.Split(text, "\n") {
		line = strings.TrimSpace(line)
		if m := headForm.FindStringSubmatch(line); m != nil {
			table = cell{table: m[1], typ: m[4], outbound: m[3] == "outbound", approved: m[2] != ""}
			clear(notes)
			continue
		}
		if m := replyForm.FindStringSubmatch(line); m != nil {
			for i := range cells {
				if notes[fmt.Sprint(i)] == m[1] {
					cells[i].reply = m[2]
				}
			}
			continue
		}
		if !strings.HasPrefix(line, "|  \"") {
			continue
		}
		m := rowForm.FindStringSubmatch(line)
		if m == nil {
			return nil, fmt.Errorf("not understood: %s", line)
		}
		c := table
		c.state, c.pass, c.next = m[1], m[2] == "MUST", m[4]
		notes[fmt.Sprint(len(cells))] = strings.TrimSpace(m[3])
		cells = append(cells, c)
	}
	return cells, nil
}

// facts are what a state of Appendix A.1 means for the roster item and the record of the contact's request.
type facts struct {
	sub          store.Subscription
	out, pending bool
}

var states = map[string]facts{
	"None":                  {store.SubNone, false, false},
	"None + Pending Out":    {store.SubNone, true, false},
	"None + Pending In":     {store.SubNone, false, true},
	"None + Pending Out+In": {store.SubNone, true, true},
	"To":                    {store.SubTo, false, false},
	"To + Pending In":       {store.SubTo, false, true},
	"From":                  {store.SubFrom, false, false},
	"From + Pending Out":    {store.SubFrom, true, false},
	"Both":                  {store.SubBoth, false, false},
}

// words joins those that are not empty.
func words(w ...string) string {
	return strings.Join(slices.DeleteFunc(w, func(s string) bool { return s == "" }), " ")
}

// check compares what was seen with what a cell says.
func check(c cell, s seen) error {
	passed := s.delivered
	if c.outbound {
		passed = s.routed
	}
	want := 0
	if c.pass {
		want = 1
	}
	if passed != want {
		return fmt.Errorf("passed %d times instead of %d", passed, want)
	}
	if err := checkState(c, s); err != nil {
		return err
	}
	if got := strings.Join(s.replies, ", "); got != c.reply {
		return fmt.Errorf("replied %q instead of %q", got, c.reply)
	}
	return checkTold(s)
}

func checkState(c cell, s seen) error {
	next, approved := s.before.facts, s.before.approved
	switch c.next {
	case "no state change":
	case "pre-approval":
		approved = true
	case "cancellation":
		approved = false
	default:
		next = states[c.next]
		if next.sub.From() {
			approved = false // used up by the approval: §3.4.2 leaves that to us
		}
	}
	if s.after.facts != next || s.after.approved != approved {
		return fmt.Errorf("the state is %+v, not %+v, approved %t", s.after, next, approved)
	}
	// A.1: a request alone makes no roster item.
	if listed := s.before.listed || next.out || next.sub != store.SubNone || approved; s.after.listed != listed {
		return fmt.Errorf("there is an item: %t instead of %t", s.after.listed, listed)
	}
	var pushes []string
	if s.after.listed != s.before.listed || s.before.sub != next.sub || s.before.out != next.out || s.before.approved != approved {
		ask, flag := "", ""
		if next.out {
			ask = "subscribe"
		}
		if approved {
			flag = "true"
		}
		pushes = []string{words(string(next.sub), ask, flag)}
	}
	if got, want := strings.Join(s.pushes, "; "), strings.Join(pushes, "; "); got != want {
		return fmt.Errorf("pushes are %q instead of %q", got, want)
	}
	return nil
}

// checkTold: who may see the presence from now on has got it (§3.1.5), who may not any more has got unavailable presence, and that
// before the stanza that says so (§3.2.2).
func checkTold(s seen) error {
	want := ""
	switch had, has := s.before.sub.From(), s.after.sub.From(); {
	case had && !has:
		want = "unavailable"
	case has && (!had || len(s.replies) > 0):
		want = "available"
	}
	if s.told != want {
		return fmt.Errorf("the contact saw %q instead of %q", s.told, want)
	}
	order := strings.Join(s.order, ",")
	if want == "unavailable" && order != "unavailable,unsubscribed" || want == "available" && order != "subscribed," {
		return fmt.Errorf("the contact got, in this order, %q", order)
	}
	return nil
}

func tables(t *testing.T) []cell {
	text, err := os.ReadFile("testdata/tables/appendix_a.txt")
	if err != nil {
		t.Fatal(err)
	}
	cells, err := readTables(string(text))
	if err != nil {
		t.Fatal(err)
	}
	count := map[string]int{}
	for _, c := range cells {
		count[fmt.Sprintf("%s %t", c.table, c.approved)]++
		if _, ok := states[c.state]; !ok {
			t.Fatalf("%s is no state of A.1", c)
		}
	}
	for table := '2'; table <= '9'; table++ {
		if n := count[fmt.Sprintf("%c false", table)]; n != 9 {
			t.Fatalf("table %c has %d cells", table, n)
		}
	}
	return append(cells, kept(cells, count)...)
}

// kept are the cells that say nothing of a pre-approval, with one: it stays.
func kept(cells []cell, count map[string]int) (more []cell) {
	for _, c := range cells {
		f := states[c.state]
		if c.approved || count[c.table+" true"] > 0 || f.sub.From() || f.pending {
			continue
		}
		c.approved = true
		more = append(more, c)
	}
	return more
}

// runs calls f for each cell, in each way that its state can look in the store.
func runs(cells []cell, f func(c cell, listed bool)) {
	for _, c := range cells {
		f(c, true)
		if !c.approved && (c.state == "None" || c.state == "None + Pending In") {
			f(c, false)
		}
	}
}

func TestAppendixA(t *testing.T) {
	b := newBench(t)
	n := 0
	runs(tables(t), func(c cell, listed bool) {
		n++
		if err := check(c, b.observe(c, listed)); err != nil {
			t.Errorf("%s (in the roster: %t, pre-approved: %t): %v", c, listed, c.approved, err)
		}
	})
	t.Logf("%d cells", n)
}

// TestAppendixAMutated changes each cell in each way; the check must notice.
func TestAppendixAMutated(t *testing.T) {
	b := newBench(t)
	n := 0
	runs(tables(t), func(c cell, listed bool) {
		s := b.observe(c, listed)
		for _, m := range mutations(c) {
			if n++; check(m, s) == nil {
				t.Errorf("%s\nwas accepted as %s (in the roster: %t)", c, m, listed)
			}
		}
	})
	t.Logf("%d mutated cells", n)
}

func mutations(c cell) (out []cell) {
	m := c
	m.pass = !c.pass
	out = append(out, m)
	for _, reply := range []string{"", "subscribed", "unsubscribed"} {
		if m = c; reply != c.reply {
			m.reply = reply
			out = append(out, m)
		}
	}
	same := c.next
	if c.next == "no state change" || c.next == "pre-approval" && c.approved {
		same = c.state // the same said otherwise is no mutation
	}
	for next := range states {
		if m = c; next != same {
			m.next = next
			out = append(out, m)
		}
	}
	for _, next := range []string{"no state change", "pre-approval", "cancellation"} {
		if m = c; next != c.next && !(same == c.state && (next == "no state change" || (next == "pre-approval") == c.approved)) {
			m.next = next
			out = append(out, m)
		}
	}
	return out
}
