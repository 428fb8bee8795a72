package moved

import (
	"bytes"
	"maps"
	"slices"
	"strings"
	"sync"

	"pibox/internal/store"
	"pibox/internal/xmpp"
	"pibox/internal/xmpp/frame"
)

// Where clients keep the rooms that they are in: XEP-0402, and XEP-0048 in PEP or in private XML.
const (
	nsBookmarks    = "urn:xmpp:bookmarks:1"
	nsOldBookmarks = "storage:bookmarks"
)

// moveBookmarks is the step that points bookmarks to where rooms moved: their service moved with the family, or the room itself says so.
func (m *Moved) moveBookmarks(job store.MoveJob, done func(error)) {
	_, new, err := addresses(job)
	if err != nil || !m.r.IsLocal(new.Domain) {
		done(err)
		return
	}
	moves := map[string]xmpp.JID{} // by the room's old address
	var ask []xmpp.JID
	if err := m.r.Store.View(func(tx *store.Tx) error {
		for _, room := range rooms(tx, new) {
			if to, ok := m.roomMoved(job, room); ok {
				moves[room.String()] = to
			} else if !m.r.IsLocal(room.Domain) {
				ask = append(ask, room)
			}
		}
		return nil
	}); err != nil {
		done(err)
		return
	}
	rewrite := func() {
		if len(moves) == 0 {
			done(nil)
			return
		}
		m.r.Submit(4096, func(tx *store.Tx, out *xmpp.Out) error { return m.rewriteBookmarks(tx, out, new, moves) }, done)
	}
	m.askRooms(new, ask, moves, rewrite)
}

// roomMoved tells where a room went whose service moved with the family.
func (m *Moved) roomMoved(job store.MoveJob, room xmpp.JID) (to xmpp.JID, ok bool) {
	if domain := job.Rooms[room.Domain]; domain != "" {
		return xmpp.JID{Local: room.Local, Domain: domain}, true
	}
	oldDomain, newDomain, ok := strings.Cut(job.Family, " ")
	service, below := strings.CutSuffix(room.Domain, "."+oldDomain)
	if !ok || !below || !m.r.IsLocal(service+"."+newDomain) {
		return to, false
	}
	return xmpp.JID{Local: room.Local, Domain: service + "." + newDomain}, true
}

// maxRooms bounds how many rooms are asked.
const maxRooms = 100

// askRooms asks rooms on other servers; one that moved answers <gone/> with its new address (RFC 6120 §8.3.3.5). then is called when all have answered,
// or their time is over.
func (m *Moved) askRooms(account xmpp.JID, all []xmpp.JID, moves map[string]xmpp.JID, then func()) {
	all = all[:min(len(all), maxRooms)]
	if len(all) == 0 {
		then()
		return
	}
	var mu sync.Mutex
	left := len(all)
	for _, room := range all {
		m.r.Ask(xmpp.Ask{
			From: account, To: room, Type: "get", Timeout: m.opt.Timeout, Payload: xmpp.NewXMLNS("query", nsDiscoInfo).Bytes(),
			Done: func(reply *xmpp.Request) {
				mu.Lock()
				if reply != nil && reply.Type == "error" && m.trusted(room, reply.Peer) {
					if to, ok := goneToRoom(reply.Node()); ok && to != room {
						moves[room.String()] = to
					}
				}
				left--
				last := left == 0
				mu.Unlock()
				if last {
					then()
				}
			},
		})
	}
}

// goneToRoom is goneTo for the address of a room, which may ask to join it (XEP-0045 §10.9).
func goneToRoom(n *frame.Node) (xmpp.JID, bool) {
	text := n.Child(xmpp.NSClient, "error").ChildText(xmpp.NSStanzas, "gone")
	return parseURI(strings.TrimSuffix(trim(text), "?join"))
}

// rooms are the addresses in an account's bookmarks, each once.
func rooms(tx *store.Tx, account xmpp.JID) (all []xmpp.JID) {
	seen := map[xmpp.JID]bool{}
	add := func(name string) {
		if j, ok := bareJID(name); ok && !seen[j] {
			seen[j] = true
			all = append(all, j)
		}
	}
	prefix := store.Key(account.String(), nsBookmarks, "")
	for key := range store.PEPItems.All(tx, account.String(), nsBookmarks) {
		add(strings.TrimPrefix(key, prefix))
	}
	for _, item := range store.PEPItems.All(tx, account.String(), nsOldBookmarks) {
		for _, name := range conferences(item.Payload) {
			add(name)
		}
	}
	if p, ok := store.Private.Get(tx, oldBookmarks(account)); ok {
		for _, name := range conferences(p.XML) {
			add(name)
		}
	}
	return all
}

