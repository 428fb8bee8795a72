package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"pibox/internal/testbox"
)

// keepRounds is how many rounds one can go back.
const keepRounds = 25

// state is what a series needs to go on: written while the box is down, beside a copy of its data.
type state struct {
	Seed  uint64 `json:"seed"`
	Round int    `json:"round"`
	Model *model `json:"model,omitempty"`

	dir string
}

func (s *state) folder(round int) string {
	return filepath.Join(s.dir, "rounds", fmt.Sprintf("%04d", round))
}

func stateFile(folder string) string { return filepath.Join(folder, "state.json") }

// openState begins a series, or goes back to a round of one.
func openState(o options) (*state, error) {
	s := &state{Seed: o.seed, dir: o.dir}
	if o.from == 0 {
		if s.Seed == 0 {
			s.Seed = uint64(time.Now().UnixNano())
		}
		for _, old := range []string{"box", "rounds"} {
			if err := os.RemoveAll(filepath.Join(o.dir, old)); err != nil {
				return nil, err
			}
		}
		return s, nil
	}
	raw, err := os.ReadFile(stateFile(s.folder(o.from)))
	if err != nil {
		return nil, fmt.Errorf("-from: %w", err)
	}
	if err := json.Unmarshal(raw, s); err != nil {
		return nil, err
	}
	if o.seed != 0 {
		s.Seed = o.seed
	}
	data := filepath.Join(o.dir, "box", "data")
	if err := os.RemoveAll(data); err != nil {
		return nil, err
	}
	return s, os.CopyFS(data, os.DirFS(filepath.Join(s.folder(o.from), "data")))
}

// save writes what is expected of the box, which is down, and a copy of its data.
func (s *state) save(b *testbox.Box) error {
	folder := s.folder(s.Round)
	if err := os.RemoveAll(folder); err != nil {
		return err
	}
	if err := os.CopyFS(filepath.Join(folder, "data"), os.DirFS(filepath.Join(b.Dir, "data"))); err != nil {
		return err
	}
	raw, err := json.MarshalIndent(s, "", " ")
	if err != nil {
		return err
	}
	return errors.Join(os.WriteFile(stateFile(folder), raw, 0o600), os.RemoveAll(s.folder(s.Round-keepRounds)))
}
