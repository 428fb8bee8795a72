-- Debian's modules, one domain, only its own loopback address. The names with a dollar are filled in by harness/servers.py.
run_as_root = true -- the machine that runs this is a container or a guest of CI
daemonize = false
data_path = "$folder/data"
pidfile = "$folder/prosody.pid"
log = { debug = "$folder/log"; }

interfaces = { "$address" }
c2s_ports = { 5222 }
c2s_direct_tls_ports = { 5223 }
s2s_ports = { 5269 }
s2s_direct_tls_ports = { 5270 }
component_interfaces = { "$address" }
component_ports = { 5347 }

-- libunbound asks our name server and no other: it leaves out loopback addresses until told.
unbound = {
	resolvconf = false;
	hoststxt = false;
	forward = { "$dns_address@$dns_port" };
	options = { ["do-not-query-localhost:"] = "no"; };
}

modules_enabled = {
	"roster"; "saslauth"; "tls"; "dialback"; "disco"; "offline";
	"blocklist"; "carbons"; "cloud_notify"; "mam"; "pep"; "private"; "smacks"; "vcard4"; "vcard_legacy";
	"ping"; "time"; "uptime"; "version"; "posix"; $more_modules
}

push_max_errors = 1 -- as XEP-0357 §7.1 has it

firewall_scripts = { "$folder/firewall.pfw" }

authentication = "internal_hashed"
c2s_require_encryption = true
s2s_require_encryption = true
s2s_secure_auth = true
s2s_insecure_domains = { $insecure }

certificates = "$certificates"
ssl = { cafile = "$authority"; }

VirtualHost "$domain"
$components
