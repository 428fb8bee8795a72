package sasl

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
)

func TestNewCredentials(t *testing.T) {
	c, err := NewCredentials("r0m30myr0m30", rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Validate(); err != nil {
		t.Fatal(err)
	}
	other, err := NewCredentials("r0m30myr0m30", rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Equal(c.SHA256.Salt, other.SHA256.Salt) || bytes.Equal(c.SHA256.StoredKey, other.SHA256.StoredKey) {
		t.Error("two accounts with one password share salt or keys")
	}
	if bytes.Equal(c.SHA1.Salt, c.SHA256.Salt) {
		t.Error("both hashes share a salt")
	}
	config := testConfig(t)
	config.Lookup = func(string) (Account, error) { return Account{Name: "juliet", Known: true, Credentials: c}, nil }
	for _, name := range Mechanisms(false) {
		if err := julietClient(name).run(t, mustServer(t, name, config)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := NewCredentials("r0m30myr0m30", bytes.NewReader(make([]byte, saltSize))); err == nil {
		t.Error("no error though the random source ended")
	}
}

func TestCredentialsRecord(t *testing.T) {
	c, err := NewCredentials("secret r0m30myr0m30", rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(text), "r0m30") {
		t.Error("the record holds the password")
	}
	var back Credentials
	if err := json.Unmarshal(text, &back); err != nil {
		t.Fatal(err)
	}
	again, err := json.Marshal(back)
	if err != nil || !bytes.Equal(again, text) {
		t.Errorf("%s, then %s", text, again)
	}
	half, err := json.Marshal(Credentials{SHA1: c.SHA1})
	if err != nil || strings.Contains(string(half), "256") {
		t.Errorf("%s", half)
	}
}

func TestCredentialsStayOutOfLogs(t *testing.T) {
	c := Credentials{SHA1: Keys{Salt: []byte("SALT"), StoredKey: []byte("STORED"), ServerKey: []byte("SERVER")}}
	var out bytes.Buffer
	for _, h := range []slog.Handler{slog.NewTextHandler(&out, nil), slog.NewJSONHandler(&out, nil)} {
		slog.New(h).Info("x", "value", c, "pointer", &c)
	}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%q"} {
		fmt.Fprintf(&out, verb, c)
		fmt.Fprintf(&out, verb, &c)
	}
	for _, secret := range []string{"SALT", "U0FMVA", "STORED", "U1RPUkVE", "53544f524544", "83 84 79"} {
		if strings.Contains(out.String(), secret) {
			t.Errorf("%s in %s", secret, out.String())
		}
	}
}

func TestCredentialsValidate(t *testing.T) {
	good := func() Credentials {
		return Credentials{SHA1: Keys{Salt: []byte("salt"), Iterations: 4096, StoredKey: make([]byte, 20), ServerKey: make([]byte, 20)}}
	}
	if err := good().Validate(); err != nil {
		t.Error(err)
	}
	for name, change := range map[string]func(*Credentials){
		"nothing":          func(c *Credentials) { *c = Credentials{} },
		"no salt":          func(c *Credentials) { c.SHA1.Salt = nil },
		"huge salt":        func(c *Credentials) { c.SHA1.Salt = make([]byte, maxSalt+1) },
		"no iterations":    func(c *Credentials) { c.SHA1.Iterations = 0 },
		"endless":          func(c *Credentials) { c.SHA1.Iterations = maxIterations + 1 },
		"short stored key": func(c *Credentials) { c.SHA1.StoredKey = c.SHA1.StoredKey[1:] },
		"no server key":    func(c *Credentials) { c.SHA1.ServerKey = nil },
		"keys of SHA-1":    func(c *Credentials) { c.SHA256 = c.SHA1 },
	} {
		c := good()
		change(&c)
		if c.Validate() == nil {
			t.Errorf("%s: valid", name)
		}
	}
}

func TestPreparePassword(t *testing.T) {
	for _, tc := range []struct{ in, want string }{
		{"pencil", "pencil"},
		{"Pencil ", "Pencil "},       // neither case nor spaces are touched
		{" a,b=c", " a,b=c"},         //
		{"a\u00a0b\u3000c", "a b c"}, // RFC 8265 §4.2.1, RFC 4013 §2.1
		{"cafe\u0301", "caf\u00e9"},  // NFC and NFKC alike
		{"пароль", "пароль"},         //
		{"密码", "密码"},                 //
		{"שלום123", "שלום123"},       // refused by a strict SASLprep
		{"tortue🐢", "tortue🐢"},       // likewise
		{"πßå", "πßå"},               // RFC 8265 §4.3
		{strings.Repeat("a", MaxPassword), strings.Repeat("a", MaxPassword)},
	} {
		got, err := preparePassword(tc.in)
		if err != nil || got != tc.want {
			t.Errorf("%q: got %q, %v, want %q", tc.in, got, err, tc.want)
		}
	}
}

// Each text must name the next step.
func TestPasswordRefused(t *testing.T) {
	for _, tc := range []struct{ name, in, say string }{
		{"empty", "", "Choose one"},
		{"too long", strings.Repeat("a", MaxPassword+1), "Choose a shorter one"},
		{"too long in bytes", strings.Repeat("ä", MaxPassword/2+1), "Choose a shorter one"},
		{"not UTF-8", "a\xff", "Set the terminal to UTF-8"},
		{"replacement character", "a\ufffd", "Set the terminal to UTF-8"},
		{"control", "a\tb", "without it"},
		{"NUL", "a\x00b", "without it"},
		{"line break", "ab\n", "without it"},
		{"soft hyphen", "a\u00adb", "without it"},      // SASLprep drops it
		{"zero width space", "a\u200bb", "without it"}, // likewise
		{"byte order mark", "\ufeffab", "without it"},  //
		{"private use", "a\ue000", "without it"},
		{"variation selector", "❤\ufe0f", "without it"},
		{"feminine ordinal", "\u00aa", `'ª' (U+00AA)`}, // NFKC: a; RFC 4013 §3
		{"roman nine", "\u2168", `'Ⅸ' (U+2168)`},       // NFKC: IX; RFC 4013 §3
		{"ellipsis", "wait…", `'…' (U+2026)`},
		{"micro", "5µm", `'µ' (U+00B5)`},
		{"full width", "ａｂｃ", `'ａ' (U+FF41)`},
		{"joiner", "न\u094d\u200dर", "U+200D"},
	} {
		_, err := NewCredentials(tc.in, rand.Reader)
		var p *PasswordError
		if !errors.As(err, &p) || !strings.Contains(p.Error(), tc.say) {
			t.Errorf("%s: got %v, want a text with %q", tc.name, err, tc.say)
		}
	}
}
