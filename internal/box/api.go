package box

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"pibox/internal/admin"
	"pibox/internal/reach"
	"pibox/internal/store"
	"pibox/internal/xmpp"
	"pibox/internal/xmpp/accounts"
	"pibox/internal/xmpp/sasl"
)

// The daemon implements admin.API.
var _ admin.API = (*Daemon)(nil)

// serving is the service, or an error that says why there is none.
func (d *Daemon) serving() (*service, error) {
	if s := d.running(); s != nil {
		return s, nil
	}
	why := strings.Join(d.reasons(), "; ")
	if why == "" {
		return nil, admin.Errorf(admin.CodeStarting, "the box is starting").Then("Try again in a moment.")
	}
	err := admin.Errorf(admin.CodeFailed, "the box is not serving: %s", why)
	if d.gaveAway() {
		return nil, err // which says who may take it back
	}
	return nil, err.Then("See 'pibox status'; it goes on by itself when the cause is gone.")
}

// servingUser is serving, and the account that a person named.
func (d *Daemon) servingUser(name string) (*service, xmpp.JID, error) {
	s, err := d.serving()
	if err != nil {
		return nil, xmpp.JID{}, err
	}
	j, err := s.box.Accounts.Parse(name)
	return s, j, told(err)
}

// told turns an error of a feature into one for the person who asked.
func told(err error) error {
	var password *sasl.PasswordError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &password), errors.Is(err, accounts.ErrName):
		return admin.Errorf(admin.CodeInvalid, "%v", err)
	case errors.Is(err, accounts.ErrExists):
		return admin.Errorf(admin.CodeExists, "%v", err).Then("'pibox user passwd' changes its password.")
	case errors.Is(err, accounts.ErrClosed):
		return admin.Errorf(admin.CodeInvalid, "%v", err)
	case errors.Is(err, accounts.ErrUnserved):
		return admin.Errorf(admin.CodeInvalid, "%v", err).Then("Add that domain to domains in the configuration and start the box again; then try again.")
	case errors.Is(err, accounts.ErrDomain):
		return admin.Errorf(admin.CodeNotFound, "%v", err)
	case errors.Is(err, accounts.ErrNone):
		return admin.Errorf(admin.CodeNotFound, "%v", err).Then("'pibox user list' shows who there is.")
	case errors.Is(err, store.ErrFull):
		return admin.Errorf(admin.CodeFailed, "%v", err).Then("Free some space on the disk.")
	}
	return err
}

// UserAdd implements admin.API.
func (d *Daemon) UserAdd(_ context.Context, req admin.UserAddRequest) (resp admin.UserAddResponse, err error) {
	s, err := d.serving()
	if err != nil {
		return resp, err
	}
	j, err := s.box.newAddress(req.User)
	if err != nil {
		return resp, told(err)
	}
	_, err = s.box.Accounts.Create(j, req.Password, accounts.Role{Admin: req.Admin, Restricted: req.Restricted})
	switch {
	case errors.Is(err, accounts.ErrClosed):
		return resp, admin.Errorf(admin.CodeExists, "%v", err)
	case err != nil:
		return resp, told(err)
	}
	resp.User, err = s.box.user(j)
	return resp, err
}

// UserList implements admin.API.
func (d *Daemon) UserList(_ context.Context, req admin.UserListRequest) (resp admin.UserListResponse, err error) {
	s, err := d.serving()
	if err != nil {
		return resp, err
	}
	domain := req.Domain
	if domain != "" {
		j, err := xmpp.ParseJID(domain)
		if err == nil && j == j.Host() {
			domain = j.Domain
		}
	}
	resp.Users = []admin.User{}
	if err = s.box.Store.View(func(tx *store.Tx) error {
		for key, acc := range store.Accounts.All(tx) {
			j, err := xmpp.ParseJID(key)
			if err != nil {
				return err
			}
			if domain == "" || domain == j.Domain {
				resp.Users = append(resp.Users, s.box.describe(tx, j, acc))
			}
		}
		return nil
	}); err != nil {
		return resp, err
	}
	if len(resp.Users) == 0 && domain != "" && !s.box.Router.IsLocal(domain) {
		return resp, admin.Errorf(admin.CodeNotFound, "%s is not a domain of this box (%s)", domain, strings.Join(s.box.Router.Domains(), ", "))
	}
	return resp, nil
}

// UserGet implements admin.API.
func (d *Daemon) UserGet(_ context.Context, req admin.UserGetRequest) (resp admin.UserGetResponse, err error) {
	s, j, err := d.servingUser(req.User)
	if err != nil {
		return resp, err
	}
	resp.User, err = s.box.user(j)
	return resp, err
}

func (b *Box) user(j xmpp.JID) (u admin.User, err error) {
	err = b.Store.View(func(tx *store.Tx) error {
		acc, ok := store.Accounts.Get(tx, j.String())
		if !ok {
			return fmt.Errorf("%s: %w", j, accounts.ErrNone)
		}
		u = b.describe(tx, j, acc)
		return nil
	})
	return u, told(err)
}

func (b *Box) describe(tx *store.Tx, j xmpp.JID, acc store.Account) admin.User {
	u := admin.User{
		Address: j.String(), State: admin.UserActive, Created: acc.Created, Resources: len(b.Router.Sessions(j)),
		Admin: acc.Admin, Restricted: acc.Restricted,
	}
	if last, ok := store.LastSeen.Get(tx, j.String()); ok {
		u.LastSeen = last.At
	}
	if mv, ok := store.Moves.Get(tx, j.String()); ok {
		u.State, u.MovedTo = admin.UserForwarding, mv.To
		u.ForwardingUntil = mv.Published.Add(days(b.cfg.Moved.ForwardingDays))
		u.Contacts, u.ContactsLeft = len(mv.Readers), len(mv.Left)
		u.Heir, u.MessagesStay = b.Moved.Heir(tx, j)
	}
	switch {
	case !b.Router.IsLocal(j.Domain):
		u.State = admin.UserUnserved
	case acc.Closed != nil:
		u.State = admin.UserClosed
	}
	return u
}

