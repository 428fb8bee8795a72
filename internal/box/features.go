package box

import (
	"strings"
	"time"

	"pibox/internal/moved"
	"pibox/internal/store"
	"pibox/internal/xmpp"
	"pibox/internal/xmpp/archive"
	"pibox/internal/xmpp/blocking"
	"pibox/internal/xmpp/delivery"
	"pibox/internal/xmpp/disco"
	"pibox/internal/xmpp/last"
	"pibox/internal/xmpp/pep"
	"pibox/internal/xmpp/ping"
	"pibox/internal/xmpp/presence"
	"pibox/internal/xmpp/private"
	"pibox/internal/xmpp/register"
	"pibox/internal/xmpp/roster"
	"pibox/internal/xmpp/vcard"
	"pibox/internal/xmpp/version"
	"pibox/internal/xmpp/xtime"
)

// feature is one thing that the box can do.
type feature struct {
	name     string
	register func()
}

// features is everything that this box can do, in the order in which their hooks and filters run. One that needs another comes after it.
func (b *Box) features() []feature {
	r, c := b.Router, b.cfg
	return []feature{
		{"presence", func() { b.presence = presence.Register(r, presence.Options{}) }},
		{"roster", func() {
			b.roster = roster.Register(r, b.presence, roster.Options{})
			b.Accounts.OnRemove(b.leaveRosters)
		}},
		{"blocking, XEP-0191", func() {
			b.blocking = blocking.Register(r, b.presence, blocking.Options{})
			b.Accounts.OnRemove(func(tx *store.Tx, out *xmpp.Out, account xmpp.JID, _ bool) error {
				return b.blocking.Clear(tx, out, account)
			})
		}},
		{"service discovery and capabilities, XEP-0030 and XEP-0115", func() {
			b.disco = disco.Register(r, disco.Options{Name: c.Family, Contacts: disco.Contacts(c.Contact)})
		}},
		{"personal eventing, XEP-0163", func() {
			b.pep = pep.Register(r, b.disco.Caps, b.blocking, pep.Options{Log: b.log})
			b.disco.Identify(xmpp.ToAccount, "pubsub", "pep", "")
			b.disco.SetNodes(b.pep)
			b.roster.OnChange(func(tx *store.Tx, out *xmpp.Out, ch roster.Change) {
				b.pep.RosterChanged(tx, out, ch.Account, ch.Contact, ch.Old, ch.Now)
			})
		}},
		{"message archive, XEP-0313", func() {
			b.archive = archive.Register(r, archive.Options{Log: b.log, MaxAge: c.Archive.MaxAge.D(), MaxBytes: int64(c.Archive.MaxSize)})
		}},
		{"messages, XEP-0160, XEP-0280, XEP-0334 and XEP-0359", func() {
			b.delivery = delivery.Register(r, delivery.Options{Log: b.log, Archives: b.archive.Archives, OneOccupant: b.presence.OneOccupant})
			b.Accounts.OnRemove(func(tx *store.Tx, out *xmpp.Out, account xmpp.JID, _ bool) error {
				return b.delivery.Forget(tx, out, account)
			})
		}},
		{"push notifications, XEP-0357", b.registerPush},
		{"vcard-temp, XEP-0054", func() { vcard.Register(r, vcard.Options{}) }},
		{"private XML, XEP-0049", func() { private.Register(r, private.Options{}) }},
		{"change of the password, XEP-0077", func() { register.Register(r, b.Accounts) }},
		{"ping, XEP-0199", func() { ping.Register(r) }},
		{"software version, XEP-0092", func() { version.Register(r, "pibox", b.version) }},
		{"entity time, XEP-0202", func() { xtime.Register(r, time.Local) }},
		{"last activity, XEP-0012", func() { last.Register(r) }},
		{"moved, XEP-0283", func() {
			b.Moved = moved.Register(r, moved.Needs{
				Roster: b.roster, Presence: b.presence, Blocks: b.blocking, Inbox: b.delivery, Events: b.pep, Messages: b.delivery, Accounts: b.Accounts,
			}, moved.Options{
				Log: b.log, Timeout: c.Moved.VerifyTimeout.D(), AcceptDialback: c.Moved.AcceptDialback,
				PerSender: c.Moved.PerSender, PerDomain: c.Moved.PerDomain, Total: c.Moved.Total, InFlight: c.Moved.InFlight,
				RetryMin: c.Moved.RetryMin.D(), RetryMax: c.Moved.RetryMax.D(),
				StatementDelay: c.Moved.StatementDelay.D(), Language: c.Language,
				Forwarding: days(c.Moved.ForwardingDays), Close: b.Forward,
			})
			b.roster.OnChange(b.contactChanged)
			b.roster.OnResend(b.Moved.Resend)
			b.Accounts.OnRemove(func(tx *store.Tx, _ *xmpp.Out, account xmpp.JID, forward bool) error {
				if !forward {
					b.Moved.AccountRemoved(tx, account)
				}
				return nil
			})
			b.pep.Hook(moved.NS, pep.NodeHook{
				Publish: b.Moved.Publish, Retract: b.Moved.Retract, CanRead: b.Moved.CanRead, Served: b.Moved.Served,
			})
		}},
	}
}

// contactChanged tells Moved of changes in rosters. A contact who gives an account up shows how its move goes on.
func (b *Box) contactChanged(tx *store.Tx, out *xmpp.Out, c roster.Change) {
	b.Moved.ContactChanged(tx, out, c.Account, c.Contact, c.Old, c.Now, c.WasPending && !c.Pending, c.ByContact)
	if c.ByContact && ((c.Old.Sub.To() && !c.Now.Sub.To()) || (c.Old.Sub.From() && !c.Now.Sub.From())) {
		b.Moved.ContactLeft(tx, out, c.Account, c.Contact)
	}
}

// leaveRosters tells the contacts of an account that it goes. Those of one that leaves a forwarding address only see it go offline.
func (b *Box) leaveRosters(tx *store.Tx, out *xmpp.Out, account xmpp.JID, forward bool) error {
	if !forward {
		return b.roster.Clear(tx, out, account)
	}
	for key, item := range store.Roster.All(tx, account.String()) {
		contact, err := xmpp.ParseJID(strings.TrimPrefix(key, store.Key(account.String(), "")))
		if err != nil {
			return err
		}
		if item.Sub.From() {
			b.presence.Withdraw(out, account, contact)
		}
	}
	return nil
}
