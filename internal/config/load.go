package config

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/net/idna"
)

// SystemFile is where the configuration of a box that runs as a service lies.
const SystemFile = "/etc/pibox/pibox.toml"

// SystemSocket is the admin socket of a box that runs as a service.
const SystemSocket = "/run/pibox/admin.sock"

// maxFile bounds the configuration file, in bytes.
const maxFile = 1 << 20

// Load reads and checks the file at path. An empty path means the defaults.
// A file that does not exist is a mistake: DefaultFile tells whether there is
// one where nobody named it. With mistakes, Config holds what could be read,
// which a command may use to find the socket and nothing may serve with.
func Load(path string) (Config, Problems) {
	return LoadIn(path, OSEnvironment(), time.Now())
}

// LoadIn is Load for a given environment and time.
func LoadIn(path string, env Environment, now time.Time) (Config, Problems) {
	if path == "" {
		cfg := Default()
		cfg.Resolve(env)
		return cfg, nil
	}
	text, err := readFile(path)
	if err != nil {
		cfg := Default()
		cfg.Resolve(env)
		return cfg, Problems{{File: path, Text: err.Error()}}
	}
	cfg, problems := Parse(path, text, now)
	cfg.Resolve(env)
	return cfg, problems
}

// Parse reads and checks the text of the file name without filling in the
// automatic values. Relative file names in it start from the folder of name.
func Parse(name, text string, now time.Time) (Config, Problems) {
	f := ParseWith(name, text, now, &struct{}{})
	return f.Config, f.Problems
}

func readFile(path string) (string, error) {
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "", errors.New("there is no such file; 'pibox config example' prints one to start from")
	case err != nil:
		return "", err
	case info.IsDir():
		return "", errors.New("this is a folder, not a file")
	case info.Size() > maxFile:
		return "", errors.New("this is too large for a configuration file")
	}
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrPermission) {
		return "", errors.New("this user may not read it; try as root, or change its owner or mode")
	}
	return string(data), err
}

// Environment is what automatic values and the place of the file depend on.
type Environment struct {
	UID    int
	Getenv func(string) string
	Home   string // empty where there is none
}

// OSEnvironment returns that of this process.
func OSEnvironment() Environment {
	home, _ := os.UserHomeDir()
	return Environment{UID: os.Geteuid(), Getenv: os.Getenv, Home: home}
}

// DefaultFile returns the file to read where none is named: $PIBOX_CONFIG;
// else the first that exists of pibox.toml in $CONFIGURATION_DIRECTORY
// (systemd), in $XDG_CONFIG_HOME/pibox for anybody but root, and in
// /etc/pibox. It returns an empty path when there is none.
func DefaultFile(env Environment, exists func(string) bool) string {
	if p := env.Getenv("PIBOX_CONFIG"); p != "" {
		return p
	}
	var places []string
	if dir := env.systemd("CONFIGURATION_DIRECTORY"); dir != "" {
		places = append(places, filepath.Join(dir, "pibox.toml"))
	}
	if env.UID != 0 {
		if dir := env.xdg("XDG_CONFIG_HOME", ".config"); dir != "" {
			places = append(places, filepath.Join(dir, "pibox", "pibox.toml"))
		}
	}
	for _, p := range append(places, SystemFile) {
		if exists(p) {
			return p
		}
	}
	return ""
}

// systemd returns the first folder that a variable of systemd.exec(5) lists.
func (e Environment) systemd(variable string) string {
	dir, _, _ := strings.Cut(e.Getenv(variable), ":")
	return dir
}

// xdg returns a folder of the XDG base directory specification, or an empty
// string. A relative path in the variable is invalid there and ignored.
func (e Environment) xdg(variable, inHome string) string {
	if dir := e.Getenv(variable); filepath.IsAbs(dir) {
		return dir
	}
	if e.Home == "" || inHome == "" {
		return ""
	}
	return filepath.Join(e.Home, inHome)
}

// Resolve fills in the automatic values and makes paths absolute.
func (c *Config) Resolve(env Environment) {
	if c.DataDir == "" {
		c.DataDir = dataDir(env)
	}
	if abs, err := filepath.Abs(c.DataDir); err == nil {
		c.DataDir = abs
	}
	if c.Admin.Socket == "" {
		c.Admin.Socket = DefaultSocket(env, c.DataDir)
	}
	if abs, err := filepath.Abs(c.Admin.Socket); err == nil {
		c.Admin.Socket = abs
	}
}

func dataDir(env Environment) string {
	if dir := env.systemd("STATE_DIRECTORY"); dir != "" {
		return dir
	}
	if dir := env.xdg("XDG_DATA_HOME", ".local/share"); env.UID != 0 && dir != "" {
		return filepath.Join(dir, "pibox")
	}
	return "/var/lib/pibox"
}

// DefaultSocket returns the admin socket where the file names none.
func DefaultSocket(env Environment, dataDir string) string {
	if dir := env.systemd("RUNTIME_DIRECTORY"); dir != "" {
		return filepath.Join(dir, "admin.sock")
	}
	if env.UID == 0 {
		return SystemSocket
	}
	if dir := env.xdg("XDG_RUNTIME_DIR", ""); dir != "" {
		return filepath.Join(dir, "pibox", "admin.sock")
	}
	return filepath.Join(dataDir, "admin.sock")
}

// asciiDomain returns the A-labels of a domain, as DNS and certificates have it.
func asciiDomain(name string) (string, error) { return idna.Lookup.ToASCII(name) }
