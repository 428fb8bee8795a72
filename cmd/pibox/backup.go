package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"pibox/internal/admin"
	"pibox/internal/box"
)

// timeInName is a time in the name of a file, in UTC.
const timeInName = "20060102T150405Z"

func backupCmd(a *app) *cobra.Command {
	var force bool
	c := &cobra.Command{
		Use:   "backup [FILE]",
		Short: "Copy the database while the server serves",
		Long: `Copy the database of the running server to FILE. The copy is consistent: all that was
acknowledged before is in it. It holds messages and password hashes in the clear and is
readable by you alone. The certificates in data_dir are not in it.

FILE may be a folder, which gets a file named by the time, or - for standard output; without
FILE it is the current folder. The file is there only when it is complete.`,
		Example: "  pibox backup /mnt/usb/\n  pibox backup - | age -r age1… > pibox.age",
		Args:    cobra.MaximumNArgs(1),
		RunE: ran(func(ctx context.Context, args []string) error {
			switch {
			case len(args) == 0:
				return a.backupToFile(ctx, ".", force)
			case args[0] == "-":
				return a.backupToOutput(ctx)
			}
			return a.backupToFile(ctx, args[0], force)
		}),
	}
	c.Flags().BoolVar(&force, "force", false, "replace FILE if it is there")
	return a.jsonFlag(c)
}

// backedUp is the result of a backup for programs.
type backedUp struct {
	admin.BackupResponse
	File   string `json:"file"`
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256"`
}

func (a *app) backupToOutput(ctx context.Context) error {
	if f, ok := a.out.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		return usageError{"a backup is no text for a terminal: name a file, or redirect the output"}
	}
	if a.json {
		return usageError{"--json and a backup can not both go to standard output"}
	}
	_, err := a.client().Backup(ctx, admin.BackupRequest{}, a.out)
	return err
}

func (a *app) backupToFile(ctx context.Context, path string, force bool) error {
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		path = filepath.Join(path, "pibox-"+a.now().UTC().Format(timeInName)+".db")
	}
	if dir := filepath.Dir(path); !exists(dir) {
		return admin.Errorf(admin.CodeNotFound, "there is no folder %s; nothing was written", dir).Then("Make the folder first: 'mkdir -p %s'.", dir)
	}
	if !force && exists(path) {
		return admin.Errorf(admin.CodeExists, "%s is there already", path).Then("Name another file, or replace it with --force.")
	}
	result := backedUp{File: path}
	err := writeDurably(path, func(w io.Writer) (err error) {
		sum := sha256.New()
		count := &counter{}
		result.BackupResponse, err = a.client().Backup(ctx, admin.BackupRequest{}, io.MultiWriter(w, sum, count))
		result.Size, result.SHA256 = count.n, hex.EncodeToString(sum.Sum(nil))
		return err
	})
	if err != nil {
		return err
	}
	a.print(result, "Wrote %s (%s). Keep it as safe as the box itself; 'pibox restore' reads it.", path, size(result.Size))
	return nil
}

type counter struct{ n int64 }

func (c *counter) Write(p []byte) (int, error) {
	c.n += int64(len(p))
	return len(p), nil
}

// writeDurably makes a file of mode 0600 that is there, complete and on the
// disk, or not at all.
func writeDurably(path string, write func(io.Writer) error) (err error) {
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
