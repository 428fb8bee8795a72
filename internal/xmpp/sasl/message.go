package sasl

import (
	"encoding/base64"
	"strings"
	"unicode/utf8"
)

// maxMessage bounds one decoded SCRAM message, in bytes: a localpart has at most 1023, a bare JID 2047 (RFC 7622 §3), nonces and
// proofs a few hundred.
const maxMessage = 4096

// maxNonce bounds the client's nonce, in bytes. Clients send 15 to 60.
const maxNonce = 512

// decodeText reads the text of <auth/> or <response/>: base64 by RFC 4648 §4 with padding, without white space (RFC 6120 §6.4.2),
// where "=" stands for data of no length.
func decodeText(text string) (string, *Failure) {
	if text == "=" {
		return "", nil
	}
	if len(text) > base64.StdEncoding.EncodedLen(maxMessage) {
		return "", malformed("message too long")
	}
	data, ok := decodeBase64(text)
	if !ok {
		return "", &Failure{Condition: IncorrectEncoding, Detail: "not base64"}
	}
	return string(data), nil
}

// decodeBase64 is strict in what encoding/base64 is not: line breaks.
func decodeBase64(text string) ([]byte, bool) {
	if strings.ContainsAny(text, "\r\n") {
		return nil, false
	}
	data, err := base64.StdEncoding.Strict().DecodeString(text)
	return data, err == nil
}

// A clientFirst is a client-first-message (RFC 5802 §7).
type clientFirst struct {
	header   string // gs2-header, with its commas
	bare     string // client-first-message-bare
	flag     byte   // 'n', 'y' or 'p'
	binding  string // the type, with 'p'
	authzid  string
	username string
	nonce    string
}

func parseClientFirst(message string) (clientFirst, *Failure) {
	var c clientFirst
	if f := checkText(message); f != nil {
		return c, f
	}
	flag, rest, ok1 := strings.Cut(message, ",")
	authzid, bare, ok2 := strings.Cut(rest, ",")
	if !ok1 || !ok2 {
		return c, malformed("no gs2 header")
	}
	c.header, c.bare = message[:len(message)-len(bare)], bare
	if f := c.parseFlag(flag); f != nil {
		return c, f
	}
	if authzid != "" {
		name, ok := strings.CutPrefix(authzid, "a=")
		if ok {
			c.authzid, ok = unescapeName(name)
		}
		if !ok {
			return c, malformed("bad authorization identity")
		}
	}
	return c, c.parseBare()
}

func (c *clientFirst) parseFlag(flag string) *Failure {
	switch {
	case flag == "n", flag == "y":
		c.flag = flag[0]
		return nil
	case strings.HasPrefix(flag, "p=") && isBindingName(flag[2:]):
		c.flag, c.binding = 'p', flag[2:]
		return nil
	}
	return malformed("bad channel binding flag")
}

func (c *clientFirst) parseBare() *Failure {
	fields := strings.Split(c.bare, ",")
	if strings.HasPrefix(fields[0], "m=") {
		return malformed("mandatory extension") // RFC 5802 §5.1
	}
	if len(fields) < 2 {
		return malformed("user name or nonce missing")
	}
	name, ok := strings.CutPrefix(fields[0], "n=")
	if ok {
		c.username, ok = unescapeName(name)
	}
	if !ok {
		return malformed("bad user name")
	}
	if c.nonce, ok = strings.CutPrefix(fields[1], "r="); !ok || !isNonce(c.nonce) || len(c.nonce) > maxNonce {
		return malformed("bad nonce")
	}
	return checkExtensions(fields[2:], "nr")
}

// A clientFinal is a client-final-message (RFC 5802 §7).
type clientFinal struct {
	withoutProof string
	binding      string // decoded: gs2-header and channel binding data
	nonce        string
	proof        []byte
}

func parseClientFinal(message string) (clientFinal, *Failure) {
	var c clientFinal
	if f := checkText(message); f != nil {
		return c, f
	}
	fields := strings.Split(message, ",")
	if len(fields) < 3 {
		return c, malformed("channel binding, nonce or proof missing")
	}
	last := fields[len(fields)-1]
	c.withoutProof = message[:len(message)-len(last)-1]

	binding, ok := strings.CutPrefix(fields[0], "c=")
	decoded, ok64 := decodeBase64(binding)
	if !ok || !ok64 || binding == "" {
		return c, malformed("bad channel binding")
	}
	c.binding = string(decoded)
	if c.nonce, ok = strings.CutPrefix(fields[1], "r="); !ok || !isNonce(c.nonce) {
		return c, malformed("bad nonce")
	}
	proof, ok := strings.CutPrefix(last, "p=")
	if c.proof, ok64 = decodeBase64(proof); !ok || !ok64 || proof == "" {
		return c, malformed("bad proof")
	}
	return c, checkExtensions(fields[2:len(fields)-1], "crp")
}

// checkText: RFC 5802 §7 knows no NUL and no octets that are not UTF-8.
func checkText(message string) *Failure {
	switch {
	case len(message) > maxMessage:
		return malformed("message too long")
	case !utf8.ValidString(message) || strings.IndexByte(message, 0) >= 0:
		return malformed("not UTF-8 without NUL")
	}
	return nil
}

// checkExtensions lets optional extensions pass unread (RFC 5802 §5.1) and refuses mandatory ones and repeated attributes.
func checkExtensions(fields []string, used string) *Failure {
	for _, f := range fields {
		if len(f) < 3 || !isLetter(f[0]) || f[1] != '=' {
			return malformed("bad extension")
		}
		if f[0] == 'm' {
			return malformed("mandatory extension")
		}
		if strings.IndexByte(used, f[0]) >= 0 {
			return malformed("attribute repeated or out of order")
		}
	}
	return nil
}

// unescapeName decodes a saslname (RFC 5802 §5.1): "=2C" is a comma, "=3D" an equals sign, and no other "=" may occur.
func unescapeName(name string) (string, bool) {
	if name == "" {
		return "", false
	}
	if !strings.Contains(name, "=") {
		return name, true
	}
	var b strings.Builder
	for {
		i := strings.IndexByte(name, '=')
		if i < 0 {
			b.WriteString(name)
			return b.String(), true
		}
		b.WriteString(name[:i])
		switch {
		case strings.HasPrefix(name[i:], "=2C"):
			b.WriteByte(',')
		case strings.HasPrefix(name[i:], "=3D"):
			b.WriteByte('=')
		default:
			return "", false
		}
		name = name[i+3:]
	}
}

// isNonce: printable ASCII without a comma, at least one.
func isNonce(s string) bool {
	for i := range len(s) {
		if s[i] < 0x21 || s[i] > 0x7e || s[i] == ',' {
			return false
		}
	}
	return s != ""
}

// isBindingName: cb-name, RFC 5056 §7.
func isBindingName(s string) bool {
	for i := range len(s) {
		if !isLetter(s[i]) && (s[i] < '0' || s[i] > '9') && s[i] != '.' && s[i] != '-' {
			return false
		}
	}
	return s != ""
}

func isLetter(b byte) bool { return b >= 'a' && b <= 'z' || b >= 'A' && b <= 'Z' }
