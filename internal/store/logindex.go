package store

import (
	"bytes"
	"encoding/binary"
	"errors"
	"maps"
	"slices"
	"strings"

	bolt "go.etcd.io/bbolt"
)

// An index tells which entries of the log an account owns (logowned), or owns with one other side (logwith). Its records, chunks, have the key
// account, (with,) sequence, which is not above that of the first posting in it; they hold chunkMost postings in the order of the log. The latest
// postings of each account, or pair, are fewer and have a key that begins with live: these chunks lie together, so that a tail that moves touches
// few pages. The account "" owns what is owed to other servers. Only what is in the table log is indexed, not what is in logtail.
type index string

const (
	ownedIndex index = "logowned"
	withIndex  index = "logwith"

	chunkMost = 128
	live      = "\x01" // sorts before every JID
)

// posting is one entry in an index.
type posting struct {
	seq  uint64
	role Role // as the index has it: the account's floors may have taken away from it since
	size int  // bytes of the stanza
	tail bool // it was found in logtail
}

var errPosting = errors.New("not a chunk of the log's index")

// roleBits of a posting's first number are the role; the rest is the distance from the posting before it.
const roleBits = 4

func appendPosting(b []byte, before uint64, p posting) []byte {
	b = binary.AppendUvarint(b, (p.seq-before)<<roleBits|uint64(p.role))
	return binary.AppendUvarint(b, uint64(p.size))
}

func encodeChunk(base uint64, ps []posting) (b []byte) {
	for _, p := range ps {
		b = appendPosting(b, base, p)
		base = p.seq
	}
	return b
}

// decodeChunk reads a chunk; the postings are appended to ps.
func decodeChunk(ps []posting, base uint64, raw []byte) ([]posting, error) {
	for len(raw) > 0 {
		n, rest, ok := cutUvarint(raw)
		size, rest, ok2 := cutUvarint(rest)
		if !ok || !ok2 || size > 1<<31-1 {
			return ps, errPosting
		}
		base += n >> roleBits
		ps = append(ps, posting{seq: base, role: Role(n & (1<<roleBits - 1)), size: int(size)})
		raw = rest
	}
	return ps, nil
}

// prefix of the chunks' keys.
func (ix index) prefix(account, with string) string {
	if ix == withIndex {
		return Key(account, with, "")
	}
	return Key(account, "")
}

func indexFor(account, with string) (ix index, prefix string) {
	ix = ownedIndex
	if with != "" {
		ix = withIndex
	}
	return ix, ix.prefix(account, with)
}

func chunkKey(prefix string, seq uint64) []byte {
	return binary.BigEndian.AppendUint64([]byte(prefix), seq)
}

// upTo places a cursor on the last key that is not above the given one.
func upTo(b *bolt.Bucket, key []byte) (c *bolt.Cursor, k, v []byte) {
	c = b.Cursor()
	if k, v = c.Seek(key); !bytes.Equal(k, key) {
		k, v = back(c, key)
	}
	return c, k, v
}

// back places a cursor, which is behind a key or on it, on the last one before that key. Cursor.Prev takes a page that the transaction has emptied
// for the beginning, and Cursor.Last does not return where all pages are empty (bbolt 1.5.0).
func back(c *bolt.Cursor, key []byte) (k, v []byte) {
	if first, _ := c.Bucket().Cursor().First(); first == nil || bytes.Compare(first, key) >= 0 {
		return nil, nil
	}
	for k == nil {
		k, v = c.Prev()
	}
	return k, v
}

// next appends to ps what one chunk has after a place, in order; nothing where there is no more.
func (ix index) next(tx *Tx, prefix string, after uint64, ps []posting) []posting {
	b := tx.bucket(string(ix))
	if b == nil || after == 1<<64-1 {
		return ps
	}
	for _, prefix := range [...]string{prefix, live + prefix} {
		key := chunkKey(prefix, after+1)
		c, k, v := upTo(b, key)
		if !bytes.HasPrefix(k, []byte(prefix)) {
			k, v = c.Seek(key)
		}
		for ; bytes.HasPrefix(k, []byte(prefix)); k, v = c.Next() {
			all := ix.decode(tx, k, v, ps)
			from := len(ps)
			for from < len(all) && all[from].seq <= after {
				from++
			}
			if from < len(all) {
				return slices.Delete(all, len(ps), from)
			}
		}
	}
	return ps
}

