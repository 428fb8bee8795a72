package box

import (
	"fmt"
	"net"
	"strings"

	"pibox/internal/reach"
	"pibox/internal/xmpp"
)

// welcome is what a new box shows to who set it up: how to log in, from where, and what the client will ask. The options are those of commands.
func (s *service) welcome(j xmpp.JID, password, options string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "\nThis box is new. Its first administrator:\n\n    address   %s\n    password  %s\n\n", j, password)
	fmt.Fprintf(&b, "The password is shown only now: change it in your client or with `pibox user passwd admin%[1]s`. Lost it? `pibox user passwd admin%[1]s`.\n", options)
	if strings.HasSuffix(j.Domain, ".local") {
		b.WriteString("Devices in your network find the box by its name. One that does not is told the host and port:\n\n")
		for _, l := range s.listeners {
			if l.name == "c2s" {
				fmt.Fprintf(&b, "    host      %s\n    port      %s\n", strings.Join(hosts(l.Addr()), " or "), port(l.Addr()))
			}
		}
		b.WriteString("\n")
	}
	for _, c := range s.certs.Served() {
		if c.Own {
			fmt.Fprintf(&b, "A client that asks whether to trust %s shows this certificate (SHA-256):\n\n    %s\n\n", c.Domain, reach.Fingerprint(c.Certificate))
		}
	}
	if s.certs.AuthorityPEM() != nil {
		fmt.Fprintf(&b, "`pibox authority%s` prints the family's certificate authority, for devices that are to trust it without asking.\n\n", options)
	}
	return b.String()
}

// hosts are the addresses of this machine under which a listener can be reached from the network.
func hosts(at net.Addr) (list []string) {
	tcp, ok := at.(*net.TCPAddr)
	if ok && !tcp.IP.IsUnspecified() {
		return []string{tcp.IP.String()}
	}
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return nil
	}
	for _, a := range addrs {
		if n, ok := a.(*net.IPNet); ok && n.IP.To4() != nil && n.IP.IsGlobalUnicast() {
			list = append(list, n.IP.String())
		}
	}
	if len(list) == 0 {
		list = []string{"127.0.0.1"}
	}
	return list
}

func port(at net.Addr) string {
	_, p, _ := net.SplitHostPort(at.String())
	return p
}
