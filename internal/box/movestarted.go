package box

import (
	"time"

	"pibox/internal/admin"
	"pibox/internal/store"
	"pibox/internal/xmpp"
)

// movesBegun tells when the moves began that run, or are done, by their new addresses.
type movesBegun map[string]time.Time

func (b *Box) movesBegun() (before movesBegun, err error) {
	before = movesBegun{}
	err = b.Store.View(func(tx *store.Tx) error {
		for key, job := range store.MoveJobs.All(tx) {
			if job.State == store.MoveRunning || job.State == store.MoveDone {
				before[key] = job.Started
			}
		}
		return nil
	})
	return before, err
}

// move is a move that was to be started, and tells whether it had begun before.
func (before movesBegun) move(b *Box, new xmpp.JID) (admin.Move, error) {
	mv, err := b.move(new)
	if at, ok := before[mv.New]; ok && at.Equal(mv.Started) {
		mv.Before = at
	}
	return mv, err
}
