package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"pibox/internal/admin"
	"pibox/internal/box"
)

const importLong = `Make accounts of an export by pibox, Prosody, ejabberd, Snikket or another server (XEP-0227). FILE
may include others in its own folder; where FILE is a folder, it is its ` + mainFile + `.

An account keeps its address, its password and its contacts. With --as or --to-domain it gets another
address: then it moves, and its contacts are told by 'pibox move', not taken over.

An account that is there already and has contents is not touched. Each account is whole, or not there.
--dry-run tells what would be imported, and what would be lost.`

func importCmd(a *app) *cobra.Command {
	var req admin.ImportRequest
	c := &cobra.Command{
		Use:   "import FILE",
		Short: "Make accounts of an export, also by other servers",
		Long:  importLong,
		Example: "  pibox import juliet@family.example.xml\n  pibox import /mnt/usb/old.example --dry-run\n" +
			"  pibox import accounts.xml --only juliet@old.example --as juliet@new.example",
		Args: needs("FILE", "juliet@family.example.xml"),
		RunE: ran(func(ctx context.Context, args []string) error {
			if req.As != "" && req.ToDomain != "" {
				return usageError{"--as gives one account another address, --to-domain all of them: use one of the two"}
			}
			return a.importFile(ctx, args[0], req)
		}),
	}
	c.Flags().StringVar(&req.Only, "only", "", "import one account, by its `address` in the file")
	c.Flags().StringVar(&req.As, "as", "", "give the account this `address`: it moves")
	c.Flags().StringVar(&req.ToDomain, "to-domain", "", "give all accounts this `domain`: they move")
	c.Flags().BoolVar(&req.DryRun, "dry-run", false, "look at everything and change nothing")
	return a.jsonFlag(c)
}

func (a *app) importFile(ctx context.Context, path string, req admin.ImportRequest) error {
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		path = filepath.Join(path, mainFile)
	}
	src, err := box.OpenExport(ctx, path)
	if err != nil {
		return mayNot(err, "read", path)
	}
	defer src.Close()
	if err := onlyOne(ctx, &req, src); err != nil {
		return err
	}
	req.Size = src.Size
	bar := a.bar("Importing", src.Size)
	resp, err := a.client().Import(ctx, req, io.TeeReader(src.Reader(ctx), bar))
	bar.end()
	if err != nil {
		return err
	}
	if a.json {
		a.printJSONTo(a.out, resp)
	} else {
		a.tellImport(req, resp)
	}
	for _, one := range resp.Accounts {
		if one.Refused != "" {
			return silentError{exitExists}
		}
	}
	return nil
}

// onlyOne finds out who is meant by --as.
func onlyOne(ctx context.Context, req *admin.ImportRequest, src *box.ExportFile) error {
	if req.As == "" || req.Only != "" {
		return nil
	}
	names, err := src.Accounts(ctx)
	switch {
	case err != nil:
		return err
	case len(names) == 0:
		return admin.Errorf(admin.CodeNotFound, "there is no account in %s", src.Path)
	case len(names) > 1:
		return usageError{fmt.Sprintf("there are %d accounts in the file, such as %s: say by --only which one is to be %s", len(names), names[0], req.As)}
	}
	req.Only = names[0]
	return nil
}

func (a *app) tellImport(req admin.ImportRequest, resp admin.ImportResponse) {
	verb := "Imported"
	if req.DryRun {
		verb = "Would import"
	}
	verify := false
	for _, one := range resp.Accounts {
		switch {
		case one.Refused != "":
			a.say("Left out %s: %s.", one.From, one.Refused)
			continue
		case one.From != one.Address:
			a.print(nil, "%s %s as %s: %s.", verb, one.From, one.Address, contentsOf(one))
		default:
			a.print(nil, "%s %s: %s.", verb, one.Address, contentsOf(one))
		}
		if one.Password != "" && !req.DryRun {
			a.print(nil, "  Password, shown only this once: %s", one.Password)
		}
		if one.Admin {
			a.print(nil, "  It is marked as an administrator's.")
		}
		if one.Moving && !req.DryRun {
			a.print(nil, "  Its contacts are told when you say so: 'pibox move plan %s %s', then 'pibox move start'.", one.From, one.Address)
			if one.Elsewhere {
				a.print(nil, "  Before, whoever has %[1]s announces the move there: where that is a pibox, 'pibox move leave %[1]s %[2]s' does, without --build; else an app that can move accounts, or"+
					" 'pibox move bring %[1]s %[2]s' here in place of this import.", one.From, one.Address)
			}
		}
		verify = verify || one.OMEMO
		a.tellLosses("  Lost of "+one.From, one.Losses)
	}
	a.tellLosses("Lost", resp.Losses)
	if verify {
		a.say("Keys of encrypted chats (OMEMO) are not imported: devices publish theirs when they connect. Verify each other's devices again.")
	}
	if req.DryRun {
		a.say("Nothing was changed.")
	}
}

func contentsOf(one admin.Imported) string {
	var parts []string
	add := func(n int, what string) {
		if n > 0 {
			parts = append(parts, plural(n, what))
		}
	}
	add(one.Contacts, "contact")
	add(one.Requests, "request")
	add(one.Archived, "message")
	if one.Waiting > 0 {
		parts = append(parts, fmt.Sprintf("%d waiting to be read", one.Waiting))
	}
	if one.VCard {
		parts = append(parts, "a card")
	}
	add(one.Items, "personal item")
	add(one.Private, "private element")
	add(one.Blocked, "blocked address")
	if len(parts) == 0 {
		return "no contents"
	}
	return strings.ReplaceAll(strings.Join(parts, ", "), "addresss", "addresses")
}
