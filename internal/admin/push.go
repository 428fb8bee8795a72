package admin

import "time"

// PushContent says whether push services are told a thing.
type PushContent string

// What UserPushRequest may ask for; empty leaves a thing as it is.
const (
	PushYes     PushContent = "yes"
	PushNo      PushContent = "no"
	PushDefault PushContent = "default" // as the configuration says
)

// UserPushRequest names an account as UserAddRequest does.
type UserPushRequest struct {
	User   string      `json:"user"`
	Sender PushContent `json:"sender,omitempty"`
	Body   PushContent `json:"body,omitempty"`
}

// UserPushResponse tells what an account's push services (XEP-0357) are told.
type UserPushResponse struct {
	Address  string        `json:"address"`
	Sender   bool          `json:"sender"` // who wrote the last message
	Body     bool          `json:"body"`   // what it says
	Services []PushService `json:"services"`
}

// PushService is one that a device of the account enabled.
type PushService struct {
	Service string    `json:"service"` // JID
	Device  string    `json:"device"`  // resource
	Enabled time.Time `json:"enabled"`
	Failing time.Time `json:"failing,omitzero"` // since when it can not be reached
}
