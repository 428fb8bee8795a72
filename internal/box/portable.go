package box

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"pibox/internal/admin"
	"pibox/internal/moved"
	"pibox/internal/portable"
	"pibox/internal/store"
	"pibox/internal/xmpp"
)

// moves is where contact lists of imported accounts go that have another address here.
type moves struct{}

func (moves) PlanJob(tx *store.Tx, job store.MoveJob) error { return moved.PlanJob(tx, job) }

func (moves) AddContact(tx *store.Tx, account, contact xmpp.JID, c store.MoveContact) error {
	return moved.AddContact(tx, account, contact, c)
}

// Exporter reads accounts of this box.
func (b *Box) Exporter() *portable.Exporter {
	return &portable.Exporter{Store: b.Store, Nodes: b.pep.Portable()}
}

// Importer makes accounts in this box. The caller may change the options, such as the addresses.
func (b *Box) Importer(ctx context.Context, change func(*portable.ImportOptions)) *portable.Importer {
	opt := portable.ImportOptions{
		Router: b.Router, Nodes: b.pep.Portable(), Moves: moves{}, Login: b.Accounts.Login, MaxAge: b.cfg.Archive.MaxAge.D(),
		Appear: b.blocking.Appear,
		Room:   func() error { return b.room(0) },
	}
	if change != nil {
		change(&opt)
	}
	return portable.NewImporter(ctx, opt)
}

// room tells whether so many bytes more find a place in the database.
func (b *Box) room(size int64) error {
	free, err := freeBytes(b.cfg.DataDir)
	if err != nil {
		return err
	}
	if left := free - int64(b.cfg.Store.Reserve); size > left {
		return admin.Errorf(admin.CodeFailed, "there is too little space on the disk: %d MiB are needed, %d MiB can be used", (size>>20)+1, max(0, left>>20)).
			Then("Free some space, or use a larger card.")
	}
	most := store.MaxSize()
	if most == 0 {
		return nil
	}
	// At its limit the database would fail as a whole.
	const margin = 64 << 20
	info, err := os.Stat(StorePath(b.cfg))
	if err == nil && info.Size()+size > most-margin {
		err = admin.Errorf(admin.CodeFailed, "a 32-bit box holds a database of up to %d MiB; this one has %d MiB, and %d MiB more do not fit", (most-margin)>>20, info.Size()>>20, (size>>20)+1).
			Then("Import a part with --only, or use a 64-bit system.")
	}
	return err
}

// Export implements admin.API.
func (d *Daemon) Export(ctx context.Context, req admin.ExportRequest, w io.Writer) (resp admin.ExportResponse, err error) {
	s, err := d.serving()
	if err != nil {
		return resp, err
	}
	var losses portable.Losses
	list, err := s.box.toExport(req, &losses)
	if err != nil {
		return resp, err
	}
	x := s.box.Exporter()
	if req.Plan {
		for _, j := range list {
			n, err := x.Size(j)
			if err != nil {
				return resp, err
			}
			resp.Accounts, resp.Size = append(resp.Accounts, j.String()), resp.Size+n
		}
		return resp, nil
	}
	if err := s.box.delivery.Flush(); err != nil { // what devices got is not exported as waiting
		return resp, told(err)
	}
	out := portable.NewWriter(w)
	sink := &telling{out, &losses}
	for _, j := range list {
		if err := x.Account(ctx, j, sink); err != nil {
			return resp, told(err)
		}
		resp.Accounts = append(resp.Accounts, j.String())
	}
	resp.Losses = lossesOf(losses.List())
	return resp, out.Close()
}

// telling is a file whose losses are counted.
type telling struct {
	*portable.Writer
	losses *portable.Losses
}

// Unknown implements portable.Sink.
func (t *telling) Unknown(what portable.Loss) error {
	t.losses.Add(what)
	return nil
}

