package box

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"time"

	"pibox/internal/admin"
	"pibox/internal/moved"
	"pibox/internal/portable"
	"pibox/internal/portable/client"
	"pibox/internal/store"
	"pibox/internal/xmpp"
)

const (
	// turns is how long a bring waits for the move to come to the contacts whom only the old address can tell, before it tells those to whom it came.
	turns = 10 * time.Minute
	// look is how often it looks.
	look = 200 * time.Millisecond
)

// tell lets the old address say in a message where it went, to contacts who see it and are not seen by it. It repeats that for those whose servers could
// not be reached, and ends when nobody is left, or with the time for a migration.
func (br *bringing) tell(ctx context.Context) error {
	until, _ := ctx.Deadline()
	for began := time.Now(); ; {
		due, waiting, err := br.toTell()
		if err != nil {
			return err
		}
		if waiting && time.Since(began) < turns {
			select {
			case <-time.After(look):
				continue
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		left := 0
		if len(due) > 0 {
			if err := again(ctx, func() (err error) { left, err = br.say(ctx, due); return err }); err != nil {
				return err
			}
		}
		br.t.change(func(is *admin.Migration) { is.Counts.Unreached = left })
		wait := client.Backoff(time.Since(began))
		if left == 0 && !waiting || time.Until(until) < wait+time.Hour {
			return nil // who is left stays as he is noted
		}
		if err := br.t.pause(ctx, wait, nil); err != nil {
			return err
		}
	}
}

// toTell are the contacts who are to be told; waiting: the move has not come to some of its contacts who may be such.
func (br *bringing) toTell() (due []client.Message, waiting bool, err error) {
	lang, text := br.b.Moved.Words(br.old, br.new)
	err = br.b.Store.View(func(tx *store.Tx) error {
		job, _ := store.MoveJobs.Get(tx, br.new.String())
		due, waiting = nil, false
		if job.State != store.MoveRunning && job.State != store.MoveDone || store.Held(tx) {
			return nil
		}
		untold, err := moved.Untold(tx, job)
		if err != nil {
			return err
		}
		for _, who := range untold {
			if br.refused[who] {
				continue
			}
			// Should it be said twice, after a power cut, it has the same id.
			id := sha256.Sum256([]byte(job.Created.String() + br.new.String() + who.String()))
			due = append(due, client.Message{To: who, ID: "moved-" + hex.EncodeToString(id[:8]), Language: lang, Body: text})
		}
		for _, c := range store.MoveContacts.All(tx, br.new.String()) {
			waiting = waiting || c.Step == store.StepWaiting && c.Sub == store.SubFrom && job.State == store.MoveRunning
		}
		return nil
	})
	return due, waiting, err
}

// say tells contacts; left is how many of them could not be reached.
func (br *bringing) say(ctx context.Context, due []client.Message) (left int, err error) {
	br.t.part("telling, from the old address, who only sees that")
	s, err := client.Dial(ctx, br.way)
	if err != nil {
		return 0, err
	}
	defer func() { _ = s.Close() }()
	back, err := s.Say(ctx, due)
	if err != nil {
		return 0, err
	}
	err = br.b.Router.Update(func(tx *store.Tx, _ *xmpp.Out) error {
		left = 0
		for _, m := range due {
			switch why, not := back[m.To]; {
			case !not:
				moved.Told(tx, br.new, m.To)
			case why.Again:
				left++
			default:
				br.refused[m.To] = true
				br.t.lose(portable.Loss{What: fmt.Sprintf("the message to %s that tells the new address", m.To), Why: why.Why})
			}
		}
		return nil
	})
	return left, err
}
