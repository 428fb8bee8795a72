package portable_test

import (
	"fmt"
	"log/slog"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"pibox/internal/box"
	"pibox/internal/config"
	"pibox/internal/store"
	"pibox/internal/xmpp"

	"pgregory.net/rapid"
)

// home is a box without listeners.
type home struct {
	*box.Box
	t    testing.TB
	path string
}

func newHome(t testing.TB, dir string, domains ...string) *home {
	t.Helper()
	if len(domains) == 0 {
		domains = []string{"capulet.example"}
	}
	path := filepath.Join(dir, "pibox.db")
	st, err := store.Open(path, store.Options{Reserve: 1})
	if err != nil {
		t.Fatal(err)
	}
	cfg := config.Default()
	cfg.DataDir = dir
	b, err := box.New(st, cfg, domains, "test", nil, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return &home{b, t, path}
}

func (h *home) close() {
	if err := h.Close(); err != nil {
		h.t.Error(err)
	}
}

func (h *home) update(f func(tx *store.Tx)) {
	h.t.Helper()
	if err := h.Store.Update(func(tx *store.Tx) error { f(tx); return nil }); err != nil {
		h.t.Fatal(err)
	}
}

// life is all that a box keeps of an account and an export carries.
type life struct {
	Acc     store.Account
	Last    store.Last
	Push    store.PushContent
	Roster  map[string]store.RosterItem
	Pending map[string]store.PendingIn
	Private map[string]string
	Card    string
	Blocks  []string
	Prefs   store.ArchivePref
	Nodes   map[string]store.PEPNode
	Items   map[string]store.PEPItem
	Log     []logged
}

type logged struct {
	At     time.Time
	Role   store.Role
	With   string
	Stanza string
}

// read gives what the box has of an account.
func (h *home) read(account xmpp.JID) (l life) {
	h.t.Helper()
	name := account.String()
	rest := func(key string) string { return strings.TrimPrefix(key, store.Key(name, "")) }
	if err := h.Store.View(func(tx *store.Tx) error {
		l.Acc, _ = store.Accounts.Get(tx, name)
		l.Last, _ = store.LastSeen.Get(tx, name)
		l.Push, _ = store.PushContents.Get(tx, name)
		card, _ := store.VCards.Get(tx, name)
		l.Card = string(card)
		l.Prefs, _ = store.ArchivePrefs.Get(tx, name)
		l.Roster, l.Pending, l.Private = map[string]store.RosterItem{}, map[string]store.PendingIn{}, map[string]string{}
		l.Nodes, l.Items = map[string]store.PEPNode{}, map[string]store.PEPItem{}
		for k, v := range store.Roster.All(tx, name) {
			v.Version = 0
			l.Roster[rest(k)] = v
		}
		for k, v := range store.Pending.All(tx, name) {
			l.Pending[rest(k)] = v
		}
		for k, v := range store.Private.All(tx, name) {
			l.Private[rest(k)] = string(v.XML)
		}
		for k := range store.Blocks.All(tx, name) {
			l.Blocks = append(l.Blocks, rest(k))
		}
		for k, v := range store.AllPEPNodes(tx, name) {
			l.Nodes[k] = v
		}
		for node := range l.Nodes {
			for k, v := range store.PEPItems.All(tx, name, node) {
				l.Items[rest(k)] = v
			}
		}
		for o := range store.LogOf(tx, store.Range{Account: name}) {
			i := slices.IndexFunc(o.Owners, func(o store.Owner) bool { return o.Account == name })
			l.Log = append(l.Log, logged{o.At, o.Role, o.Owners[i].With, string(o.Stanza)})
		}
		return nil
	}); err != nil {
		h.t.Fatal(err)
	}
	return l
}

// texts have what is hard in XML and in names.
var texts = rapid.StringMatching(`[a-zA-Z0-9 <>&'"äß€😀/.,;:!?\n\t=\]-]{0,40}`)

var contacts = []xmpp.JID{
	xmpp.MustJID("romeo@montague.example"), xmpp.MustJID("tybalt@capulet.example"), xmpp.MustJID("gateway.example"), xmpp.MustJID("ämilia@münchen.example"),
	xmpp.MustJID("o\\27hara@x.example"), xmpp.MustJID("benvolio@montague.example"),
}

func escaped(s string) string { return string(xmpp.NewXML("a").Text(s).Bytes()[3:]) }

// body is a text as the content of an element, clean.
func body(s string) string {
	b := escaped("x" + s)
	return strings.TrimSuffix(b, "</a>")
}

var times = rapid.Custom(func(t *rapid.T) time.Time {
	return time.UnixMilli(rapid.Int64Range(1_000_000_000_000, 1_700_000_000_000).Draw(t, "ms")).UTC()
})

// lives generates the life of an account, in the order in which a box would have come to it. What pibox takes in has been checked by it: that
// is what this makes.
func lives(account xmpp.JID) *rapid.Generator[life] {
	return rapid.Custom(func(t *rapid.T) life {
		l := life{Roster: map[string]store.RosterItem{}, Pending: map[string]store.PendingIn{}, Private: map[string]string{}, Nodes: map[string]store.PEPNode{}, Items: map[string]store.PEPItem{}}
		key := func(n int) []byte { return rapid.SliceOfN(rapid.Byte(), n, n).Draw(t, "key") }
		l.Acc.Created = times.Draw(t, "created")
		l.Acc.Admin, l.Acc.Restricted, l.Acc.OneTime = rapid.Bool().Draw(t, "admin"), rapid.Bool().Draw(t, "restricted"), rapid.Bool().Draw(t, "one-time")
		which := rapid.IntRange(1, 3).Draw(t, "mechanisms")
		if which&1 != 0 {
			l.Acc.SHA1 = store.Credentials{Salt: key(16), Iterations: 10000, StoredKey: key(20), ServerKey: key(20)}
		}
		if which&2 != 0 {
			l.Acc.SHA256 = store.Credentials{Salt: key(16), Iterations: 4096, StoredKey: key(32), ServerKey: key(32)}
		}
		if rapid.Bool().Draw(t, "seen") {
			l.Last = store.Last{At: times.Draw(t, "last"), Status: texts.Draw(t, "status")}
		}
		flag := func() *bool {
			b := rapid.Bool().Draw(t, "b")
			return &b
		}
		if rapid.Bool().Draw(t, "push") {
			l.Push.Sender = flag()
		}
		people(t, account, &l)
		xmls(t, &l)
		pep(t, account, &l)
		talk(t, account, &l)
		return l
	})
}

func people(t *rapid.T, account xmpp.JID, l *life) {
	for _, who := range contacts {
		switch rapid.IntRange(0, 3).Draw(t, "contact") {
		case 0:
		default:
			item := store.RosterItem{
				Sub:  rapid.SampledFrom([]store.Subscription{store.SubNone, store.SubTo, store.SubFrom, store.SubBoth}).Draw(t, "sub"),
				Name: texts.Draw(t, "name"),
			}
			item.Ask = !item.Sub.To() && rapid.Bool().Draw(t, "ask")
			item.Approved = !item.Sub.From() && rapid.Bool().Draw(t, "approved")
			for _, g := range rapid.SliceOfNDistinct(texts, 0, 3, rapid.ID).Draw(t, "groups") {
				if g != "" {
					item.Groups = append(item.Groups, g)
				}
			}
			l.Roster[who.String()] = item
		}
		if rapid.IntRange(0, 3).Draw(t, "pending") == 0 {
			st := fmt.Sprintf("<presence type='subscribe' from='%s' to='%s'><status>%s</status><moved xmlns='urn:xmpp:moved:1'><old-jid>a@b</old-jid></moved></presence>",
				body0(who.String()), account, body(texts.Draw(t, "status")))
			l.Pending[who.String()] = store.PendingIn{Stanza: []byte(st), Received: times.Draw(t, "received")}
		}
		if rapid.IntRange(0, 3).Draw(t, "block") == 0 && who.Domain != account.Domain {
			l.Blocks = append(l.Blocks, rapid.SampledFrom([]string{who.String(), who.Bare().Domain, who.With("x/ y").String()}).Draw(t, "blocked"))
		}
	}
	slices.Sort(l.Blocks)
	l.Blocks = slices.Compact(l.Blocks)
	if rapid.Bool().Draw(t, "prefs") {
		l.Prefs = store.ArchivePref{Default: store.ArchiveRoster, Always: []string{"romeo@montague.example"}, Never: []string{"x.example/r"}}
	}
}

// body0 is an attribute's value.
func body0(s string) string { return strings.TrimSuffix(escaped(s), "</a>") }

func xmls(t *rapid.T, l *life) {
	if rapid.Bool().Draw(t, "card") {
		l.Card = "<vCard xmlns='vcard-temp'><FN>" + body(texts.Draw(t, "fn")) + "</FN></vCard>"
	}
	for i := range rapid.IntRange(0, 3).Draw(t, "private") {
		ns := fmt.Sprintf("urn:example:%d", i)
		l.Private[store.Key(ns, "prefs")] = "<prefs xmlns='" + ns + "'><x:y xmlns:x='urn:x'>" + body(texts.Draw(t, "x")) + "</x:y></prefs>"
	}
}

func pep(t *rapid.T, account xmpp.JID, l *life) {
	for _, node := range []string{"urn:xmpp:bookmarks:1", "urn:xmpp:avatar:data", "a <node> & more"} {
		if rapid.Bool().Draw(t, "node") {
			continue
		}
		n := store.PEPNode{Created: times.Draw(t, "created")}
		config := map[string][]string{}
		if m := rapid.SampledFrom([]string{"", "whitelist", "open", "roster"}).Draw(t, "access"); m != "" {
			config["access_model"] = []string{m}
		}
		if rapid.Bool().Draw(t, "many") {
			config["max_items"] = []string{"max"}
		}
		if title := texts.Draw(t, "title"); title != "" {
			config["title"] = []string{title}
		}
		if rapid.Bool().Draw(t, "roster groups") {
			config["roster_groups_allowed"] = []string{"a", "b & c"}
		}
		if len(config) > 0 {
			n.Config = config
		}
		if rapid.Bool().Draw(t, "members") {
			n.Affiliations = map[string]string{"romeo@montague.example": "member", "x.example": "outcast"}
			n.Subscriptions = map[string]string{"romeo@montague.example/orchard": "subscribed", "x@x.example": "pending"}
		}
		l.Nodes[node] = n
		items := rapid.IntRange(0, 4).Draw(t, "items")
		if config["max_items"] == nil {
			items = min(items, 1)
		}
		at := times.Draw(t, "item")
		for i := range items {
			at = at.Add(time.Duration(rapid.Int64Range(1, 1e12).Draw(t, "later")))
			payload := fmt.Sprintf("<conference xmlns='urn:xmpp:bookmarks:1' name='%d'><nick>%s</nick></conference>", i, body(texts.Draw(t, "nick")))
			l.Items[store.Key(node, fmt.Sprintf("item %d<", i))] = store.PEPItem{At: at, Publisher: account.With("balcony").String(), Payload: []byte(payload)}
		}
	}
}

// talk fills the log: received and sent, archived and not, waiting and not. What waits are the latest of what was received, as far as anything does.
func talk(t *rapid.T, account xmpp.JID, l *life) {
	at := times.Draw(t, "first")
	n := rapid.IntRange(0, 30).Draw(t, "messages")
	owed := rapid.IntRange(0, n).Draw(t, "read")
	for i := range n {
		at = at.Add(time.Duration(rapid.Int64Range(1, 1e7).Draw(t, "later")) * time.Millisecond)
		who := rapid.SampledFrom(contacts).Draw(t, "who")
		m := logged{At: at, With: who.String()}
		from, to := who.With("Pad 1"), account
		sent := rapid.Bool().Draw(t, "sent")
		waits := i >= owed
		switch {
		case sent:
			from, to, m.Role = account.With("balcony"), who, store.Archived|store.ByOwner
		case waits:
			m.Role = rapid.SampledFrom([]store.Role{store.Archived | store.Owed, store.Archived | store.Owed, store.Owed}).Draw(t, "role")
		default:
			m.Role = store.Archived
		}
		extra := rapid.SampledFrom([]string{
			"", "<x xmlns='jabber:x:oob'><url>a&amp;b</url></x>", "<stanza-id xmlns='urn:xmpp:sid:0' by='room@x.example' id='7'/>",
			"<delay xmlns='urn:xmpp:delay' from='x.example' stamp='2001-01-01T00:00:00Z'/>", "<p:q xmlns:p='urn:p' p:a='b'><p:r/></p:q>",
			"<html xmlns='http://jabber.org/protocol/xhtml-im'><body xmlns='http://www.w3.org/1999/xhtml'><p>x</p></body></html>",
		}).Draw(t, "extra")
		m.Stanza = fmt.Sprintf("<message type='chat' id='m%d' from='%s' to='%s'><body>%s</body>%s</message>", i, body0(from.String()), body0(to.String()), body(texts.Draw(t, "body")), extra)
		l.Log = append(l.Log, m)
	}
}

// write puts a life into a box.
func (h *home) write(account xmpp.JID, l life) {
	h.t.Helper()
	name := account.String()
	h.update(func(tx *store.Tx) {
		store.Accounts.Put(tx, name, l.Acc)
		if !l.Last.At.IsZero() {
			store.LastSeen.Put(tx, name, l.Last)
		}
		if l.Push != (store.PushContent{}) {
			store.PushContents.Put(tx, name, l.Push)
		}
		if l.Card != "" {
			store.VCards.Put(tx, name, []byte(l.Card))
		}
		if l.Prefs.Default != "" {
			store.ArchivePrefs.Put(tx, name, l.Prefs)
		}
		for k, v := range l.Roster {
			v.Version = 3
			store.Roster.Put(tx, store.Key(name, k), v)
		}
		for k, v := range l.Pending {
			store.Pending.Put(tx, store.Key(name, k), v)
		}
		for k, v := range l.Private {
			store.Private.Put(tx, store.Key(name, k), store.PrivateXML{XML: []byte(v)})
		}
		for _, who := range l.Blocks {
			store.Blocks.Put(tx, store.Key(name, who), store.Block{Since: time.Now().UTC()})
		}
		for k, v := range l.Nodes {
			store.PEPNodes.Put(tx, store.Key(name, k), v)
		}
		for _, k := range slices.Sorted(maps.Keys(l.Items)) {
			store.PEPItems.Put(tx, store.Key(name, k), l.Items[k])
		}
		for _, m := range l.Log {
			store.ImportLog(tx, &store.Entry{At: m.At, Owners: []store.Owner{{Account: name, With: m.With, Role: m.Role}}, Stanza: []byte(m.Stanza)})
		}
	})
	h.Router.SetExists(account, true)
}
