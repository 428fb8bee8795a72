package config

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"time"
)

// maxPEM bounds what is read from a certificate file.
const maxPEM = 1 << 20

// checker finds the mistakes that one key alone does not show, and reads the
// files that keys name.
type checker struct {
	*report
	now time.Time
	// base is the folder that relative paths in the file start from.
	base string
}

func (c checker) all(cfg *Config) {
	c.domains(cfg)
	c.listeners(cfg)
	c.pairs(cfg)
	c.routes(cfg)
	c.certificates(cfg)
	for i := range cfg.S2S.Trust {
		c.trust(entry("s2s.trust", i), &cfg.S2S.Trust[i])
	}
	if g := cfg.Admin.Group; g != "" {
		if _, err := user.LookupGroup(g); err != nil {
			c.add("admin.group", "there is no group %q on this machine", g)
		}
	}
	if cfg.Health.LEDDir == "" {
		c.add("health.led_dir", "is empty; to leave LEDs alone set status_led and power_led to none")
	}
}

func (c checker) domains(cfg *Config) {
	for i, d := range cfg.Domains {
		if slices.Index(cfg.Domains, d) < i {
			c.add(entry("domains", i), "%q is listed twice", d)
		}
	}
}

// listeners finds two listeners that would get in each other's way.
func (c checker) listeners(cfg *Config) {
	type listener struct{ path, host, port string }
	var seen []listener
	look := func(path string, list []string) {
		for i, a := range list {
			host, port, err := net.SplitHostPort(a)
			if err != nil || port == "0" {
				continue
			}
			l := listener{entry(path, i), host, port}
			for _, o := range seen {
				if o.port == port && (o.host == host || o.host == "" || host == "") {
					c.add(l.path, "%q is already taken by %s on line %d", a, o.path, c.line(o.path))
					break
				}
			}
			seen = append(seen, l)
		}
	}
	look("c2s.listen", cfg.C2S.Listen)
	look("c2s.listen_tls", cfg.C2S.ListenTLS)
	if cfg.S2S.Enabled {
		look("s2s.listen", cfg.S2S.Listen)
		look("s2s.listen_tls", cfg.S2S.ListenTLS)
	}
}

// pairs checks values that must not be larger than another one.
func (c checker) pairs(cfg *Config) {
	type side struct {
		path  string
		value any
	}
	bytes := func(path string, b Bytes) side { return side{path, b} }
	span := func(path string, d Duration) side { return side{path, d} }
	count := func(path string, n int) side { return side{path, n} }
	for _, p := range []struct{ low, high side }{
		{bytes("c2s.stanza_before_login", cfg.C2S.StanzaBeforeLogin), bytes("c2s.stanza", cfg.C2S.Stanza)},
		{bytes("c2s.stanza", cfg.C2S.Stanza), bytes("c2s.byte_burst", cfg.C2S.ByteBurst)},
		{bytes("c2s.stanza", cfg.C2S.Stanza), bytes("c2s.send_queue", cfg.C2S.SendQueue)},
		{bytes("s2s.stanza", cfg.S2S.Stanza), bytes("c2s.send_queue", cfg.C2S.SendQueue)},
		{bytes("c2s.send_queue", cfg.C2S.SendQueue), bytes("c2s.resume_queue", cfg.C2S.ResumeQueue)},
		{bytes("c2s.resume_queue", cfg.C2S.ResumeQueue), bytes("c2s.resume_total", cfg.C2S.ResumeTotal)},
		{bytes("c2s.stanza", cfg.C2S.Stanza), bytes("s2s.queue_bytes", cfg.S2S.QueueBytes)},
		{bytes("s2s.queue_bytes", cfg.S2S.QueueBytes), bytes("s2s.queue_total", cfg.S2S.QueueTotal)},
		{bytes("s2s.stanza", cfg.S2S.Stanza), bytes("store.queue_bytes", cfg.Store.QueueBytes)},
		{bytes("c2s.stanza", cfg.C2S.Stanza), bytes("store.queue_bytes", cfg.Store.QueueBytes)},
		{count("c2s.unauthenticated_per_address", cfg.C2S.UnauthenticatedPerAddr), count("c2s.connections_per_address", cfg.C2S.ConnectionsPerAddress)},
		{count("c2s.connections_per_address", cfg.C2S.ConnectionsPerAddress), count("c2s.connections", cfg.C2S.Connections)},
		{count("s2s.connections_per_address", cfg.S2S.ConnectionsPerAddress), count("s2s.connections", cfg.S2S.Connections)},
		{span("login.delay", cfg.Login.Delay), span("login.max_delay", cfg.Login.MaxDelay)},
		{span("login.max_delay", cfg.Login.MaxDelay), span("c2s.auth_timeout", cfg.C2S.AuthTimeout)},
		{count("moved.per_sender", cfg.Moved.PerSender), count("moved.per_domain", cfg.Moved.PerDomain)},
		{count("moved.per_domain", cfg.Moved.PerDomain), count("moved.total", cfg.Moved.Total)},
		{span("moved.retry_min", cfg.Moved.RetryMin), span("moved.retry_max", cfg.Moved.RetryMax)},
	} {
		if number(p.low.value) <= number(p.high.value) {
			continue
		}
		// The one that is written in the file is the one to change.
		at, word, other := p.low, "more", p.high
		if c.lines[p.low.path] == 0 {
			at, word, other = p.high, "less", p.low
		}
		c.add(at.path, "%v must not be %s than %s, which is %v", at.value, word, other.path, other.value)
	}
}

