package delivery

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
	"time"

	"pibox/internal/store"
	"pibox/internal/xmpp"
)

// reader is a session that is handed what waited, page by page: the next one when it has answered for the last, by acknowledging its last stanza
// (XEP-0198) or a ping behind it. What comes meanwhile waits its turn.
type reader struct {
	s       *xmpp.Session
	queue   []queued // what it is to get
	live    int      // how much of it came since the session did
	page    []uint64 // what it was handed and has not answered for
	byPing  bool     // how it answers for the page
	reading bool     // the page is being read from the store
	all     bool     // it gets no pages any more, only what came since, at once
	looks   int      // how often there was no room for the next page
	looking bool     // it is to be seen again whether there is
}

// queued is a message in the log. Old: it waited when the session came, so another one may get it instead.
type queued struct {
	seq  uint64
	size int
	way  way
	old  bool
}

const (
	pageBytes   = 128 << 10
	pageTimeout = 60 * time.Second // for the ping
	maxQueue    = 2000             // live messages for a session that does not answer for its page
	// roomPause is after how long it is seen again whether a session's connection can queue a page. One that has no room for a single stanza in all of
	// maxLooks may be a small queue, which takes one when it is empty.
	roomPause = time.Second
	maxLooks  = 60
	// overhead is what a stanza takes in a queue beside itself, with what is added to it; a guess.
	overhead = 1 << 10
)

// behind makes a live message wait for a session that is still being handed older ones.
func (a *account) behind(s *xmpp.Session, p *posting, w way) bool {
	rd := a.readers[s]
	if rd == nil || !rd.reading && len(rd.queue) == 0 {
		return false
	}
	rd.queue = append(rd.queue, queued{seq: p.seq, size: len(p.st.Raw), way: w})
	if rd.live++; rd.live > maxQueue {
		a.giveUp(rd)
	}
	return true
}

// assign gives what waits and nobody has to a resource that can take it, preferably to s.
func (a *account) assign(s *xmpp.Session) {
	var to *xmpp.Session
	for _, x := range a.d.r.Sessions(a.jid) {
		if isTarget(x) && !x.Detached() && !a.deaf[x] && (to == nil || x == s) {
			to = x
		}
	}
	if to == nil {
		return
	}
	var more []queued
	var done []uint64
	for i := range a.cursor.waiting {
		it := &a.cursor.waiting[i]
		if len(it.with) > 0 {
			continue
		}
		switch copied, acknowledged := it.had(to); {
		case acknowledged:
			done = append(done, it.seq)
		case !copied:
			it.with = append(it.with, to)
			more = append(more, queued{seq: it.seq, size: it.size, way: directly, old: true})
		}
	}
	for _, seq := range done {
		a.cursor.done(seq)
	}
	if len(more) == 0 {
		return
	}
	rd := a.readers[to]
	if rd == nil {
		rd = &reader{s: to}
		a.readers[to] = rd
	}
	rd.queue = append(slices.DeleteFunc(rd.queue, func(q queued) bool { // it had to leave it to others, who did not take it
		_, again := slices.BinarySearchFunc(more, q, bySeq)
		return q.old && again
	}), more...)
	slices.SortStableFunc(rd.queue, bySeq)
	a.nextPage(rd)
}

func bySeq(x, y queued) int { return cmp.Compare(x.seq, y.seq) }

// nextPage has the next page read and handed over; without one the session gets live messages again.
func (a *account) nextPage(rd *reader) {
	if rd.reading || !rd.all && (len(rd.page) > 0 || rd.looking || rd.s.Detached()) {
		return
	}
	picked := a.pick(rd)
	switch {
	case len(picked) > 0:
		rd.reading, rd.looks = true, 0
		a.out = append(a.out, parcel{do: func() { a.handPage(rd, picked) }})
	case len(rd.queue) > 0:
		rd.looking = true
		rd.looks++
		time.AfterFunc(roomPause, func() {
			a.mu.Lock()
			defer a.release()
			if rd.looking = false; a.readers[rd.s] == rd {
				a.nextPage(rd)
			}
		})
	default:
		delete(a.readers, rd.s)
	}
}

// pick takes the next page out of the queue: no more than the session's connection can queue, past which the client would lose it, and where it is
// more than one stanza no more than half of that, for what else comes.
func (a *account) pick(rd *reader) (picked []queued) {
	room := rd.s.Room()
	size, n := 0, 0
	for ; n < len(rd.queue) && (rd.all || size < pageBytes); n++ {
		q := rd.queue[n]
		if it := a.cursor.find(q.seq); q.old && (it == nil || !slices.Contains(it.with, rd.s)) { // another device has got it meanwhile
			continue
		}
		size += q.size + overhead
		if alone := len(picked) == 0; !rd.all && size > room/2 && !(alone && (size <= room || rd.looks >= maxLooks)) {
			break
		}
		if !q.old {
			rd.live--
		}
		picked = append(picked, q)
	}
	rd.queue = rd.queue[n:]
	return picked
}

