package portable

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"pibox/internal/store"
	"pibox/internal/xmpp"
)

// Moves takes the contact list of an account that comes from another address: contacts are asked there, not overwritten here.
type Moves interface {
	PlanJob(tx *store.Tx, job store.MoveJob) error
	AddContact(tx *store.Tx, account, contact xmpp.JID, c store.MoveContact) error
}

// ImportOptions say what becomes of an import.
type ImportOptions struct {
	Router *xmpp.Router
	Nodes  Nodes
	Moves  Moves
	// Login derives keys from a password; from "" it makes one, and returns it.
	Login func(password string) (keys store.Account, oneTime string, err error)
	// Appear is called in the transaction in which an account begins to exist, for what features keep in memory.
	Appear func(tx *store.Tx, out *xmpp.Out, account xmpp.JID) error
	// Only imports one account of the file, by its address there; As gives it another one. ToDomain gives all of them another domain.
	Only, As xmpp.JID
	ToDomain string
	// Room is asked before each transaction; its error ends the import. May be nil.
	Room func() error
	// DryRun looks at everything and writes nothing.
	DryRun bool
	// MaxAge of what is in archives; older messages would be dropped at once. 0: any.
	MaxAge time.Duration
}

// ErrExists refuses an account that is there already, with contents of its own.
var ErrExists = errors.New("the account exists already")

// Result tells what became of one account.
type Result struct {
	From, To string // addresses in the file and here
	// Refused says why it was left out; nil: it was imported.
	Refused error
	// OneTime is a password that was made because the file had none that can be used; it can be read only here.
	OneTime string
	// Moving: it has another address than in the file, and its contacts are to be told.
	Moving bool
	Admin  bool
	Counts Counts
	Losses []LossCount
	// OMEMO: its devices' keys for encryption were in the file.
	OMEMO bool
}

// Counts of what came along.
type Counts struct {
	Contacts, Requests, Waiting, Archived, Nodes, Items, Private, Blocked int
	VCard                                                                 bool
}

// Importer is a Sink that writes into the store. An account exists for nobody until it is whole; one that does not become whole leaves nothing.
type Importer struct {
	opt     ImportOptions
	ctx     context.Context
	cur     *incoming
	results []Result
	losses  Losses

	resultBytes, listed int // of the results
}

var _ Sink = (*Importer)(nil)

// NewImporter makes an importer. Close it, whether or not all went well.
func NewImporter(ctx context.Context, opt ImportOptions) *Importer {
	return &Importer{opt: opt, ctx: ctx}
}

// Results are those of the accounts that came, in their order.
func (im *Importer) Results() []Result { return im.results }

// Losses are those outside of accounts.
func (im *Importer) Losses() []LossCount { return im.losses.List() }

// Close takes back an account that is not whole.
func (im *Importer) Close() error {
	a := im.cur
	if im.cur = nil; a == nil || im.opt.DryRun {
		return nil
	}
	_ = a.wait() // it is taken back
	return drop(im.opt.Router, a.to.String())
}

// Recover takes back what an interrupted import left. Call it before anybody is served.
func Recover(st *store.Store) error {
	return st.Update(func(tx *store.Tx) error {
		store.DropImports(tx)
		return nil
	})
}

func drop(r *xmpp.Router, account string) error {
	return r.Update(func(tx *store.Tx, out *xmpp.Out) error {
		store.DropImport(tx, account)
		if acc, ok := store.Accounts.Get(tx, account); ok && acc.Closed == nil {
			out.After(func() { r.SetExists(xmpp.MustJID(account), true) })
		}
		return nil
	})
}

// incoming is the account that is being imported.
type incoming struct {
	im       *Importer
	from, to xmpp.JID
	moving   bool
	id       string // of the mark
	began    time.Time

	ops    []func(tx *store.Tx) error
	size   int
	flying chan error // what is being committed; nil: nothing

	password string
	keys     store.Account
	had      *store.Account // before, empty
	own      Own
	ownFile  bool // a pibox wrote it
	result   Result
	losses   Losses

	contacts, requests, blocked, private map[string]bool
	rosterText                           int
	nodes                                map[string]*node
	pepBytes, entityBytes                int
	log                                  logImport
}

// User implements Sink.
func (im *Importer) User(u User) error {
	if err := im.ctx.Err(); err != nil {
		return err
	}
	from, err := xmpp.ParseJID(u.Name + "@" + u.Domain)
	if err != nil || from.Local == "" || !from.IsBare() {
		if err := im.result(Result{From: short(u.Name + "@" + u.Domain), Refused: errors.New("that is no account's address")}); err != nil {
			return err
		}
		return ErrSkip
	}
	if !im.opt.Only.IsZero() && from != im.opt.Only {
		return ErrSkip
	}
	to := from
	switch {
	case !im.opt.As.IsZero():
		to = im.opt.As
	case im.opt.ToDomain != "":
		to.Domain = im.opt.ToDomain
	}
	a := &incoming{
		im: im, from: from, to: to, moving: from != to, id: rand.Text(), began: time.Now().UTC(), password: u.Password,
		contacts: map[string]bool{}, requests: map[string]bool{}, blocked: map[string]bool{}, private: map[string]bool{}, nodes: map[string]*node{},
	}
	a.log.byID = map[string]int{}
	a.result = Result{From: from.String(), To: to.String(), Moving: a.moving}
	if err := a.begin(); err != nil {
		var refused *refusal
		if !errors.As(err, &refused) {
			return err
		}
		a.result.Refused = err
		if err := im.result(a.result); err != nil {
			return err
		}
		return ErrSkip
	}
	im.cur = a
	return nil
}

