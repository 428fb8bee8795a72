package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"
)

// keepRounds is how many rounds one can go back.
const keepRounds = 10

// state is what a series needs to go on: written while the box is down, beside a copy of its data.
type state struct {
	Seed  uint64 `json:"seed"`
	Round int    `json:"round"`
	Model *model `json:"model,omitempty"`
	// Boxes is how many boxes were tried; the model is of the last.
	Boxes int `json:"boxes"`

	dir string
}

func (s *state) folder(round int) string {
	return filepath.Join(s.dir, "rounds", fmt.Sprintf("%05d", round))
}

func stateFile(folder string) string { return filepath.Join(folder, "state.json") }

// openState begins a series of rounds, or goes back to one of them; -1 is the last.
func openState(o options) (*state, error) {
	s := &state{Seed: o.seed, dir: o.dir}
	if o.from == 0 {
		if s.Seed == 0 {
			s.Seed = uint64(time.Now().UnixNano())
		}
		return s, os.RemoveAll(filepath.Join(o.dir, "rounds"))
	}
	if o.from < 0 {
		all, err := filepath.Glob(stateFile(filepath.Join(o.dir, "rounds", "*")))
		if err != nil || len(all) == 0 {
			return nil, fmt.Errorf("-from: there is no round in %s", o.dir)
		}
		slices.Sort(all)
		if o.from, err = strconv.Atoi(filepath.Base(filepath.Dir(all[len(all)-1]))); err != nil {
			return nil, err
		}
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
	return s, nil
}

// data is where the data are that the box had before a round.
func (s *state) data() string { return filepath.Join(s.folder(s.Round), "data") }

// save writes what is expected of the box, which is down, and takes over the copy of its data that is in a folder, if there is one.
func (s *state) save(data string) error {
	folder := s.folder(s.Round)
	if err := errors.Join(os.RemoveAll(folder), os.MkdirAll(folder, 0o700)); err != nil {
		return err
	}
	if data != "" {
		if err := os.Rename(data, s.data()); err != nil {
			return err
		}
	}
	raw, err := json.MarshalIndent(s, "", " ")
	if err != nil {
		return err
	}
	return errors.Join(os.WriteFile(stateFile(folder), raw, 0o600), os.RemoveAll(s.folder(s.Round-keepRounds)))
}
