package store

import (
	"bytes"
	"encoding/binary"
	"errors"
	"iter"
	"time"
)

// Nodes and items of personal eventing share one table, each item beside its node: a publication touches one leaf page in most cases
// (docs/decisions.md).
var (
	PEPNodes  = Table[PEPNode]{"pep"}  // account, node
	PEPItems  = Table[PEPItem]{"pep"}  // account, node, item id
	PEPStamps = Table[PEPStamp]{"pep"} // the records of PEPItems, as far as their order needs; never written
)

// PEPNode is a node (XEP-0060 §16.4.4).
type PEPNode struct {
	Created time.Time `json:"created"`
	// Config holds the fields that differ from the defaults, without "pubsub#".
	Config map[string][]string `json:"config,omitempty"`
	// Affiliations by bare JID: publisher, publish-only, member or outcast. The account itself, the owner, is not listed.
	Affiliations map[string]string `json:"affiliations,omitempty"`
	// Subscriptions by JID, explicit ones only: subscribed or pending.
	Subscriptions map[string]string `json:"subscriptions,omitempty"`
}

// PEPItem is one published item. Within a node no two have the same time.
type PEPItem struct {
	At        time.Time
	Publisher string // full JID
	Payload   []byte // stands alone: declares its namespaces
}

// PEPStamp is when an item was published.
type PEPStamp struct{ At time.Time }

var errPEPItem = errors.New("not an item")

// MarshalBinary writes the time in nanoseconds, eight bytes big-endian, the publisher, a newline, and the payload as it is.
func (i PEPItem) MarshalBinary() ([]byte, error) {
	b := make([]byte, 8, 8+len(i.Publisher)+1+len(i.Payload))
	binary.BigEndian.PutUint64(b, uint64(i.At.UnixNano()))
	return append(append(append(b, i.Publisher...), '\n'), i.Payload...), nil
}

// UnmarshalBinary reads what MarshalBinary wrote.
func (i *PEPItem) UnmarshalBinary(b []byte) error {
	var s PEPStamp
	if err := s.UnmarshalBinary(b); err != nil {
		return err
	}
	publisher, payload, ok := bytes.Cut(b[8:], []byte{'\n'})
	if !ok {
		return errPEPItem
	}
	*i = PEPItem{At: s.At, Publisher: string(publisher), Payload: bytes.Clone(payload)}
	return nil
}

// UnmarshalBinary reads the beginning of what PEPItem.MarshalBinary wrote.
func (s *PEPStamp) UnmarshalBinary(b []byte) error {
	if len(b) < 9 {
		return errPEPItem
	}
	s.At = time.Unix(0, int64(binary.BigEndian.Uint64(b))).UTC()
	return nil
}

// AllPEPNodes iterates over the nodes of an account by name. They may be written and deleted meanwhile, with their items.
func AllPEPNodes(tx *Tx, account string) iter.Seq2[string, PEPNode] {
	return func(yield func(string, PEPNode) bool) {
		prefix := Key(account, "")
		for start, more := prefix, true; more; {
			more = false
			for key, n := range PEPNodes.From(tx, start, account) {
				if !yield(key[len(prefix):], n) {
					return
				}
				start, more = key+"\x01", true // behind the node's items; XML has no character below a tab
				break
			}
		}
	}
}