// refusal is why one account can not be imported; others may be.
type refusal struct{ error }

func (r *refusal) Unwrap() error { return r.error }

func refuse(kind error, format string, args ...any) error {
	text := fmt.Sprintf(format, args...)
	if kind == nil {
		return &refusal{errors.New(text)}
	}
	return &refusal{fmt.Errorf("%w: %s", kind, text)}
}

// ErrUnserved: the account's domain is not one of the box.
var ErrUnserved = errors.New("not a domain of this box")

// begin takes the name.
func (a *incoming) begin() error {
	r, name := a.im.opt.Router, a.to.String()
	if !r.IsLocal(a.to.Domain) {
		return refuse(ErrUnserved, "%s", a.to.Domain)
	}
	if a.moving && a.im.opt.Moves == nil {
		return refuse(nil, "an import to another address is a move, which is not built yet")
	}
	if a.im.opt.DryRun {
		return r.Store.View(func(tx *store.Tx) error { return a.free(tx) })
	}
	return r.Update(func(tx *store.Tx, out *xmpp.Out) error {
		if err := a.free(tx); err != nil {
			return err
		}
		store.BeginImport(tx, name, store.ImportMark{ID: a.id, Began: a.began})
		out.After(func() {
			r.SetExists(a.to, false)
			r.EndEra(a.to)
			for _, s := range r.Sessions(a.to) {
				s.Close(&xmpp.StreamError{Condition: "reset", Text: "the account is being imported: log in again when that is done"})
			}
		})
		if !a.moving {
			return nil
		}
		return a.im.opt.Moves.PlanJob(tx, store.MoveJob{Old: a.from.String(), New: name})
	})
}

// free tells whether the account's name can be taken: nobody has it, or an account without contents.
func (a *incoming) free(tx *store.Tx) error {
	name := a.to.String()
	if _, ok := store.Importing(tx, name); ok {
		return refuse(ErrExists, "%s is being imported", name)
	}
	acc, ok := store.Accounts.Get(tx, name)
	if !ok {
		return nil
	}
	if acc.Closed != nil {
		return refuse(ErrExists, "%s is closed, and its name stays with its former owner for good", name)
	}
	if what := contents(tx, name); what != "" {
		return refuse(ErrExists, "%s has %s already; an import goes to an account that is new or empty", name, what)
	}
	a.had = &acc
	return nil
}

// contents names something that an account has; "" where it is empty.
func contents(tx *store.Tx, name string) string {
	for _, t := range []struct {
		n    int
		what string
	}{
		{store.Roster.Count(tx, name), "contacts"},
		{store.Pending.Count(tx, name), "requests"},
		{store.Private.Count(tx, name), "private data"},
		{store.Blocks.Count(tx, name), "a block list"},
		{store.PEPNodes.Count(tx, name), "personal data (such as an avatar, bookmarks, or keys of a device that logged in)"},
		{store.LogStats(tx, name).Count + store.OwedCount(tx, name), "messages"},
	} {
		if t.n > 0 {
			return t.what
		}
	}
	switch {
	case store.VCards.Has(tx, name):
		return "a card"
	case store.Moves.Has(tx, name):
		return "a new address"
	}
	return ""
}

// write queues a part of the import, of about so many bytes.
func (a *incoming) write(size int, op func(tx *store.Tx) error) error {
	a.ops = append(a.ops, op)
	if a.size += size + 64; a.size >= batchBytes {
		return a.flush()
	}
	return nil
}

// errSuperseded: the mark is not this import's any more.
var errSuperseded = errors.New("the import was taken back")

// flush has what is queued committed, while more is read; it waits for what was queued before.
func (a *incoming) flush() error {
	if err := a.wait(); err != nil {
		return err
	}
	ops, size := a.ops, a.size
	a.ops, a.size = nil, 0
	if err := a.im.ctx.Err(); err != nil || a.im.opt.DryRun || len(ops) == 0 {
		return err
	}
	if a.im.opt.Room != nil {
		if err := a.im.opt.Room(); err != nil {
			return err
		}
	}
	done := make(chan error, 1)
	a.flying = done
	a.im.opt.Router.Store.Submit(&store.Op{Size: size, Done: func(err error) { done <- err }, Run: func(tx *store.Tx) error {
		if mark, ok := store.Importing(tx, a.to.String()); !ok || mark.ID != a.id {
			return errSuperseded
		}
		for _, op := range ops {
			if err := op(tx); err != nil {
				return err
			}
		}
		return nil
	}})
	return nil
}

