package transcript

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"pibox/internal/store"
	"pibox/internal/xmpp"
)

// stored looks at, or sets, what the disk holds.
func (w *world) stored(text string) error {
	head, want, ok := strings.Cut(text, "=")
	if !ok {
		return errors.New("a = or := is missing")
	}
	set := strings.HasSuffix(strings.TrimSpace(head), ":")
	f := strings.Fields(strings.TrimSuffix(strings.TrimSpace(head), ":"))
	var account string
	if len(f) > 1 {
		j, err := w.jid(f[1])
		if err != nil {
			return err
		}
		account = j.String()
	}
	want = strings.TrimSpace(want)
	if set {
		return w.setRoster(account, want)
	}
	var have []string
	if err := w.store.View(func(tx *store.Tx) error {
		have = describe(tx, f[0], account)
		return nil
	}); err != nil {
		return err
	}
	if got := strings.Join(have, "; "); got != want {
		return fmt.Errorf("stored is\n  %s\nexpected\n  %s", got, want)
	}
	return nil
}

func describe(tx *store.Tx, what, account string) (have []string) {
	contact := func(key string) string { return strings.TrimPrefix(key, store.Key(account, "")) }
	switch what {
	case "roster":
		for key, it := range store.Roster.All(tx, account) {
			if !it.Removed {
				have = append(have, describeItem(contact(key), it))
			}
		}
	case "pending":
		for key, p := range store.Pending.All(tx, account) {
			s := contact(key)
			if p.Verifying {
				s += " verifying"
			}
			have = append(have, s)
		}
	case "claims":
		for key, c := range store.Claims.All(tx, account) {
			have = append(have, contact(key)+" "+c.Old)
		}
	case "moving":
		if mv, ok := store.Moves.Get(tx, account); ok {
			have = append(have, describeMove(mv))
		}
	case "outbox":
		n := 0
		for range store.Outbox.All(tx) {
			n++
		}
		have = []string{strconv.Itoa(n)}
	case "offline":
		have = []string{strconv.Itoa(store.OwedCount(tx, account))}
	case "archive":
		for o := range store.LogOf(tx, store.Range{Account: account, Role: store.Archived}) {
			have = append(have, describeArchived(account, o))
		}
	}
	return have
}

func describeArchived(account string, o store.Owned) string {
	with := ""
	for _, owner := range o.Owners {
		if owner.Account == account || owner.Account == o.Former {
			with = owner.With
		}
	}
	way := "from "
	if o.Role&store.ByOwner != 0 {
		way = "to "
	}
	st, err := xmpp.ParseStanza(xmpp.OwnedStanza(o, account))
	if err != nil {
		return err.Error()
	}
	what := st.Node().ChildText(xmpp.NSClient, "body")
	if what == "" && len(st.Children) > 0 {
		what = "(" + st.Children[0].Name + ")"
	}
	return way + with + ": " + what
}

func describeMove(mv store.Move) string {
	s := mv.To
	if mv.Closed {
		s += " closed"
	}
	s += ":"
	readers := slices.Sorted(slices.Values(mv.Readers))
	for _, r := range readers {
		s += " " + r
		if _, left := mv.Left[r]; left {
			s += " left"
		}
	}
	return s
}

func describeItem(contact string, it store.RosterItem) string {
	s := contact + " " + string(it.Sub)
	if it.Ask {
		s += " ask"
	}
	if it.Approved {
		s += " approved"
	}
	if it.Name != "" {
		s += fmt.Sprintf(" %q", it.Name)
	}
	if len(it.Groups) > 0 {
		s += " [" + strings.Join(it.Groups, ",") + "]"
	}
	return s
}

var itemForm = regexp.MustCompile(`^(\S+) (none|to|from|both)( ask)?( approved)?(?: "([^"]*)")?(?: \[([^\]]*)\])?$`)

func (w *world) setRoster(account, items string) error {
	return w.box.Router.Update(func(tx *store.Tx, _ *xmpp.Out) error {
		for _, one := range strings.Split(items, ";") {
			m := itemForm.FindStringSubmatch(strings.TrimSpace(one))
			if m == nil {
				return fmt.Errorf("%q is no roster item", one)
			}
			it := store.RosterItem{Sub: store.Subscription(m[2]), Ask: m[3] != "", Approved: m[4] != "", Name: m[5]}
			if m[6] != "" {
				it.Groups = strings.Split(m[6], ",")
			}
			store.Roster.Put(tx, store.Key(account, m[1]), it)
		}
		return nil
	})
}
