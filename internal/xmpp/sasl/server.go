package sasl

import (
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"strconv"
)

// MinSecret is the least length of Config.Secret, in bytes.
const MinSecret = 16

// Config is what an exchange needs from its surroundings.
type Config struct {
	// Lookup finds the account for the user name as the client sent it; the profile UsernameCaseMapped (RFC 8265 §3.3) is for it
	// to apply. It is called once, before anything is proven.
	Lookup func(username string) (Account, error)

	// SameAccount tells whether an authorization identity that is not empty (a bare JID, RFC 6120 §6.3.8) means the account of this
	// name. Nil: none does. It must not depend on whether the account exists.
	SameAccount func(authzid, account string) bool

	// Bindings are the channel bindings that were announced on this connection; empty if -PLUS was not offered.
	Bindings []Binding

	// Secret makes the salts of accounts that do not exist: random, MinSecret bytes or more, the same over restarts.
	Secret []byte

	// Rand is the source of nonces; nil is crypto/rand.
	Rand io.Reader
}

// An Account is what Lookup answers.
type Account struct {
	// Name after preparation, also of an account that does not exist (so that "Nobody" and "nobody" get the same salt); what
	// could not be prepared may be left as it was given.
	Name string

	// Known is false if there is no such account or it must not log in by password.
	Known       bool
	Credentials Credentials
}

// A Reply goes back to the client, its text as the character data of <challenge/> or, when Done, of <success/>.
type Reply struct {
	Text string
	Done bool
}

type step int

const (
	beforeFirst step = iota
	awaitFirst       // an empty challenge was sent
	awaitFinal
	over
)

// A Server is one exchange. It is not for use by several goroutines.
type Server struct {
	config    Config
	mechanism mechanism
	step      step
	nonce     string // the server's part, then the whole

	account     Account
	keys        Keys
	hasKeys     bool
	binding     string // what c= must hold
	authMessage string // so far
}

// NewServer begins an exchange with the mechanism that <auth/> names. The error is a *Failure if the client is at fault.
func NewServer(name string, config Config) (*Server, error) {
	m, ok := mechanismByName(name)
	if !ok || m.plus && len(config.Bindings) == 0 {
		return nil, &Failure{Condition: InvalidMechanism, Text: "The client chose a way to log in that the server does not offer.", Detail: "mechanism not offered"}
	}
	if config.Lookup == nil || len(config.Secret) < MinSecret {
		return nil, errors.New("sasl: Config without Lookup or with a short Secret")
	}
	source := config.Rand
	if source == nil {
		source = rand.Reader
	}
	random := make([]byte, 18)
	if _, err := io.ReadFull(source, random); err != nil {
		return nil, fmt.Errorf("sasl: drawing a nonce: %w", err)
	}
	return &Server{config: config, mechanism: m, nonce: base64.StdEncoding.EncodeToString(random)}, nil
}

// Account is the name of the account that logged in; empty until a Reply is Done.
func (s *Server) Account() string {
	if s.step != over || s.authMessage == "" {
		return ""
	}
	return s.account.Name
}

// Next takes the text of <auth/>, then of each <response/>. Every error is a *Failure and ends the exchange.
func (s *Server) Next(text string) (Reply, error) {
	reply, failure := s.next(text)
	if failure != nil {
		s.step, s.authMessage = over, ""
		return Reply{}, failure
	}
	return reply, nil
}

func (s *Server) next(text string) (Reply, *Failure) {
	if s.step == over {
		return Reply{}, malformed("the exchange is over")
	}
	if s.step == beforeFirst && text == "" {
		s.step = awaitFirst
		return Reply{}, nil // no initial response: an empty challenge asks for it (RFC 6120 §6.4.2, RFC 5802 §5)
	}
	message, failure := decodeText(text)
	if failure != nil {
		return Reply{}, failure
	}
	if s.step == awaitFinal {
		return s.final(message)
	}
	return s.first(message)
}