// wait returns when what is being committed is.
func (a *incoming) wait() error {
	if a.flying == nil {
		return nil
	}
	err := <-a.flying
	a.flying = nil
	return err
}

// sync is flush, and waits for it.
func (a *incoming) sync() error { return errors.Join(a.flush(), a.wait()) }

// Unknown implements Sink.
func (im *Importer) Unknown(what Loss) error {
	if im.cur == nil {
		im.losses.Add(what)
	} else {
		im.cur.losses.Add(what)
	}
	return nil
}

func (a *incoming) lose(what, why string) error {
	a.losses.Add(Loss{what, why})
	return nil
}

// Credentials implements Sink.
func (im *Importer) Credentials(c Credentials) error {
	a := im.cur
	to, size := &a.keys.SHA1, 20
	switch c.Mechanism {
	case ScramSHA1:
	case ScramSHA256:
		to, size = &a.keys.SHA256, 32
	default:
		return a.lose("keys for logging in by "+short(c.Mechanism), "this box logs in by SCRAM-SHA-1 and SCRAM-SHA-256")
	}
	const maxSalt, maxIterations = 1024, 10_000_000
	if len(c.StoredKey) != size || len(c.ServerKey) != size || len(c.Salt) == 0 || len(c.Salt) > maxSalt || c.Iterations < 1 || c.Iterations > maxIterations {
		return a.lose("keys for logging in by "+c.Mechanism, "they can not be right")
	}
	*to = c.Credentials
	return nil
}

// Own implements Sink.
func (im *Importer) Own(o Own) error {
	a := im.cur
	if a.own, a.ownFile = o, true; a.own.Last.At.After(a.began) {
		a.own.Last.At = a.began
	}
	if len(o.Last.Status) > maxStatus {
		a.own.Last.Status = ""
		return a.lose("what was said when the last session ended", "it is too long")
	}
	return nil
}

// End implements Sink.
func (im *Importer) End() error {
	a := im.cur
	if err := a.finishLog(); err != nil {
		return err
	}
	if err := a.finishNodes(); err != nil {
		return err
	}
	if err := a.sync(); err != nil {
		return err
	}
	acc, err := a.account()
	if err != nil {
		return err
	}
	if !im.opt.DryRun {
		if err := a.appear(acc); err != nil {
			return err
		}
	}
	a.result.Admin = acc.Admin
	a.result.Losses = a.losses.List()
	im.cur = nil
	return im.result(a.result)
}

// account is the record. Keys do not depend on an address.
func (a *incoming) account() (acc store.Account, err error) {
	acc = a.keys
	have := func() bool { return len(acc.SHA1.StoredKey) > 0 || len(acc.SHA256.StoredKey) > 0 }
	switch {
	case a.password != "":
		keys, _, err := a.im.opt.Login(a.password)
		if err != nil {
			_ = a.lose("the password", "it can not be used here: "+err.Error())
			break
		}
		acc.SHA1, acc.SHA256 = keys.SHA1, keys.SHA256
	case !have() && a.had != nil:
		acc.SHA1, acc.SHA256, acc.OneTime = a.had.SHA1, a.had.SHA256, a.had.OneTime
	}
	if !have() {
		keys, oneTime, err := a.im.opt.Login("")
		if err != nil {
			return acc, err
		}
		acc.SHA1, acc.SHA256, acc.OneTime, a.result.OneTime = keys.SHA1, keys.SHA256, true, oneTime
	}
	acc.Created = a.began
	if a.had != nil {
		acc.Created, acc.Admin, acc.Restricted = a.had.Created, a.had.Admin, a.had.Restricted
	}
	if !a.moving {
		if !a.own.Created.IsZero() && a.own.Created.Before(a.began) {
			acc.Created = a.own.Created
		}
		acc.Admin, acc.Restricted = acc.Admin || a.own.Admin, acc.Restricted || a.own.Restricted
		acc.OneTime = acc.OneTime || a.own.OneTime
	}
	return acc, nil
}

// appear lets the account exist.
func (a *incoming) appear(acc store.Account) error {
	r, name := a.im.opt.Router, a.to.String()
	return r.Update(func(tx *store.Tx, out *xmpp.Out) error {
		if mark, ok := store.Importing(tx, name); !ok || mark.ID != a.id {
			return errSuperseded
		}
		store.EndImport(tx, name, acc)
		if !a.moving {
			// What a client has of the list from another life of the account is older than all that is here.
			v := a.rosterVersion()
			store.RosterV.Put(tx, name, store.RosterVersion{Version: v, Floor: v})
			if !a.own.Last.At.IsZero() {
				store.LastSeen.Put(tx, name, a.own.Last)
			}
		}
		if a.own.Push != (store.PushContent{}) {
			store.PushContents.Put(tx, name, a.own.Push)
		}
		out.After(func() { r.SetExists(a.to, true) })
		if a.im.opt.Appear == nil {
			return nil
		}
		return a.im.opt.Appear(tx, out, a.to)
	})
}

func (a *incoming) rosterVersion() uint64 { return uint64(a.began.UnixMilli()) }
