package store

import "time"

// SMSessions holds the sessions that may be resumed (XEP-0198 §5), from an orderly stop until the next start: account, stream management id.
var SMSessions = Table[SMSession]{"smsessions"}

// SMSession is a session with its stream.
type SMSession struct {
	Session SessionState `json:"session"`
	// Handled is the count of the client's stanzas that were handled.
	Handled uint64 `json:"handled"`
	// Acked is the client's last count of ours, Unacked what it was sent, or is to be sent, after that.
	Acked   uint32     `json:"acked"`
	Unacked []SMStanza `json:"unacked,omitempty"`
	// Timeout is how long it may be without a connection, Left what was left of that. The time while the box is off does not count.
	Timeout time.Duration `json:"timeout"`
	Left    time.Duration `json:"left"`
	// Login tells by which credentials the account could log in: other ones do not get the session.
	Login []byte `json:"login"`
}

// SMStanza is a stanza on its way to a client.
type SMStanza struct {
	Stanza []byte `json:"stanza"`
	Seq    uint64 `json:"seq,omitempty"` // in the log; zero where it is not stored
}

// SessionState is what the core and the features know of a session.
type SessionState struct {
	Resource string `json:"resource"`
	// Presence is the last available presence that it broadcast; nil while it is unavailable.
	Presence []byte   `json:"presence,omitempty"`
	Priority int8     `json:"priority,omitempty"`
	Marks    []string `json:"marks,omitempty"`
	// Features by the name that each chose.
	Features map[string][]byte `json:"features,omitempty"`
}
