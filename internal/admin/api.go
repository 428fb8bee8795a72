// Package admin is the way in for the people who run the box: the API that
// the commands, and later the web pages, use, and the local socket that
// carries it to another process.
//
// The socket is a unix stream socket of mode 0660. Who may use it is decided
// by the kernel's word on the connecting process, not by anything that the
// process says: root, the user the box runs as, and members of the socket's
// group. One connection carries one call: one line of JSON there, one line of
// JSON back, and in between, for a method that hands over a file or takes one,
// its bytes.
//
// The socket never carries anything but calls of this API: the database is
// opened by the daemon alone.
package admin

import (
	"context"
	"io"
	"time"
)

// API is everything that can be administered. The daemon implements it;
// Client implements it for another process. A method returns an *Error for
// what the person can do something about; any other error is logged by the
// server and shown as CodeInternal without its text.
type API interface {
	// UserAdd creates an account. Errors: CodeInvalid, CodeExists,
	// CodeNotFound (a domain that is not ours).
	UserAdd(ctx context.Context, req UserAddRequest) (UserAddResponse, error)
	// UserList returns the accounts in the order of their addresses. Errors:
	// CodeNotFound (a domain that is not ours).
	UserList(ctx context.Context, req UserListRequest) (UserListResponse, error)
	// UserGet returns one account. Errors: CodeInvalid, CodeNotFound.
	UserGet(ctx context.Context, req UserGetRequest) (UserGetResponse, error)
	// UserPassword replaces a password and ends the account's sessions.
	// Errors: CodeInvalid, CodeNotFound.
	UserPassword(ctx context.Context, req UserPasswordRequest) (UserPasswordResponse, error)
	// UserRemove deletes an account with all it owns, ends its sessions and
	// takes it out of the rosters of others. Errors: CodeNotFound.
	UserRemove(ctx context.Context, req UserRemoveRequest) (UserRemoveResponse, error)
	// UserPush sets what an account's push services are told of messages, and
	// returns that and who they are. Errors: CodeInvalid, CodeNotFound.
	UserPush(ctx context.Context, req UserPushRequest) (UserPushResponse, error)
	// MovePlan tells what a move would do, and changes nothing. It may take a minute. Errors: CodeInvalid, CodeNotFound.
	MovePlan(ctx context.Context, req MovePlanRequest) (MovePlanResponse, error)
	// MoveStart starts a move. Errors: CodeInvalid, CodeNotFound, CodeExists (another move), CodeFailed (not announced; a box that is held).
	MoveStart(ctx context.Context, req MoveStartRequest) (MoveStartResponse, error)
	// MoveFamily moves the accounts of a domain. Errors: as MoveStart; CodeExists also for accounts that are there.
	MoveFamily(ctx context.Context, req MoveFamilyRequest) (MoveFamilyResponse, error)
	// MoveStatus tells how moves go. Errors: CodeNotFound.
	MoveStatus(ctx context.Context, req MoveStatusRequest) (MoveStatusResponse, error)
	// MoveCancel stops a move. Errors: CodeNotFound.
	MoveCancel(ctx context.Context, req MoveCancelRequest) (MoveCancelResponse, error)
	// MoveUndo takes a move back. Errors: CodeNotFound, CodeInvalid (the old account is closed).
	MoveUndo(ctx context.Context, req MoveUndoRequest) (MoveUndoResponse, error)
	// MoveClose closes old accounts. Errors: CodeNotFound, CodeInvalid (not announced), CodeBusy (it has to forward for longer).
	MoveClose(ctx context.Context, req MoveCloseRequest) (MoveCloseResponse, error)
	// MoveBring begins to bring an account from another server, and returns when it is logged in there. Of one that is through it tells that
	// (Migration.Before), and needs no password. Errors: CodeInvalid, CodeNotFound (a domain
	// that is not ours), CodeExists (the new account has contents, or another move), CodeBusy, CodeFailed (at the other server), CodePassword (that is missing, all else is well).
	MoveBring(ctx context.Context, req MoveBringRequest) (MigrationResponse, error)
	// MoveLeave announces a move to another server, and begins to build up the account there where it has its password. Errors: as MoveBring.
	MoveLeave(ctx context.Context, req MoveLeaveRequest) (MigrationResponse, error)
	// Migration tells how one of these goes. Errors: CodeNotFound.
	Migration(ctx context.Context, req MigrationRequest) (MigrationResponse, error)
	// MigrationStop ends one. Errors: CodeNotFound.
	MigrationStop(ctx context.Context, req MigrationRequest) (MigrationResponse, error)
	// Status tells how the box is.
	Status(ctx context.Context, req StatusRequest) (StatusResponse, error)
	// Authority returns the certificate of the family's authority. Errors:
	// CodeNotFound (every domain has a certificate of its own).
	Authority(ctx context.Context, req AuthorityRequest) (AuthorityResponse, error)
	// Export writes accounts in the format of XEP-0227 to w, as Backup does.
	// Errors: CodeInvalid, CodeNotFound.
	Export(ctx context.Context, req ExportRequest, w io.Writer) (ExportResponse, error)
	// Import makes accounts of what r has in that format. Accounts become whole
	// one after the other; of one that does not, nothing stays. Errors:
	// CodeInvalid (the file), CodeExists (no account of it could be imported),
	// CodeNotFound (the one that was named is not in it), CodeBusy (another
	// import), CodeFailed (too little space).
	Import(ctx context.Context, req ImportRequest, r io.Reader) (ImportResponse, error)
	BackupAPI
	TransferAPI
	UpdateAPI
}

