package s2s

import (
	"testing"
	"testing/synctest"
)

func TestExternalBothWays(t *testing.T) {
	for _, direct := range []bool{false, true} {
		t.Run(map[bool]string{false: "STARTTLS", true: "direct TLS"}[direct], func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := newNet(t)
				m := n.box("montague.example")
				defer m.stop()
				m.direct = direct
				c := n.box("capulet.example")
				defer c.stop()
				c.says("juliet@capulet.example/balcony", "romeo@montague.example", "m1")
				c.says("juliet@capulet.example/balcony", "romeo@montague.example", "m2")
				m.hears("m1 by certificate", "m2 by certificate")
				m.says("romeo@montague.example/orchard", "juliet@capulet.example", "m3")
				c.hears("m3 by certificate")
			})
		})
	}
}
