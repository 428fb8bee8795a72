package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
)

// status is pibox-status.txt, as a computer with the card in it would show it.
func (c card) status() (string, error) {
	out, err := exec.Command("mtype", "-i", c.fat(), "::pibox-status.txt").Output()
	return strings.TrimRight(string(out), " \r\n\x00"), err
}

// says waits until the status says all of that. It is read behind the back of the running box, which only overwrites it in place.
func (c card) says(ctx context.Context, m *vm, parts ...string) (text string, err error) {
	err = retry(ctx, func() error {
		if err := m.runs(); err != nil {
			return err
		}
		if text, err = c.status(); err != nil {
			return err
		}
		for _, part := range parts {
			if !strings.Contains(text, part) {
				return fmt.Errorf("the status does not say %q:\n%s", part, text)
			}
		}
		return nil
	})
	return text, err
}

// wayIn is the administrator, by what a status tells.
func wayIn(status string) (person, error) {
	p := person{after(status, "    address   "), after(status, "    password  ")}
	if p.address == "" || p.password == "" {
		return p, fmt.Errorf("the status tells no address and password:\n%s", status)
	}
	return p, nil
}

func after(text, label string) string {
	for line := range strings.Lines(text) {
		if rest, ok := strings.CutPrefix(line, label); ok {
			return strings.TrimSpace(rest)
		}
	}
	return ""
}

// erased waits until the password is gone from the status, and looks for it in all of the card's first partition.
func (c card) erased(ctx context.Context, m *vm, password string) error {
	err := retry(ctx, func() error {
		text, err := c.status()
		if err == nil && strings.Contains(text, password) {
			err = errors.New("the status still shows the one-time password")
		}
		return errors.Join(err, m.runs())
	})
	if err != nil {
		return err
	}
	return c.nowhere(password)
}

// nowhere wants a secret not to be in the bytes of the first partition, whatever file they are of.
func (c card) nowhere(secret string) error {
	f, err := os.Open(c.file)
	if err != nil {
		return err
	}
	defer f.Close()
	fat := make([]byte, fatSize)
	if _, err := f.ReadAt(fat, fatStart); err != nil {
		return err
	}
	if strings.Contains(string(fat), secret) {
		return errors.New("the first partition still holds the secret")
	}
	return nil
}