func lossesOf(list []portable.LossCount) []admin.Loss {
	out := []admin.Loss{}
	for _, l := range list {
		out = append(out, admin.Loss{What: l.What, Why: l.Why, Count: l.Count})
	}
	return out
}

// toExport are the accounts that a request names, those of one domain together.
func (b *Box) toExport(req admin.ExportRequest, losses *portable.Losses) (list []xmpp.JID, err error) {
	named := map[xmpp.JID]bool{}
	for _, name := range req.Users {
		j, err := b.Accounts.Parse(name)
		if err != nil {
			return nil, told(err)
		}
		u, err := b.user(j)
		if err != nil {
			return nil, err
		}
		if u.State == admin.UserClosed {
			return nil, admin.Errorf(admin.CodeInvalid, "%s is closed: all that is left of it is its forwarding address", j)
		}
		named[j] = true
	}
	if len(req.Users) == 0 && req.Domain == "" && !req.All {
		return nil, admin.Errorf(admin.CodeInvalid, "no account is named")
	}
	all := map[string][]xmpp.JID{}
	var domains []string
	err = b.Store.View(func(tx *store.Tx) error {
		for key, acc := range store.Accounts.All(tx) {
			j, err := xmpp.ParseJID(key)
			if err != nil {
				return err
			}
			switch {
			case !named[j] && !req.All && j.Domain != req.Domain:
			case acc.Closed != nil:
				losses.Add(portable.Loss{What: "the closed account " + j.String(), Why: "all that is left of it is its forwarding address"})
			default:
				if all[j.Domain] == nil {
					domains = append(domains, j.Domain)
				}
				all[j.Domain] = append(all[j.Domain], j)
			}
		}
		return nil
	})
	for _, domain := range domains {
		list = append(list, all[domain]...)
	}
	if err == nil && len(list) == 0 {
		err = admin.Errorf(admin.CodeNotFound, "there is no account at %s", req.Domain).Then("'pibox user list' shows who there is.")
	}
	return list, err
}

// Import implements admin.API.
func (d *Daemon) Import(ctx context.Context, req admin.ImportRequest, r io.Reader) (resp admin.ImportResponse, err error) {
	s, err := d.serving()
	if err != nil {
		return resp, err
	}
	only, as, err := s.box.importAddresses(req)
	if err != nil {
		return resp, err
	}
	if !d.importing.TryLock() {
		return resp, admin.Errorf(admin.CodeBusy, "another import is under way").Then("Wait for its end.")
	}
	defer d.importing.Unlock()
	if !req.DryRun && only.IsZero() {
		if err := s.box.room(req.Size); err != nil {
			return resp, err
		}
	}
	im := s.box.Importer(ctx, func(o *portable.ImportOptions) {
		o.Only, o.As, o.ToDomain, o.DryRun = only, as, req.ToDomain, req.DryRun
	})
	err = (&portable.Reader{}).Read(ctx, r, im)
	if closeErr := im.Close(); closeErr != nil {
		d.log.Error("import: what is not whole is taken back at the next start", "error", closeErr)
	}
	resp = imported(im, s.box.Router.IsLocal)
	if err != nil {
		return resp, importFailed(err, resp)
	}
	return resp, importRefused(req, resp, im.Results())
}

func (b *Box) importAddresses(req admin.ImportRequest) (only, as xmpp.JID, err error) {
	if req.Only != "" {
		if only, err = xmpp.ParseJID(req.Only); err != nil || only.Local == "" || !only.IsBare() {
			return only, as, admin.Errorf(admin.CodeInvalid, "%q is no account's address", req.Only)
		}
	}
	switch {
	case req.As != "" && req.ToDomain != "":
		return only, as, admin.Errorf(admin.CodeInvalid, "one address for one account, or one domain for all: not both")
	case req.As != "" && req.Only == "":
		return only, as, admin.Errorf(admin.CodeInvalid, "it is not said which account of the file is to be %s", req.As)
	case req.As != "":
		as, err = b.newAddress(req.As)
		return only, as, told(err)
	case req.ToDomain != "" && !b.Router.IsLocal(req.ToDomain):
		return only, as, admin.Errorf(admin.CodeNotFound, "%s is not a domain of this box (%s)", req.ToDomain, strings.Join(b.Router.Domains(), ", "))
	}
	return only, as, nil
}

