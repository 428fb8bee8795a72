package main

import (
	"context"
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/sha1"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// prosodyServer is Prosody with the modules of Debian's own configuration and the archive; as one client program stands for many, without limits
// of rate. Nagle's algorithm is off: it would hold back what is written behind something else.
type prosodyServer struct {
	*peer
	storage string
}

const prosodyConfig = `
run_as_root = true -- the machine that runs this is a container or a guest of CI
data_path = "/mnt/data"
pidfile = "/mnt/prosody.pid"
log = { warn = "/mnt/log"; }
interfaces = { "%[1]s" }
c2s_ports = { 5222 }
c2s_direct_tls_ports = { }
s2s_ports = { }
s2s_direct_tls_ports = { }
http_ports = { }
https_ports = { }
network_settings = { nagle = false }
modules_enabled = {
	"disco"; "roster"; "saslauth"; "tls"; "blocklist"; "bookmarks"; "carbons"; "pep"; "private"; "smacks"; "vcard4"; "vcard_legacy";
	"account_activity"; "cloud_notify"; "csi_simple"; "ping"; "time"; "uptime"; "version"; "posix"; "mam";
}
modules_disabled = { "s2s" }
authentication = "internal_hashed"
default_storage = "%[3]s"
storage = { accounts = "internal" }
sql = { driver = "SQLite3"; database = "prosody.sqlite"; }
c2s_require_encryption = true
certificates = "/mnt"
VirtualHost "%[2]s"
	ssl = { key = "/mnt/both.pem"; certificate = "/mnt/both.pem"; }
`

// newProsody: storage is "internal", its default, or "sql", which is SQLite.
func newProsody(title, root, dir, storage string) (*prosodyServer, error) {
	p, err := newPeer(title, root, dir, 3*time.Second) // 0.12.3 did not end when a client left at the same time (mod_c2s.lua:469)
	return &prosodyServer{p, storage}, err
}

func (p *prosodyServer) version(context.Context) string {
	words := map[string]string{"internal": "files", "sql": "SQLite"}
	return "Prosody " + p.packageVersion("prosody") + ", " + words[p.storage]
}

func (p *prosodyServer) prepare(context.Context) error {
	return os.WriteFile(filepath.Join(p.dir, "prosody.cfg.lua"), fmt.Appendf(nil, prosodyConfig, p.host, domain, p.storage), 0o600)
}

// writeAccounts writes what prosodyctl would, in a fraction of the time.
func (p *prosodyServer) writeAccounts() error {
	folder := filepath.Join(p.dir, "data", strings.ReplaceAll(domain, ".", "%2e"), "accounts")
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return err
	}
	const salt, iterations = "bench-salt", 10000
	salted, err := pbkdf2.Key(sha1.New, password, []byte(salt), iterations, sha1.Size)
	if err != nil {
		return err
	}
	mac := func(text string) []byte {
		m := hmac.New(sha1.New, salted)
		m.Write([]byte(text))
		return m.Sum(nil)
	}
	stored := sha1.Sum(mac("Client Key"))
	account := fmt.Appendf(nil, "return {\n\t[\"iteration_count\"] = %d;\n\t[\"salt\"] = %q;\n\t[\"stored_key\"] = \"%x\";\n\t[\"server_key\"] = \"%x\";\n};\n",
		iterations, salt, stored, mac("Server Key"))
	for i := range users {
		if err := os.WriteFile(filepath.Join(folder, user(i)+".dat"), account, 0o600); err != nil {
			return err
		}
	}
	return nil
}

func (p *prosodyServer) reset() error {
	return errors.Join(os.RemoveAll(filepath.Join(p.dir, "data")), p.writeAccounts())
}

func (p *prosodyServer) launch() error {
	return p.run(nil, "prosody", "-F", "--config", inside+"/prosody.cfg.lua")
}
