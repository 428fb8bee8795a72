package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// ejabberdServer is ejabberd with the modules of Debian's own configuration that a family uses and the archive, in its default storage (Mnesia);
// as one client program stands for many, without its limits of rate. It runs without Erlang's distribution, so that no epmd is left behind.
type ejabberdServer struct {
	*peer
}

const ejabberdConfig = `
loglevel: warning
hosts: ["%[2]s"]
certfiles: ["/mnt/both.pem"]
auth_password_format: scram
disable_sasl_mechanisms: ["digest-md5", "X-OAUTH2"]
c2s_protocol_options: ["no_sslv3", "no_tlsv1", "no_tlsv1_1", "cipher_server_preference", "no_compression"]
listen:
  - {port: 5222, ip: "%[1]s", module: ejabberd_c2s, max_stanza_size: 262144, starttls_required: true}
shaper_rules:
  max_user_sessions: 100
  max_user_offline_messages: 10000
modules:
  mod_avatar: {}
  mod_blocking: {}
  mod_caps: {}
  mod_carboncopy: {}
  mod_client_state: {}
  mod_disco: {}
  mod_last: {}
  mod_mam: {default: always, assume_mam_usage: true}
  mod_offline: {access_max_user_messages: max_user_offline_messages}
  mod_ping: {}
  mod_privacy: {}
  mod_private: {}
  mod_pubsub: {access_createnode: all, plugins: [flat, pep]}
  mod_push: {}
  mod_push_keepalive: {}
  mod_roster: {versioning: true}
  mod_stream_mgmt: {resend_on_timeout: if_offline}
  mod_vcard: {search: false}
  mod_vcard_xupdate: {}
  mod_version: {}
`

// What Erlang is to do once the server runs: make the accounts, and tell that they are there.
const ejabberdAccounts = `[ok = ejabberd_auth:try_register(list_to_binary("u" ++ integer_to_list(I)), <<"%s">>, <<"%s">>) || I <- lists:seq(0, %d)], ` +
	`ok = file:write_file("/mnt/ready", <<>>).`

func newEjabberd(root, dir string) (*ejabberdServer, error) {
	p, err := newPeer("ejabberd", root, dir, 10*time.Second)
	return &ejabberdServer{p}, err
}

func (e *ejabberdServer) version(context.Context) string {
	return "ejabberd " + e.packageVersion("ejabberd") + ", Mnesia"
}

func (e *ejabberdServer) at(name string) string { return filepath.Join(e.dir, name) }

func (e *ejabberdServer) prepare(ctx context.Context) error {
	if err := os.WriteFile(e.at("ejabberd.yml"), fmt.Appendf(nil, ejabberdConfig, e.host, domain), 0o600); err != nil {
		return err
	}
	if err := e.start("-eval", fmt.Sprintf(ejabberdAccounts, domain, password, users-1)); err != nil {
		return err
	}
	defer e.stop()
	for {
		select {
		case <-e.ended():
			return errors.New("it ended by itself: " + e.words())
		case <-ctx.Done():
			return fmt.Errorf("no accounts (%w): %s", ctx.Err(), e.words())
		case <-time.After(20 * time.Millisecond):
		}
		if _, err := os.Stat(e.at("ready")); err == nil {
			break
		}
	}
	e.stop()
	return os.Rename(e.at("mnesia"), e.at("prepared"))
}

func (e *ejabberdServer) reset() error {
	if err := os.RemoveAll(e.at("mnesia")); err != nil {
		return err
	}
	return os.CopyFS(e.at("mnesia"), os.DirFS(e.at("prepared")))
}

func (e *ejabberdServer) launch() error { return e.start() }

// start runs what Debian's ejabberdctl does.
func (e *ejabberdServer) start(more ...string) error {
	libraries, err := filepath.Glob(filepath.Join(e.root, "usr/lib/*/ejabberd-*"))
	if err != nil || len(libraries) == 0 {
		return errors.Join(err, errors.New("ejabberd's libraries are not where Debian puts them"))
	}
	within, err := filepath.Rel(e.root, filepath.Dir(libraries[0]))
	if err != nil {
		return err
	}
	env := []string{
		"EJABBERD_CONFIG_PATH=/mnt/ejabberd.yml", "EJABBERD_LOG_PATH=/mnt/log", "ERL_CRASH_DUMP=/mnt/crash", "ERL_LIBS=/" + within,
		"ERL_MAX_PORTS=32000", "ERL_MAX_ETS_TABLES=1400",
	}
	return e.run(env, append([]string{"erl", "-noinput", "+K", "true", "+P", "250000", "-mnesia", "dir", `"/mnt/mnesia"`, "-s", "ejabberd"}, more...)...)
}
