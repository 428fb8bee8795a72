package main

import (
	"context"
	"io"
	"net"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"sync"
	"time"

	"pibox/internal/admin"
	"pibox/internal/backup"
	"pibox/internal/box"
	"pibox/internal/config"
	"pibox/internal/portable"
	"pibox/internal/transfer"
)

// fakeBox stands in for the server so that the commands are tested for what
// they do themselves: it keeps accounts in memory and has the real admin
// socket.
type fakeBox struct {
	wired   // the rest of the program is the real one
	mu      sync.Mutex
	cfg     config.Config
	users   map[string]admin.User
	started time.Time

	migration admin.Migration
	offers    int
}

func newFakeBox() *fakeBox {
	return &fakeBox{users: map[string]admin.User{}, started: time.Now()}
}

func (b *fakeBox) Serve(ctx context.Context, cfg config.Config, _ box.ConfigSource, out io.Writer) error {
	b.cfg = cfg
	l, err := admin.Listen(cfg.Admin.Socket, cfg.Admin.Group)
	if err != nil {
		return err
	}
	if name := os.Getenv("NOTIFY_SOCKET"); name != "" {
		conn, err := net.Dial("unixgram", name)
		if err != nil {
			return err
		}
		_, _ = conn.Write([]byte("STATUS=well\nREADY=1"))
		_ = conn.Close()
	}
	_, _ = io.WriteString(out, "serving "+strings.Join(cfg.Domains, " ")+"\n")
	return admin.NewServer(newLog(cfg.Log), admin.Methods(b)...).Serve(ctx, l)
}

func (b *fakeBox) address(name string) string {
	if strings.Contains(name, "@") {
		return name
	}
	return name + "@" + b.cfg.Domains[0]
}

func (b *fakeBox) find(name string) (string, error) {
	address := b.address(name)
	if _, ok := b.users[address]; !ok {
		return "", admin.Errorf(admin.CodeNotFound, "there is no account %s", address).Then("'pibox user list' shows all.")
	}
	return address, nil
}

func (b *fakeBox) UserAdd(_ context.Context, req admin.UserAddRequest) (admin.UserAddResponse, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	address := b.address(req.User)
	if len(req.Password) < 8 {
		return admin.UserAddResponse{}, admin.Errorf(admin.CodeInvalid, "the password %d characters long is too short", len(req.Password))
	}
	if _, err := b.find(req.User); err == nil {
		return admin.UserAddResponse{}, admin.Errorf(admin.CodeExists, "%s is there already", address).Then("'pibox user passwd' gives it another password.")
	}
	u := admin.User{Address: address, State: admin.UserActive, Created: b.started, Admin: req.Admin, Restricted: req.Restricted}
	if req.User == "tybalt" { // he has moved
		u.State, u.MovedTo = admin.UserForwarding, "x@new.example"
	}
	b.users[address] = u
	return admin.UserAddResponse{User: u}, nil
}

func (b *fakeBox) UserList(_ context.Context, req admin.UserListRequest) (admin.UserListResponse, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	list := []admin.User{}
	for address, u := range b.users {
		if req.Domain == "" || strings.HasSuffix(address, "@"+req.Domain) {
			list = append(list, u)
		}
	}
	sort.Slice(list, func(i, j int) bool { return list[i].Address < list[j].Address })
	return admin.UserListResponse{Users: list}, nil
}

func (b *fakeBox) UserGet(_ context.Context, req admin.UserGetRequest) (admin.UserGetResponse, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	address, err := b.find(req.User)
	return admin.UserGetResponse{User: b.users[address]}, err
}

func (b *fakeBox) UserPassword(_ context.Context, req admin.UserPasswordRequest) (admin.UserPasswordResponse, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	address, err := b.find(req.User)
	return admin.UserPasswordResponse{Address: address}, err
}

// UserPush knows one push service, that of romeo.
func (b *fakeBox) UserPush(_ context.Context, req admin.UserPushRequest) (admin.UserPushResponse, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	address, err := b.find(req.User)
	resp := admin.UserPushResponse{
		Address: address, Sender: req.Sender == admin.PushYes, Body: req.Body == admin.PushYes, Services: []admin.PushService{},
	}
	if strings.HasPrefix(address, "romeo@") {
		now := time.Now()
		resp.Services = append(resp.Services,
			admin.PushService{Service: "push.example", Device: "phone", Enabled: now.Add(-49 * time.Hour)},
			admin.PushService{Service: "p2.example", Device: "tablet", Enabled: now.Add(-49 * time.Hour), Failing: now.Add(-3 * time.Hour)})
	}
	return resp, err
}

func (b *fakeBox) UserRemove(_ context.Context, req admin.UserRemoveRequest) (admin.UserRemoveResponse, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	address, err := b.find(req.User)
	if err == nil && req.Forward {
		b.users[address] = admin.User{Address: address, State: admin.UserClosed, MovedTo: "x@new.example", Contacts: 2, ContactsLeft: 1}
		return admin.UserRemoveResponse{Address: address}, nil
	}
	delete(b.users, address)
	return admin.UserRemoveResponse{Address: address}, err
}

