package box

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"pibox/internal/admin"
	"pibox/internal/backup"
	"pibox/internal/config"
	"pibox/internal/store"
	"pibox/internal/transfer"
)

const (
	// fetchedFolder, in the data folder, has a whole box that was verified, while it is not known whether the old one gave itself away: nothing of it
	// is served before that is known.
	fetchedFolder = "fetched"
	fetchedState  = "state.json"
	fetchedBox    = "box"
)

// fetched is what the new box needs to ask again.
type fetched struct {
	Address string   `json:"address"`
	Key     []byte   `json:"key"`
	ID      string   `json:"id"`
	Result  Restored `json:"result"`
}

// FetchRequest says which box to take the place of.
type FetchRequest struct {
	Address string // host:port of the old box
	Code    transfer.Code
	Replace bool
	Config  string // the configuration file in use; "" for none
	// Patience is for how long the old box is asked again for its answer.
	Patience time.Duration
	// Say tells the person how it goes on. May be nil.
	Say func(format string, args ...any)
	// OnStep is told of each step, so that tests can end the process there. May be nil.
	OnStep func(step string)
}

func (r FetchRequest) say(format string, args ...any) {
	if r.Say != nil {
		r.Say(format, args...)
	}
}

func (r FetchRequest) step(name string) {
	if r.OnStep != nil {
		r.OnStep(name)
	}
}

// Fetch takes the place of another box, over the network, while no daemon runs here. The old one stops serving first; this one begins only when it
// knows that the old one never will again. What a break left is taken up by the same call, or by the daemon.
func Fetch(ctx context.Context, cfg config.Config, req FetchRequest) (done Restored, err error) {
	waits, _ := readFetched(cfg.DataDir)
	unlock, err := lockBox(cfg, req.Replace || waits != nil)
	if err != nil {
		return done, tookAlready(cfg.DataDir, err)
	}
	defer unlock()
	if waits, err := readFetched(cfg.DataDir); err != nil {
		return done, err
	} else if waits != nil {
		if req.Address != "" {
			waits.Address = req.Address
		}
		req.say("An earlier transfer waits for the old box's answer: asking %s.", waits.Address)
		return askUntil(ctx, cfg, *waits, req)
	}
	if there := filepath.Join(cfg.DataDir, tlsFolder); !req.Replace && isThere(there) {
		return done, admin.Errorf(admin.CodeExists, "%s is there already", there).Then("With --replace it is kept beside under another name.")
	}
	return fetchNew(ctx, cfg, req)
}

