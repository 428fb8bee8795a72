// Package sasl is the server's half of SASL for clients (RFC 4422 as profiled by RFC 6120 §6): SCRAM (RFC 5802) with SHA-1 and
// SHA-256 (RFC 7677), each with and without channel binding, and the credentials that are stored for it.
//
// It reads and writes nothing: the caller hands it the text of <auth/> and <response/> and sends what comes back.
//
// Invariants:
//   - Nothing from which a password could be used elsewhere is kept: StoredKey and ServerKey only (RFC 5802 §3).
//   - An account that does not exist takes the same steps and gets the same answers as one that does, up to and including the
//     refusal of the proof.
//   - A Server serves one exchange. After a failure or a success every further step is refused.
package sasl

import (
	"crypto/sha1"
	"crypto/sha256"
	"hash"
	"strings"
)

// The mechanisms, by their registered names.
const (
	ScramSHA1       = "SCRAM-SHA-1"
	ScramSHA256     = "SCRAM-SHA-256"
	ScramSHA1Plus   = "SCRAM-SHA-1-PLUS"
	ScramSHA256Plus = "SCRAM-SHA-256-PLUS"
)

const plusSuffix = "-PLUS"

// Mechanisms is what to offer, strongest first. The -PLUS ones are in it only if binding says that this connection has a channel
// binding to offer (Bindings gave at least one).
func Mechanisms(binding bool) []string {
	if binding {
		return []string{ScramSHA256Plus, ScramSHA1Plus, ScramSHA256, ScramSHA1}
	}
	return []string{ScramSHA256, ScramSHA1}
}

// A mechanism is what the name of one stands for.
type mechanism struct {
	hash func() hash.Hash
	size int // of the hash, in bytes
	plus bool
	keys func(*Credentials) *Keys
}

func mechanismByName(name string) (mechanism, bool) {
	family, plus := strings.CutSuffix(name, plusSuffix)
	switch family {
	case ScramSHA256:
		return mechanism{sha256.New, sha256.Size, plus, func(c *Credentials) *Keys { return &c.SHA256 }}, true
	case ScramSHA1:
		return mechanism{sha1.New, sha1.Size, plus, func(c *Credentials) *Keys { return &c.SHA1 }}, true
	}
	return mechanism{}, false
}
