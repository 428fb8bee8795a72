package s2s

import (
	"crypto/tls"
	"testing"
	"testing/synctest"
)

// TestProofs lets two boxes talk with every combination of what their certificates prove and what dialback may.
func TestProofs(t *testing.T) {
	type side struct {
		bad, dialback bool
	}
	good, trusting := side{}, side{dialback: true}
	bad, badTrusting := side{bad: true}, side{bad: true, dialback: true}
	for name, c := range map[string]struct {
		capulet, montague side
		there             string // what montague hears
		returned          string // what comes back to capulet instead
		back              string // what capulet hears of the answer
	}{
		"both certificates are good":                       {good, good, "m1 by certificate", "", "m2 by certificate"},
		"good certificates need no dialback":               {trusting, trusting, "m1 by certificate", "", "m2 by certificate"},
		"the caller's is bad, dialback helps":              {bad, trusting, "m1 by dialback", "", "m2 by certificate"},
		"the caller's is bad, dialback is not allowed":     {bad, good, "", "m1 remote-server-timeout", ""},
		"the other's is bad, dialback helps":               {trusting, bad, "m1 by certificate", "", "m2 by dialback"},
		"the other's is bad, dialback is not allowed":      {good, bad, "", "m1 remote-server-timeout", ""},
		"both are bad, dialback helps":                     {badTrusting, badTrusting, "m1 by dialback", "", "m2 by dialback"},
		"both are bad, dialback is allowed by one":         {badTrusting, bad, "", "m1 remote-server-timeout", ""},
		"both are bad, dialback is allowed by the other":   {bad, badTrusting, "", "m1 remote-server-timeout", ""},
		"the caller's is bad, and dialback is on its side": {badTrusting, good, "", "m1 remote-server-timeout", ""},
	} {
		for _, direct := range []bool{false, true} {
			t.Run(name+map[bool]string{true: ", direct TLS"}[direct], func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					n := newNet(t)
					n.direct = direct
					box := func(domain string, s side) *box {
						b := n.box(domain, func(o *Options) { o.Dialback = s.dialback })
						if s.bad {
							cert := selfSigned(t, domain)
							b.cert = func(string) *tls.Certificate { return cert }
						}
						return b
					}
					m := box("montague.example", c.montague)
					defer m.stop()
					k := box("capulet.example", c.capulet)
					defer k.stop()
					k.says("juliet@capulet.example/balcony", "romeo@montague.example", "m1")
					if c.returned != "" {
						k.hears(c.returned)
						m.hears()
						return
					}
					m.hears(c.there)
					m.says("romeo@montague.example/orchard", "juliet@capulet.example", "m2")
					k.hears(c.back)
				})
			})
		}
	}
}

// TestWrongSecret: the domain's own server did not make the key that its other machine sends.
func TestWrongSecret(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNet(t)
		cert := selfSigned(t, "capulet.example")
		bad := func(b *box) { b.cert = func(string) *tls.Certificate { return cert } }
		m := n.box("montague.example", func(o *Options) { o.Dialback = true })
		defer m.stop()
		impostor := n.box("capulet.example", func(o *Options) { o.Secret = []byte("another") })
		bad(impostor)
		defer impostor.stop()
		authority := n.box("capulet.example", func(o *Options) { o.Secret = []byte("the right one") })
		bad(authority)
		defer authority.stop()
		impostor.says("juliet@capulet.example/balcony", "romeo@montague.example", "m1")
		impostor.hears("m1 internal-server-error")
		m.hears()
		authority.says("juliet@capulet.example/balcony", "romeo@montague.example", "m2")
		m.hears("m2 by dialback")
	})
}

// TestSeveralDomains: each pair of domains has its own proof and its own way.
func TestSeveralDomains(t *testing.T) {
	for _, dialback := range []bool{false, true} {
		t.Run(map[bool]string{false: "by certificate", true: "by dialback"}[dialback], func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := newNet(t)
				trust := func(o *Options) { o.Dialback = dialback }
				m := n.box("montague.example rosaline.example", trust)
				defer m.stop()
				c := n.box("capulet.example tybalt.example", trust)
				defer c.stop()
				by := " by certificate"
				if dialback {
					by = " by dialback"
					cert := selfSigned(t, "nobody.example")
					c.cert = func(string) *tls.Certificate { return cert }
				}
				i := 0
				for _, from := range []string{"capulet.example", "tybalt.example"} {
					for _, to := range []string{"montague.example", "rosaline.example"} {
						i++
						id := string(rune('0' + i))
						c.says("x@"+from, "y@"+to, id)
						m.hears(id + by)
					}
				}
			})
		})
	}
}

// TestUnreachablePeerThatReachesUs: a stream that the peer opened serves what waits for it, although it can not be connected to.
func TestUnreachablePeerThatReachesUs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNet(t)
		m := n.box("montague.example")
		defer m.stop()
		c := n.box("capulet.example")
		defer c.stop()
		m.routes["capulet.example"] = target{host: "10.9.9.9", port: 5269, route: true}
		m.says("romeo@montague.example/orchard", "juliet@capulet.example", "m1")
		m.hears()
		c.says("juliet@capulet.example/balcony", "romeo@montague.example", "m2")
		m.hears("m2 by certificate")
		c.hears("m1 by certificate")
	})
}
