package card

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// wifiWords says why there is no address by Wi-Fi, as far as wpa_supplicant knows.
func (c *Card) wifiWords(w WiFi) string {
	list, err := os.ReadDir(c.Control)
	if err != nil || len(list) == 0 {
		return "no Wi-Fi device was found on this board"
	}
	for _, e := range list {
		s, err := dialSupplicant(filepath.Join(c.Control, e.Name()))
		if err != nil {
			continue
		}
		words := s.words(w)
		_ = s.Close()
		return words
	}
	return fmt.Sprintf("the Wi-Fi %q can not be reached", w.SSID)
}

// supplicant is wpa_supplicant's control interface: a question and an answer, each a datagram.
type supplicant struct{ *net.UnixConn }

func dialSupplicant(path string) (supplicant, error) {
	own := &net.UnixAddr{Name: fmt.Sprintf("@pibox-card-%d-%d", os.Getpid(), time.Now().UnixNano()), Net: "unixgram"}
	conn, err := net.DialUnix("unixgram", own, &net.UnixAddr{Name: path, Net: "unixgram"})
	return supplicant{conn}, err
}

func (s supplicant) ask(question string) (string, error) {
	if err := s.SetDeadline(time.Now().Add(2 * time.Second)); err != nil {
		return "", err
	}
	if _, err := s.Write([]byte(question)); err != nil {
		return "", err
	}
	answer := make([]byte, 16<<10)
	n, err := s.Read(answer)
	return string(answer[:n]), err
}

func (s supplicant) words(w WiFi) string {
	status, err := s.ask("STATUS")
	if err != nil {
		return fmt.Sprintf("the Wi-Fi %q can not be reached", w.SSID)
	}
	if strings.Contains(status, "wpa_state=COMPLETED") {
		return fmt.Sprintf("the Wi-Fi %q takes it, but the router gives it no address", w.SSID)
	}
	if networks, err := s.ask("LIST_NETWORKS"); err == nil && strings.Contains(networks, "[TEMP-DISABLED]") {
		return fmt.Sprintf("the Wi-Fi %q refuses it: most likely its password in %s is wrong", w.SSID, FileName)
	}
	seen := s.seen()
	switch {
	case slices.Contains(seen, escaped(w.SSID)):
		return fmt.Sprintf("the Wi-Fi %q is there and does not let it in yet", w.SSID)
	case len(seen) == 0:
		return fmt.Sprintf("no Wi-Fi at all is in reach, and so not %q", w.SSID)
	case w.Hidden:
		return fmt.Sprintf("the hidden Wi-Fi %q is not in reach, or has another name", w.SSID)
	}
	return fmt.Sprintf("no Wi-Fi named %q is in reach. There are: %s", w.SSID, strings.Join(seen[:min(len(seen), 6)], ", "))
}

// seen are the names of the networks in reach, strongest first, in wpa_supplicant's escapes.
func (s supplicant) seen() (names []string) {
	results, err := s.ask("SCAN_RESULTS")
	if err != nil {
		return nil
	}
	for i, l := range strings.Split(results, "\n") {
		f := strings.SplitN(l, "\t", 5) // bssid, frequency, signal, flags, ssid
		if i > 0 && len(f) == 5 && f[4] != "" && !slices.Contains(names, f[4]) {
			names = append(names, f[4])
		}
	}
	return names
}

// escaped is a name as wpa_supplicant prints it (printf_encode in its common.c).
func escaped(ssid string) string {
	var b strings.Builder
	for i := range len(ssid) {
		switch c := ssid[i]; {
		case c == '"' || c == '\\':
			b.WriteString("\\" + string(c))
		case c == '\n':
			b.WriteString("\\n")
		case c == '\r':
			b.WriteString("\\r")
		case c == '\t':
			b.WriteString("\\t")
		case c == 0x1b:
			b.WriteString("\\e")
		case c < ' ' || c > '~':
			fmt.Fprintf(&b, "\\x%02x", c)
		default:
			b.WriteByte(c)
		}
	}
	return b.String()
}
