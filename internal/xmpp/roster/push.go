package roster

import (
	"cmp"
	"crypto/rand"
	"encoding/json"
	"slices"
	"strconv"
	"strings"

	"pibox/internal/store"
	"pibox/internal/xmpp"

	"mellium.im/xmpp/stanza"
)

// interested marks the sessions that asked for the roster (RFC 6121 §2.2).
const interested = "roster"

// pushID is an id for a stanza of the box's own.
func pushID() string { return strings.ToLower(rand.Text()[:12]) }

// version writes a roster's version for clients (RFC 6121 §2.6). The epoch changes when an older backup is restored: numbers of the lost
// time would be given again.
func version(tx *store.Tx, n uint64) string {
	v := strconv.FormatUint(n, 10)
	if e := epoch(tx); e != "" {
		v = e + "." + v
	}
	return v
}

func epoch(tx *store.Tx) (e string) {
	raw, ok := store.Settings.Get(tx, store.SettingEpoch)
	if ok && json.Unmarshal(raw, &e) != nil {
		return ""
	}
	return e
}

// parseVersion gives the number of a version that this roster may have had.
func parseVersion(tx *store.Tx, s string) (uint64, bool) {
	e, n, ok := strings.Cut(s, ".")
	if !ok {
		e, n = "", s
	}
	if e != epoch(tx) {
		return 0, false
	}
	v, err := strconv.ParseUint(n, 10, 64)
	return v, err == nil
}

// entry is an item with the address it stands under.
type entry struct {
	who string
	store.RosterItem
}

func writeItem(x *xmpp.XML, e entry) {
	x.Open("item", "").Attr("jid", e.who)
	if e.Removed {
		x.Attr("subscription", "remove").Close()
		return
	}
	x.Attr("name", e.Name).Attr("subscription", string(e.Sub))
	if e.Ask {
		x.Attr("ask", "subscribe")
	}
	if e.Approved {
		x.Attr("approved", "true")
	}
	for _, g := range e.Groups {
		x.Leaf("group", "", g)
	}
	x.Close()
}

// push queues the roster push of an item as it is in this transaction (RFC 6121 §2.1.6).
func (ro *Roster) push(tx *store.Tx, out *xmpp.Out, account, who xmpp.JID, item store.RosterItem) {
	ver := version(tx, item.Version)
	out.After(func() {
		l := ro.lock(account)
		l.Lock()
		defer l.Unlock()
		for _, s := range ro.r.Sessions(account) {
			if s.Marked(interested) {
				s.Deliver(pushTo(s, ver, entry{who.String(), item}))
			}
		}
	})
}

func pushTo(s *xmpp.Session, ver string, e entry) *xmpp.Stanza {
	x := xmpp.NewXML("iq").Attr("type", "set").Attr("id", pushID()).Attr("to", s.JID.String())
	x.Open("query", NS).Attr("ver", ver)
	writeItem(x, e)
	return xmpp.Make(x.Bytes())
}

// get is a roster get (RFC 6121 §2.1.3, §2.6.2). The session is interested from then on; the lock keeps pushes that are on their way behind the
// result that does not hold them.
func (ro *Roster) get(rq *xmpp.Request) error {
	if !rq.FromOwner() {
		return xmpp.Errorf(stanza.Forbidden, "a roster is its owner's alone")
	}
	s, account := rq.Session, rq.Account()
	l := ro.lock(account)
	l.Lock()
	defer l.Unlock()
	s.Mark(interested, true)
	var payload []byte
	var pushes []*xmpp.Stanza
	err := rq.View(func(tx *store.Tx) error {
		v, _ := store.RosterV.Get(tx, account.String())
		live, all := readAll(tx, account)
		if changed, ok := since(tx, rq, v, all); ok && len(changed) <= live {
			for _, e := range changed {
				pushes = append(pushes, pushTo(s, version(tx, e.Version), e))
			}
			return nil
		}
		x := xmpp.NewXMLNS("query", NS).AttrAlways("ver", version(tx, v.Version))
		for _, e := range all {
			if !e.Removed {
				writeItem(x, e)
			}
		}
		payload = x.Bytes()
		return nil
	})
	if err != nil {
		return err
	}
	rq.Reply(payload)
	for _, p := range pushes {
		s.Deliver(p)
	}
	return nil
}

func readAll(tx *store.Tx, account xmpp.JID) (live int, all []entry) {
	prefix := store.Key(account.String(), "")
	for k, item := range store.Roster.All(tx, account.String()) {
		all = append(all, entry{strings.TrimPrefix(k, prefix), item})
		if !item.Removed {
			live++
		}
	}
	return live, all
}

// since gives, in order, the items that changed after the version that the client has; false when the box can not tell.
func since(tx *store.Tx, rq *xmpp.Request, now store.RosterVersion, all []entry) ([]entry, bool) {
	query := rq.Node().Child(NS, "query")
	have, ok := parseVersion(tx, query.Attr("ver"))
	if !ok || !query.HasAttr("ver") || have > now.Version || have < now.Floor {
		return nil, false
	}
	changed := slices.DeleteFunc(slices.Clone(all), func(e entry) bool { return e.Version <= have })
	slices.SortFunc(changed, func(a, b entry) int { return cmp.Compare(a.Version, b.Version) })
	return changed, true
}
