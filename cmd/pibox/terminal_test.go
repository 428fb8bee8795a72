package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

// openTerminal returns both ends of a new pseudo terminal.
func openTerminal(t *testing.T) (person, program *os.File) {
	t.Helper()
	person, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = person.Close() })
	fd := int(person.Fd())
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	program, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = program.Close() })
	return person, program
}

func echoes(t *testing.T, f *os.File) bool {
	t.Helper()
	state, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	return state.Lflag&unix.ECHO != 0
}

// TestHidden proves that a password is read with the echo off, and that the
// terminal echoes again afterwards, also after an interrupt.
func TestHidden(t *testing.T) {
	person, program := openTerminal(t)
	a := &app{in: program, err: &bytes.Buffer{}}
	ask := func(ctx context.Context) chan error {
		done := make(chan error, 1)
		go func() {
			text, err := a.hidden(ctx, int(program.Fd()), "Password: ")
			if err == nil && text != "correct horse" {
				err = errors.New("got " + text)
			}
			done <- err
		}()
		for echoes(t, program) { // until it waits for the password
			select {
			case err := <-done:
				t.Fatal("did not wait for the password: ", err)
			default:
				runtime.Gosched()
			}
		}
		return done
	}

	done := ask(t.Context())
	if _, err := person.WriteString("correct horse\n"); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
	if !echoes(t, program) {
		t.Error("the terminal does not echo again after a password")
	}

	ctx, interrupt := context.WithCancel(t.Context())
	done = ask(ctx)
	interrupt()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if !echoes(t, program) {
		t.Error("the terminal does not echo again after an interrupt")
	}
	_, _ = person.WriteString("\n") // lets the reader that was left behind end
}
