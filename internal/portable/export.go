package portable

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"pibox/internal/store"
	"pibox/internal/xmpp"
)

// Nodes is what this package needs of personal eventing.
type Nodes interface {
	// Effective is a node's whole configuration, of what is stored of it.
	Effective(stored map[string][]string) map[string][]string
	// Kept is what is stored of a configuration. Fields that it does not know, or whose values it can not have, are left out and named; where one
	// of these decides who may read, nobody may.
	Kept(fields map[string][]string) (stored map[string][]string, left []string)
	// MaxItems that a node with a stored configuration holds.
	MaxItems(stored map[string][]string) int
}

// Exporter reads accounts out of a store. Transactions are short: none is open while the sink takes something.
type Exporter struct {
	Store *store.Store
	Nodes Nodes
}

const (
	pageBytes   = 256 << 10
	pageRecords = 16 // of a table whose records may be large
)

// exported is an account on its way out.
type exported struct {
	*Exporter
	ctx     context.Context
	account xmpp.JID
	sink    Sink
	upTo    uint64 // in the log: what comes later is not exported
}

// Size tells about how many bytes the export of an account has.
func (x *Exporter) Size(account xmpp.JID) (n int64, err error) {
	err = x.Store.View(func(tx *store.Tx) error {
		name := account.String()
		stat := store.LogStats(tx, name)
		count, owed := store.OwedSize(tx, name)
		_, pep := store.PEPNodes.Size(tx, name)
		_, private := store.Private.Size(tx, name)
		_, roster := store.Roster.Size(tx, name)
		n = stat.Bytes + int64(stat.Count)*260 + owed + int64(count)*200 + int64(pep) + int64(private)*3/4 + int64(roster) + 4096
		return nil
	})
	return n, err
}

// Account gives one account to a sink. What happens to it meanwhile may be in it or not.
func (x *Exporter) Account(ctx context.Context, account xmpp.JID, sink Sink) error {
	e := &exported{Exporter: x, ctx: ctx, account: account, sink: sink}
	acc, own, err := e.begin()
	if err != nil {
		return err
	}
	if err := sink.User(User{Name: account.Local, Domain: account.Domain}); err != nil {
		return err
	}
	for _, step := range []func() error{
		e.offline,
		func() error { return e.credentials(acc) },
		func() error { return sink.Own(own) },
		e.roster, e.pending, e.private, e.vcard, e.blocks, e.prefs, e.nodes, e.items, e.archive, e.left,
	} {
		if err := step(); err != nil {
			return err
		}
	}
	return sink.End()
}

func (e *exported) begin() (acc store.Account, own Own, err error) {
	name := e.account.String()
	err = e.Store.View(func(tx *store.Tx) error {
		var ok bool
		if acc, ok = store.Accounts.Get(tx, name); !ok || acc.Closed != nil {
			return fmt.Errorf("%s: %w", name, errNoAccount)
		}
		own = Own{Created: acc.Created, Admin: acc.Admin, Restricted: acc.Restricted, OneTime: acc.OneTime}
		own.Last, _ = store.LastSeen.Get(tx, name)
		own.Push, _ = store.PushContents.Get(tx, name)
		e.upTo = store.LastLogSeq(tx)
		return nil
	})
	return acc, own, err
}

func (e *exported) credentials(acc store.Account) error {
	for _, c := range []Credentials{{ScramSHA1, acc.SHA1}, {ScramSHA256, acc.SHA256}} {
		if len(c.StoredKey) > 0 {
			if err := e.sink.Credentials(c); err != nil {
				return err
			}
		}
	}
	return nil
}

// record is one of a table, with the part of its key behind the account's name.
type record[T any] struct {
	key string
	v   T
}

