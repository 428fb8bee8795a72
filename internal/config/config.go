// Package config reads pibox's one configuration file.
//
// The file is TOML, every key has a default, and no file at all is a working
// configuration. The structs below are the only description of the file: the
// decoder, the range checks and the printed default file (Example) all read
// their tags, so none of them can say something else than the others.
//
// Tags: toml is the key; doc the text printed above it; range the inclusive
// bounds "low..high" in the unit of the field; oneof the allowed words; kind
// a check on text (see checkText); sample an entry shown for an empty table
// array.
package config

import (
	"strconv"
	"time"
)

// Config is the whole configuration. Load returns one whose automatic values
// (DataDir, Admin.Socket) are filled in and whose domains and addresses are
// checked and in canonical form.
type Config struct {
	Domains  []string `toml:"domains" kind:"domain" doc:"Domains this box serves. The first is the main one. Empty: the name of this machine under .local. The domain is fixed in the store at the first start; a changed host name never changes it."`
	DataDir  string   `toml:"data_dir" doc:"Folder of the database, backups and keys. Empty: $STATE_DIRECTORY, for root /var/lib/pibox, else $XDG_DATA_HOME/pibox (~/.local/share/pibox)."`
	Family   string   `toml:"family" kind:"line" doc:"Name of the family, as people and their clients see this box called."`
	Language string   `toml:"language" kind:"language" doc:"Language of messages from the box to people, where theirs is not known (BCP 47, such as en or de)."`

	Log     Log     `toml:"log" doc:"What is logged, to standard error. Never bodies of messages, never secrets."`
	Contact Contact `toml:"contact" doc:"Addresses of the people who run this box, told to anybody who asks (XEP-0157): mailto:, xmpp: or https: URIs."`
	TLS     TLS     `toml:"tls" doc:"Certificates. Without any, the box makes its own family certificate authority."`
	Login   Login   `toml:"login" doc:"What slows the guessing of passwords. Nobody is ever locked out."`
	C2S     C2S     `toml:"c2s" doc:"Connections from clients."`
	S2S     S2S     `toml:"s2s" doc:"Connections with other servers."`
	Limits  Limits  `toml:"limits" doc:"The shape of one stanza, from anybody."`
	DNS     DNS     `toml:"dns" doc:"Looking up other servers."`
	Moved   Moved   `toml:"moved" doc:"Moving to another address (XEP-0283)."`
	Archive Archive `toml:"archive" doc:"What members said and heard, for all their devices (XEP-0313). Each one can say in a client what is not to be kept."`
	Push    Push    `toml:"push" doc:"Push services, which wake the apps of devices that have no connection (XEP-0357). They are told that something came."`
	Store   Store   `toml:"store" doc:"The database file."`
	Health  Health  `toml:"health" doc:"LEDs."`
	Backup  Backup  `toml:"backup" doc:"Backups, and what a new box begins with."`
	Admin   Admin   `toml:"admin" doc:"The local socket that commands such as 'pibox user add' talk to."`
}

// Log says what is logged and how.
type Log struct {
	Level  string `toml:"level" oneof:"debug info warn error" doc:"The least level that is logged."`
	Format string `toml:"format" oneof:"text json" doc:"One line of text or one JSON object per entry."`
}

// Contact holds the address lists of XEP-0157 §3, each a list of URIs.
type Contact struct {
	Abuse    []string `toml:"abuse" kind:"uri" doc:"Where to report abuse."`
	Admin    []string `toml:"admin" kind:"uri" doc:"Who runs the box."`
	Feedback []string `toml:"feedback" kind:"uri" doc:"Where to send feedback."`
	Sales    []string `toml:"sales" kind:"uri" doc:"Sales; a family needs none."`
	Security []string `toml:"security" kind:"uri" doc:"Where to report a security problem."`
	Status   []string `toml:"status" kind:"uri" doc:"Where the state of the box can be seen."`
	Support  []string `toml:"support" kind:"uri" doc:"Who helps."`
}

// TLS configures certificates and the protocol version.
type TLS struct {
	MinVersion   string        `toml:"min_version" oneof:"1.2 1.3" doc:"The oldest TLS version that is spoken."`
	Certificates []Certificate `toml:"certificate" doc:"Own certificates, one table each. A domain without one gets one of the family authority." sample:"domain = \"example.org\"\nchain = \"/etc/pibox/example.org.pem\"\nkey = \"/etc/pibox/example.org.key\""`
}

