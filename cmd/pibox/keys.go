package main

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"pibox/internal/admin"
	"pibox/internal/backup"
)

// minPassphrase is the least length of a pass phrase, in bytes: whoever has the file can try as many as they like.
const minPassphrase = 10

// lockFlags say who will be able to open a backup.
type lockFlags struct {
	passphrase string
	recipients []string
	plain      bool
}

func (l *lockFlags) add(c *cobra.Command) {
	c.Flags().StringVar(&l.passphrase, "passphrase-file", "", "`file` with the pass phrase in its first line; - is standard input")
	c.Flags().StringArrayVar(&l.recipients, "recipient", nil, "public `key` of age (age1…) to encrypt to, in place of a pass phrase; can be repeated")
	c.Flags().BoolVar(&l.plain, "plain", false, "do not encrypt: whoever has the file has the family's messages and keys")
}

func (l *lockFlags) check() error {
	n := 0
	for _, given := range []bool{l.passphrase != "", len(l.recipients) > 0, l.plain} {
		if given {
			n++
		}
	}
	if n > 1 {
		return usageError{"--passphrase-file, --recipient and --plain exclude each other: use one of them"}
	}
	return nil
}

// sealed is a lock, and what the person must be told of it.
type sealed struct {
	backup.Lock
	made string // a pass phrase that nobody knows yet
	by   string // how it is opened
}

// lock asks for what was not said.
func (a *app) lock(ctx context.Context, from lockFlags) (s sealed, err error) {
	recipients := from.recipients
	if len(recipients) == 0 && !from.plain && from.passphrase == "" {
		cfg, _ := a.load()
		recipients = cfg.Backup.Recipients
	}
	switch {
	case from.plain:
		return sealed{by: "nothing: it is not encrypted"}, nil
	case len(recipients) > 0:
		s.by = "the identity of " + strings.Join(recipients, " or ")
		if s.Recipients, err = backup.ParseRecipients(recipients); err != nil {
			err = usageError{err.Error()}
		}
		return s, err
	case from.passphrase != "":
		s.Passphrase, err = a.passphraseFile(from.passphrase)
	default:
		s.Passphrase, s.made, err = a.newPassphrase(ctx)
	}
	if err == nil && len(s.Passphrase) < minPassphrase {
		err = admin.Errorf(admin.CodeInvalid, "the pass phrase is too short: whoever finds the file can try as many as they like").
			Then("Take %d characters or more, such as four words.", minPassphrase)
	}
	s.by, s.Work = "the pass phrase", a.work
	return s, err
}

// newPassphrase asks twice; an empty answer makes one.
func (a *app) newPassphrase(ctx context.Context) (phrase, made string, err error) {
	fd, terminal := a.terminal()
	if !terminal {
		return "", "", usageError{"a backup is encrypted: run it at a terminal, which asks for a pass phrase, or say --passphrase-file, --recipient or --plain"}
	}
	phrase, err = a.hidden(ctx, fd, "Pass phrase for the backup (empty: make one): ")
	if err != nil {
		return "", "", err
	}
	if phrase == "" {
		made = admin.NewPassword()
		return made, made, nil
	}
	again, err := a.hidden(ctx, fd, "The same again: ")
	if err == nil && again != phrase {
		err = admin.Errorf(admin.CodeInvalid, "the two pass phrases differ; nothing was written").Then("Try again.")
	}
	return phrase, "", err
}

// secretLine reads the first line of a file, or of standard input for -.
func (a *app) secretLine(path string) (string, error) {
	if path == "-" {
		return a.line()
	}
	f, err := os.Open(path)
	if err != nil {
		return "", notThere(err, path)
	}
	defer func() { _ = f.Close() }()
	return firstLine(f)
}

// passphraseFile reads the first line of a file.
func (a *app) passphraseFile(path string) (string, error) {
	line, err := a.secretLine(path)
	if err == nil && line == "" {
		err = usageError{"--passphrase-file: the first line of " + path + " is empty"}
	}
	return line, err
}

func notThere(err error, path string) error {
	if errors.Is(err, fs.ErrNotExist) {
		return admin.Errorf(admin.CodeNotFound, "%s: there is no such file", path)
	}
	return mayNot(err, "read", path)
}

// keyFlags say what opens a backup.
type keyFlags struct {
	passphrase string
	identities []string
}

func (k *keyFlags) add(c *cobra.Command) {
	c.Flags().StringVar(&k.passphrase, "passphrase-file", "", "`file` with the pass phrase in its first line; - is standard input")
	c.Flags().StringArrayVar(&k.identities, "identity", nil, "`file` with the identity of age (AGE-SECRET-KEY-1…) that it was encrypted to; can be repeated")
}

// maxIdentity bounds a file with identities, in bytes.
const maxIdentity = 64 << 10

// keys opens what a backup needs; a pass phrase is asked for when it turns out to need one.
func (a *app) keys(ctx context.Context, from keyFlags, source string) (*backup.Keys, error) {
	keys := &backup.Keys{}
	for _, path := range from.identities {
		f, err := os.Open(path)
		if err != nil {
			return nil, notThere(err, path)
		}
		text, err := io.ReadAll(io.LimitReader(f, maxIdentity))
		_ = f.Close()
		if err != nil {
			return nil, err
		}
		ids, err := backup.ParseIdentities(string(text))
		if err != nil {
			return nil, admin.Errorf(admin.CodeInvalid, "%s: %v", path, err)
		}
		keys.Identities = append(keys.Identities, ids...)
	}
	fd, terminal := a.terminal()
	switch {
	case from.passphrase == "-" && source == "-":
		return nil, usageError{"the backup and its pass phrase can not both come from standard input"}
	case from.passphrase != "":
		phrase, err := a.passphraseFile(from.passphrase)
		if err != nil {
			return nil, err
		}
		keys.Passphrase = func() (string, error) { return phrase, nil }
	case terminal && source != "-":
		keys.Passphrase = func() (string, error) { return a.hidden(ctx, fd, "Pass phrase of the backup: ") }
	}
	return keys, nil
}
