package admin

import (
	"crypto/rand"
	"strings"
)

// passwordAlphabet has 32 signs that are not mistaken for each other when
// they are read from a screen and typed into a phone.
const passwordAlphabet = "abcdefghijkmnpqrstuvwxyz23456789"

// NewPassword returns a random password of 80 bits, such as
// "k7wq-m2xa-9hfd-tzp4".
func NewPassword() string {
	var random [16]byte
	_, _ = rand.Read(random[:]) // never fails (crypto/rand)
	var b strings.Builder
	for i, r := range random {
		if i > 0 && i%4 == 0 {
			b.WriteByte('-')
		}
		b.WriteByte(passwordAlphabet[int(r)%len(passwordAlphabet)])
	}
	return b.String()
}