// each visits an account's records of a table, a few in each transaction.
func each[T any](e *exported, t store.Table[T], visit func(key string, v T) error) error {
	prefix := store.Key(e.account.String(), "")
	start := prefix
	for {
		var page []record[T]
		if err := e.Store.View(func(tx *store.Tx) error {
			page = page[:0]
			for key, v := range t.From(tx, start, e.account.String()) {
				page = append(page, record[T]{strings.TrimPrefix(key, prefix), v})
				if len(page) == pageRecords {
					break
				}
			}
			return nil
		}); err != nil {
			return err
		}
		for _, r := range page {
			if err := e.ctx.Err(); err != nil {
				return err
			}
			if err := visit(r.key, r.v); err != nil {
				return err
			}
		}
		if len(page) < pageRecords {
			return nil
		}
		start = prefix + page[len(page)-1].key + "\x00"
	}
}

func (e *exported) roster() error {
	return each(e, store.Roster, func(who string, item store.RosterItem) error {
		if item.Removed {
			return nil
		}
		return e.sink.Roster(RosterItem{JID: who, Name: item.Name, Groups: item.Groups, Sub: item.Sub, Ask: item.Ask, Approved: item.Approved})
	})
}

// delayed is a stanza with its time in the name of the account's domain, as its last child.
func (e *exported) delayed(stanza []byte, at string, more ...[]byte) ([]byte, error) {
	st, err := xmpp.ParseStanza(stanza)
	if err != nil {
		return nil, err
	}
	el := st.Element
	for _, child := range append(more, xmpp.NewXMLNS("delay", nsDelay).Attr("from", e.account.Domain).Attr("stamp", at).Bytes()) {
		el = el.WithChild(child)
	}
	return el.Raw, nil
}

func (e *exported) pending() error {
	return each(e, store.Pending, func(_ string, p store.PendingIn) error {
		raw, err := e.delayed(p.Stanza, when(p.Received))
		if err != nil {
			return err
		}
		if p.Verifying {
			if err := e.sink.Unknown(Loss{"a contact's move that is being verified", "it becomes a request that waits for an answer"}); err != nil {
				return err
			}
		}
		return e.sink.Pending(raw)
	})
}

func (e *exported) private() error {
	return each(e, store.Private, func(_ string, p store.PrivateXML) error { return e.sink.Private(p.XML) })
}

func (e *exported) vcard() error {
	var card []byte
	if err := e.Store.View(func(tx *store.Tx) error {
		card, _ = store.VCards.Get(tx, e.account.String())
		return nil
	}); err != nil || card == nil {
		return err
	}
	return e.sink.VCard(card)
}

func (e *exported) blocks() error {
	return each(e, store.Blocks, func(who string, _ store.Block) error { return e.sink.Blocked(who) })
}

func (e *exported) prefs() error {
	var pref store.ArchivePref
	var ok bool
	if err := e.Store.View(func(tx *store.Tx) error {
		pref, ok = store.ArchivePrefs.Get(tx, e.account.String())
		return nil
	}); err != nil || !ok {
		return err
	}
	x := xmpp.NewXMLNS("prefs", nsMAM).Attr("default", string(pref.Default))
	for _, l := range []struct {
		name string
		list []string
	}{{"always", pref.Always}, {"never", pref.Never}} {
		x.Open(l.name, "")
		for _, j := range l.list {
			x.Leaf("jid", "", j)
		}
		x.Close()
	}
	return e.sink.ArchivePrefs(x.Bytes())
}

func (e *exported) allNodes() (all []record[store.PEPNode], err error) {
	err = e.Store.View(func(tx *store.Tx) error {
		for name, n := range store.AllPEPNodes(tx, e.account.String()) {
			all = append(all, record[store.PEPNode]{name, n})
		}
		return nil
	})
	return all, err
}

