// Package transfer is the conversation of two boxes, of which one takes the other's place: the code that a person carries between them, the
// connection that it secures, and the messages.
package transfer

import (
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"errors"
	"strings"
)

// Code is what a person carries from one box to the other: 80 random bits, written as 20 letters and digits of which the last four are a
// checksum, so that a slip of the pen costs no attempt.
type Code [10]byte

// alphabet is Crockford's: without I, L, O and U.
const alphabet = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"

// ErrCode: what was typed is no code.
var ErrCode = errors.New("this is no code: it has five groups of four letters and digits, and one of them is not as it was shown")

// NewCode makes one.
func NewCode() (c Code) {
	_, _ = rand.Read(c[:]) // never fails (crypto/rand)
	return c
}

// String writes the code in groups.
func (c Code) String() string {
	s := encode(c[:]) + c.sum()
	var groups []string
	for i := 0; i < len(s); i += 4 {
		groups = append(groups, s[i:i+4])
	}
	return strings.Join(groups, "-")
}

func encode(b []byte) string {
	return base32.NewEncoding(alphabet).WithPadding(base32.NoPadding).EncodeToString(b)
}

// sum are 20 bits.
func (c Code) sum() string {
	h := sha256.Sum256(append([]byte("pibox transfer code"), c[:]...))
	return encode(h[:])[:4]
}

// ParseCode reads what a person typed, however it is grouped.
func ParseCode(s string) (c Code, err error) {
	s = strings.NewReplacer("-", "", " ", "", "\t", "", "O", "0", "I", "1", "L", "1").Replace(strings.ToUpper(strings.TrimSpace(s)))
	if len(s) != 20 {
		return c, ErrCode
	}
	raw, err := base32.NewEncoding(alphabet).WithPadding(base32.NoPadding).DecodeString(s[:16])
	if err != nil || copy(c[:], raw) != len(c) || c.sum() != s[16:] {
		return Code{}, ErrCode
	}
	return c, nil
}

// Key is what both boxes make of the code, 32 bytes. The code itself is kept nowhere.
func (c Code) Key() []byte {
	key, err := hkdf.Key(sha256.New, c[:], nil, "pibox transfer 1", 32)
	if err != nil {
		panic(err) // never: the length is a constant
	}
	return key
}