func oldBookmarks(account xmpp.JID) string {
	return store.Key(account.String(), nsOldBookmarks, "storage")
}

// conferences are the addresses in a list of XEP-0048.
func conferences(payload []byte) (all []string) {
	root, err := frame.Parse(payload, xmpp.NSClient, stored())
	if err != nil {
		return nil
	}
	for _, c := range root.Node().Children {
		if c.NS == nsOldBookmarks && c.Name == "conference" {
			all = append(all, c.Attr("jid"))
		}
	}
	return all
}

// stored are limits for what is in the store: it was let in by narrower ones.
func stored() frame.Limits {
	return frame.Limits{Bytes: 1 << 30, Depth: 1 << 20, Attrs: 1 << 20, Children: 1 << 30}
}

// rewriteBookmarks writes the new addresses in an account's bookmarks, in its own name, so that its devices are told.
func (m *Moved) rewriteBookmarks(tx *store.Tx, out *xmpp.Out, account xmpp.JID, moves map[string]xmpp.JID) error {
	for _, was := range slices.Sorted(maps.Keys(moves)) { // in the same order each time
		to := moves[was]
		item, ok := store.PEPItems.Get(tx, store.Key(account.String(), nsBookmarks, was))
		if !ok {
			continue
		}
		payload, err := frame.Parse(item.Payload, xmpp.NSClient, stored())
		if err != nil {
			return err
		}
		if !store.PEPItems.Has(tx, store.Key(account.String(), nsBookmarks, to.String())) {
			if err := m.needs.Events.PublishFor(tx, out, account, nsBookmarks, to.String(), payload.Node()); err != nil {
				return err
			}
		}
		m.needs.Events.RetractFor(tx, out, account, nsBookmarks, was)
	}
	prefix := store.Key(account.String(), nsOldBookmarks, "")
	lists := map[string][]byte{}
	for key, item := range store.PEPItems.All(tx, account.String(), nsOldBookmarks) {
		lists[strings.TrimPrefix(key, prefix)] = item.Payload
	}
	for id, list := range lists {
		changed, ok := renamed(list, moves)
		if !ok {
			continue
		}
		payload, err := frame.Parse(changed, xmpp.NSClient, stored())
		if err != nil {
			return err
		}
		if err := m.needs.Events.PublishFor(tx, out, account, nsOldBookmarks, id, payload.Node()); err != nil {
			return err
		}
	}
	if p, ok := store.Private.Get(tx, oldBookmarks(account)); ok {
		if changed, ok := renamed(p.XML, moves); ok {
			store.Private.Put(tx, oldBookmarks(account), store.PrivateXML{XML: changed})
		}
	}
	return nil
}

// renamed writes new addresses into a list of XEP-0048; all other bytes stay.
func renamed(list []byte, moves map[string]xmpp.JID) (changed []byte, ok bool) {
	root, err := frame.Parse(list, xmpp.NSClient, stored())
	if err != nil {
		return nil, false
	}
	var out []byte
	done := 0
	for i, c := range root.Node().Children {
		j, good := bareJID(c.Attr("jid"))
		to, moved := moves[j.String()]
		if c.NS != nsOldBookmarks || c.Name != "conference" || !good || !moved {
			continue
		}
		at := root.Children[i]
		raw := root.Raw[at.Start:at.End]
		for _, q := range []string{"'", `"`} {
			was := append([]byte("jid="+q), append(frame.AppendEscaped(nil, c.Attr("jid")), q...)...)
			is := append([]byte("jid="+q), append(frame.AppendEscaped(nil, to.String()), q...)...)
			if bytes.Contains(raw, was) {
				out = append(append(out, root.Raw[done:at.Start]...), bytes.Replace(raw, was, is, 1)...)
				done, ok = at.End, true
				break
			}
		}
	}
	return append(out, root.Raw[done:]...), ok
}