// first answers client-first-message by server-first-message.
func (s *Server) first(message string) (Reply, *Failure) {
	first, failure := parseClientFirst(message)
	if failure != nil {
		return Reply{}, failure
	}
	data, failure := s.bind(first)
	if failure != nil {
		return Reply{}, failure
	}
	account, err := s.config.Lookup(first.username)
	if err != nil {
		var f *Failure
		if errors.As(err, &f) {
			return Reply{}, f
		}
		return Reply{}, &Failure{
			Condition: TemporaryAuthFailure,
			Text:      "The server can not check the login just now. Try again in a minute.",
			Detail:    "looking the account up: " + err.Error(),
		}
	}
	if first.authzid != "" && (s.config.SameAccount == nil || !s.config.SameAccount(first.authzid, account.Name)) {
		return Reply{}, &Failure{
			Condition: InvalidAuthzid,
			Text:      "The client asks to act for another account.",
			Detail:    "authorization identity is not the account",
		}
	}

	s.choose(account)
	s.nonce = first.nonce + s.nonce
	s.binding = first.header + string(data)
	serverFirst := "r=" + s.nonce + ",s=" + base64.StdEncoding.EncodeToString(s.keys.Salt) + ",i=" + strconv.Itoa(s.keys.Iterations)
	s.authMessage = first.bare + "," + serverFirst
	s.step = awaitFinal
	return Reply{Text: base64.StdEncoding.EncodeToString([]byte(serverFirst))}, nil
}

// bind holds the gs2 flag against the mechanism and what was offered, and finds the data to bind to (RFC 5802 §6).
//
// "n" is taken with -PLUS too: slixmpp from 1.8.5 picks that name and then does not bind. It gives away nothing that the
// mechanism without -PLUS would not, and the flag is under the proof.
func (s *Server) bind(first clientFirst) ([]byte, *Failure) {
	switch {
	case first.flag == 'p' && !s.mechanism.plus:
		return nil, malformed("channel binding without a -PLUS mechanism")
	case first.flag == 'y' && len(s.config.Bindings) > 0:
		// The client would have bound but was shown no -PLUS: someone took it out of the list.
		return nil, intercepted("downgrade: -PLUS was offered and the client did not see it")
	case first.flag != 'p':
		return nil, nil
	}
	for _, b := range s.config.Bindings {
		if b.Type == first.binding && len(b.Data) > 0 {
			return b.Data, nil
		}
	}
	return nil, &Failure{
		Condition: MalformedRequest,
		Text:      "The client wants a channel binding type that the server does not offer.",
		Detail:    "channel binding type " + strconv.Quote(first.binding) + " not offered",
	}
}

// choose takes the account's keys, or the decoy's. The decoy is always made, so that both ways cost the same.
func (s *Server) choose(account Account) {
	s.account = account
	s.keys = decoy(s.mechanism, s.config.Secret, account.Name)
	keys := s.mechanism.keys(&account.Credentials)
	if account.Known && keys.validate(s.mechanism.size) == nil {
		s.keys, s.hasKeys = *keys, true
	}
}

// final checks client-final-message and answers by server-final-message.
func (s *Server) final(message string) (Reply, *Failure) {
	final, failure := parseClientFinal(message)
	if failure != nil {
		return Reply{}, failure
	}
	if len(final.proof) != s.mechanism.size {
		return Reply{}, malformed("proof of a wrong length")
	}
	if !equal([]byte(final.nonce), []byte(s.nonce)) {
		return Reply{}, intercepted("nonce is not this exchange's")
	}
	if !equal([]byte(final.binding), []byte(s.binding)) {
		return Reply{}, intercepted("channel bindings do not match: another connection's, or a gs2 header that was changed")
	}
	authMessage := s.authMessage + "," + final.withoutProof
	if !s.proven(final.proof, authMessage) {
		if !s.hasKeys {
			return Reply{}, wrongGuess("no such account, or no keys for this mechanism")
		}
		return Reply{}, wrongGuess("wrong password")
	}
	s.step = over
	signature := s.mechanism.hmac(s.keys.ServerKey, authMessage)
	return Reply{Text: base64.StdEncoding.EncodeToString([]byte("v=" + base64.StdEncoding.EncodeToString(signature))), Done: true}, nil
}

// proven: RFC 5802 §3, H(ClientProof XOR HMAC(StoredKey, AuthMessage)) is StoredKey.
func (s *Server) proven(proof []byte, authMessage string) bool {
	clientKey := s.mechanism.hmac(s.keys.StoredKey, authMessage)
	subtle.XORBytes(clientKey, clientKey, proof)
	h := s.mechanism.hash()
	h.Write(clientKey)
	fits := equal(h.Sum(nil), s.keys.StoredKey)
	return fits && s.hasKeys
}

func equal(a, b []byte) bool { return subtle.ConstantTimeCompare(a, b) == 1 }
