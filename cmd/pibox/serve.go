package main

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"pibox/internal/box"
	"pibox/internal/config"
)

func serveCmd(a *app) *cobra.Command {
	var domains []string
	c := &cobra.Command{
		Use:   "serve",
		Short: "Run the server",
		Long: `Run the server until it is interrupted (SIGINT, SIGTERM).

Without a configuration file it serves the name of this machine under .local, with a family
certificate authority of its own.`,
		Example: "  pibox serve\n  pibox serve --domain family.example --data-dir ./data",
		Args:    cobra.NoArgs,
		RunE: ran(func(ctx context.Context, _ []string) error {
			load := func() (config.Config, error) {
				cfg, err := a.checked()
				if err == nil && len(domains) > 0 {
					if cfg.Domains, err = config.CanonicalDomains(domains); err != nil {
						err = usageError{"--domain: " + err.Error()}
					}
				}
				return cfg, err
			}
			cfg, err := load()
			if err != nil {
				return err
			}
			if err := usable(cfg.DataDir); err != nil {
				return err
			}
			err = a.program.Serve(ctx, cfg, box.ConfigSource{File: a.file, Load: load, Options: a.options()}, a.out)
			return mayNot(err, "make the admin socket", cfg.Admin.Socket)
		}),
	}
	c.Flags().StringSliceVar(&domains, "domain", nil, "`domain` to serve, in place of domains in the file; can be repeated")
	return c
}

// options are those that lead other commands, in any folder, to the server that this one starts.
func (a *app) options() (text string) {
	for _, o := range []struct{ name, path string }{{"config", a.configFile}, {"data-dir", a.dataDir}, {"socket", a.socket}} {
		if o.path == "" {
			continue
		}
		if abs, err := filepath.Abs(o.path); err == nil {
			o.path = abs
		}
		text += " --" + o.name + " " + shellWord(o.path)
	}
	return text
}

// shellWord is a text as one word of a shell.
func shellWord(s string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("/._-+@%:,=", r)
	}
	if strings.IndexFunc(s, func(r rune) bool { return !plain(r) }) < 0 {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// usable makes the data folder where there is none, and tells where this user may not write to it: no waiting changes that.
func usable(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return mayNot(err, "make the folder", dir)
	}
	f, err := os.CreateTemp(dir, box.PartPattern)
	if errors.Is(err, fs.ErrPermission) {
		return mayNot(err, "write to", dir)
	}
	if err == nil { // anything else, such as a full disk, the server itself goes on about
		_ = f.Close()
		_ = os.Remove(f.Name())
	}
	return nil
}
