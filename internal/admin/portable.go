package admin

// ExportRequest names the accounts to export: Users, or all of Domain, or All.
type ExportRequest struct {
	Users  []string `json:"users,omitempty"`
	Domain string   `json:"domain,omitempty"`
	All    bool     `json:"all,omitempty"`
	// Plan tells what would be exported, and about how large it is; nothing is
	// written.
	Plan bool `json:"plan,omitempty"`
}

// ExportResponse tells what was exported.
type ExportResponse struct {
	Accounts []string `json:"accounts"`
	Size     int64    `json:"size,omitempty"` // with Plan, estimated, in bytes
	Losses   []Loss   `json:"losses"`         // what the format has no place for
}

// Loss is something that did not come along.
type Loss struct {
	What  string `json:"what"`
	Why   string `json:"why"`
	Count int    `json:"count"`
}

// ImportRequest says what becomes of an upload.
type ImportRequest struct {
	// Only imports one account, by its address in the file.
	Only string `json:"only,omitempty"`
	// As gives the account that is imported another address, ToDomain all of
	// them another domain. Then they move: their contacts are not taken over but
	// are to be asked.
	As       string `json:"as,omitempty"`
	ToDomain string `json:"to_domain,omitempty"`
	// DryRun looks at everything and writes nothing.
	DryRun bool `json:"dry_run,omitempty"`
	// Size of the upload in bytes; 0 where it is not known.
	Size int64 `json:"size,omitempty"`
}

// ImportResponse tells what became of the accounts.
type ImportResponse struct {
	Accounts []Imported `json:"accounts"`
	Losses   []Loss     `json:"losses"` // outside of accounts
}

// Imported is one account of an import.
type Imported struct {
	From    string `json:"from"`    // its address in the file
	Address string `json:"address"` // and here
	// Refused says why it was left out; empty where it was imported.
	Refused string `json:"refused,omitempty"`
	// Password was made, because the file has none that can be used; it is
	// shown only here.
	Password string `json:"password,omitempty"`
	// Moving: the move to this address is planned, not begun.
	Moving bool `json:"moving,omitempty"`
	// Elsewhere: its old address is at another server, which has to announce the move.
	Elsewhere bool `json:"elsewhere,omitempty"`
	Admin     bool `json:"admin,omitempty"`
	// OMEMO: devices' keys were in the file. They were left out, and the owner
	// and the contacts verify devices anew.
	OMEMO bool `json:"omemo,omitempty"`

	Contacts int    `json:"contacts"`
	Requests int    `json:"requests"` // that await the owner's answer
	Waiting  int    `json:"waiting"`  // messages that no device got
	Archived int    `json:"archived"` // messages
	Nodes    int    `json:"nodes"`
	Items    int    `json:"items"` // of these nodes
	Private  int    `json:"private"`
	Blocked  int    `json:"blocked"`
	VCard    bool   `json:"vcard,omitempty"`
	Losses   []Loss `json:"losses"`
}
