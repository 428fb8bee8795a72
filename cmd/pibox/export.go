package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"pibox/internal/admin"
	"pibox/internal/box"
)

// mainFile is the name of the file in an export's folder that includes the others.
const mainFile = "accounts.xml"

const exportLong = `Write accounts into a file that pibox and other XMPP servers can import (XEP-0227): passwords as
SCRAM keys, contacts, messages, cards, avatars, bookmarks and block lists. What the format has no
place for is told, and left out: keys of encrypted chats (OMEMO), which devices keep themselves.

The file holds keys that let whoever has it log in, and messages in the clear. It is readable by you
alone.`

func exportCmd(a *app) *cobra.Command {
	var req admin.ExportRequest
	var to exportTo
	c := &cobra.Command{
		Use:   "export NAME… | --domain DOMAIN | --all",
		Short: "Write accounts into a file that other servers can import",
		Long:  exportLong,
		Example: "  pibox export juliet\n  pibox export juliet romeo --to /mnt/usb/us.xml\n  pibox export --domain old.example --folder /mnt/usb/old.example\n" +
			"  pibox export --all --to - | age -r age1… > accounts.age",
		RunE: ran(func(ctx context.Context, args []string) error {
			req.Users = args
			given := 0
			for _, g := range []bool{len(args) > 0, req.Domain != "", req.All} {
				if g {
					given++
				}
			}
			if given != 1 {
				return usageError{"name accounts, as in 'pibox export juliet', or a --domain, or --all"}
			}
			if to.file != "" && to.folder != "" {
				return usageError{"--to names one file and --folder a folder of several: use one of the two"}
			}
			return a.export(ctx, req, to)
		}),
	}
	c.Flags().StringVar(&req.Domain, "domain", "", "all accounts of this `domain`")
	c.Flags().BoolVar(&req.All, "all", false, "all accounts of the box")
	c.Flags().StringVar(&to.file, "to", "", "`file` to write, - for standard output (default: one in the current folder, named by the account)")
	c.Flags().StringVar(&to.folder, "folder", "", "new `folder` for several files that include each other, one for each account")
	c.Flags().BoolVar(&to.force, "force", false, "replace the file if it is there")
	return a.jsonFlag(c)
}

type exportTo struct {
	file, folder string
	force        bool
}

// exported is the result for programs.
type exported struct {
	admin.ExportResponse
	File string `json:"file"`
	Size int64  `json:"size"`
}

func (a *app) export(ctx context.Context, req admin.ExportRequest, to exportTo) error {
	result, err := a.exportTo(ctx, req, to)
	if err != nil || to.file == "-" {
		return err
	}
	if a.json {
		a.printJSONTo(a.out, result)
		return nil
	}
	a.print(nil, "Wrote %s into %s (%s).", plural(len(result.Accounts), "account"), result.File, size(result.Size))
	a.tellLosses("Left out", result.Losses)
	a.say("It holds the keys of passwords, and messages in the clear: keep it safe, and delete it when it is imported.")
	return nil
}

// exportTo writes the file, or folder, and tells nobody.
func (a *app) exportTo(ctx context.Context, req admin.ExportRequest, to exportTo) (result exported, err error) {
	if err := a.exportFits(to); err != nil {
		return result, err
	}
	plan := req
	plan.Plan = true
	planned, err := a.client().Export(ctx, plan, io.Discard)
	if err != nil {
		return result, err
	}
	bar := a.bar("Exporting", planned.Size)
	result.File = to.file
	write := func(w io.Writer) (err error) {
		defer bar.end()
		result.ExportResponse, err = a.client().Export(ctx, req, io.MultiWriter(w, bar))
		result.Size = bar.done
		return err
	}
	switch {
	case to.folder != "":
		result.File = to.folder
		err = writeFolder(ctx, to.folder, write)
	case to.file == "-":
		return result, write(a.out)
	default:
		if result.File == "" {
			result.File = a.exportName(planned.Accounts)
		}
		if !to.force && exists(result.File) {
			return result, admin.Errorf(admin.CodeExists, "%s is there already", result.File).Then("Name another file with --to, or replace it with --force.")
		}
		err = writeDurably(result.File, func(f *os.File) error { return write(f) })
	}
	return result, err
}

// exportFits tells early what would be found late.
func (a *app) exportFits(to exportTo) error {
	if to.file == "-" {
		if f, ok := a.out.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
			return usageError{"an export holds secrets and is no text for a terminal: name a file, or redirect the output"}
		}
		if a.json {
			return usageError{"--json and an export can not both go to standard output"}
		}
		return nil
	}
	for _, path := range []string{to.file, to.folder} {
		if dir := filepath.Dir(path); path != "" && !exists(dir) {
			return admin.Errorf(admin.CodeNotFound, "there is no folder %s; nothing was written", dir).Then("Make the folder first: 'mkdir -p %s'.", dir)
		}
	}
	if to.folder != "" && exists(to.folder) {
		return admin.Errorf(admin.CodeExists, "%s is there already", to.folder).Then("Name a new folder.")
	}
	if !to.force && to.file != "" && exists(to.file) {
		return admin.Errorf(admin.CodeExists, "%s is there already", to.file).Then("Name another file, or replace it with --force.")
	}
	return nil
}

func (a *app) exportName(accounts []string) string {
	if len(accounts) == 1 && len(accounts[0]) < 200 && !strings.ContainsAny(accounts[0], "/\x00") {
		return accounts[0] + ".xml"
	}
	return "accounts-" + a.now().UTC().Format(timeInName) + ".xml"
}

// writeFolder makes a folder that is there, complete and on the disk, or not at all.
func writeFolder(ctx context.Context, path string, write func(io.Writer) error) (err error) {
	dir, err := os.MkdirTemp(filepath.Dir(path), ".pibox-*.part") // mode 0700
	if err != nil {
		return mayNot(fmt.Errorf("%w; nothing was written", err), "write to", filepath.Dir(path))
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(dir))
		}
	}()
	r, w := io.Pipe()
	split := make(chan error, 1)
	go func() {
		err := box.SplitExport(ctx, r, mainFile, func(name string) (io.WriteCloser, error) { return newFile(filepath.Join(dir, name)) })
		_ = r.CloseWithError(err) // what is written on fails with that
		split <- err
	}()
	err = write(w)
	_ = w.CloseWithError(err)
	if splitErr := <-split; splitErr != nil && err == nil {
		err = splitErr
	}
	if err != nil {
		return err
	}
	if err := os.Rename(dir, path); err != nil {
		return err
	}
	syncDir(filepath.Dir(path))
	return nil
}

// newFile makes a file of mode 0600, with its folder, which is synced when it is closed.
func newFile(path string) (io.WriteCloser, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	return syncedFile{f}, nil
}

type syncedFile struct{ *os.File }

func (f syncedFile) Close() error { return errors.Join(f.Sync(), f.File.Close()) }

func syncDir(path string) {
	if d, err := os.Open(path); err == nil {
		_ = d.Sync()
		_ = d.Close()
	}
}

// tellLosses lists what did not come along.
func (a *app) tellLosses(what string, losses []admin.Loss) {
	if len(losses) == 0 {
		return
	}
	a.say("%s:", what)
	for _, l := range losses {
		times := ""
		if l.Count > 1 {
			times = fmt.Sprintf("%d × ", l.Count)
		}
		a.say("  %s%s: %s", times, l.What, l.Why)
	}
}