// Certificate is a certificate chain with its key, in PEM files.
type Certificate struct {
	Domain string `toml:"domain" kind:"domain" doc:"The domain it is for."`
	Chain  string `toml:"chain" doc:"PEM file: the certificate, then its intermediates."`
	Key    string `toml:"key" doc:"PEM file of the private key."`
}

// Login configures how guessing passwords is slowed. An address that logged in
// to an account before is delayed there at most, never refused.
type Login struct {
	PairFree      int      `toml:"pair_free" range:"0..1000" doc:"Wrong passwords for one account from one address, and for one account from all strangers together, that cost nothing."`
	PairRefuse    int      `toml:"pair_refuse" range:"0..10000" doc:"From so many on, a stranger's address is refused at that account until one is forgotten. 0: never."`
	AddressFree   int      `toml:"address_free" range:"0..1000" doc:"Wrong passwords for different accounts from one address that cost nothing."`
	AddressRefuse int      `toml:"address_refuse" range:"0..10000" doc:"From so many on, the address is refused at all accounts that it is a stranger to. 0: never."`
	Delay         Duration `toml:"delay" range:"0s..1m" doc:"First delay; each further wrong password doubles it."`
	MaxDelay      Duration `toml:"max_delay" range:"0s..5m" doc:"The longest delay. It is a part of the time to log in, c2s.auth_timeout."`
	Forget        Duration `toml:"forget" range:"1m..168h" doc:"After this time one wrong password is forgotten."`
	Trust         Duration `toml:"trust" range:"0s..8760h" doc:"How long an address that logged in to an account is no stranger to it."`
}

// C2S configures client connections.
type C2S struct {
	Listen    []string `toml:"listen" kind:"listen" doc:"Addresses for clients; TLS is required by STARTTLS."`
	ListenTLS []string `toml:"listen_tls" kind:"listen" doc:"Addresses for clients with TLS from the first byte (XEP-0368)."`
	Conflict  string   `toml:"conflict" oneof:"replace rename refuse" doc:"What happens when a client asks for a resource that another connection holds (RFC 6120 §7.7.2.2): replace ends the older one, refuse the newer one, rename gives the newer one another resource."`

	StanzaBeforeLogin Bytes `toml:"stanza_before_login" range:"10000B..1MiB" doc:"Largest stanza before the password was checked. RFC 6120 §13.12 wants 10000 bytes at least."`
	Stanza            Bytes `toml:"stanza" range:"10000B..16MiB" doc:"Largest stanza of a logged-in client."`
	StanzaRate        int   `toml:"stanza_rate" range:"1..100000" doc:"Stanzas per second that a connection may send in the long run. A faster one is read from more slowly, not cut off."`
	StanzaBurst       int   `toml:"stanza_burst" range:"1..1000000" doc:"Stanzas that it may send at once."`
	ByteRate          Bytes `toml:"byte_rate" range:"1KiB..1GiB" doc:"Bytes per second that a connection may send in the long run."`
	ByteBurst         Bytes `toml:"byte_burst" range:"16KiB..1GiB" doc:"Bytes that it may send at once. Not less than the largest stanza."`

	AuthTimeout            Duration `toml:"auth_timeout" range:"5s..10m" doc:"Time to log in, from the first byte to the bound resource."`
	Connections            int      `toml:"connections" range:"1..100000" doc:"Connections in total."`
	ConnectionsPerAddress  int      `toml:"connections_per_address" range:"1..100000" doc:"Connections from one address (IPv6: from one /64). A whole family behind one router shares it."`
	UnauthenticatedPerAddr int      `toml:"unauthenticated_per_address" range:"1..100000" doc:"Of these, how many may not yet be logged in."`
	ResourcesPerAccount    int      `toml:"resources_per_account" range:"1..1000" doc:"Devices of one account that are connected at the same time."`

	SendQueue     Bytes    `toml:"send_queue" range:"256KiB..256MiB" doc:"Bytes waiting for a client that does not read. Past it the client loses its connection and its stanzas go where those of an offline user go."`
	WriteTimeout  Duration `toml:"write_timeout" range:"1s..10m" doc:"A client that takes no byte for this long is gone."`
	ResumeTimeout Duration `toml:"resume_timeout" range:"10s..24h" doc:"A device that lost its connection is waited for so long: it goes on where it was, and nobody sees it leave (XEP-0198)."`
	ResumeQueue   Bytes    `toml:"resume_queue" range:"512KiB..256MiB" doc:"Bytes that wait for such a device, or that it did not acknowledge yet. Past it its stanzas go where those of an offline user go."`
	ResumeTotal   Bytes    `toml:"resume_total" range:"1MiB..1GiB" doc:"Bytes that wait for all such devices together. Past it the box waits no longer for those of the member with the most, the one that is gone for the longest first."`
	HoldQueue     Bytes    `toml:"hold_queue" range:"16KiB..16MiB" doc:"Bytes that are held back from a device that nobody looks at (XEP-0352) before it is woken for them."`
	Keepalive     Duration `toml:"keepalive" range:"10s..1h" doc:"After this much silence the box asks a client whether it is still there; after eight times as much where nobody looks at it. That wakes a phone, so it is long."`
	TCPKeepalive  Duration `toml:"tcp_keepalive" range:"10s..1h" doc:"After this much silence the kernels ask each other, which wakes no app."`
	DeadAfter     Duration `toml:"dead_after" range:"5s..1h" doc:"A client that does not answer that for this long is gone."`
}