func fetchNew(ctx context.Context, cfg config.Config, req FetchRequest) (done Restored, err error) {
	f := fetched{Address: req.Address, Key: req.Code.Key(), ID: rand.Text()}
	conn, err := dial(ctx, f)
	if err != nil {
		return done, err
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	defer func() { _ = conn.Close() }()
	req.step("connected")
	if err := agree(cfg, conn, f, req); err != nil {
		return done, unchanged(err)
	}
	req.step("begun")
	if f.Result, err = receive(ctx, cfg, conn, f, req); err != nil {
		return done, unchanged(err)
	}
	req.say("Everything is here and whole. Waiting for the old box to hand over.")
	req.step("kept")
	answer := transfer.Message{}
	if err = conn.Send(transfer.Message{Op: transfer.Verified}); err == nil {
		answer, err = conn.Receive(transfer.Given)
	}
	if err != nil || answer.Op != transfer.Given {
		_ = conn.Close()
		req.say("The connection ended before the old box answered (%v). Asking again.", err)
		return askUntil(ctx, cfg, f, req)
	}
	return finish(cfg, f, conn, req)
}

// unchanged tells that nothing came of it; the old box finds that out by itself.
func unchanged(err error) error {
	var known *admin.Error
	if errors.As(err, &known) {
		return err
	}
	return admin.Errorf(admin.CodeFailed, "nothing was changed: %v", err).Then("The old box serves again by itself. Try again with the same code, or a new one.")
}

func dial(ctx context.Context, f fetched) (*transfer.Conn, error) {
	d := net.Dialer{Timeout: 10 * time.Second}
	raw, err := d.DialContext(ctx, "tcp", f.Address)
	if err != nil {
		return nil, admin.Errorf(admin.CodeFailed, "the old box can not be reached: %v", err).Then("Is the address as 'pibox transfer offer' showed it, and the offer not over?")
	}
	conn, err := transfer.Client(raw, f.Key)
	if err != nil {
		_ = raw.Close()
		return nil, admin.Errorf(admin.CodeFailed, "%s: %v", f.Address, err).Then("'pibox transfer offer' on the old box makes a new code.")
	}
	return conn, nil
}

// agree makes sure that the box that is offered can be had here.
func agree(cfg config.Config, conn *transfer.Conn, f fetched, req FetchRequest) error {
	if err := conn.Send(transfer.Message{Op: transfer.Fetch, ID: f.ID, Schema: store.Schema(), Format: backup.Format}); err != nil {
		return err
	}
	offer, err := conn.Receive(transfer.Offer)
	if err != nil {
		return err
	}
	if err := room(cfg, offer.Size); err != nil {
		_ = conn.Send(transfer.Message{Op: transfer.Refused, Text: err.Error()})
		return err
	}
	req.say("Fetching %s. The old box stops serving now.", strings.Join(offer.Domains, ", "))
	return conn.Send(transfer.Message{Op: transfer.Begin})
}

// receive takes the box, checks it, and keeps it durably as one that waits for the answer.
func receive(ctx context.Context, cfg config.Config, conn *transfer.Conn, f fetched, req FetchRequest) (done Restored, err error) {
	beat, stop := context.WithCancel(ctx)
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		for tick(beat, transfer.Beat) {
			_ = conn.Send(transfer.Message{Op: transfer.Working})
		}
	}()
	defer func() { stop(); <-stopped }()
	RemoveLeft(cfg.DataDir, fetchPrefix)
	work, err := os.MkdirTemp(cfg.DataDir, fetchPrefix)
	if err != nil {
		return done, mayNot(err, "write to", cfg.DataDir)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(work)) }()
	body := conn.Reader()
	s, err := backup.Open(body, &backup.Keys{})
	if err != nil {
		return done, err
	}
	defer s.Close()
	if done, err = unpackInto(ctx, cfg, s, filepath.Join(work, fetchedBox), false, req.Config); err != nil {
		return done, err
	}
	if err := writeTaken(filepath.Join(work, fetchedBox), f); err != nil {
		return done, err
	}
	if _, err := io.Copy(io.Discard, body); err != nil {
		return done, err
	}
	req.step("prepared")
	f.Result = done
	raw, err := json.Marshal(f)
	if err == nil {
		err = os.WriteFile(filepath.Join(work, fetchedState), raw, 0o600)
	}
	if err == nil {
		err = settleFiles(cfg.DataDir, work)
	}
	if err == nil {
		err = os.Rename(work, filepath.Join(cfg.DataDir, fetchedFolder))
	}
	return done, errors.Join(err, store.SyncDir(cfg.DataDir))
}

