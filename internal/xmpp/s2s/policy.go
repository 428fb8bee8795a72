package s2s

import (
	"fmt"
	"net/netip"
	"strings"

	"pibox/internal/xmpp"
)

// policy is the one place that decides what a peer domain is allowed. Whoever opens, accepts or uses a stream asks it.
type policy struct {
	own         func(domain string) bool
	allow, deny []string // patterns; deny wins, an empty allow allows everybody
	dialback    []string // patterns of domains that dialback alone may vouch for
}

func newPolicy(own func(string) bool, opt Options) (policy, error) {
	p := policy{own: own}
	dialback := opt.DialbackDomains
	if opt.Dialback {
		dialback = []string{"*"}
	}
	for _, l := range []struct {
		to   *[]string
		from []string
	}{{&p.allow, opt.Allow}, {&p.deny, opt.Deny}, {&p.dialback, dialback}} {
		for _, pattern := range l.from {
			below, isBelow := strings.CutPrefix(pattern, "*.")
			if pattern != "*" {
				j, err := xmpp.ParseJID(below)
				if err != nil || j != j.Host() {
					return p, fmt.Errorf("s2s: %q is neither a domain nor *.domain", pattern)
				}
				if pattern = j.Domain; isBelow {
					pattern = "*." + pattern
				}
			}
			*l.to = append(*l.to, pattern)
		}
	}
	return p, nil
}

// permit is what one peer domain may do.
type permit struct {
	talk     bool   // stanzas may go to and come from it
	why      string // where talk is false: for the person
	dialback bool   // without a certificate that proves the domain, dialback suffices
}

func (p *policy) of(domain string) permit {
	switch {
	case p.own(domain):
		return permit{why: "it is a domain of this box"}
	case isAddress(domain):
		return permit{why: "an IP address is no domain"}
	case matches(p.deny, domain), len(p.allow) > 0 && !matches(p.allow, domain):
		return permit{why: "this box does not talk with " + domain}
	}
	return permit{talk: true, dialback: matches(p.dialback, domain)}
}

// accepts tells whether a domain with such a proof may send us stanzas.
func (p permit) accepts(proof xmpp.Proof) bool {
	return p.talk && (proof == xmpp.ProofCertificate || proof == xmpp.ProofDialback && p.dialback)
}

// matches tells whether a domain is in a list of patterns: a domain, "*.example.org" for what is below it, "*" for all.
func matches(patterns []string, domain string) bool {
	for _, p := range patterns {
		if p == "*" || p == domain {
			return true
		}
		if below, ok := strings.CutPrefix(p, "*"); ok && strings.HasPrefix(below, ".") && strings.HasSuffix(domain, below) {
			return true
		}
	}
	return false
}

// isAddress: RFC 7622 lets an IP address stand as a domain; no authority certifies those, and a call back to one can be aimed at any host.
func isAddress(domain string) bool {
	_, err := netip.ParseAddr(strings.Trim(domain, "[]"))
	return err == nil
}
