// Package throttle slows down what comes too often: guessed passwords (Logins), connections from one address (Connections),
// bytes and stanzas on one connection (Bucket). Nothing here waits or reads a clock of its own; the caller is told how long to
// wait. What is remembered is bounded, however many addresses an attacker has, and is gone after a restart.
package throttle

import "net/netip"

// A network is what counts as one address: an IPv4 address, or an IPv6 /64, within which a host may pick addresses at will.
type network [16]byte

func networkOf(addr netip.Addr) network {
	addr = addr.Unmap()
	if addr.Is6() {
		if p, err := addr.WithZone("").Prefix(64); err == nil {
			addr = p.Addr()
		}
	}
	return addr.As16()
}
