package testclient

import (
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"hash"
	"strconv"
	"strings"
	"sync"
)

// scram is the client's side of SCRAM (RFC 5802) without channel binding.
type scram struct {
	hash     func() hash.Hash
	password string
	bare     string // client-first-message-bare
	nonce    string
	server   []byte // the signature that the server has to show
	salted   *SaltCache
}

// SaltCache keeps salted passwords.
type SaltCache struct{ known sync.Map }

func newScram(mechanism, user, password string, cache *SaltCache) (*scram, error) {
	s := &scram{password: password, nonce: rand.Text(), salted: cache}
	switch mechanism {
	case "SCRAM-SHA-1":
		s.hash = sha1.New
	case "SCRAM-SHA-256":
		s.hash = sha256.New
	default:
		return nil, fmt.Errorf("testclient: no mechanism %q", mechanism)
	}
	s.bare = "n=" + strings.NewReplacer("=", "=3D", ",", "=2C").Replace(user) + ",r=" + s.nonce
	return s, nil
}

func (s *scram) first() string { return "n,," + s.bare }

// final answers the server's first message.
func (s *scram) final(challenge string) (string, error) {
	fields := map[string]string{}
	for f := range strings.SplitSeq(challenge, ",") {
		name, value, _ := strings.Cut(f, "=")
		fields[name] = value
	}
	iterations, err := strconv.Atoi(fields["i"])
	if err != nil || !strings.HasPrefix(fields["r"], s.nonce) {
		return "", fmt.Errorf("the challenge %q", challenge)
	}
	salted, err := s.salt(fields["s"], iterations)
	if err != nil {
		return "", err
	}
	clientKey := s.mac(salted, "Client Key")
	h := s.hash()
	h.Write(clientKey)
	without := "c=biws,r=" + fields["r"]
	message := s.bare + "," + challenge + "," + without
	proof := make([]byte, len(clientKey))
	subtle.XORBytes(proof, clientKey, s.mac(h.Sum(nil), message))
	s.server = s.mac(s.mac(salted, "Server Key"), message)
	return without + ",p=" + base64.StdEncoding.EncodeToString(proof), nil
}

func (s *scram) salt(encoded string, iterations int) ([]byte, error) {
	key := fmt.Sprint(s.hash().Size(), iterations, encoded, s.password)
	if s.salted != nil {
		if known, ok := s.salted.known.Load(key); ok {
			return known.([]byte), nil
		}
	}
	salt, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil {
		return nil, err
	}
	salted, err := pbkdf2.Key(s.hash, s.password, salt, iterations, s.hash().Size())
	if err == nil && s.salted != nil {
		s.salted.known.Store(key, salted)
	}
	return salted, err
}

func (s *scram) mac(key []byte, message string) []byte {
	m := hmac.New(s.hash, key)
	m.Write([]byte(message))
	return m.Sum(nil)
}

// verify checks that the server knows the account, too.
func (s *scram) verify(message string) error {
	encoded, ok := strings.CutPrefix(message, "v=")
	signature, err := base64.StdEncoding.DecodeString(encoded)
	if !ok || err != nil || !hmac.Equal(signature, s.server) {
		return errors.New("the server does not prove that it knows the account")
	}
	return nil
}
