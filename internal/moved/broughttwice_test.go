package moved_test

import (
	"errors"
	"path/filepath"
	"testing"
	"time"

	"pibox/internal/moved"
	"pibox/internal/store"
)

// An account of another server comes to one address of this box: its old server can announce one only.
func TestBroughtTwice(t *testing.T) {
	const old, first, second = "rosa@friend.example", "rosa@capulet.example", "rosa@verona.example"
	at := time.Date(2026, 11, 23, 1, 2, 3, 0, time.UTC)
	came := store.MoveJob{Old: old, New: first, State: store.MoveDone, Started: at}
	for name, tt := range map[string]struct {
		jobs []store.MoveJob
		here []string // accounts
		plan store.MoveJob
		busy bool
	}{
		"another address":            {[]store.MoveJob{came}, []string{first}, store.MoveJob{Old: old, New: second}, true},
		"the same address":           {[]store.MoveJob{came}, []string{first}, store.MoveJob{Old: old, New: first}, false},
		"undone":                     {[]store.MoveJob{{Old: old, New: first, State: store.MoveUndone}}, []string{first}, store.MoveJob{Old: old, New: second}, false},
		"removed":                    {[]store.MoveJob{came}, nil, store.MoveJob{Old: old, New: second}, false},
		"moved on":                   {[]store.MoveJob{came, {Old: first, New: second, State: store.MoveDone}}, []string{first, second}, store.MoveJob{Old: old, New: "r@verona.example"}, true},
		"moved on, to the last":      {[]store.MoveJob{came, {Old: first, New: second, State: store.MoveDone}}, []string{first, second}, store.MoveJob{Old: old, New: second}, true},
		"the same, moved on":         {[]store.MoveJob{came, {Old: first, New: second, Via: []string{old}, State: store.MoveDone}}, []string{first, second}, store.MoveJob{Old: old, New: first}, false},
		"went back":                  {[]store.MoveJob{came, {Old: first, New: old, State: store.MoveDone, Outside: true}}, []string{first}, store.MoveJob{Old: old, New: second}, false},
		"round, within the box":      {[]store.MoveJob{{Old: second, New: first, Via: []string{old, first}, State: store.MoveDone}, {Old: first, New: second, Via: []string{old}, State: store.MoveDone}}, []string{first, second}, store.MoveJob{Old: old, New: "r@verona.example"}, true},
		"the next of a chain":        {[]store.MoveJob{came}, []string{first}, store.MoveJob{Old: first, New: second}, false},
		"an account of this box":     {[]store.MoveJob{came}, []string{old, first}, store.MoveJob{Old: old, New: second}, false},
		"leaves after it was undone": {[]store.MoveJob{{Old: first, New: old, State: store.MoveUndone, Outside: true}}, []string{first}, store.MoveJob{Old: first, New: old, Outside: true}, false},
	} {
		t.Run(name, func(t *testing.T) {
			st, err := store.Open(filepath.Join(t.TempDir(), "pibox.db"), store.Options{Reserve: 1})
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = st.Close() }()
			err = st.Update(func(tx *store.Tx) error {
				for _, j := range tt.jobs {
					store.MoveJobs.Put(tx, j.New, j)
				}
				for _, a := range tt.here {
					store.Accounts.Put(tx, a, store.Account{})
				}
				return moved.PlanJob(tx, tt.plan)
			})
			if tt.busy != errors.Is(err, moved.ErrBusy) || !tt.busy && err != nil {
				t.Error(err)
			}
		})
	}
}
