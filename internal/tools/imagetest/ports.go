package main

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// listener is a socket that takes what comes from others.
type listener struct {
	protocol string // tcp, udp
	port     uint64
	loopback bool
}

// listeners reads the kernel's tables /proc/net/{tcp,tcp6,udp,udp6}, each line behind the name of its own.
func listeners(tables string) ([]listener, error) {
	var all []listener
	for line := range strings.Lines(tables) {
		f := strings.Fields(line) // tcp 0: 00000000:1466 00000000:0000 0A …
		if len(f) < 5 || !strings.Contains(f[2], ":") {
			continue
		}
		// TCP in state LISTEN; UDP without a peer.
		if protocol := strings.TrimSuffix(f[0], "6"); protocol == "tcp" && f[4] == "0A" || protocol == "udp" && f[4] == "07" {
			address, hex, _ := strings.Cut(f[2], ":")
			port, err := strconv.ParseUint(hex, 16, 16)
			if err != nil {
				return nil, fmt.Errorf("%q: %w", line, err)
			}
			// 127.0.0.0/8 and ::1, in the byte order of a little machine.
			loopback := len(address) == 8 && strings.HasSuffix(address, "7F") || address == "00000000000000000000000001000000"
			all = append(all, listener{protocol, port, loopback})
		}
	}
	return all, nil
}

// allowed wants pibox and mDNS to listen, and nobody else but the DHCP clients (68, 546) and what is on loopback.
func allowed(list []listener, err error) error {
	if err != nil {
		return err
	}
	must := map[string]bool{"tcp 5222": false, "tcp 5223": false, "tcp 5269": false, "tcp 5270": false, "udp 5353": false}
	may := map[string]bool{"udp 68": true, "udp 546": true}
	var bad []error
	for _, l := range list {
		name := l.protocol + " " + strconv.FormatUint(l.port, 10)
		if _, ok := must[name]; ok {
			must[name] = true
		} else if !may[name] && !l.loopback {
			bad = append(bad, fmt.Errorf("%s listens", name))
		}
	}
	for name, seen := range must {
		if !seen {
			bad = append(bad, fmt.Errorf("%s does not listen", name))
		}
	}
	return errors.Join(bad...)
}
