package main

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
	"golang.org/x/term"

	"pibox/internal/admin"
	"pibox/internal/backup"
	"pibox/internal/box"
)

// timeInName is a time in the name of a file, in UTC.
const timeInName = "20060102T150405Z"

func backupCmd(a *app) *cobra.Command {
	var force bool
	var lock lockFlags
	c := &cobra.Command{
		Use:   "backup [FILE]",
		Short: "Write the whole box into one encrypted file while it serves",
		Long: `Write everything that the box has into one compressed and encrypted file, while it serves:
accounts, messages, certificates and their keys, the configuration. All that was
acknowledged before is in it. It is read back from the disk before it gets its name.

FILE may be a folder, which gets a file named by the time, or - for standard output; without
FILE it is the current folder.

It is encrypted with a pass phrase, which is asked for, or to a public key of age
(--recipient, or backup.recipients in the configuration): then no secret is needed to make
it, and only the identity of that key opens it. 'pibox restore' reads it; so does
'age -d FILE | zstd -d | tar x'.`,
		Example: "  pibox backup /mnt/usb/\n  pibox backup --recipient age1… /mnt/usb/\n  pibox backup --plain - | restic backup --stdin",
		Args:    cobra.MaximumNArgs(1),
		RunE: ran(func(ctx context.Context, args []string) error {
			if err := lock.check(); err != nil {
				return err
			}
			path := "."
			if len(args) > 0 {
				path = args[0]
			}
			if path == "-" {
				return a.backupToOutput(ctx, lock)
			}
			return a.backupToFile(ctx, path, lock, force)
		}),
	}
	c.Flags().BoolVar(&force, "force", false, "replace FILE if it is there")
	lock.add(c)
	return a.jsonFlag(c)
}

// backedUp is the result of a backup for programs.
type backedUp struct {
	admin.BackupResponse
	File      string `json:"file"`
	Size      int64  `json:"size"`
	SHA256    string `json:"sha256"`
	Encrypted bool   `json:"encrypted"`
	// Verified is "all" where the file was read back as 'pibox restore' would; "contents" where only whether the recipients' identities open it is
	// not known.
	Verified   string `json:"verified"`
	Passphrase string `json:"passphrase,omitempty"` // one that was made
}

func (a *app) backupToOutput(ctx context.Context, from lockFlags) error {
	if f, ok := a.out.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		return usageError{"a backup is no text for a terminal: name a file, or redirect the output"}
	}
	if a.json {
		return usageError{"--json and a backup can not both go to standard output"}
	}
	lock, err := a.lock(ctx, from)
	if err != nil {
		return err
	}
	if lock.made != "" {
		a.say("Pass phrase, shown only this once: %s", lock.made)
	}
	_, _, err = a.fill(ctx, a.out, lock)
	return err
}

// fill writes the whole file to w.
func (a *app) fill(ctx context.Context, w io.Writer, lock sealed) (*backup.Seal, admin.BackupResponse, error) {
	seal, err := backup.NewSeal(w, lock.Lock)
	if err != nil {
		return nil, admin.BackupResponse{}, err
	}
	resp, err := a.client().Backup(ctx, admin.BackupRequest{}, seal)
	if err != nil {
		return nil, resp, err
	}
	return seal, resp, seal.Close()
}

