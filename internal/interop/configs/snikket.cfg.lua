-- Prosody as Snikket sets it up (its ansible/files/prosody.cfg.lua), as far as it matters to who moves and Debian has the modules: README.md tells what
-- lacks. One domain, only its own loopback address. The names with a dollar are filled in by harness/servers.py.
run_as_root = true -- the machine that runs this is a container or a guest of CI
daemonize = false
data_path = "$folder/data"
pidfile = "$folder/prosody.pid"
log = { debug = "$folder/log"; }
plugin_paths = { "$modules" }

interfaces = { "$address" }
c2s_ports = { 5222 }
c2s_direct_tls_ports = { 5223 }
s2s_ports = { 5269 }
s2s_direct_tls_ports = { 5270 } -- Snikket has none: the harness awaits all four
http_interfaces = { "$address" }
http_ports = { 5280 }
https_ports = {}
http_default_host = "$domain"
http_max_content_size = 1024 * 1024

-- libunbound asks our name server and no other: it leaves out loopback addresses until told.
unbound = {
	resolvconf = false;
	hoststxt = false;
	forward = { "$dns_address@$dns_port" };
	options = { ["do-not-query-localhost:"] = "no"; };
}

modules_enabled = {
	"roster"; "saslauth"; "tls"; "disco";
	"carbons"; "pep"; "blocklist"; "vcard4"; "vcard_legacy";
	"uptime"; "time"; "ping"; "register"; "mam"; "csi_simple";
	"cloud_notify"; "limits"; "watchregistrations"; "smacks"; "bookmarks"; "server_contact_info"; "posix";
	"invites"; "invites_adhoc"; "invites_register"; "firewall";
	"interop_snikket"; -- in the place of "groups_internal" and "http_xep227"
}

max_resources = 10
registration_watchers = {}
allow_registration = true
registration_invite_only = true
allow_contact_invites = false

tls_profile = "modern"
c2s_require_encryption = true
s2s_require_encryption = true
s2s_secure_auth = true
authentication = "internal_hashed"
disable_sasl_mechanisms = { "PLAIN", "OAUTHBEARER" }

archive_expires_after = "7d"
send_legacy_offline_messages_to_mam_clients = true

interop_circles = { $circles }

certificates = "$certificates"
ssl = { cafile = "$authority"; }

VirtualHost "$domain"