func number(v any) int64 {
	switch n := v.(type) {
	case Bytes:
		return int64(n)
	case Duration:
		return int64(n)
	case int:
		return int64(n)
	}
	return 0
}

func (c checker) routes(cfg *Config) {
	seen := map[string]string{}
	for i := range cfg.S2S.Routes {
		r, path := &cfg.S2S.Routes[i], entry("s2s.route", i)
		if r.TLS == "" {
			r.TLS = "starttls"
		}
		c.needed(path, "domain", r.Domain)
		c.needed(path, "address", r.Address)
		if r.Domain == "" {
			continue
		}
		if first, ok := seen[r.Domain]; ok {
			c.add(path+".domain", "%q has a route already, on line %d", r.Domain, c.line(first))
		} else {
			seen[r.Domain] = path + ".domain"
		}
		if slices.Contains(cfg.Domains, r.Domain) {
			c.add(path+".domain", "%q is a domain of this box", r.Domain)
		}
	}
}

// needed reports a key that is not there or empty. An empty address or domain
// that is there was reported when it was read.
func (c checker) needed(table, key, value string) {
	_, written := c.lines[join(table, key)]
	switch {
	case value == "" && !written:
		c.add(table, "%s is missing", key)
	case value == "" && (key == "chain" || key == "key"):
		c.add(join(table, key), "the name of a file is missing")
	}
}

func (c checker) certificates(cfg *Config) {
	seen := map[string]string{}
	for i := range cfg.TLS.Certificates {
		ct, path := &cfg.TLS.Certificates[i], entry("tls.certificate", i)
		c.needed(path, "domain", ct.Domain)
		c.needed(path, "chain", ct.Chain)
		c.needed(path, "key", ct.Key)
		if first, ok := seen[ct.Domain]; ok && ct.Domain != "" {
			c.add(path+".domain", "%q has a certificate already, on line %d", ct.Domain, c.line(first))
		} else {
			seen[ct.Domain] = path + ".domain"
		}
		if len(cfg.Domains) > 0 && ct.Domain != "" && !slices.Contains(cfg.Domains, ct.Domain) {
			c.add(path+".domain", "%q is not among domains", ct.Domain)
		}
		if ct.Chain != "" && ct.Key != "" {
			c.certificate(path, ct)
		}
	}
}

// certificate reads the two files and checks that they belong together and
// are for the domain. One that has expired is a warning only: a box that
// would not start then could tell nobody.
func (c checker) certificate(path string, ct *Certificate) {
	chain, err := c.read(&ct.Chain)
	if err != nil {
		c.add(path+".chain", "%v", err)
	}
	key, keyErr := c.read(&ct.Key)
	if keyErr != nil {
		c.add(path+".key", "%v", keyErr)
	}
	if err != nil || keyErr != nil {
		return
	}
	pair, err := tls.X509KeyPair(chain, key)
	if err != nil {
		c.add(path, "certificate and key can not be used: %v", err)
		return
	}
	if ct.Domain == "" {
		return
	}
	name, err := asciiDomain(ct.Domain)
	if err == nil {
		err = pair.Leaf.VerifyHostname(name)
	}
	if err != nil {
		c.add(path+".chain", "the certificate in %s is not for %s: %v", ct.Chain, ct.Domain, err)
		return
	}
	switch {
	case c.now.After(pair.Leaf.NotAfter):
		c.warn(path+".chain", "the certificate expired on %s", pair.Leaf.NotAfter.Format(time.DateOnly))
	case c.now.Before(pair.Leaf.NotBefore):
		c.warn(path+".chain", "the certificate is valid from %s only; is the clock of this machine right?", pair.Leaf.NotBefore.Format(time.DateOnly))
	}
}

func (c checker) trust(path string, file *string) {
	data, err := c.read(file)
	if err != nil {
		c.add(path, "%v", err)
		return
	}
	found := 0
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" {
			continue
		}
		if _, err := x509.ParseCertificate(block.Bytes); err != nil {
			c.add(path, "%s: certificate %d can not be read: %v", *file, found+1, err)
			return
		}
		found++
	}
	if found == 0 {
		c.add(path, "%s holds no PEM certificate", *file)
	}
}

// read returns the file's content and makes its path absolute.
func (c checker) read(path *string) ([]byte, error) {
	if *path == "" {
		return nil, errors.New("the name of a file is missing")
	}
	if !filepath.IsAbs(*path) {
		*path = filepath.Join(c.base, *path)
	}
	info, err := os.Stat(*path)
	if err == nil && !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is no file", *path)
	}
	if err == nil && info.Size() > maxPEM {
		return nil, fmt.Errorf("%s is too large for a certificate file", *path)
	}
	var data []byte
	if err == nil {
		data, err = os.ReadFile(*path)
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("there is no file %s", *path)
	case errors.Is(err, fs.ErrPermission):
		return nil, fmt.Errorf("%s may not be read by this user; change its owner or mode", *path)
	}
	return data, err
}
