package sasl

import (
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strconv"
	"strings"
	"unicode/utf8"

	"golang.org/x/text/secure/precis"
	"golang.org/x/text/unicode/norm"
)

const (
	// Iterations of PBKDF2 behind every key made here. It costs the client at each login and the server only when a password is
	// set. RFC 7677 §4 asks for 4096 or more, and clients refuse less; pure Python clients need 40 ms for 10000.
	Iterations = 10000

	// MaxPassword is the longest password, in bytes of UTF-8.
	MaxPassword = 1024

	saltSize      = 16
	maxSalt       = 1024     // bytes, of a salt taken over from another server
	maxIterations = 10000000 // of a record taken over: more would be a stalled client
)

// Keys are what is stored of a password for one hash function (RFC 5802 §3).
type Keys struct {
	Salt       []byte `json:"salt"`
	Iterations int    `json:"iterations"`
	StoredKey  []byte `json:"stored_key"`
	ServerKey  []byte `json:"server_key"`
}

// Credentials are all that is stored of an account's password. A zero Keys means that there are none for this hash function (an
// account taken over from a server that had only the other).
type Credentials struct {
	SHA1   Keys `json:"scram_sha_1,omitzero"`
	SHA256 Keys `json:"scram_sha_256,omitzero"`
}

// IsZero tells whether there are no keys.
func (k Keys) IsZero() bool {
	return len(k.Salt) == 0 && k.Iterations == 0 && len(k.StoredKey) == 0 && len(k.ServerKey) == 0
}

func (k Keys) validate(size int) error {
	switch {
	case len(k.Salt) == 0 || len(k.Salt) > maxSalt:
		return fmt.Errorf("a salt of %d bytes, not 1 to %d", len(k.Salt), maxSalt)
	case k.Iterations < 1 || k.Iterations > maxIterations:
		return fmt.Errorf("%d iterations, not 1 to %d", k.Iterations, maxIterations)
	case len(k.StoredKey) != size || len(k.ServerKey) != size:
		return fmt.Errorf("keys of %d and %d bytes, not %d", len(k.StoredKey), len(k.ServerKey), size)
	}
	return nil
}

// Validate tells why a record that was made elsewhere (an import, an edited file) can not be used; nil if it can.
func (c Credentials) Validate() error {
	if c.SHA1.IsZero() && c.SHA256.IsZero() {
		return errors.New("sasl: credentials without any keys")
	}
	for _, name := range Mechanisms(false) {
		m, _ := mechanismByName(name)
		k := m.keys(&c)
		if k.IsZero() {
			continue
		}
		if err := k.validate(m.size); err != nil {
			return fmt.Errorf("sasl: credentials for %s: %w", name, err)
		}
	}
	return nil
}

// LogValue keeps the keys out of logs.
func (c Credentials) LogValue() slog.Value { return slog.StringValue("[credentials]") }

// Format keeps the keys out of everything that fmt prints.
func (c Credentials) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, "[credentials]") }

// NewCredentials derives from a password what may be stored of it, with salts from random. A password that can not be used gives
// a *PasswordError; any other error is of random.
func NewCredentials(password string, random io.Reader) (Credentials, error) {
	prepared, err := preparePassword(password)
	if err != nil {
		return Credentials{}, err
	}
	var c Credentials
	for _, name := range Mechanisms(false) {
		m, _ := mechanismByName(name)
		salt := make([]byte, saltSize)
		if _, err := io.ReadFull(random, salt); err != nil {
			return Credentials{}, fmt.Errorf("sasl: drawing a salt: %w", err)
		}
		keys, err := deriveKeys(m, prepared, salt, Iterations)
		if err != nil {
			return Credentials{}, fmt.Errorf("sasl: deriving %s keys: %w", name, err)
		}
		*m.keys(&c) = keys
	}
	return c, nil
}

// deriveKeys: RFC 5802 §3.
func deriveKeys(m mechanism, password string, salt []byte, iterations int) (Keys, error) {
	salted, err := pbkdf2.Key(m.hash, password, salt, iterations, m.size)
	if err != nil {
		return Keys{}, err
	}
	h := m.hash()
	h.Write(m.hmac(salted, "Client Key"))
	return Keys{
		Salt:       salt,
		Iterations: iterations,
		StoredKey:  h.Sum(nil),
		ServerKey:  m.hmac(salted, "Server Key"),
	}, nil
}

func (m mechanism) hmac(key []byte, text string) []byte {
	h := hmac.New(m.hash, key)
	_, _ = io.WriteString(h, text)
	return h.Sum(nil)
}

// decoy is what an account without keys is answered with: always the same for the same name, as a real salt would be, and not
// to be told from one without the server's secret. No proof fits its StoredKey.
func decoy(m mechanism, secret []byte, account string) Keys {
	draw := func(purpose string) []byte {
		h := hmac.New(sha256.New, secret)
		h.Write([]byte("pibox scram decoy\x00" + purpose + "\x00" + strconv.Itoa(m.size) + "\x00" + account))
		return h.Sum(nil)
	}
	return Keys{Salt: draw("salt")[:saltSize], Iterations: Iterations, StoredKey: draw("key")[:m.size], ServerKey: draw("key")[:m.size]}
}

// A PasswordError says why a password was refused and what to do about it, for the person.
type PasswordError struct{ Text string }

func (e *PasswordError) Error() string { return e.Text }

// preparePassword brings a password into the one form that is hashed.
//
// RFC 5802 has clients prepare it by SASLprep (RFC 4013), RFC 8265 replaces that by the OpaqueString profile, and many clients send
// it as it was typed. StoredKey can match only one of these, so what is accepted here is a password that all of them agree on:
// OpaqueString of it must not change under NFKC and must hold nothing that SASLprep drops. It is refused otherwise, when it is
// set, instead of working in one of the person's clients and not in the other.
//
// Two kinds are let through though a strict SASLprep refuses them: characters newer than Unicode 3.2 (emoji), and right-to-left text
// that holds digits or Latin letters at its ends. Clients either prepare them as OpaqueString does or refuse to send them.
func preparePassword(password string) (string, error) {
	switch {
	case password == "":
		return "", &PasswordError{"The password is empty. Choose one, for example four words that have nothing to do with each other."}
	case len(password) > MaxPassword:
		return "", &PasswordError{fmt.Sprintf("The password has %d bytes, more than the %d allowed. Choose a shorter one.", len(password), MaxPassword)}
	case !utf8.ValidString(password) || strings.ContainsRune(password, utf8.RuneError):
		return "", &PasswordError{"The password is not valid UTF-8 text. Set the terminal to UTF-8, or choose a password of plain letters and digits."}
	}
	prepared, err := precis.OpaqueString.String(password) // RFC 8265 §4.2
	if err != nil {
		return "", &PasswordError{"The password has a character that can not be used in one (a control character, an invisible mark, or an unknown " +
			"character). Type it again without it."}
	}
	for _, r := range prepared {
		if isJoiner(r) || !norm.NFKC.IsNormalString(string(r)) {
			return "", &PasswordError{fmt.Sprintf("The password has %q (%U), which some apps send in another form, so that it would work in one "+
				"and not in the other. Choose one without it.", r, r)}
		}
	}
	if norm.NFKC.String(prepared) != prepared {
		return "", &PasswordError{"The password has accents that some apps write in another form. Choose one without them."}
	}
	return prepared, nil
}

// isJoiner: PRECIS keeps these where the script needs them (RFC 5892 A.1, A.2), SASLprep drops them (RFC 3454 B.1).
func isJoiner(r rune) bool { return r == '\u200c' || r == '\u200d' }
