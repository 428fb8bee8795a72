package xmpp

import (
	"sync/atomic"

	"pibox/internal/store"
)

// Receipt follows one stanza of a session until everything that handling it caused is durable and out: that is what "handled" means in XEP-0198
// §4. The request, what it is routed on as, and everything that waits for the committer or behind another stanza hold a share of it.
type Receipt struct {
	// Commit runs inside every transaction that handles the stanza, perhaps more than once; what it writes is durable with the stanza. May be nil.
	Commit func(tx *store.Tx)
	// Done runs once, when the last share is given back. It must not block. May be nil.
	Done func()

	shares atomic.Int32
}

// hold takes a share; a nil Receipt is one that nobody asked for.
func (rc *Receipt) hold() {
	if rc != nil {
		rc.shares.Add(1)
	}
}

// release gives a share back.
func (rc *Receipt) release() {
	if rc != nil && rc.shares.Add(-1) == 0 && rc.Done != nil {
		rc.Done()
	}
}

// commit runs the hook in a transaction.
func (rc *Receipt) commit(tx *store.Tx) {
	if rc != nil && rc.Commit != nil {
		rc.Commit(tx)
	}
}