// Status tells of a failing box once there is an account named fail.
func (b *fakeBox) Status(context.Context, admin.StatusRequest) (admin.StatusResponse, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := admin.StatusResponse{
		Version: version, PID: os.Getpid(), State: "well", Since: b.started, Started: b.started,
		Domains: b.cfg.Domains, Users: len(b.users), Reasons: []string{},
		Listeners: []admin.ListenAddress{{Service: "c2s", Address: b.cfg.C2S.Listen[0]}},
		Store:     admin.StoreStatus{Path: filepath.Join(b.cfg.DataDir, "pibox.db"), Schema: 1, Size: 40 << 10, Free: 3 << 30},
		Memory:    11 << 20,
	}
	if _, ok := b.users["fail@home.example"]; ok {
		s.State, s.Reasons = "failing", []string{"the card can not be written"}
	}
	return s, nil
}

func (b *fakeBox) Authority(context.Context, admin.AuthorityRequest) (admin.AuthorityResponse, error) {
	return admin.AuthorityResponse{PEM: "-----BEGIN CERTIFICATE-----\n"}, nil
}

// Export writes the names of the accounts; there is a push service.
func (b *fakeBox) Export(_ context.Context, req admin.ExportRequest, w io.Writer) (admin.ExportResponse, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	resp := admin.ExportResponse{Losses: []admin.Loss{{What: "a device's push service", Why: "it registers again", Count: 2}}}
	out := portable.NewWriter(w)
	for _, name := range req.Users {
		address, err := b.find(name)
		if err != nil {
			return resp, err
		}
		resp.Accounts = append(resp.Accounts, address)
		user, domain, _ := strings.Cut(address, "@")
		_ = out.User(portable.User{Name: user, Domain: domain})
		_ = out.End()
	}
	if req.Plan {
		return resp, nil
	}
	return resp, out.Close()
}

// Import makes accounts of names.
func (b *fakeBox) Import(ctx context.Context, req admin.ImportRequest, r io.Reader) (resp admin.ImportResponse, err error) {
	names, err := portable.Accounts(ctx, r)
	if err != nil {
		return resp, admin.Errorf(admin.CodeInvalid, "the file can not be read: %v", err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, name := range names {
		one := admin.Imported{From: name, Address: name, Contacts: 2, Archived: 1, OMEMO: true, Losses: []admin.Loss{{What: "a thing", Why: "it is lost", Count: 3}}}
		if _, ok := b.users[name]; ok {
			one = admin.Imported{From: name, Address: name, Refused: "it has contacts already"}
		}
		if req.As != "" {
			one.Address, one.Moving = req.As, true
		}
		if one.Refused == "" && !req.DryRun {
			b.users[one.Address] = admin.User{Address: one.Address, State: admin.UserActive, Created: b.started}
		}
		resp.Accounts = append(resp.Accounts, one)
	}
	return resp, nil
}

func (b *fakeBox) Backup(_ context.Context, _ admin.BackupRequest, w io.Writer) (admin.BackupResponse, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	part := backup.Part{
		Name: backup.PartConfiguration, Size: func() (int64, error) { return 1 << 20, nil },
		Write: func(w *backup.Writer) error {
			text := ""
			for address := range b.users {
				text += address + "\n"
				if strings.HasPrefix(address, "fail@") {
					return admin.Errorf(admin.CodeFailed, "the card can not be read")
				}
			}
			return w.Bytes(backup.PartConfiguration, "", []byte(text))
		},
	}
	m, err := backup.Write(w, backup.Manifest{Version: version, Schema: 1, Taken: b.started, Domains: b.cfg.Domains, Accounts: len(b.users)}, []backup.Part{part})
	return admin.BackupResponse{Schema: m.Schema, Taken: m.Taken, Domains: m.Domains, Accounts: m.Accounts}, err
}

func (b *fakeBox) RestoreConfirm(context.Context, admin.RestoreConfirmRequest) (admin.RestoreConfirmResponse, error) {
	return admin.RestoreConfirmResponse{Held: len(b.users) > 0}, nil
}

// TransferOffer knows its addresses on the usual port alone; under the unit's sandbox the real one knows none.
func (b *fakeBox) TransferOffer(_ context.Context, req admin.TransferOfferRequest) (resp admin.TransferOfferResponse, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.offers++
	resp.Voided, resp.Code, resp.Expires = b.offers > 1, transfer.NewCode().String(), b.started
	if req.Listen == ":"+transferPort {
		resp.Addresses = []string{"192.0.2.7:5271"}
	}
	return resp, nil
}

func (b *fakeBox) TransferWithdraw(context.Context, admin.TransferWithdrawRequest) (admin.TransferWithdrawResponse, error) {
	return admin.TransferWithdrawResponse{}, nil
}

func (b *fakeBox) TransferReopen(context.Context, admin.TransferReopenRequest) (admin.TransferReopenResponse, error) {
	return admin.TransferReopenResponse{To: "192.0.2.8", At: b.started}, nil
}
