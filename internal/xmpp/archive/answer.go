package archive

import (
	"bytes"
	"errors"
	"math"
	"runtime/debug"
	"slices"
	"strconv"

	"pibox/internal/store"
	"pibox/internal/xmpp"

	"mellium.im/xmpp/stanza"
)

// query is XEP-0313 §"Querying an archive".
func (a *Archive) query(rq *xmpp.Request) error {
	q, err := parseQuery(rq.Node().Children[0])
	if err != nil {
		return err
	}
	room := rq.Session.Room()
	if room < leastRoom {
		return xmpp.Errorf(stanza.ResourceConstraint, "too much is on its way to this client; ask again when it has arrived")
	}
	p := &page{account: rq.Account().String(), q: q, bytes: min(a.opt.PageBytes, room/2)}
	if q.scans() {
		return a.scan(rq, p)
	}
	if err := rq.View(func(tx *store.Tx) error { return p.read(tx, math.MaxInt) }); err != nil {
		return err
	}
	a.answer(rq, p)
	return nil
}

// scan reads a page that may have to look at the whole archive, beside what its session and the committer do, and in short transactions. One at a
// time is enough for a member.
func (a *Archive) scan(rq *xmpp.Request, p *page) error {
	account := rq.Account()
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.scanning[account] || a.ctx.Err() != nil {
		return xmpp.Errorf(stanza.ResourceConstraint, "such a query is being answered; ask again later")
	}
	a.scanning[account] = true
	a.work.Go(func() {
		err := a.scanAll(p)
		a.mu.Lock()
		delete(a.scanning, account)
		a.mu.Unlock()
		if err == nil {
			a.answer(rq, p)
			return
		}
		var se *xmpp.StanzaError
		if !errors.As(err, &se) {
			a.opt.Log.Error("archive: a query failed", "conn", rq.Session.ConnID, "error", err)
			se = xmpp.Errorf(stanza.InternalServerError, "the box could not do that; its log says why")
		}
		rq.Session.Deliver(rq.Failure(se))
	})
	return nil
}

func (a *Archive) scanAll(p *page) (err error) {
	defer func() {
		if r := recover(); r != nil {
			a.opt.Log.Error("archive: panic in a query", "panic", r, "stack", string(debug.Stack()))
			err = xmpp.Errorf(stanza.InternalServerError, "the box could not do that; its log says why")
		}
	}()
	for !p.done {
		if a.ctx.Err() != nil {
			return xmpp.Errorf(stanza.ResourceConstraint, "the box is going down; ask again later")
		}
		if err := a.r.Store.View(func(tx *store.Tx) error { return p.read(tx, scanStep) }); err != nil {
			return err
		}
	}
	return nil
}

// answer sends the results and, behind them, the reply. It ends where the session takes no more.
func (a *Archive) answer(rq *xmpp.Request, p *page) {
	send := slices.Values(p.found)
	if p.q.flip {
		send = func(yield func(found) bool) {
			for _, f := range slices.Backward(p.found) {
				if !yield(f) {
					return
				}
			}
		}
	}
	for f := range send {
		if !rq.Session.Deliver(a.result(rq, p, f)) {
			return
		}
	}
	rq.Reply(p.fin())
}

// fin ends a page. Its set is in the order of the archive, also for a flipped page: flipping does not change what the page is.
func (p *page) fin() []byte {
	x := xmpp.NewXMLNS("fin", NS).Attr("complete", strconv.FormatBool(p.complete)).Attr("stable", "true").Open("set", NSRSM)
	if n := len(p.found); n > 0 {
		x.Leaf("first", "", p.found[0].id).Leaf("last", "", p.found[n-1].id)
	}
	if p.counted {
		x.Leaf("count", "", strconv.Itoa(p.count))
	}
	return x.Bytes()
}

// result is XEP-0313 §"Query results".
func (a *Archive) result(rq *xmpp.Request, p *page, f found) *xmpp.Stanza {
	st, err := xmpp.ParseStanza(resultXML(rq, p, f, xmpp.OwnedStanza(f.Owned, p.account)))
	if err != nil {
		// A stanza that can not be wrapped any more: §"Message retention and deletion" lets its place stay, empty.
		a.opt.Log.Warn("archive: a stored stanza can not be forwarded", "conn", rq.Session.ConnID, "seq", f.Seq, "error", err)
		return xmpp.Make(resultXML(rq, p, f, nil))
	}
	return st
}

func resultXML(rq *xmpp.Request, p *page, f found, stored []byte) []byte {
	x := xmpp.NewXML("message").Attr("from", p.account).Attr("to", rq.From.String()).Open("result", NS)
	if p.q.id != nil {
		x.AttrAlways("queryid", *p.q.id)
	}
	x.Attr("id", f.id).Open("forwarded", nsForward)
	x.Open("delay", nsDelay).Attr("stamp", f.At.UTC().Format(dateTime)).Close()
	if at := bytes.IndexAny(stored, " \t\r\n/>"); at > 0 {
		x.Raw(stored[:at]).Raw([]byte(" xmlns='" + xmpp.NSClient + "'")).Raw(stored[at:])
	}
	return x.Bytes()
}
