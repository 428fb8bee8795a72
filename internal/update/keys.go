package update

import (
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
)

const (
	publicPrefix  = "pibox-update-key "
	privatePrefix = "PIBOX-UPDATE-SECRET-KEY "
)

// NewKey makes a pair of keys, as lines of text for ParsePrivate and ParsePublic.
func NewKey() (private, public string, err error) {
	pub, priv, err := ed25519.GenerateKey(nil)
	if err != nil {
		return "", "", err
	}
	return privatePrefix + base64.StdEncoding.EncodeToString(priv.Seed()) + "\n", publicLine(pub), nil
}

func publicLine(k ed25519.PublicKey) string {
	return publicPrefix + base64.StdEncoding.EncodeToString(k) + "\n"
}

// ParsePrivate reads the one secret key of a text. Lines that begin with # are comments.
func ParsePrivate(text string) (ed25519.PrivateKey, error) {
	seeds, err := keyLines(text, privatePrefix, ed25519.SeedSize)
	if err != nil || len(seeds) != 1 {
		return nil, errors.Join(err, fmt.Errorf("%d secret keys, not one", len(seeds)))
	}
	return ed25519.NewKeyFromSeed(seeds[0]), nil
}

// Public is the line of a secret key's public one.
func Public(k ed25519.PrivateKey) string { return publicLine(k.Public().(ed25519.PublicKey)) }

// ParsePublic reads the public keys of a text.
func ParsePublic(text string) ([]ed25519.PublicKey, error) {
	lines, err := keyLines(text, publicPrefix, ed25519.PublicKeySize)
	var keys []ed25519.PublicKey
	for _, l := range lines {
		keys = append(keys, l)
	}
	return keys, err
}

func keyLines(text, prefix string, length int) (keys [][]byte, err error) {
	n := 0
	for line := range strings.Lines(text) {
		n++
		if line = strings.TrimSpace(line); line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		rest, ok := strings.CutPrefix(line, prefix)
		key, err := base64.StdEncoding.DecodeString(strings.TrimSpace(rest))
		if !ok || err != nil || len(key) != length {
			return nil, fmt.Errorf("line %d is no key", n) // never its text
		}
		keys = append(keys, key)
	}
	return keys, nil
}

// readKeys reads the keys that this system trusts. Without any it trusts nothing.
func readKeys(path string) ([]ed25519.PublicKey, error) {
	raw, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	keys, err := ParsePublic(string(raw))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return keys, nil
}
