package push_test

import (
	"fmt"
	"log/slog"
	"testing"

	"pibox/internal/store"
	"pibox/internal/transcript"
	"pibox/internal/xmpp"
	"pibox/internal/xmpp/push"
)

// messages stands for package delivery: it stores every message to an account, hands it to all its sessions, and runs the hooks.
type messages struct {
	r     *xmpp.Router
	hooks []func(xmpp.JID, *xmpp.Stanza, []*xmpp.Session)
	last  map[xmpp.JID]*xmpp.Stanza // by account
}

func (m *messages) OnMessage(f func(xmpp.JID, *xmpp.Stanza, []*xmpp.Session)) {
	m.hooks = append(m.hooks, f)
}

func newMessages(r *xmpp.Router) *messages {
	m := &messages{r: r, last: map[xmpp.JID]*xmpp.Stanza{}}
	r.HandleTx(xmpp.Key{Class: xmpp.ToAccount, Kind: xmpp.Message, Type: "*"}, func(tx *store.Tx, out *xmpp.Out, rq *xmpp.Request) error {
		account := rq.Account()
		seq := store.AppendLog(tx, &store.Entry{
			Owners: []store.Owner{{Account: account.String(), With: rq.From.Bare().String(), Role: store.Archived | store.Owed}}, Stanza: rq.Raw,
		})
		out.After(func() { m.arrived(account, rq.Stored(seq)) })
		return nil
	})
	return m
}

func (m *messages) arrived(account xmpp.JID, st *xmpp.Stanza) {
	var to []*xmpp.Session
	for _, s := range m.r.Sessions(account) {
		if s.Deliver(st) {
			to = append(to, s)
		}
	}
	m.last[account] = st
	for _, f := range m.hooks {
		f(account, st, to)
	}
}

// do are the steps of an administrator: shows and hides (what of messages is told), password, removed; asked: a contact request came; has: so
// many registrations are stored.
func (m *messages) do(p *push.Push, words []string) error {
	account := xmpp.MustJID(words[0] + "@montague.example")
	switch words[1] {
	case "shows", "hides":
		yes := words[1] == "shows"
		return m.r.Update(func(tx *store.Tx, _ *xmpp.Out) error {
			store.PushContents.Put(tx, account.String(), store.PushContent{Sender: &yes, Body: &yes})
			return nil
		})
	case "asked":
		return m.r.Update(func(tx *store.Tx, out *xmpp.Out) error {
			store.Pending.Put(tx, store.Key(account.String(), words[2]), store.PendingIn{Stanza: []byte("<presence/>")})
			p.Requested(out, account)
			return nil
		})
	case "removed":
		return m.r.Update(func(tx *store.Tx, out *xmpp.Out) error {
			p.Clear(out, account)
			store.ClearAccount(tx, account.String())
			return nil
		})
	case "password": // changed by the administrator, or "by phone"
		var by *xmpp.Session
		if len(words) == 4 {
			by = m.r.SessionOf(account.With(words[3]))
		}
		return m.r.Update(func(tx *store.Tx, out *xmpp.Out) error {
			p.Forget(tx, out, account, by)
			return nil
		})
	case "has":
		n := 0
		_ = m.r.Store.View(func(tx *store.Tx) error {
			n = store.Pushes.Count(tx, account.String())
			return nil
		})
		if have := fmt.Sprint(n); have != words[2] {
			return fmt.Errorf("the account has %s registrations", have)
		}
	default:
		return fmt.Errorf("%s is no step", words[1])
	}
	return nil
}

func TestTranscripts(t *testing.T) {
	transcript.RunFiles(t, "testdata/*.txt", func(t testing.TB, st *store.Store, domains []string, remote xmpp.Remote) transcript.Box {
		r := xmpp.NewRouter(st, slog.New(slog.DiscardHandler), domains)
		r.SetRemote(remote)
		m := newMessages(r)
		p := push.Register(r, m, push.Options{Max: 3, MaxForm: 300, Burst: 8})
		if err := p.Load(); err != nil {
			t.Fatal(err)
		}
		return transcript.Box{Router: r, Close: p.Stop, Do: func(words []string) error { return m.do(p, words) }}
	})
}
