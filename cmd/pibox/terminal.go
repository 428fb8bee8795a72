package main

import (
	"bufio"
	"context"
	"errors"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"pibox/internal/admin"
)

// maxPassword bounds what is read as a password, in bytes.
const maxPassword = 1024

// passwordFlags say where a password comes from. It never stands on the
// command line: other users of the machine could read it there.
type passwordFlags struct{ stdin, generate bool }

func (p *passwordFlags) add(c *cobra.Command) {
	c.Flags().BoolVar(&p.stdin, "password-stdin", false, "read the password from the first line of standard input")
	c.Flags().BoolVar(&p.generate, "generate", false, "make a random password, and do not ask")
}

func (p *passwordFlags) check() error {
	if p.stdin && p.generate {
		return usageError{"--password-stdin gives a password and --generate makes one: use one of the two"}
	}
	return nil
}

// password is one that was given or made.
type password struct {
	text string
	made bool
}

// toShow returns the password only where nobody knows it yet.
func (p password) toShow() string {
	if p.made {
		return p.text
	}
	return ""
}

func (p password) line() string {
	if !p.made {
		return ""
	}
	return "\nPassword, shown only this once: " + p.text
}

func (a *app) password(ctx context.Context, from passwordFlags, prompt string) (password, error) {
	fd, terminal := a.terminal()
	switch {
	case from.stdin:
		text, err := a.line()
		if err == nil && text == "" {
			err = usageError{"--password-stdin: the first line of standard input is empty"}
		}
		return password{text: text}, err
	case from.generate || !terminal:
		return password{admin.NewPassword(), true}, nil
	}
	text, err := a.hidden(ctx, fd, prompt+" (empty: make one): ")
	if err != nil {
		return password{}, err
	}
	if text == "" {
		return password{admin.NewPassword(), true}, nil
	}
	again, err := a.hidden(ctx, fd, "The same again: ")
	if err == nil && again != text {
		err = admin.Errorf(admin.CodeInvalid, "the two passwords differ; nothing was changed").Then("Try again.")
	}
	return password{text: text}, err
}

// confirm asks for a yes. Without a terminal there is nobody to ask.
func (a *app) confirm(ctx context.Context, question string) error {
	if _, terminal := a.terminal(); !terminal {
		return usageError{"this needs a confirmation: run it at a terminal, or with --yes"}
	}
	answer, err := a.ask(ctx, question+" [y/N] ", a.line)
	if err != nil {
		return err
	}
	switch strings.ToLower(strings.TrimSpace(answer)) {
	case "y", "yes":
		return nil
	}
	return errors.New("nothing was changed")
}

// terminal returns the file descriptor of standard input, and whether a
// person sits at it.
func (a *app) terminal() (int, bool) {
	f, ok := a.in.(*os.File)
	if !ok {
		return 0, false
	}
	return int(f.Fd()), term.IsTerminal(int(f.Fd()))
}

// hidden asks for a line that is not shown while it is typed.
func (a *app) hidden(ctx context.Context, fd int, prompt string) (string, error) {
	state, err := term.GetState(fd)
	if err != nil {
		return "", err
	}
	text, err := a.ask(ctx, prompt, func() (string, error) {
		text, err := term.ReadPassword(fd)
		return string(text), err
	})
	_ = term.Restore(fd, state) // after an interrupt the echo is still off
	a.say("")
	return text, err
}

// ask shows a prompt and waits for an answer or an interrupt; then the reading
// goroutine is left behind, and the program ends.
func (a *app) ask(ctx context.Context, prompt string, read func() (string, error)) (string, error) {
	type result struct {
		text string
		err  error
	}
	answer := make(chan result, 1)
	_, _ = io.WriteString(a.err, prompt)
	go func() {
		text, err := read()
		answer <- result{text, err}
	}()
	select {
	case r := <-answer:
		return r.text, r.err
	case <-ctx.Done():
		return "", ctx.Err()
	}
}

// line reads the first line of standard input.
func (a *app) line() (string, error) { return firstLine(a.in) }

func firstLine(in io.Reader) (string, error) {
	text, err := bufio.NewReader(io.LimitReader(in, maxPassword+2)).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return "", err
	}
	text = strings.TrimSuffix(strings.TrimSuffix(text, "\n"), "\r")
	if len(text) > maxPassword {
		return "", usageError{"the first line is too long"}
	}
	return text, nil
}
