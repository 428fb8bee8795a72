package moved_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"pibox/internal/box"
	"pibox/internal/moved"
	"pibox/internal/store"
	"pibox/internal/xmpp"
	"pibox/internal/xmpp/frame"
)

// The words of the new home in transcripts:
//
//	move OLD NEW [then-close] [fails]            both on this box
//	bring OLD NEW CONTACT=sub[,ask][,moved]…     a job for an old address elsewhere is planned, announced "moved" there as whoever plans it knows
//	leave OLD NEW                                the new home is elsewhere
//	announced NEW                                its old home elsewhere is known to serve the statement
//	start NEW [unverified] [fails]; verify NEW [fails]; cancel NEW; undo NEW; hold on|off
//	job NEW STATE CONTACT=step…                  the job is so; "." for no contacts
func isMove(words []string) bool {
	return slices.Contains([]string{"move", "bring", "start", "verify", "cancel", "undo", "hold", "job", "family", "leave", "announced"}, words[0])
}

func move(b *box.Box, words []string) error {
	fail := words[len(words)-1] == "fails"
	if fail {
		words = words[:len(words)-1]
	}
	err := moves(b, words)
	if fail {
		return fails(err)
	}
	return err
}

func moves(b *box.Box, words []string) error {
	if words[0] == "hold" {
		return hold(b, words[1] == "on")
	}
	if words[0] == "family" {
		_, err := b.Moved.MoveFamily(words[1], words[2], moved.FamilyOptions{Merge: slices.Contains(words, "merge")})
		return err
	}
	at := 1
	if words[0] == "move" || words[0] == "bring" || words[0] == "leave" {
		at = 2
	}
	new := xmpp.MustJID(words[at])
	opt := moved.StartOptions{Unverified: slices.Contains(words, "unverified"), ThenClose: slices.Contains(words, "then-close")}
	switch words[0] {
	case "move":
		return b.Moved.Move(xmpp.MustJID(words[1]), new, opt)
	case "leave":
		return leave(b, xmpp.MustJID(words[1]), new)
	case "bring":
		return bring(b, xmpp.MustJID(words[1]), new, words[3:])
	case "announced":
		return b.Store.Update(func(tx *store.Tx) error { return moved.SetAnnounced(tx, new, time.Now()) })
	case "start":
		return b.Moved.StartJob(new, opt)
	case "verify":
		var err error
		b.Moved.Verify(new, func(proven bool, e error) {
			if err = e; e == nil && !proven {
				err = errors.New("not proven")
			}
		})
		return err
	case "cancel":
		_, err := b.Moved.Cancel(new)
		return err
	case "undo":
		_, err := b.Moved.Undo(new)
		return err
	}
	return job(b, new, strings.Join(words[2:], " "))
}

func hold(b *box.Box, on bool) error {
	err := b.Store.Update(func(tx *store.Tx) error {
		store.SetHeld(tx, on)
		return nil
	})
	if err == nil && !on {
		err = b.Moved.Resume()
	}
	return err
}

func bring(b *box.Box, old, new xmpp.JID, contacts []string) error {
	return b.Store.Update(func(tx *store.Tx) error {
		if err := moved.PlanJob(tx, store.MoveJob{Old: old.String(), New: new.String()}); err != nil {
			return err
		}
		for _, word := range contacts {
			who, state, _ := strings.Cut(word, "=")
			f := strings.Split(state, ",")
			c := store.MoveContact{Sub: store.Subscription(f[0]), Ask: slices.Contains(f, "ask")}
			if slices.Contains(f, "asks") {
				c.Pending = fmt.Appendf(nil, "<presence type='subscribe' from='%s' to='%s'><status>please</status></presence>", who, old)
			}
			if err := moved.AddContact(tx, new, xmpp.MustJID(who), c); err != nil {
				return err
			}
		}
		return nil
	})
}

func leave(b *box.Box, old, new xmpp.JID) error {
	if err := b.Store.Update(func(tx *store.Tx) error {
		if err := moved.PlanJob(tx, store.MoveJob{Old: old.String(), New: new.String(), Outside: true}); err != nil {
			return err
		}
		for key, item := range store.Roster.All(tx, old.String()) {
			who := xmpp.MustJID(strings.TrimPrefix(key, store.Key(old.String(), "")))
			if err := moved.AddContact(tx, new, who, store.MoveContact{Sub: item.Sub, Ask: item.Ask}); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		return err
	}
	return b.Moved.StartJob(new, moved.StartOptions{})
}

func job(b *box.Box, new xmpp.JID, want string) error {
	return b.Store.View(func(tx *store.Tx) error {
		j, ok := store.MoveJobs.Get(tx, new.String())
		have := []string{string(j.State)}
		if !ok {
			have[0] = "none"
		}
		for key, c := range store.MoveContacts.All(tx, new.String()) {
			step := strings.ReplaceAll(string(c.Step), " ", "-")
			if step == "" {
				step = "waiting"
			}
			have = append(have, strings.TrimPrefix(key, store.Key(new.String(), ""))+"="+step)
		}
		if got := strings.Join(have, " "); got != want {
			return fmt.Errorf("the job is: %s", got)
		}
		return nil
	})
}

func el(xml string) *frame.Element {
	e, err := frame.Parse([]byte(xml), xmpp.NSClient, frame.Limits{})
	if err != nil {
		panic(err)
	}
	return e
}