// UserPassword implements admin.API.
func (d *Daemon) UserPassword(_ context.Context, req admin.UserPasswordRequest) (resp admin.UserPasswordResponse, err error) {
	s, j, err := d.servingUser(req.User)
	if err != nil {
		return resp, err
	}
	resp.Address = j.String()
	_, resp.Ended, err = s.box.Accounts.SetPassword(j, req.Password)
	return resp, told(err)
}

// UserRemove implements admin.API.
func (d *Daemon) UserRemove(_ context.Context, req admin.UserRemoveRequest) (resp admin.UserRemoveResponse, err error) {
	s, j, err := d.servingUser(req.User)
	if err != nil {
		return resp, err
	}
	resp.Address = j.String()
	if !req.Forward {
		if err := s.box.Moved.InheritRest(j, req.DropMessages); err != nil {
			return resp, toldMove(err)
		}
		resp.Ended, err = s.box.Accounts.Remove(j)
		return resp, told(err)
	}
	resp.Ended = len(s.box.Router.Sessions(j))
	err = s.box.forward(j, req.DropMessages)
	var refused *xmpp.StanzaError
	if errors.As(err, &refused) {
		return resp, admin.Errorf(admin.CodeInvalid, "%s", refused.Text)
	}
	return resp, toldMove(err)
}

// Forward closes an account that moved: from now on it only tells its contacts where it went. It fails where messages would be lost.
func (b *Box) Forward(account xmpp.JID) error { return b.forward(account, false) }

func (b *Box) forward(account xmpp.JID, drop bool) error {
	if err := b.Moved.InheritRest(account, drop); err != nil {
		return err
	}
	return b.Router.Update(func(tx *store.Tx, out *xmpp.Out) error {
		if err := b.Moved.Close(tx, account); err != nil {
			return err
		}
		return b.Accounts.Close(tx, out, account)
	})
}

func (d *Daemon) reasons() []string {
	out := []string{}
	for _, r := range d.health.Snapshot().Reasons {
		out = append(out, r.Text)
	}
	return out
}

// Status implements admin.API.
func (d *Daemon) Status(context.Context, admin.StatusRequest) (admin.StatusResponse, error) {
	snap, cfg := d.health.Snapshot(), d.config()
	resp := admin.StatusResponse{
		Version: d.version, PID: os.Getpid(), State: string(snap.State), Since: snap.Since, Started: d.started, Reasons: d.reasons(),
		Domains: []string{}, Listeners: []admin.ListenAddress{}, Certificates: []admin.Certificate{}, Memory: residentBytes(),
		Store: admin.StoreStatus{Path: StorePath(cfg), Schema: store.Schema()},
	}
	if fi, err := os.Stat(resp.Store.Path); err == nil {
		resp.Store.Size = fi.Size()
	}
	resp.Store.Free, _ = freeBytes(cfg.DataDir)
	s := d.running()
	if s == nil {
		d.mu.Lock()
		defer d.mu.Unlock()
		resp.Domains, resp.Users = append(resp.Domains, d.known.domains...), d.known.users
		return resp, nil
	}
	resp.Domains, resp.Listeners = slices.Clone(s.box.Router.Domains()), s.addresses()
	resp.Certificates = s.certificates()
	s.box.Router.EachSession(func(*xmpp.Session) { resp.Sessions++ })
	if s.servers != nil {
		resp.ServersIn, resp.ServersOut, resp.Queued = s.servers.Counts()
	}
	err := s.box.Store.View(func(tx *store.Tx) error {
		for range store.Accounts.All(tx) {
			resp.Users++
		}
		resp.Held = store.Held(tx)
		return nil
	})
	return resp, err
}

// Authority implements admin.API.
func (d *Daemon) Authority(context.Context, admin.AuthorityRequest) (resp admin.AuthorityResponse, err error) {
	s, err := d.serving()
	if err != nil {
		return resp, err
	}
	raw := s.certs.AuthorityPEM()
	if raw == nil {
		return resp, admin.Errorf(admin.CodeNotFound, "this box has no certificate authority: every domain has a certificate of its own")
	}
	block, _ := pem.Decode(raw)
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return resp, err
	}
	return admin.AuthorityResponse{
		Path: s.authorityPath(), PEM: string(raw), SHA256: reach.Fingerprint(cert), Names: cert.PermittedDNSDomains, Expires: cert.NotAfter,
	}, nil
}

func (s *service) certificates() []admin.Certificate {
	list := []admin.Certificate{}
	for _, c := range s.certs.Served() {
		list = append(list, admin.Certificate{
			Domain: c.Domain, SHA256: reach.Fingerprint(c.Certificate), Expires: c.Certificate.NotAfter, Family: c.Own,
		})
	}
	return list
}

func freeBytes(dir string) (int64, error) {
	var st syscall.Statfs_t
	if err := syscall.Statfs(dir, &st); err != nil {
		return 0, err
	}
	return int64(st.Bavail) * int64(st.Bsize), nil
}

// residentBytes is the memory that the process holds; 0 where that is not known.
func residentBytes() int64 {
	raw, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0
	}
	f := strings.Fields(string(raw))
	if len(f) < 2 {
		return 0
	}
	pages, _ := strconv.ParseInt(f[1], 10, 64)
	return pages * int64(os.Getpagesize())
}
