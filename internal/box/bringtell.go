package box

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"time"

	"pibox/internal/moved"
	"pibox/internal/portable"
	"pibox/internal/portable/client"
	"pibox/internal/store"
	"pibox/internal/xmpp"
)

const (
	// turns is how long a bring waits for the move to come to the contacts whom only the old address can tell; the same command tells the rest.
	turns = 10 * time.Minute
	// look is how often it looks.
	look = 200 * time.Millisecond
)

// tell lets the old address say in a message where it went, to contacts who only see it.
func (br *bringing) tell(ctx context.Context) error {
	for until := time.Now().Add(turns); ; {
		due, waiting, err := br.toTell()
		if err != nil {
			return err
		}
		if !waiting || time.Now().After(until) {
			if len(due) == 0 {
				return nil
			}
			return again(ctx, func() error { return br.say(ctx, due) })
		}
		select {
		case <-time.After(look):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// toTell are the contacts who are to be told; waiting: the move has not come to some of its contacts who may be such.
func (br *bringing) toTell() (due []client.Message, waiting bool, err error) {
	lang, text := br.b.Moved.Words(br.old, br.new)
	err = br.b.Store.View(func(tx *store.Tx) error {
		job, _ := store.MoveJobs.Get(tx, br.new.String())
		untold, err := moved.Untold(tx, job)
		if err != nil {
			return err
		}
		for _, who := range untold {
			// Should it be said twice, after a power cut, it has the same id.
			id := sha256.Sum256([]byte(job.Created.String() + br.new.String() + who.String()))
			due = append(due, client.Message{To: who, ID: "moved-" + hex.EncodeToString(id[:8]), Language: lang, Body: text})
		}
		for _, c := range store.MoveContacts.All(tx, br.new.String()) {
			waiting = waiting || c.Step == store.StepWaiting && c.Sub == store.SubFrom && job.State == store.MoveRunning && !store.Held(tx)
		}
		return nil
	})
	return due, waiting, err
}

func (br *bringing) say(ctx context.Context, due []client.Message) error {
	br.t.part("telling, from the old address, who only sees that")
	s, err := client.Dial(ctx, br.way)
	if err != nil {
		return err
	}
	defer func() { _ = s.Close() }()
	back, err := s.Say(ctx, due)
	if err != nil {
		return err
	}
	return br.b.Router.Update(func(tx *store.Tx, _ *xmpp.Out) error {
		for _, m := range due {
			if why := back[m.To]; why != "" {
				br.t.lose(portable.Loss{What: fmt.Sprintf("the message to %s that tells the new address", m.To), Why: why})
				continue
			}
			moved.Told(tx, br.new, m.To)
		}
		return nil
	})
}
