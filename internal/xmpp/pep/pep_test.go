package pep_test

import (
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"pibox/internal/store"
	"pibox/internal/transcript"
	"pibox/internal/xmpp"
	"pibox/internal/xmpp/frame"
	"pibox/internal/xmpp/pep"

	"mellium.im/xmpp/stanza"
)

// The cast: Juliet knows the nurse (both, Servants) and Romeo (both, Friends), Mercutio sees her (from), she sees Paris (to); the nurse
// and Mercutio live on her box. She blocks Tybalt, who sees her.
var cast = map[string]store.RosterItem{
	"juliet@capulet.example nurse@capulet.example":    {Sub: store.SubBoth, Groups: []string{"Servants"}},
	"nurse@capulet.example juliet@capulet.example":    {Sub: store.SubBoth},
	"juliet@capulet.example mercutio@capulet.example": {Sub: store.SubFrom},
	"mercutio@capulet.example juliet@capulet.example": {Sub: store.SubTo},
	"juliet@capulet.example romeo@montague.example":   {Sub: store.SubBoth, Groups: []string{"Friends"}},
	"juliet@capulet.example paris@verona.example":     {Sub: store.SubTo},
	"juliet@capulet.example tybalt@montague.example":  {Sub: store.SubFrom},
}

// caps stands for the disco feature: what a resource wants to hear of stands in the ver attribute itself.
type caps struct {
	mu    sync.Mutex
	wants map[xmpp.JID]string
	tell  func(account, full xmpp.JID)
}

func (c *caps) WantsNotify(full xmpp.JID, node string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, n := range strings.Fields(c.wants[full]) {
		if n == node {
			return true
		}
	}
	return false
}

func (c *caps) OnCaps(f func(account, full xmpp.JID)) { c.tell = f }

func (c *caps) presence(account xmpp.JID, st *xmpp.Stanza) {
	ver := ""
	if el := st.Node().Child("http://jabber.org/protocol/caps", "c"); el != nil {
		ver = el.Attr("ver")
	}
	c.mu.Lock()
	c.wants[st.From] = ver
	c.mu.Unlock()
	if st.Type == "" {
		c.tell(account, st.From)
	}
}

type blocks struct{}

func (blocks) Blocked(_ *store.Tx, account, who xmpp.JID) bool { return who.Local == "tybalt" }

// moved stands for the feature of that name.
type moved struct{}

const nodeMoved = "urn:xmpp:moved:1"

func (moved) hook(r *xmpp.Router) pep.NodeHook {
	visible := time.Now().Add(time.Hour)
	return pep.NodeHook{
		Publish: func(tx *store.Tx, out *xmpp.Out, account xmpp.JID, id string, payload *frame.Node) error {
			if id != "current" || payload.ChildText(nodeMoved, "new-jid") == "" {
				return xmpp.Errorf(stanza.BadRequest, "no statement")
			}
			if payload.ChildText(nodeMoved, "new-jid") == "later@x.example" {
				visible = time.Now().Add(time.Minute)
			} else {
				visible = time.Now()
			}
			return nil
		},
		Retract: func(tx *store.Tx, out *xmpp.Out, account xmpp.JID) {
			out.Send(xmpp.Make([]byte("<message from='capulet.example' to='" + account.String() + "'><body>cancelled</body></message>")))
		},
		CanRead: func(tx *store.Tx, account, who xmpp.JID) bool { return who.Domain == "verona.example" },
		Served:  func(tx *store.Tx, account xmpp.JID) bool { return !time.Now().Before(visible) },
	}
}

func start(t testing.TB, st *store.Store, domains []string, remote xmpp.Remote) transcript.Box {
	return startWith(t, st, domains, remote, pep.Options{MaxNodes: 12, MaxItems: 20, MaxPayload: 2000, MaxBytes: 8000, MaxEntities: 5, MaxReply: 1000, MaxListeners: 20, MaxStrangers: 2})
}

