package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"pibox/internal/admin"
	"pibox/internal/box"
	"pibox/internal/config"
)

// app is what all commands share.
type app struct {
	program program
	in      io.Reader
	out     io.Writer
	err     io.Writer
	env     config.Environment
	now     func() time.Time
	work    int // for a pass phrase

	configFile string // --config
	dataDir    string // --data-dir
	socket     string // --socket
	json       bool   // --json
}

const rootLong = `pibox is chat that a family runs itself: an XMPP server for one household.

Without any configuration 'pibox serve' is a working server. The other commands talk to it
through a local socket.

Exit codes:
  0  done
  1  it failed; the text on standard error says why and what to do
  2  wrong usage, or mistakes in the configuration file
  3  the server is not running
  4  this user may not do that
  5  what was named, such as an account, is not there
  6  it is there already: an account, a file, a running server`

// execute runs one command line and returns its exit code.
func (a *app) execute(ctx context.Context, args []string) int {
	root := a.root()
	root.SetArgs(args)
	root.SetIn(a.in)
	root.SetOut(a.out)
	root.SetErr(a.err)
	if err := root.ExecuteContext(ctx); err != nil {
		return a.fail(err)
	}
	return exitOK
}

func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:     "pibox",
		Short:   "Chat that a family runs itself",
		Long:    rootLong,
		Example: "  pibox serve\n  pibox user add juliet\n  pibox status",
		// No template, for this or for help: with text/template in it the linker keeps 2 MB of methods that nobody calls.
		Version:       versionWords(),
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.SetHelpCommand(helpCmd(root))
	flags := root.PersistentFlags()
	flags.StringVar(&a.configFile, "config", "", "configuration `file` (default: $PIBOX_CONFIG, else the user's or "+config.SystemFile+" where there is one)")
	flags.StringVar(&a.dataDir, "data-dir", "", "`folder` of the database, in place of data_dir in the file; the socket is in it too")
	flags.StringVar(&a.socket, "socket", "", "`path` of the admin socket, in place of admin.socket in the file")
	root.AddCommand(
		serveCmd(a),
		userCmd(a),
		moveCmd(a),
		statusCmd(a),
		authorityCmd(a),
		backupCmd(a),
		restoreCmd(a),
		exportCmd(a),
		importCmd(a),
		transferCmd(a),
		updateCmd(a),
		configCmd(a),
		versionCmd(a),
	)
	root.AddCommand(childCmds(a)...)
	root.AddCommand(cardCmds(a)...)
	return root
}

// helpCmd is cobra's own, but a command that does not exist is wrong usage.
func helpCmd(root *cobra.Command) *cobra.Command {
	return &cobra.Command{
		Use: "help [COMMAND]", Short: "Help about a command", Example: "  pibox help user add",
		RunE: func(_ *cobra.Command, args []string) error {
			c, rest, err := root.Find(args)
			if err != nil {
				return err
			}
			if len(rest) > 0 {
				return fmt.Errorf("unknown command %q for %q", rest[0], c.CommandPath())
			}
			c.InitDefaultHelpFlag()
			return c.Help()
		},
	}
}

// needs wants the one argument that a command names, and tells of it by an example.
func needs(name, example string) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		switch {
		case len(args) == 0:
			return fmt.Errorf("'%s' needs %s, such as '%s %s'", c.CommandPath(), name, c.CommandPath(), example)
		case len(args) > 1:
			return fmt.Errorf("'%s' takes one %s; there is %q too much", c.CommandPath(), name, args[1])
		}
		return nil
	}
}

// jsonFlag gives a command --json.
func (a *app) jsonFlag(c *cobra.Command) *cobra.Command {
	c.Flags().BoolVar(&a.json, "json", false, "print the result, or the error, as JSON")
	return c
}

// file returns the configuration file to read, or an empty path for none. A
// restored box has brought its own into the data folder, which counts where
// there is no other.
func (a *app) file() string {
	if a.configFile != "" {
		return a.configFile
	}
	there := func(path string) bool {
		_, err := os.Stat(path)
		return err == nil
	}
	if path := config.DefaultFile(a.env, there); path != "" {
		return path
	}
	cfg := config.Config{DataDir: a.dataDir}
	cfg.Resolve(a.env)
	if path := box.ConfigPath(cfg); there(path) {
		return path
	}
	return ""
}

// load reads the configuration and lets the flags override it.
func (a *app) load() (config.Config, config.Problems) {
	cfg, problems := config.LoadIn(a.file(), a.env, a.now())
	automatic := cfg.Admin.Socket == config.DefaultSocket(a.env, cfg.DataDir)
	if a.dataDir != "" {
		cfg.DataDir = a.dataDir
		if automatic {
			cfg.Admin.Socket = filepath.Join(a.dataDir, "admin.sock")
		}
	}
	if a.socket != "" {
		cfg.Admin.Socket = a.socket
	}
	cfg.Resolve(a.env)
	return cfg, problems
}

// checked returns the configuration where it has no mistakes.
func (a *app) checked() (config.Config, error) {
	cfg, problems := a.load()
	if err := problems.Err(); err != nil {
		return cfg, err
	}
	for _, warning := range problems {
		a.say("%s", warning)
	}
	return cfg, nil
}

// client returns the API of the running daemon. Mistakes in the file do not
// matter here: the daemon may run with an older version of it, and the person
// may want to know how it is.
func (a *app) client() *admin.Client {
	if a.socket != "" {
		return admin.NewClient(a.socket)
	}
	cfg, _ := a.load()
	socket := cfg.Admin.Socket
	if a.dataDir == "" && a.env.Getenv("RUNTIME_DIRECTORY") == "" && socket == config.DefaultSocket(a.env, cfg.DataDir) && !exists(socket) && exists(config.SystemSocket) {
		socket = config.SystemSocket // a member of the group asks the box that runs as a service
	}
	return admin.NewClient(socket)
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}