func (e *exported) nodes() error {
	all, err := e.allNodes()
	if err != nil {
		return err
	}
	for _, n := range all {
		if why, _ := neverMoved(n.key); why != "" {
			err = e.sink.Unknown(Loss{"node " + n.key, why})
		} else {
			err = e.sink.Node(Node{
				Name: n.key, Created: n.v.Created, Config: e.Nodes.Effective(n.v.Config), Affiliations: n.v.Affiliations, Subscriptions: n.v.Subscriptions,
			})
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (e *exported) items() error {
	all, err := e.allNodes()
	if err != nil {
		return err
	}
	for _, n := range all {
		if why, _ := neverMoved(n.key); why != "" {
			continue
		}
		if err := e.itemsOf(n.key); err != nil {
			return err
		}
	}
	return nil
}

func (e *exported) itemsOf(node string) error {
	prefix := store.Key(e.account.String(), node, "")
	var stamps []record[time.Time]
	if err := e.Store.View(func(tx *store.Tx) error {
		for key, s := range store.PEPStamps.All(tx, e.account.String(), node) {
			stamps = append(stamps, record[time.Time]{key[len(prefix):], s.At})
		}
		return nil
	}); err != nil {
		return err
	}
	slices.SortFunc(stamps, func(a, b record[time.Time]) int { return cmp.Or(a.v.Compare(b.v), strings.Compare(a.key, b.key)) })
	for _, s := range stamps {
		if err := e.ctx.Err(); err != nil {
			return err
		}
		var item store.PEPItem
		var ok bool
		if err := e.Store.View(func(tx *store.Tx) error {
			item, ok = store.PEPItems.Get(tx, prefix+s.key)
			return nil
		}); err != nil {
			return err
		}
		if !ok {
			continue
		}
		if err := e.sink.Item(node, Item{ID: s.key, At: item.At, Publisher: item.Publisher, Payload: item.Payload}); err != nil {
			return err
		}
	}
	return nil
}

// entry is one of the log, with its id in the archive where it is in it.
type entry struct {
	id    string
	at    time.Time
	bytes []byte
}

// log visits the account's entries with a role, a page in each transaction.
func (e *exported) log(role store.Role, visit func(entry) error) error {
	after, name := uint64(0), e.account.String()
	for {
		var page []entry
		if err := e.Store.View(func(tx *store.Tx) error {
			page = page[:0]
			size := 0
			for o := range store.LogOf(tx, store.Range{Account: name, After: after, Before: e.upTo + 1, Role: role}) {
				one := entry{at: o.At, bytes: xmpp.OwnedStanza(o, name)}
				if o.Role&store.Archived != 0 {
					one.id = store.LogID(tx, name, o.Seq)
				}
				page = append(page, one)
				after = o.Seq
				if size += len(o.Stanza) + 256; size >= pageBytes {
					break
				}
			}
			return nil
		}); err != nil || len(page) == 0 {
			return err
		}
		for _, one := range page {
			if err := e.ctx.Err(); err != nil {
				return err
			}
			if err := visit(one); err != nil {
				return err
			}
		}
	}
}

// offline: what is in the archive, too, has its id there (XEP-0359), so that the two are known to be one.
func (e *exported) offline() error {
	return e.log(store.Owed, func(one entry) error {
		var id [][]byte
		if one.id != "" {
			id = append(id, xmpp.NewXMLNS("stanza-id", nsSID).Attr("by", e.account.String()).Attr("id", one.id).Bytes())
		}
		raw, err := e.delayed(one.bytes, millis(one.at), id...)
		if err != nil {
			return err
		}
		return e.sink.Offline(raw)
	})
}

func (e *exported) archive() error {
	return e.log(store.Archived, func(one entry) error {
		return e.sink.Archived(Archived{ID: one.id, At: one.at, Stanza: one.bytes})
	})
}

// left tells what the format has no place for.
func (e *exported) left() error {
	name := e.account.String()
	var pushes int
	var to string
	if err := e.Store.View(func(tx *store.Tx) error {
		pushes = store.Pushes.Count(tx, name)
		mv, _ := store.Moves.Get(tx, name)
		to = mv.To
		return nil
	}); err != nil {
		return err
	}
	if to != "" {
		if err := e.sink.Unknown(Loss{"that the account moves to " + to, "the old address says so for itself"}); err != nil {
			return err
		}
	}
	for range pushes {
		if err := e.sink.Unknown(Loss{"a device's push service", "each device registers it again when it connects"}); err != nil {
			return err
		}
	}
	return nil
}
