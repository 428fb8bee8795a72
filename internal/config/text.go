package config

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/net/idna"
	"mellium.im/xmpp/jid"
)

// checkText obeys the oneof and kind tags and returns s in canonical form.
func (d decoder) checkText(path, s string, tag reflect.StructTag) string {
	if words := strings.Fields(tag.Get("oneof")); len(words) > 0 {
		for _, w := range words {
			if s == w {
				return s
			}
		}
		d.add(path, "%q must be one of: %s", s, strings.Join(words, ", "))
		return s
	}
	out, err := canonical(tag.Get("kind"), s)
	if err != nil {
		d.add(path, "%v", err)
		return s
	}
	return out
}

// canonical checks a text of the kind that a tag names.
func canonical(kind, s string) (string, error) {
	switch kind {
	case "domain":
		return domain(s)
	case "domain or none":
		if s == "" {
			return s, nil
		}
		return domain(s)
	case "line":
		return s, oneLine(s)
	case "pattern":
		rest, sub := strings.CutPrefix(s, "*.")
		name, err := domain(rest)
		if sub {
			name = "*." + name
		}
		return name, err
	case "listen":
		return listenAddress(s)
	case "dial":
		return dialAddress(s)
	case "resolver":
		return resolverAddress(s)
	case "uri":
		return s, contactURI(s)
	case "language":
		return s, matches(s, `^[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8})*$`, "is no language tag such as en, de or pt-BR")
	case "led":
		return s, matches(s, `^[A-Za-z0-9_:-][A-Za-z0-9_:.-]*$`, "is no name of a LED: auto, none, or one of the names in led_dir")
	case "recipient":
		return s, matches(s, `^age1[02-9ac-hj-np-z]{10,}$`, "is no public key of age, such as age1…")
	case "folder":
		if !filepath.IsAbs(s) {
			return s, fmt.Errorf("%q must be the whole path of a folder, such as /media/usb", s)
		}
		return filepath.Clean(s), nil
	case "gpio":
		return s, matches(s, `^[A-Za-z0-9_]*$`, "is no name of a pin such as GPIO17")
	}
	return s, nil
}

// oneLine accepts what fits on one line of any screen.
func oneLine(s string) error {
	if len(s) > 100 {
		return errors.New("is longer than 100 bytes")
	}
	if i := strings.IndexFunc(s, func(r rune) bool { return r == utf8.RuneError || !unicode.IsPrint(r) }); i >= 0 {
		return fmt.Errorf("%q has a character that can not be shown", s)
	}
	return nil
}

func matches(s, pattern, text string) error {
	if regexp.MustCompile(pattern).MatchString(s) {
		return nil
	}
	return fmt.Errorf("%q %s", s, text)
}

// domain returns the form of a domain that addresses are compared in: that of
// RFC 7622 §3.2, without a final dot. Only host names can be looked up and put
// into certificates, so IP addresses and other strings are refused.
func domain(s string) (string, error) {
	if s == "" {
		return "", errors.New("a domain is missing, such as example.org")
	}
	if _, err := netip.ParseAddr(strings.Trim(s, "[]")); err == nil {
		return "", fmt.Errorf("%q is an IP address; a name such as example.org is needed", s)
	}
	if i := strings.IndexAny(s, "@/:"); i >= 0 {
		return "", fmt.Errorf("%q is no domain: only the name itself, without %q", s, s[i])
	}
	ascii, err := idna.Lookup.ToASCII(strings.TrimSuffix(s, "."))
	if err != nil || len(ascii) > 253 {
		return "", fmt.Errorf("%q is no domain such as example.org", s)
	}
	for label := range strings.SplitSeq(ascii, ".") {
		if label == "" || len(label) > 63 {
			return "", fmt.Errorf("%q is no domain: each part between dots has 1 to 63 characters", s)
		}
	}
	j, err := jid.New("", ascii, "")
	if err != nil {
		return "", fmt.Errorf("%q is no domain: %w", s, err)
	}
	return j.Domainpart(), nil
}

func splitAddress(s, example string) (host, port string, err error) {
	host, port, err = net.SplitHostPort(s)
	if err != nil {
		return "", "", fmt.Errorf("%q is no address with a port, such as %s", s, example)
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || strconv.FormatUint(n, 10) != port {
		return "", "", fmt.Errorf("%q: the port must be a number from 1 to 65535", s)
	}
	return host, port, nil
}

// listenAddress accepts port 0, any free port, for tests.
func listenAddress(s string) (string, error) {
	host, port, err := splitAddress(s, `":5222" or "192.0.2.1:5222"`)
	if err != nil {
		return "", err
	}
	if host != "" {
		ip, err := netip.ParseAddr(host)
		if err != nil {
			return "", fmt.Errorf("%q: %q is no IP address; leave it out to listen on all", s, host)
		}
		host = ip.String()
	}
	return net.JoinHostPort(host, port), nil
}

func dialAddress(s string) (string, error) {
	host, port, err := splitAddress(s, `"192.0.2.1:5269" or "xmpp.example.org:5269"`)
	if err != nil {
		return "", err
	}
	if port == "0" {
		return "", fmt.Errorf("%q: the port must be a number from 1 to 65535", s)
	}
	if ip, err := netip.ParseAddr(host); err == nil {
		return net.JoinHostPort(ip.String(), port), nil
	}
	name, err := domain(host)
	if err != nil {
		return "", err
	}
	return net.JoinHostPort(name, port), nil
}

func resolverAddress(s string) (string, error) {
	if s == "" {
		return "", nil
	}
	if ip, err := netip.ParseAddr(strings.Trim(s, "[]")); err == nil {
		return net.JoinHostPort(ip.String(), "53"), nil
	}
	a, err := netip.ParseAddrPort(s)
	if err != nil || a.Port() == 0 {
		return "", fmt.Errorf(`%q is no resolver address, such as "192.0.2.53" or "[2001:db8::53]:53"`, s)
	}
	return a.String(), nil
}

// contactURI checks one address of XEP-0157 §3: a URI that a person can follow.
func contactURI(s string) error {
	u, err := url.Parse(s)
	if err == nil {
		switch u.Scheme {
		case "mailto":
			if strings.Contains(u.Opaque, "@") {
				return nil
			}
		case "xmpp":
			if u.Opaque != "" {
				return nil
			}
		case "https", "http":
			if u.Host != "" {
				return nil
			}
		}
	}
	return fmt.Errorf(`%q is no contact URI, such as "mailto:admin@example.org", "xmpp:admin@example.org" or "https://example.org/help"`, s)
}

// CanonicalDomains checks domains that did not come from the file, such as
// those of a flag, and returns them in the form that those of the file have.
func CanonicalDomains(names []string) ([]string, error) {
	var out []string
	for _, n := range names {
		d, err := domain(n)
		if err != nil {
			return nil, err
		}
		if slices.Contains(out, d) {
			return nil, fmt.Errorf("%q is named twice", d)
		}
		out = append(out, d)
	}
	return out, nil
}