func tick(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// FetchWaits tells whether a transfer waits for the old box's answer: Fetch then needs no code.
func FetchWaits(cfg config.Config) bool {
	f, err := readFetched(cfg.DataDir)
	return err == nil && f != nil
}

// readFetched reads the transfer that waits, if one does.
func readFetched(dir string) (*fetched, error) {
	if !isThere(filepath.Join(dir, fetchedFolder, fetchedBox)) {
		return nil, nil // it has its place already
	}
	raw, err := os.ReadFile(filepath.Join(dir, fetchedFolder, fetchedState))
	var f fetched
	if err == nil {
		err = json.Unmarshal(raw, &f)
	}
	return &f, err
}

// finish installs what the old box gave.
func finish(cfg config.Config, f fetched, conn *transfer.Conn, req FetchRequest) (done Restored, err error) {
	req.step("given")
	done = f.Result
	if err := done.install(cfg.DataDir, filepath.Join(cfg.DataDir, fetchedFolder, fetchedBox)); err != nil {
		return done, err
	}
	if err := discardFetched(cfg.DataDir); err != nil {
		return done, err
	}
	req.step("installed")
	if conn != nil {
		_ = conn.Send(transfer.Message{Op: transfer.Installed})
	}
	return done, nil
}

// discardFetched throws away what is in the folder, at once: half of a box must never be installed.
func discardFetched(dir string) error {
	gone, err := os.MkdirTemp(dir, fetchPrefix)
	if err == nil {
		err = os.Remove(gone) // its name is wanted
	}
	if err == nil {
		err = os.Rename(filepath.Join(dir, fetchedFolder), gone)
	}
	if err != nil {
		return err
	}
	return errors.Join(store.SyncDir(dir), os.RemoveAll(gone))
}

// errNoAnswer: the old box did not say yet whether it gave itself away.
var errNoAnswer = errors.New("it is not known yet whether the old box handed over")

// askAgain is the pause between two questions.
const askAgain = 2 * time.Second

// askUntil asks the old box for its answer for as long as the person has patience.
func askUntil(ctx context.Context, cfg config.Config, f fetched, req FetchRequest) (done Restored, err error) {
	for until := time.Now().Add(req.Patience); ; {
		done, err = askOnce(ctx, cfg, f, req)
		if !errors.Is(err, errNoAnswer) {
			return done, err
		}
		if time.Now().After(until) || !tick(ctx, askAgain) {
			return done, admin.Errorf(admin.CodeFailed, "%v", err).
				Then("Start the old box, then 'pibox transfer fetch' again: it asks. Only if the old box is lost for good: 'pibox transfer fetch --old-is-gone'.")
		}
	}
}

// askOnce asks and does what the answer says.
func askOnce(ctx context.Context, cfg config.Config, f fetched, req FetchRequest) (done Restored, err error) {
	conn, err := dial(ctx, f)
	if err != nil {
		return done, fmt.Errorf("%w: %w", errNoAnswer, err)
	}
	defer func() { _ = conn.Close() }()
	var answer transfer.Message
	if err = conn.Send(transfer.Message{Op: transfer.Ask, ID: f.ID}); err == nil {
		answer, err = conn.Receive(transfer.Given, transfer.Serving, transfer.Busy)
	}
	switch {
	case err != nil:
		return done, fmt.Errorf("%w: %w", errNoAnswer, err)
	case answer.Op == transfer.Given:
		return finish(cfg, f, conn, req)
	case answer.Op == transfer.Serving:
		if err := discardFetched(cfg.DataDir); err != nil {
			return done, err
		}
		return done, errStillServes()
	}
	return done, fmt.Errorf("%w: it is busy", errNoAnswer)
}

func errStillServes() error {
	return admin.Errorf(admin.CodeFailed, "nothing was changed: the old box did not hand over, it serves").Then("Try again with a new code.")
}

// resumeFetch lets the daemon take up a transfer that waits for its answer. While there is none, nothing is served.
func resumeFetch(ctx context.Context, cfg config.Config, log *slog.Logger) error {
	f, err := readFetched(cfg.DataDir)
	if err != nil {
		return fmt.Errorf("what was fetched from another box: %w", err)
	}
	if f == nil {
		if isThere(filepath.Join(cfg.DataDir, fetchedFolder)) { // it was installed, or thrown away
			return discardFetched(cfg.DataDir)
		}
		return nil
	}
	_, err = askOnce(ctx, cfg, *f, FetchRequest{})
	switch {
	case errors.Is(err, errNoAnswer):
		return fmt.Errorf("this box takes the place of the one at %s, and does not know yet whether that one stopped: start that one; if it is lost for good, 'pibox transfer fetch --old-is-gone'", f.Address)
	case err != nil && !isThere(filepath.Join(cfg.DataDir, fetchedFolder)):
		log.Warn("the old box did not hand over; what was fetched is thrown away", "address", f.Address)
		return nil
	case err == nil:
		log.Info("the old box handed over: this one takes its place", "address", f.Address, "accounts", f.Result.Users)
	}
	return err
}

// FetchAnyway installs a box that waits for an answer which will never come, as a restored one.
func FetchAnyway(ctx context.Context, cfg config.Config) (done Restored, err error) {
	f, unlock, err := lockFetched(cfg)
	if err != nil {
		return done, err
	}
	defer unlock()
	if _, err := adopt(ctx, filepath.Join(cfg.DataDir, fetchedFolder, fetchedBox, StoreFile), true); err != nil {
		return done, err
	}
	f.Result.Held = true
	return finish(cfg, *f, nil, FetchRequest{})
}

// FetchDiscard throws away a box that waits for an answer.
func FetchDiscard(cfg config.Config) error {
	_, unlock, err := lockFetched(cfg)
	if err != nil {
		return err
	}
	defer unlock()
	return discardFetched(cfg.DataDir)
}

func lockFetched(cfg config.Config) (*fetched, func(), error) {
	unlock, err := lockBox(cfg, true)
	if err != nil {
		return nil, nil, err
	}
	f, err := readFetched(cfg.DataDir)
	if err == nil && f == nil {
		err = admin.Errorf(admin.CodeNotFound, "no transfer waits for an answer")
	}
	if err != nil {
		unlock()
		return nil, nil, err
	}
	return f, unlock, nil
}

// noTransfer keeps others from a data folder in which a transfer waits.
func noTransfer(dir string) error {
	if f, err := readFetched(dir); err != nil || f != nil {
		return admin.Errorf(admin.CodeExists, "a transfer from another box waits for its answer").
			Then("'pibox transfer fetch' asks for it, 'pibox transfer fetch --discard' throws it away.")
	}
	return nil
}