// S2S configures connections with other servers.
type S2S struct {
	Enabled         bool     `toml:"enabled" doc:"Whether the box talks with other servers at all."`
	Listen          []string `toml:"listen" kind:"listen" doc:"Addresses for other servers (STARTTLS)."`
	ListenTLS       []string `toml:"listen_tls" kind:"listen" doc:"Addresses for other servers with TLS from the first byte (XEP-0368)."`
	Dialback        bool     `toml:"dialback" doc:"Accept a server whose certificate can not be verified when a call back to its domain's address confirms it (XEP-0220). Only as safe as DNS."`
	DialbackDomains []string `toml:"dialback_domains" kind:"domain" doc:"The same for these domains alone."`
	SystemRoot      bool     `toml:"system_roots" doc:"Trust the certificate authorities of this machine."`
	Trust           []string `toml:"trust" kind:"pem" doc:"PEM files of further trusted authorities, such as another family's."`
	Allow           []string `toml:"allow" kind:"pattern" doc:"When not empty, only these domains are talked to. *.example.org means its subdomains."`
	Deny            []string `toml:"deny" kind:"pattern" doc:"Domains that are never talked to; wins over allow."`

	Stanza                Bytes    `toml:"stanza" range:"10000B..16MiB" doc:"Largest stanza of another server. One that its own client may send must pass."`
	StanzaRate            int      `toml:"stanza_rate" range:"1..100000" doc:"Stanzas per second from one connection in the long run."`
	ByteRate              Bytes    `toml:"byte_rate" range:"1KiB..1GiB" doc:"Bytes per second from one connection in the long run."`
	AuthTimeout           Duration `toml:"auth_timeout" range:"5s..10m" doc:"Time until a connection is authenticated."`
	ConnectTimeout        Duration `toml:"connect_timeout" range:"1s..5m" doc:"Time for one attempt to reach one address."`
	Connections           int      `toml:"connections" range:"1..100000" doc:"Incoming connections in total."`
	ConnectionsPerAddress int      `toml:"connections_per_address" range:"1..100000" doc:"Incoming connections from one address (IPv6: from one /64)."`
	IdleTimeout           Duration `toml:"idle_timeout" range:"1m..24h" doc:"A connection that carried no stanza for this long is closed."`
	Keepalive             Duration `toml:"keepalive" range:"10s..1h" doc:"After this much silence the box sends white space to the other server."`
	DeadAfter             Duration `toml:"dead_after" range:"5s..1h" doc:"A server whose machine does not confirm what was sent for this long is gone."`
	WriteTimeout          Duration `toml:"write_timeout" range:"1s..10m" doc:"A server that takes no byte for this long is gone."`
	QueueBytes            Bytes    `toml:"queue_bytes" range:"512KiB..1GiB" doc:"Bytes waiting for one domain; past it stanzas come back to their senders."`
	QueueTotal            Bytes    `toml:"queue_total" range:"512KiB..1GiB" doc:"Bytes waiting for all domains together."`
	QueueTime             Duration `toml:"queue_time" range:"10s..168h" doc:"A stanza that is not stored, such as presence, and could not be delivered for this long comes back to its sender."`
	DurableTime           Duration `toml:"durable_time" range:"1h..720h" doc:"A stored message that could not be delivered for this long comes back to its sender."`
	DurableBytes          Bytes    `toml:"durable_bytes" range:"1MiB..1GiB" doc:"Bytes of stored messages that one member may have waiting for all other servers; past it they come back at once."`

	Routes []Route `toml:"route" doc:"Fixed addresses of other servers, for boxes without public DNS, one table each." sample:"domain = \"grandma.example\"\naddress = \"192.0.2.7:5269\"\ntls = \"starttls\""`
}

