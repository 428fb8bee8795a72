// Package archive lets members read what the box kept of their messages (Message Archive Management, XEP-0313, with its extended features), say what
// it is to keep (XEP-0441), and drops what is too old or too much. What goes into the archive is up to the delivery of messages, which asks Archives.
//
// An archive is a view of the store's log: nothing is copied, and a page costs what it holds, however long the archive is. A page is read whole,
// in a short transaction, before the first of its results is sent. Its results and its answer go to the session that asked, in order.
package archive

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"pibox/internal/store"
	"pibox/internal/xmpp"

	"mellium.im/xmpp/stanza"
)

// Namespaces.
const (
	NS           = "urn:xmpp:mam:2"
	NSExtended   = NS + "#extended"
	NSGroupchat  = NS + "#groupchat-field"
	NSRSM        = "http://jabber.org/protocol/rsm"
	nsForward    = "urn:xmpp:forward:0"
	nsDelay      = "urn:xmpp:delay"
	nsData       = "jabber:x:data"
	nsValidate   = "http://jabber.org/protocol/xdata-validate"
	dateTime     = "2006-01-02T15:04:05.000Z" // XEP-0082, to the millisecond: what the store knows
	resultCost   = 1 << 10                    // bytes of a result beside those of its stanza, in the connection's queue
	leastRoom    = 32 << 10                   // with less room in the queue, no page is begun
	scanStep     = 500                        // entries looked at in one transaction where no index finds them
	defaultPage  = 50
	maxPage      = 250
	maxIDs       = 1000
	maxIDLen     = 256
	maxQueryID   = 1024
	defaultBytes = 512 << 10
)

// Options and limits, with their defaults.
type Options struct {
	Log *slog.Logger
	// PageBytes bounds one page. It always holds one result, and at most as much as half of what its session's connection can still queue.
	// Default 512 KiB.
	PageBytes int
	// MaxListed addresses may be in the two lists of one account's preferences together. Default 1000. Beyond it: resource-constraint.
	MaxListed int
	// MaxAge is how long a message stays in an archive. 0: for ever.
	MaxAge time.Duration
	// MaxBytes of the stanzas in one account's archive; past it the oldest go. 0: no limit. While it is a quarter larger, it takes nothing.
	MaxBytes int64
}

// Archive is the feature.
type Archive struct {
	r   *xmpp.Router
	opt Options

	ctx    context.Context // ends with Stop
	cancel context.CancelFunc
	work   sync.WaitGroup
	large  chan struct{} // some archive is too large

	mu       sync.Mutex
	scanning map[xmpp.JID]bool // accounts with a query that looks at much
}

// Register hangs the archive on the router. Call Start when the store may be written to in the background, and Stop before it is closed.
func Register(r *xmpp.Router, opt Options) *Archive {
	if opt.Log == nil {
		opt.Log = slog.New(slog.DiscardHandler)
	}
	if opt.PageBytes <= 0 {
		opt.PageBytes = defaultBytes
	}
	if opt.MaxListed <= 0 {
		opt.MaxListed = 1000
	}
	a := &Archive{r: r, opt: opt, large: make(chan struct{}, 1), scanning: map[xmpp.JID]bool{}}
	a.ctx, a.cancel = context.WithCancel(context.Background())
	key := func(typ, name string) xmpp.Key {
		return xmpp.Key{Class: xmpp.ToAccount, Kind: xmpp.IQ, Type: typ, NS: NS, Name: name}
	}
	r.Handle(key("get", "query"), owned(fields))
	r.Handle(key("set", "query"), owned(a.query))
	r.Handle(key("get", "metadata"), owned(metadata))
	r.Handle(key("get", "prefs"), owned(getPrefs))
	r.HandleTx(key("set", "prefs"), a.setPrefs)
	r.Announce(xmpp.ToAccount, NS, NSExtended, NSGroupchat, NSRSM)
	return a
}

// Start begins the work in the background: dropping what is too old or too much, and freeing what nobody owns any more.
func (a *Archive) Start() { a.work.Go(a.retention) }

// Stop ends what goes on in the background and waits for that. Queries that come later are answered where that is done at once.
func (a *Archive) Stop() {
	a.mu.Lock()
	a.cancel()
	a.mu.Unlock()
	a.work.Wait()
}

// owned lets only the owner of an archive at it.
func owned(h xmpp.Handler) xmpp.Handler {
	return func(rq *xmpp.Request) error {
		if err := mine(rq); err != nil {
			return err
		}
		return h(rq)
	}
}

// mine is XEP-0313 §Security: forbidden. To another server an archive is nothing that the account has (XEP-0030 §8).
func mine(rq *xmpp.Request) error {
	switch {
	case rq.FromOwner():
		return nil
	case rq.Session == nil:
		return xmpp.Errorf(stanza.ServiceUnavailable, "")
	}
	return xmpp.Errorf(stanza.Forbidden, "an archive is its owner's")
}

// metadata is XEP-0313 §"Archive metadata".
func metadata(rq *xmpp.Request) error {
	account := rq.Account().String()
	x := xmpp.NewXMLNS("metadata", NS)
	err := rq.View(func(tx *store.Tx) error {
		for _, end := range []struct {
			name      string
			backwards bool
		}{{"start", false}, {"end", true}} {
			for o := range store.LogOf(tx, store.Range{Account: account, Role: store.Archived, Backwards: end.backwards}) {
				x.Open(end.name, "").Attr("id", store.LogID(tx, account, o.Seq)).Attr("timestamp", o.At.UTC().Format(dateTime)).Close()
				break
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	rq.Reply(x.Bytes())
	return nil
}