func startWith(t testing.TB, st *store.Store, domains []string, remote xmpp.Remote, opt pep.Options) transcript.Box {
	r := xmpp.NewRouter(st, slog.New(slog.DiscardHandler), domains)
	r.SetRemote(remote)
	c := &caps{wants: map[xmpp.JID]string{}}
	p := pep.Register(r, c, blocks{}, opt)
	p.Hook(nodeMoved, moved{}.hook(r))
	if err := st.Update(func(tx *store.Tx) error {
		for key, item := range cast {
			account, who, _ := strings.Cut(key, " ")
			if k := store.Key(account, who); !store.Roster.Has(tx, k) {
				store.Roster.Put(tx, k, item)
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	presences(r, c)
	messages(r)
	rosters(r, p)
	discovery(r, p)
	return transcript.Box{Router: r}
}

// presences stands for the presence feature.
func presences(r *xmpp.Router, c *caps) {
	broadcast := func(rq *xmpp.Request) error {
		now := rq.Stanza
		if rq.Type == "unavailable" {
			now = nil
		}
		r.SetPresence(rq.Session, now, 0)
		c.presence(rq.From.Bare(), rq.Stanza)
		return rq.View(func(tx *store.Tx) error {
			for key, item := range store.Roster.All(tx, rq.From.Bare().String()) {
				who := xmpp.MustJID(key[len(rq.From.Bare().String())+1:])
				if item.Sub.From() && r.IsLocal(who.Domain) {
					c.presence(who, rq.Stanza)
					r.ContactPresence(who, rq.Stanza)
				}
			}
			return nil
		})
	}
	contact := func(rq *xmpp.Request) error {
		c.presence(rq.Account(), rq.Stanza)
		r.ContactPresence(rq.Account(), rq.Stanza)
		return nil
	}
	for _, typ := range []string{"", "unavailable"} {
		r.Handle(xmpp.Key{Class: xmpp.Broadcast, Kind: xmpp.Presence, Type: typ}, broadcast)
		r.Handle(xmpp.Key{Class: xmpp.ToAccount, Kind: xmpp.Presence, Type: typ}, contact)
	}
}

// messages stands for the delivery feature.
func messages(r *xmpp.Router) {
	r.Handle(xmpp.Key{Class: xmpp.ToResource, Kind: xmpp.Message, Type: "*"}, func(rq *xmpp.Request) error {
		if s := r.SessionOf(rq.To); s != nil {
			s.Deliver(rq.Stanza)
		}
		return nil
	})
	r.Handle(xmpp.Key{Class: xmpp.ToAccount, Kind: xmpp.Message, Type: "*"}, func(rq *xmpp.Request) error {
		for _, s := range r.Available(rq.Account()) {
			s.Deliver(rq.Stanza)
		}
		return nil
	})
}

// rosters stands for the roster feature: subscribed and unsubscribed change what a contact may see; an item with a group in its status moves
// the contact to that group.
func rosters(r *xmpp.Router, p *pep.PEP) {
	change := func(tx *store.Tx, out *xmpp.Out, rq *xmpp.Request) error {
		account, who := rq.From.Bare(), rq.To.Bare()
		key := store.Key(account.String(), who.String())
		old, _ := store.Roster.Get(tx, key)
		if old.Sub == "" {
			old.Sub = store.SubNone
		}
		now := old
		now.Sub = store.With(old.Sub.To(), rq.Type == "subscribed")
		if g := rq.Node().ChildText(xmpp.NSClient, "status"); g != "" {
			now.Groups = []string{g}
		}
		store.Roster.Put(tx, key, now)
		p.RosterChanged(tx, out, account, who, old, now)
		return nil
	}
	for _, typ := range []string{"subscribed", "unsubscribed"} {
		r.HandleTx(xmpp.Key{Class: xmpp.Outbound, Kind: xmpp.Presence, Type: typ}, change)
	}
}

// discovery stands for the disco feature, and for a job that serves what was held back.
func discovery(r *xmpp.Router, p *pep.PEP) {
	for _, what := range []string{"items", "info"} {
		ns := "http://jabber.org/protocol/disco#" + what
		ask := p.DiscoItems
		if what == "info" {
			ask = p.DiscoInfo
		}
		r.Handle(xmpp.Key{Class: xmpp.ToAccount, Kind: xmpp.IQ, Type: "get", NS: ns, Name: "query"}, func(rq *xmpp.Request) error {
			var all []byte
			node := rq.Node().Child(ns, "query").Attr("node")
			if err := rq.View(func(tx *store.Tx) (err error) {
				all, err = ask(tx, rq.Account(), rq.From, node)
				return err
			}); err != nil {
				return err
			}
			rq.Reply(xmpp.NewXMLNS("query", ns).Raw(all).Bytes())
			return nil
		})
	}
	r.HandleTx(xmpp.Key{Class: xmpp.ToAccount, Kind: xmpp.IQ, Type: "set", NS: "test", Name: "serve"}, func(tx *store.Tx, out *xmpp.Out, rq *xmpp.Request) error {
		out.Reply(rq, nil)
		p.SendLast(tx, out, rq.Account(), nodeMoved)
		return nil
	})
}

func TestTranscripts(t *testing.T) { transcript.RunFiles(t, "testdata/*.txt", start) }