func imported(im *portable.Importer, ours func(domain string) bool) admin.ImportResponse {
	resp := admin.ImportResponse{Accounts: []admin.Imported{}, Losses: lossesOf(im.Losses())}
	for _, r := range im.Results() {
		c := r.Counts
		_, from, _ := strings.Cut(r.From, "@")
		one := admin.Imported{
			From: r.From, Address: r.To, Password: r.OneTime, Moving: r.Moving, Elsewhere: r.Moving && !ours(from), Admin: r.Admin, OMEMO: r.OMEMO,
			Contacts: c.Contacts, Requests: c.Requests, Waiting: c.Waiting, Archived: c.Archived, Nodes: c.Nodes, Items: c.Items,
			Private: c.Private, Blocked: c.Blocked, VCard: c.VCard, Losses: lossesOf(r.Losses),
		}
		if r.Refused != nil {
			one.Refused = r.Refused.Error()
		}
		resp.Accounts = append(resp.Accounts, one)
	}
	return resp
}

// importFailed is for an import that broke off. Accounts before the one that it came in are whole.
func importFailed(err error, resp admin.ImportResponse) error {
	const most = 50
	var done []string
	more := 0
	for _, a := range resp.Accounts {
		switch {
		case a.Refused != "":
		case len(done) < most:
			done = append(done, a.Address)
		default:
			more++
		}
	}
	then := "Nothing was imported."
	if len(done) > 0 {
		then = fmt.Sprintf("These accounts came before and are whole: %s.", strings.Join(done, ", "))
	}
	if more > 0 {
		then = strings.TrimSuffix(then, ".") + fmt.Sprintf(", and %d more.", more)
	}
	var format *portable.FormatError
	var said *admin.Error
	switch {
	case errors.As(err, &format):
		return admin.Errorf(admin.CodeInvalid, "the file can not be read: %v", format).Then("%s", then)
	case errors.Is(err, portable.ErrTooMany):
		return admin.Errorf(admin.CodeInvalid, "%v", err).Then("Import a part with --only. %s", then)
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, context.Canceled), errors.Is(err, os.ErrDeadlineExceeded):
		return admin.Errorf(admin.CodeFailed, "the import was broken off").Then("%s", then)
	case errors.Is(err, store.ErrFull):
		return admin.Errorf(admin.CodeFailed, "%v", err).Then("Free some space on the disk. %s", then)
	case errors.As(err, &said):
		return said
	}
	return err
}

// importRefused: no account came, for one reason.
func importRefused(req admin.ImportRequest, resp admin.ImportResponse, all []portable.Result) error {
	if len(all) == 0 {
		if req.Only != "" {
			return admin.Errorf(admin.CodeNotFound, "%s is not in the file", req.Only)
		}
		return admin.Errorf(admin.CodeNotFound, "there is no account in the file")
	}
	for _, r := range all {
		if r.Refused == nil {
			return nil
		}
	}
	why := all[0].Refused
	e := admin.Errorf(admin.CodeInvalid, "%v", why)
	switch {
	case errors.Is(why, portable.ErrExists):
		e = admin.Errorf(admin.CodeExists, "%v", why).Then("'pibox user remove' removes an account with all it has.")
	case errors.Is(why, portable.ErrUnserved):
		e = admin.Errorf(admin.CodeInvalid, "%v", why).
			Then("Add it to domains in the configuration, or give the accounts another domain with --to-domain.")
	}
	if len(all) > 1 {
		e.Message = fmt.Sprintf("none of the %d accounts in the file could be imported; the first: %s", len(all), e.Message)
	}
	return e
}