// prev is next in the other direction: before a place, the latest first.
func (ix index) prev(tx *Tx, prefix string, before uint64, ps []posting) []posting {
	b := tx.bucket(string(ix))
	if b == nil || before == 0 {
		return ps
	}
	for _, prefix := range [...]string{live + prefix, prefix} {
		c, k, v := upTo(b, chunkKey(prefix, before-1))
		for ; bytes.HasPrefix(k, []byte(prefix)); k, v = back(c, k) {
			all := ix.decode(tx, k, v, ps)
			for len(all) > len(ps) && all[len(all)-1].seq >= before {
				all = all[:len(all)-1]
			}
			if len(all) > len(ps) {
				slices.Reverse(all[len(ps):])
				return all
			}
		}
	}
	return ps
}

func (ix index) decode(tx *Tx, k, v []byte, ps []posting) []posting {
	all, err := decodeChunk(ps, SeqOf(string(k)), v)
	if err != nil {
		tx.damagedRecord(string(ix), k, err)
		return ps
	}
	return all
}

// add appends postings, all later than those that are there.
func (ix index) add(tx *Tx, prefix string, ps []posting) {
	b := tx.bucket(string(ix))
	if b == nil {
		return
	}
	if _, k, v := upTo(b, chunkKey(live+prefix, 1<<64-1)); bytes.HasPrefix(k, []byte(live+prefix)) {
		key, all := string(k), append(ix.decode(tx, k, v, nil), ps...)
		if len(all) < chunkMost {
			ix.save(tx, key, all)
			return
		}
		tx.delete(string(ix), key)
		ps = all
	}
	for ; len(ps) >= chunkMost; ps = ps[chunkMost:] {
		ix.save(tx, string(chunkKey(prefix, ps[0].seq)), ps[:chunkMost])
	}
	if len(ps) > 0 {
		ix.save(tx, string(chunkKey(live+prefix, ps[0].seq)), ps)
	}
}

// change sets the role of postings, given in the order of the log; those whose role is 0 are taken out. What is not there is left alone.
func (ix index) change(tx *Tx, prefix string, changes []posting) {
	ix.changeChunks(tx, prefix, changes)
	ix.changeChunks(tx, live+prefix, changes)
}

func (ix index) changeChunks(tx *Tx, prefix string, changes []posting) {
	for len(changes) > 0 {
		b := tx.bucket(string(ix))
		if b == nil {
			return
		}
		_, k, v := upTo(b, chunkKey(prefix, changes[0].seq))
		todo := len(changes)
		if bytes.HasPrefix(k, []byte(prefix)) {
			key, all := string(k), ix.decode(tx, k, v, nil)
			kept := all[:0]
			for _, p := range all {
				for len(changes) > 0 && changes[0].seq < p.seq {
					changes = changes[1:]
				}
				if len(changes) > 0 && changes[0].seq == p.seq {
					p.role, changes = changes[0].role, changes[1:]
				}
				if p.role != 0 {
					kept = append(kept, p)
				}
			}
			ix.save(tx, key, kept)
		}
		if len(changes) == todo { // no chunk has it
			changes = changes[1:]
		}
	}
}

func (ix index) save(tx *Tx, key string, ps []posting) {
	if len(ps) == 0 {
		tx.delete(string(ix), key)
		return
	}
	tx.put(string(ix), key, encodeChunk(SeqOf(key), ps))
}

// edits collects changes of roles in the indexes, so that each chunk is written once.
type edits struct {
	tx *Tx
	m  map[string][]posting // by account NUL with
}

// set takes a change of what an account owns; for one account the changes come in the order of the log.
func (e *edits) set(account, with string, p posting) {
	if e.m == nil {
		e.m = map[string][]posting{}
	}
	e.m[account+"\x00"] = append(e.m[account+"\x00"], p)
	if with != "" {
		e.m[Key(account, with)] = append(e.m[Key(account, with)], p)
	}
}

// each visits what was collected, in the order of the keys, and forgets it.
func (e *edits) each(do func(ix index, prefix string, ps []posting)) {
	for _, key := range slices.Sorted(maps.Keys(e.m)) {
		account, with, _ := strings.Cut(key, "\x00")
		ix, prefix := indexFor(account, with)
		do(ix, prefix, e.m[key])
	}
	clear(e.m)
}

// apply changes the indexes.
func (e *edits) apply() {
	e.each(func(ix index, prefix string, ps []posting) { ix.change(e.tx, prefix, ps) })
}