// Route is the fixed address of another server.
type Route struct {
	Domain  string `toml:"domain" kind:"domain" doc:"The other server's domain."`
	Address string `toml:"address" kind:"dial" doc:"Its address, host:port."`
	TLS     string `toml:"tls" oneof:"starttls direct" doc:"How TLS begins."`
}

// Limits bounds the shape of a stanza, whoever sends it.
type Limits struct {
	Depth      int `toml:"depth" range:"8..1000" doc:"Elements inside elements."`
	Attributes int `toml:"attributes" range:"8..1000" doc:"Attributes of one element, namespace declarations included."`
	Children   int `toml:"children" range:"64..100000" doc:"Elements in one stanza."`
}

// DNS configures the resolver.
type DNS struct {
	Server  string   `toml:"server" kind:"resolver" doc:"Address of the resolver to ask, IP or IP:port. Empty: that of this machine."`
	Timeout Duration `toml:"timeout" range:"1s..1m" doc:"Time for one question, repeats included."`
}

// Moved configures the verification of moves and the forwarding of accounts.
type Moved struct {
	VerifyTimeout  Duration `toml:"verify_timeout" range:"1s..5m" doc:"Time that the old address has to answer."`
	AcceptDialback bool     `toml:"accept_dialback" doc:"Accept the answer of a server that only dialback vouches for."`
	PerSender      int      `toml:"per_sender" range:"1..1000" doc:"Verifications per hour for one new address. Over a limit a claim is an ordinary contact request."`
	PerDomain      int      `toml:"per_domain" range:"1..10000" doc:"Verifications per hour for one other domain, the new address's or the old one's."`
	Total          int      `toml:"total" range:"1..100000" doc:"Verifications per hour in total."`
	InFlight       int      `toml:"in_flight" range:"1..1000" doc:"Verifications at the same time."`
	ForwardingDays int      `toml:"forwarding_days" range:"90..3650" doc:"Days that an account which moved away keeps answering where it went."`
	StatementDelay Duration `toml:"statement_delay" range:"0s..168h" doc:"Time in which a published move can be cancelled before others can read it. Clients publish and notify at once, so 0s is what works with them."`
	RetryMin       Duration `toml:"retry_min" range:"1s..1h" doc:"First pause before something another server did not confirm is sent again; doubles."`
	RetryMax       Duration `toml:"retry_max" range:"1m..24h" doc:"Longest such pause."`
}

// Archive configures how much of a member's messages is kept.
type Archive struct {
	MaxAge  Duration `toml:"max_age" range:"0s..876000h" doc:"How long a message is kept; 8760h is a year. 0s: for ever."`
	MaxSize Bytes    `toml:"max_size" range:"0B..1TiB" doc:"Bytes of messages that are kept for one account; past it the oldest go. A message takes a few hundred bytes: 1GiB is some million. What several members have is stored once. 0B: no limit."`
}

// Push configures what push services are told; 'pibox user push' does so for one account.
type Push struct {
	IncludeSender bool `toml:"include_sender" doc:"Tell them who wrote the last message. They belong to the makers of the apps. 'pibox user push' sets it for one account."`
	IncludeBody   bool `toml:"include_body" doc:"Tell them also what it says, where it is not encrypted."`
}

// Store configures the database.
type Store struct {
	Reserve    Bytes `toml:"reserve" range:"1MiB..1TiB" doc:"Free space on the disk below which nothing more is written."`
	QueueBytes Bytes `toml:"queue_bytes" range:"1MiB..1GiB" doc:"Bytes waiting to be written. While it is full, connections are not read from."`
}

// Health configures where the state is shown.
type Health struct {
	StatusLED     string `toml:"status_led" kind:"led" doc:"Name of the LED that shows the state. auto: ACT or led0 where there is one; none: leave LEDs alone."`
	PowerLED      string `toml:"power_led" kind:"led" doc:"Name of a second LED, which shows the same. auto: PWR or led1 where there is one; none: leave it alone."`
	LEDDir        string `toml:"led_dir" doc:"The kernel's LED class."`
	GPIO          string `toml:"gpio" kind:"gpio" doc:"A GPIO pin with an LED on it instead, such as GPIO17. Empty: none."`
	GPIOActiveLow bool   `toml:"gpio_active_low" doc:"The LED at that pin shines when the pin is low."`
}

// Backup configures backups and the first start of a box.
type Backup struct {
	Recipients  []string `toml:"recipients" kind:"recipient" doc:"Public keys of age (age1…) that 'pibox backup' encrypts to where nothing else is said. Empty: it asks for a pass phrase."`
	RestoreFrom []string `toml:"restore_from" kind:"folder" doc:"Folders in which a box without a database looks for a backup before it begins as a new one: pibox-restore.age, else the last pibox-*.age; beside it pibox-restore.txt with the pass phrase or the identity of age."`
}

