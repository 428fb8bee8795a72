package sasl

// A Condition is the name of the element within <failure/> (RFC 6120 §6.5).
type Condition string

// The conditions of RFC 6120 §6.5, those a caller needs for its own refusals included.
const (
	Aborted              Condition = "aborted"
	AccountDisabled      Condition = "account-disabled"
	CredentialsExpired   Condition = "credentials-expired"
	EncryptionRequired   Condition = "encryption-required"
	IncorrectEncoding    Condition = "incorrect-encoding"
	InvalidAuthzid       Condition = "invalid-authzid"
	InvalidMechanism     Condition = "invalid-mechanism"
	MalformedRequest     Condition = "malformed-request"
	MechanismTooWeak     Condition = "mechanism-too-weak"
	NotAuthorized        Condition = "not-authorized"
	TemporaryAuthFailure Condition = "temporary-auth-failure"
)

// A Failure ends an exchange. Condition and Text are for the peer; Detail is for the log only: it may tell an account that does
// not exist from a wrong password, the other two never do.
type Failure struct {
	Condition Condition
	Text      string // for the person; may be empty
	Detail    string // for the log

	// Guess: a proof was checked and does not fit. This, and nothing else, is what a limit on failed logins counts.
	Guess bool
}

// Error is the text for the log.
func (f *Failure) Error() string {
	return "sasl: " + string(f.Condition) + ": " + f.Detail
}

func malformed(detail string) *Failure {
	return &Failure{Condition: MalformedRequest, Text: "The client sent a login message that the server does not understand.", Detail: detail}
}

// intercepted: what RFC 5802 §6 makes fail so that a man in the middle does not succeed.
func intercepted(detail string) *Failure {
	return &Failure{
		Condition: NotAuthorized,
		Text:      "The client and the server do not see the same connection: someone may be in between, or the client's channel binding is faulty.",
		Detail:    detail,
	}
}

// wrongGuess has one text for an account that does not exist and for a wrong password.
func wrongGuess(detail string) *Failure {
	return &Failure{Condition: NotAuthorized, Text: "The user name or the password is wrong.", Detail: detail, Guess: true}
}
