package box

import (
	"context"
	"strings"

	"pibox/internal/admin"
	"pibox/internal/config"
	"pibox/internal/store"
	"pibox/internal/xmpp"
	"pibox/internal/xmpp/push"
	"pibox/internal/xmpp/roster"
)

// registerPush hangs push notifications on messages and contact requests.
func (b *Box) registerPush() {
	opt := pushOptions(b.cfg.Push)
	opt.Log = b.log
	b.push = push.Register(b.Router, b.delivery, opt)
	b.Accounts.OnRemove(func(_ *store.Tx, out *xmpp.Out, account xmpp.JID, _ bool) error {
		b.push.Clear(out, account)
		return nil
	})
	b.Accounts.OnPassword(b.push.Forget)
	b.roster.OnChange(func(tx *store.Tx, out *xmpp.Out, c roster.Change) {
		if !c.Pending || c.WasPending {
			return
		}
		if rq, _ := store.Pending.Get(tx, store.Key(c.Account.String(), c.Contact.String())); !rq.Verifying {
			b.push.Requested(out, c.Account)
		}
	})
}

func pushOptions(c config.Push) push.Options {
	return push.Options{Sender: c.IncludeSender, Body: c.IncludeBody}
}

// UserPush implements admin.API.
func (d *Daemon) UserPush(_ context.Context, req admin.UserPushRequest) (resp admin.UserPushResponse, err error) {
	s, j, err := d.servingUser(req.User)
	if err != nil {
		return resp, err
	}
	if _, err = s.box.user(j); err != nil {
		return resp, err
	}
	resp.Address, resp.Services = j.String(), []admin.PushService{}
	err = s.box.Router.Update(func(tx *store.Tx, _ *xmpp.Out) error {
		own, _ := store.PushContents.Get(tx, j.String())
		for _, set := range []struct {
			to  admin.PushContent
			own **bool
		}{{req.Sender, &own.Sender}, {req.Body, &own.Body}} {
			yes := set.to == admin.PushYes
			switch set.to {
			case "":
			case admin.PushYes, admin.PushNo:
				*set.own = &yes
			case admin.PushDefault:
				*set.own = nil
			default:
				return admin.Errorf(admin.CodeInvalid, "%q is not yes, no or default", set.to)
			}
		}
		switch own {
		case store.PushContent{}:
			store.PushContents.Delete(tx, j.String())
		default:
			store.PushContents.Put(tx, j.String(), own)
		}
		resp.Sender, resp.Body = pushOptions(s.box.cfg.Push).Content(tx, j)
		resp.Services = pushServices(tx, j)
		return nil
	})
	return resp, told(err)
}

func pushServices(tx *store.Tx, account xmpp.JID) []admin.PushService {
	list := []admin.PushService{}
	for key, rec := range store.Pushes.All(tx, account.String()) {
		service := strings.Split(key, "\x00")[1]
		list = append(list, admin.PushService{Service: service, Device: rec.Device, Enabled: rec.Enabled, Failing: rec.Failing})
	}
	return list
}