// Admin configures the local administration socket.
type Admin struct {
	Socket string `toml:"socket" doc:"Path of the socket. Empty: $RUNTIME_DIRECTORY/admin.sock, for root /run/pibox/admin.sock, else $XDG_RUNTIME_DIR/pibox/admin.sock, else admin.sock in data_dir."`
	Group  string `toml:"group" doc:"Group whose members may use the socket, beside root and the box's own user. Empty: the box's own group."`
}

// Default returns the configuration of a box without a file. Automatic values
// are empty in it; see Config.Resolve.
func Default() Config {
	return Config{
		Domains:  []string{},
		Language: "en",
		Log:      Log{Level: "info", Format: "text"},
		Contact: Contact{
			Abuse: []string{}, Admin: []string{}, Feedback: []string{}, Sales: []string{},
			Security: []string{}, Status: []string{}, Support: []string{},
		},
		TLS: TLS{MinVersion: "1.2", Certificates: []Certificate{}},
		Login: Login{
			PairFree: 5, PairRefuse: 20, AddressFree: 10, AddressRefuse: 30,
			Delay: seconds(1), MaxDelay: seconds(20), Forget: minutes(10), Trust: Duration(30 * 24 * time.Hour),
		},
		C2S:    defaultC2S(),
		S2S:    defaultS2S(),
		Limits: Limits{Depth: 64, Attributes: 64, Children: 4096},
		DNS:    DNS{Timeout: seconds(10)},
		Moved: Moved{
			VerifyTimeout: seconds(30), PerSender: 30, PerDomain: 200, Total: 600, InFlight: 32,
			ForwardingDays: 90, RetryMin: seconds(30), RetryMax: Duration(6 * time.Hour),
		},
		Archive: Archive{MaxSize: archiveSize()},
		Backup:  Backup{Recipients: []string{}, RestoreFrom: []string{"/boot/firmware", "/media/usb"}},
		Store:   Store{Reserve: 32 << 20, QueueBytes: 8 << 20},
		Health: Health{
			StatusLED: "auto", PowerLED: "auto", LEDDir: "/sys/class/leds",
		},
	}
}

func defaultC2S() C2S {
	return C2S{
		Listen: []string{":5222"}, ListenTLS: []string{":5223"}, Conflict: "replace",
		StanzaBeforeLogin: 10_000, Stanza: 256 << 10,
		StanzaRate: 100, StanzaBurst: 2000, ByteRate: 1 << 20, ByteBurst: 4 << 20,
		AuthTimeout: seconds(60), Connections: 2000, ConnectionsPerAddress: 200,
		UnauthenticatedPerAddr: 100, ResourcesPerAccount: 50,
		SendQueue: 1 << 20, WriteTimeout: seconds(30),
		ResumeTimeout: minutes(10), ResumeQueue: 2 << 20, ResumeTotal: 32 << 20, HoldQueue: 256 << 10,
		Keepalive: minutes(15), TCPKeepalive: minutes(5), DeadAfter: seconds(60),
	}
}

func defaultS2S() S2S {
	return S2S{
		Enabled: true, Listen: []string{":5269"}, ListenTLS: []string{":5270"},
		SystemRoot: true, Trust: []string{}, DialbackDomains: []string{}, Allow: []string{}, Deny: []string{},
		Stanza: 512 << 10, StanzaRate: 500, ByteRate: 4 << 20,
		AuthTimeout: seconds(60), ConnectTimeout: seconds(20),
		Connections: 1000, ConnectionsPerAddress: 50,
		IdleTimeout: minutes(30), Keepalive: minutes(3), DeadAfter: seconds(60), WriteTimeout: seconds(60),
		QueueBytes: 1 << 20, QueueTotal: 16 << 20, QueueTime: minutes(2), DurableTime: minutes(72 * 60), DurableBytes: 32 << 20,
		Routes: []Route{},
	}
}

// archiveSize is more text than a family writes in decades. The database of a 32-bit box can not grow beyond 1 GiB in all (docs/decisions.md), so
// there an account has less, and still years.
func archiveSize() Bytes {
	if strconv.IntSize == 32 {
		return 128 << 20
	}
	return 1 << 30
}

func minutes(n int) Duration { return seconds(60 * n) }

func seconds(n int) Duration { return Duration(time.Duration(n) * time.Second) }