func (a *account) handPage(rd *reader, picked []queued) {
	page, err := a.read(rd.s, picked)
	if err != nil {
		a.d.opt.Log.Error("delivery: reading what waits", "error", err)
	}
	a.mu.Lock()
	defer a.release()
	if a.readers[rd.s] != rd {
		return
	}
	rd.reading = false
	if err != nil { // all of it waits for the next occasion
		a.stopReading(rd.s)
		for _, q := range picked {
			a.cursor.letGo(q.seq, rd.s)
		}
		return
	}
	rd.byPing = !rd.s.Confirms()
	for i, st := range page {
		if st == nil { // it is not there any more, or its sender was blocked since (XEP-0191 §3.3)
			a.cursor.done(picked[i].seq)
			continue
		}
		a.post(rd.s, st)
		rd.page = append(rd.page, picked[i].seq)
	}
	switch {
	case rd.all, len(rd.page) == 0:
		a.nextPage(rd)
	case rd.byPing:
		a.out = append(a.out, parcel{do: func() { a.ping(rd) }})
	}
}

func (a *account) read(s *xmpp.Session, picked []queued) (page []*xmpp.Stanza, err error) {
	page = make([]*xmpp.Stanza, len(picked))
	err = a.d.r.Store.View(func(tx *store.Tx) error {
		for i, q := range picked {
			e, ok := store.OwnedEntry(tx, a.jid.String(), q.seq)
			if !ok {
				continue
			}
			st, err := xmpp.ParseStanza(e.Stanza)
			if err != nil {
				return err
			}
			if st = stamped(st, a.jid, e.At); e.Role&store.Archived != 0 {
				st = identified(st, a.jid, store.LogID(tx, a.jid.String(), q.seq))
			}
			page[i] = st.Stored(q.seq)
		}
		return nil
	})
	for i, st := range page {
		switch {
		case st == nil:
		case !a.d.r.Admits(st):
			page[i] = nil
		default:
			page[i] = picked[i].way.wrapped(st, s, true)
		}
	}
	return page, err
}

func (a *account) ping(rd *reader) {
	a.d.r.Ask(xmpp.Ask{
		From: a.jid.Host(), To: rd.s.JID, Type: "get", Timeout: pageTimeout, Payload: xmpp.NewXMLNS("ping", "urn:xmpp:ping").Bytes(),
		Done: func(reply *xmpp.Request) {
			a.mu.Lock()
			defer a.release()
			switch {
			case a.readers[rd.s] != rd:
			case reply == nil || reply.Session != rd.s: // another one gets it; without one it waits for the next session
				a.deaf[rd.s] = true
				for _, seq := range rd.page {
					a.cursor.letGo(seq, rd.s)
				}
				a.giveUp(rd)
				a.assign(nil)
			default:
				for _, seq := range rd.page {
					a.cursor.done(seq)
				}
				a.answered(rd)
			}
		},
	})
}

// answered: the client has the page.
func (a *account) answered(rd *reader) {
	rd.page = nil
	if a.cursor.unwritten(false) {
		a.out = append(a.out, parcel{do: a.write})
	}
	a.nextPage(rd)
}

// giveUp ends the pages of a session that does not answer. What waited before it came waits on; what came since it gets as others do.
func (a *account) giveUp(rd *reader) {
	a.dropOld(rd)
	rd.all = true
	a.nextPage(rd)
}

// dropOld leaves what waited before the session came, and it was not handed yet, to others.
func (a *account) dropOld(rd *reader) {
	rd.queue = slices.DeleteFunc(rd.queue, func(q queued) bool {
		if q.old {
			a.cursor.letGo(q.seq, rd.s)
		}
		return q.old
	})
}

// stopReading: the session takes nothing for the account any more. For the page that it was handed it may still answer.
func (a *account) stopReading(s *xmpp.Session) {
	rd := a.readers[s]
	if rd == nil {
		return
	}
	for _, q := range rd.queue {
		a.cursor.letGo(q.seq, s)
	}
	if rd.queue, rd.live = nil, 0; len(rd.page) == 0 && !rd.reading {
		delete(a.readers, s)
	}
}

func priority(st *xmpp.Stanza) int {
	n, err := strconv.Atoi(strings.TrimSpace(st.Node().ChildText(xmpp.NSClient, "priority")))
	if err != nil {
		return 0
	}
	return n
}