// UserAddRequest asks for a new account.
type UserAddRequest struct {
	// User is a bare address, or a localpart, which means one at the main domain, or at that of this box to which the family moved from there.
	User string `json:"user"`
	// Password in plain text. It is prepared (RFC 8265) and hashed by the
	// daemon, and stands in no log.
	Password string `json:"password"`
	Admin    bool   `json:"admin,omitempty"`
	// Restricted accounts may not announce a move.
	Restricted bool `json:"restricted,omitempty"`
}

// UserAddResponse holds the account that was made.
type UserAddResponse struct {
	User User `json:"user"`
}

// User is one account.
type User struct {
	Address string    `json:"address"` // bare JID in canonical form
	State   UserState `json:"state"`
	// MovedTo is the new address of an account that is forwarding or closed.
	MovedTo string `json:"moved_to,omitempty"`
	// Heir is the address on this box whose archive has the messages of an account that moved; MessagesStay: it moved on this box, but they are in no
	// other archive.
	Heir         string `json:"heir,omitempty"`
	MessagesStay bool   `json:"messages_stay,omitempty"`
	// ForwardingUntil is the earliest end of forwarding.
	ForwardingUntil time.Time `json:"forwarding_until,omitzero"`
	// Contacts may read where the account moved; ContactsLeft of them followed or gave it up since.
	Contacts     int       `json:"contacts,omitempty"`
	ContactsLeft int       `json:"contacts_left,omitempty"`
	Created      time.Time `json:"created,omitzero"`
	LastSeen     time.Time `json:"last_seen,omitzero"` // zero: never logged in
	Resources    int       `json:"resources"`          // connected now
	Admin        bool      `json:"admin,omitempty"`
	Restricted   bool      `json:"restricted,omitempty"` // may not announce a move
}

// UserState is the state of an account.
type UserState string

// The states of an account.
const (
	UserActive     UserState = "active"
	UserForwarding UserState = "forwarding" // moved away; login still possible
	UserClosed     UserState = "closed"     // moved away; only the forwarding address is left
	UserUnserved   UserState = "unserved"   // at a domain that the box does not serve any more
)

// UserListRequest asks for accounts.
type UserListRequest struct {
	Domain string `json:"domain,omitempty"` // empty: of all domains
}

// UserListResponse holds the accounts in the order of their addresses.
type UserListResponse struct {
	Users []User `json:"users"`
}

// UserGetRequest names an account as UserAddRequest does.
type UserGetRequest struct {
	User string `json:"user"`
}

// UserGetResponse holds the account.
type UserGetResponse struct {
	User User `json:"user"`
}

// UserPasswordRequest asks for another password. Its fields are those of
// UserAddRequest.
type UserPasswordRequest struct {
	User     string `json:"user"`
	Password string `json:"password"`
}

// UserPasswordResponse tells what was done.
type UserPasswordResponse struct {
	Address string `json:"address"`
	Ended   int    `json:"ended"` // sessions that were ended
}

// UserRemoveRequest names the account to delete.
type UserRemoveRequest struct {
	User string `json:"user"`
	// Forward keeps where the account moved: it is closed, and tells its former contacts. Only for an account that announced a move.
	Forward bool `json:"forward,omitempty"`
	// DropMessages removes it also where User.MessagesStay.
	DropMessages bool `json:"drop_messages,omitempty"`
}

// UserRemoveResponse tells what was done.
type UserRemoveResponse struct {
	Address string `json:"address"`
	Ended   int    `json:"ended"` // sessions that were ended
}

// StatusRequest asks how the box is.
type StatusRequest struct{}

// StatusResponse is the state that LEDs, systemd and the status page show too.
type StatusResponse struct {
	Version string    `json:"version"`
	PID     int       `json:"pid"`
	State   string    `json:"state"` // one of the words of internal/health
	Since   time.Time `json:"since"` // when it came into that state
	Started time.Time `json:"started"`
	// Reasons tell, in words for a person, why the state is not "well".
	Reasons   []string        `json:"reasons"`
	Domains   []string        `json:"domains"`
	Listeners []ListenAddress `json:"listeners"`

	Users      int `json:"users"`
	Sessions   int `json:"sessions"`    // connected resources
	ServersIn  int `json:"servers_in"`  // connections from other servers
	ServersOut int `json:"servers_out"` // connections to other servers
	Queued     int `json:"queued"`      // stanzas waiting for other servers

	Certificates []Certificate `json:"certificates"`

	// Held tells that the box was restored and waits for RestoreConfirm before it moves anybody.
	Held bool `json:"held,omitempty"`

	Store  StoreStatus `json:"store"`
	Memory int64       `json:"memory"` // resident bytes
}

// ListenAddress is one address that the box listens on.
type ListenAddress struct {
	Service string `json:"service"` // c2s, c2s-tls, s2s, s2s-tls
	Address string `json:"address"`
}

// Certificate is what clients of a domain are shown.
type Certificate struct {
	Domain  string    `json:"domain"`
	SHA256  string    `json:"sha256"` // fingerprint: AB:CD:…
	Expires time.Time `json:"expires"`
	// Family tells that it is of the family's own authority, which clients do not know by themselves.
	Family bool `json:"family"`
}

// AuthorityRequest asks for the family's certificate authority.
type AuthorityRequest struct{}

// AuthorityResponse is a certificate that is public: who trusts it trusts this box under its names.
type AuthorityResponse struct {
	Path    string    `json:"path"` // on the box
	PEM     string    `json:"pem"`
	SHA256  string    `json:"sha256"` // fingerprint: AB:CD:…
	Names   []string  `json:"names"`  // domains that it may vouch for
	Expires time.Time `json:"expires"`
}

// StoreStatus tells about the database file; sizes are in bytes.
type StoreStatus struct {
	Path   string `json:"path"`
	Schema int    `json:"schema"`
	Size   int64  `json:"size"`
	Free   int64  `json:"free"` // on its disk
}
