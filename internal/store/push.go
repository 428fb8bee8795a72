package store

import (
	"bytes"
	"time"
)

// Push notifications (XEP-0357).
var (
	Pushes       = Table[Push]{"pushes"}              // account, push service, node
	PushContents = Table[PushContent]{"pushcontents"} // account
)

// Push is a push service that an account's device wants to be told through.
type Push struct {
	// Options is the publish-options form that the device gave, which stands alone; empty where it gave none.
	Options []byte `json:"options,omitempty"`
	// Device is the resource of the session that enabled it.
	Device string `json:"device"`
	// Enabled tells since when Options and Device are what they are.
	Enabled time.Time `json:"enabled"`
	// Failing tells since when the service can not be reached; zero while it can.
	Failing time.Time `json:"failing,omitzero"`
}

// Same tells whether two records are of one registration by the device.
func (p Push) Same(q Push) bool {
	return p.Device == q.Device && p.Enabled.Equal(q.Enabled) && bytes.Equal(p.Options, q.Options)
}

// PushContent is what an account lets push services know of a message. What is nil is as the configuration says.
type PushContent struct {
	Sender *bool `json:"sender,omitempty"`
	Body   *bool `json:"body,omitempty"`
}
