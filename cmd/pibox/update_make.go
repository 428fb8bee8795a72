package main

import (
	"bufio"
	"context"
	"errors"
	"os"

	"github.com/spf13/cobra"

	"pibox/internal/admin"
	"pibox/internal/update"
)

func updateMakeCmd(a *app) *cobra.Command {
	var key string
	var m update.Manifest
	c := &cobra.Command{
		Use:   "make IMAGE FILE",
		Short: "Make a signed update file of a root slot's image",
		Long: `Make a signed update file of the image of a root slot, as 'make image' leaves it. The same
input gives the same bytes.`,
		Example: "  pibox update make --key release.key --release 1795372800 --version-name 1.2 root.ext4 pibox-1.2.update",
		Args:    cobra.ExactArgs(2),
		Hidden:  true,
		RunE:    ran(func(_ context.Context, args []string) error { return a.updateMake(args[0], args[1], key, m) }),
	}
	f := c.Flags()
	f.StringVar(&key, "key", "", "`file` with the secret key ('pibox update key' makes one)")
	f.StringVar(&m.Version, "version-name", "", "`name` of the version, for people")
	f.Int64Var(&m.Release, "release", 0, "`seconds` since 1970 of the sources: a box takes only a higher one than it has")
	f.Int64Var(&m.From, "from", 0, "the lowest `release` that may be updated to this one at once")
	f.StringVar(&m.Arch, "arch", "arm64", "`processor`")
	f.IntVar(&m.ChunkSize, "chunk", update.DefaultChunk, "`bytes` of a chunk")
	for _, name := range []string{"key", "version-name", "release"} {
		_ = c.MarkFlagRequired(name) // the flag is there
	}
	return a.jsonFlag(c)
}

func (a *app) updateMake(image, path, keyFile string, m update.Manifest) error {
	text, err := os.ReadFile(keyFile)
	if err != nil {
		return err
	}
	key, err := update.ParsePrivate(string(text))
	if err != nil {
		return admin.Errorf(admin.CodeInvalid, "%s holds no secret key: %v", keyFile, err)
	}
	in, err := os.Open(image)
	if err != nil {
		return err
	}
	defer func() { _ = in.Close() }()
	info, err := in.Stat()
	if err != nil {
		return err
	}
	err = writeDurably(path, func(f *os.File) error {
		out := bufio.NewWriterSize(f, 1<<20)
		m, err = update.Make(out, in, info.Size(), m, key)
		return errors.Join(err, out.Flush(), f.Chmod(0o644))
	})
	if err != nil {
		return err
	}
	a.print(updated{m.Version, m.Date(), path, false}, "Wrote %s: %s, %s of %s.", path, m, size(m.Packed()), size(m.Size))
	return nil
}

func updateKeyCmd(a *app) *cobra.Command {
	return &cobra.Command{
		Use:     "key FILE",
		Short:   "Make a secret key for update files, and print the public one",
		Example: "  pibox update key release.key >>image/update-keys",
		Args:    cobra.ExactArgs(1),
		Hidden:  true,
		RunE: ran(func(_ context.Context, args []string) error {
			if exists(args[0]) {
				return admin.Errorf(admin.CodeExists, "%s is there already", args[0]).Then("A secret key is never replaced: name another file.")
			}
			private, public, err := update.NewKey()
			if err != nil {
				return err
			}
			if err := writeDurably(args[0], func(f *os.File) error {
				_, err := f.WriteString(private)
				return err
			}); err != nil {
				return err
			}
			_, err = a.out.Write([]byte(public))
			return err
		}),
	}
}