func (a *app) backupToFile(ctx context.Context, path string, from lockFlags, force bool) error {
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		end := ".age"
		if from.plain {
			end = ".tar.zst"
		}
		path = filepath.Join(path, "pibox-"+a.now().UTC().Format(timeInName)+end)
	}
	if dir := filepath.Dir(path); !exists(dir) {
		return admin.Errorf(admin.CodeNotFound, "there is no folder %s; nothing was written", dir).Then("Make the folder first: 'mkdir -p %s'.", dir)
	}
	if !force && exists(path) {
		return admin.Errorf(admin.CodeExists, "%s is there already", path).Then("Name another file, or replace it with --force.")
	}
	if _, err := a.client().Status(ctx, admin.StatusRequest{}); err != nil { // before anything is asked
		return err
	}
	lock, err := a.lock(ctx, from)
	if err != nil {
		return err
	}
	result := backedUp{File: path, Encrypted: !from.plain, Passphrase: lock.made, Verified: "all"}
	err = writeDurably(path, func(f *os.File) (err error) {
		result, err = a.fillFile(ctx, f, lock, result)
		return err
	})
	if err != nil {
		return fileTooLarge(err, filepath.Dir(path))
	}
	made, verified := "", "It was read back and is whole."
	if lock.made != "" {
		made = "\nPass phrase, shown only this once: " + lock.made
	}
	if result.Verified != "all" {
		verified = "It was read back and is whole; that your identity opens it shows 'pibox restore --check --identity …'."
	}
	a.print(result, "Wrote %s (%s): %s and %s. %s\nIt is opened by %s.%s", path, size(result.Size), plural(result.Accounts, "account"),
		plural(result.Messages, "message"), verified, lock.by, made)
	return nil
}

// fillFile writes the file and reads it back from the disk.
func (a *app) fillFile(ctx context.Context, f *os.File, lock sealed, result backedUp) (backedUp, error) {
	sum, count := sha256.New(), &counter{}
	buffered := bufio.NewWriterSize(f, 256<<10)
	seal, resp, err := a.fill(ctx, io.MultiWriter(buffered, sum, count), lock)
	if err != nil {
		return result, err
	}
	if err := errors.Join(buffered.Flush(), f.Sync()); err != nil {
		return result, err
	}
	result.BackupResponse, result.Size, result.SHA256 = resp, count.n, hex.EncodeToString(sum.Sum(nil))
	_ = unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED) // what is read back is to come from the disk
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return result, err
	}
	keys := seal.Key()
	if lock.Passphrase != "" {
		keys = &backup.Keys{Passphrase: func() (string, error) { return lock.Passphrase, nil }}
	} else if len(lock.Recipients) > 0 {
		result.Verified = "contents"
	}
	if err := verify(f, keys); err != nil {
		return result, admin.Errorf(admin.CodeFailed, "what was written can not be read back: %v; nothing was kept", err).Then("The disk may be worn out: try another one.")
	}
	return result, nil
}

func verify(r io.Reader, keys *backup.Keys) error {
	s, err := backup.Open(r, keys)
	if err != nil {
		return err
	}
	defer s.Close()
	_, _, err = backup.Verify(s)
	return err
}

// fileTooLarge: FAT has no files of more than 4 GiB.
func fileTooLarge(err error, dir string) error {
	if errors.Is(err, syscall.EFBIG) {
		return admin.Errorf(admin.CodeFailed, "the backup is larger than a file on %s may be; nothing was written", dir).
			Then("The disk is formatted with FAT, which ends at 4 GiB: format it with exFAT or ext4.")
	}
	return err
}

type counter struct{ n int64 }

func (c *counter) Write(p []byte) (int, error) {
	c.n += int64(len(p))
	return len(p), nil
}

// writeDurably makes a file of mode 0600 that is there, complete and on the
// disk, or not at all.
func writeDurably(path string, write func(*os.File) error) (err error) {
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, box.PartPattern) // mode 0600
	if err != nil {
		return mayNot(fmt.Errorf("%w; nothing was written", err), "write to", dir)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, ignoreClosed(f.Close()), os.Remove(f.Name()))
		}
	}()
	if err = write(f); err != nil {
		return err
	}
	if err = f.Sync(); err != nil {
		return err
	}
	if err = f.Close(); err != nil {
		return err
	}
	if err = os.Rename(f.Name(), path); err != nil {
		return err
	}
	// The file is complete and synced; where the folder can not be, as on some
	// network disks, only its name could be lost in a power cut.
	if d, err := os.Open(dir); err == nil {
		_ = d.Sync()
		_ = d.Close()
	}
	return nil
}

func ignoreClosed(err error) error {
	if errors.Is(err, os.ErrClosed) {
		return nil
	}
	return err
}
