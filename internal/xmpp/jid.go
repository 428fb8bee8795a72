package xmpp

import (
	"errors"
	"strings"

	"mellium.im/xmpp/jid"
)

// JID is an address (RFC 7622), prepared: two JIDs name the same entity exactly when they are ==.
type JID struct{ Local, Domain, Resource string }

// ParseJID prepares an address by PRECIS and IDNA. The empty string is no address.
func ParseJID(s string) (JID, error) {
	if j, ok := parsePlain(s); ok {
		return j, nil
	}
	j, err := jid.Parse(s)
	if err != nil {
		return JID{}, err
	}
	out := JID{j.Localpart(), j.Domainpart(), j.Resourcepart()}
	if !strings.HasPrefix(out.Domain, "[") && !fullLabels(out.Domain) {
		return JID{}, errDomain
	}
	// Preparation must not change what is prepared, or two spellings of one address would be two entities; where the library's
	// profiles do, the address is refused.
	if again, err := jid.Parse(out.String()); err != nil || !again.Equal(j) {
		return JID{}, errUnstable
	}
	return out, nil
}

var (
	errDomain   = errors.New("the domainpart has an empty or too long label")
	errUnstable = errors.New("the address has no stable prepared form")
)

func fullLabels(domain string) bool {
	for label := range strings.SplitSeq(domain, ".") {
		if label == "" || len(label) > 63*4 {
			return false
		}
	}
	return true
}

// MustJID is ParseJID for constants.
func MustJID(s string) JID {
	j, err := ParseJID(s)
	if err != nil {
		panic("xmpp: JID " + s + ": " + err.Error())
	}
	return j
}

// parsePlain takes the addresses that preparation does not change: lower-case letters, digits, '.', '-' and '_' before the
// slash, the same with upper-case letters behind it. Nearly all are such; PRECIS costs a microsecond and six allocations.
func parsePlain(s string) (JID, bool) {
	if len(s) == 0 || len(s) > 512 {
		return JID{}, false
	}
	at, slash := -1, len(s)
	for i := 0; i < len(s); i++ {
		c := s[i]
		switch {
		case c >= 'a' && c <= 'z', c >= '0' && c <= '9', c == '.', c == '-', c == '_':
		case slash < len(s) && c >= 'A' && c <= 'Z':
		case c == '@' && at < 0 && slash == len(s):
			at = i
		case c == '/' && slash == len(s):
			slash = i
		default:
			return JID{}, false
		}
	}
	domain := s[at+1 : slash]
	if at == 0 || slash == len(s)-1 || domain == "" || !plainDomain(domain) {
		return JID{}, false
	}
	j := JID{Domain: domain}
	if at > 0 {
		j.Local = s[:at]
	}
	if slash < len(s) {
		j.Resource = s[slash+1:]
	}
	return j, true
}

// plainDomain leaves everything that IDNA looks at more closely (A-labels, hyphens, empty or long labels) to it.
func plainDomain(s string) bool {
	start := 0
	for i := 0; i <= len(s); i++ {
		if i < len(s) && s[i] != '.' {
			if s[i] == '_' {
				return false
			}
			continue
		}
		label := s[start:i]
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' || (len(label) > 3 && label[2:4] == "--") {
			return false
		}
		start = i + 1
	}
	return true
}

// String is the address as it is written in a stanza.
func (j JID) String() string {
	switch {
	case j.Local == "" && j.Resource == "":
		return j.Domain
	case j.Resource == "":
		return j.Local + "@" + j.Domain
	case j.Local == "":
		return j.Domain + "/" + j.Resource
	}
	return j.Local + "@" + j.Domain + "/" + j.Resource
}

// spells tells whether s is String, without making it; the zero JID is "".
func (j JID) spells(s string) bool {
	if j.Local != "" {
		var ok bool
		if s, ok = strings.CutPrefix(s, j.Local); !ok || s == "" || s[0] != '@' {
			return false
		}
		s = s[1:]
	}
	s, ok := strings.CutPrefix(s, j.Domain)
	if !ok || j.Resource == "" {
		return ok && s == ""
	}
	return s != "" && s[0] == '/' && s[1:] == j.Resource
}

// Bare is the address without its resource.
func (j JID) Bare() JID { return JID{Local: j.Local, Domain: j.Domain} }

// Host is the address of the domain alone.
func (j JID) Host() JID { return JID{Domain: j.Domain} }

// With is the full JID of a resource of j's bare JID; the resource is prepared already.
func (j JID) With(resource string) JID { return JID{j.Local, j.Domain, resource} }

// IsBare tells that there is no resource.
func (j JID) IsBare() bool { return j.Resource == "" }

// IsZero tells that there is no address.
func (j JID) IsZero() bool { return j.Domain == "" }

// Covers tells whether j, as an entry of a list (XEP-0191 §3.7… JID matching), stands for x: the full JID, the bare one, a resource at
// a domain, or the domain.
func (j JID) Covers(x JID) bool {
	return j == x || j == x.Bare() || j == x.Host() || (j.Local == "" && j.Resource != "" && j == JID{"", x.Domain, x.Resource})
}
