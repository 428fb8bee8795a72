package store

import (
	"bytes"
	"encoding/binary"
	"errors"
	"slices"
	"time"
)

// An entry is written as: a byte of flags; the time in milliseconds since 1970; for one that was imported the time when it was stored, too; the number
// of owners; for each the role, a byte, and the texts
// account and with; the stanza up to the end. Numbers are varints. A text is a number n and, where that is even, n/2 bytes; where it is odd, the
// text is the one that was written as the entry's n/2-th: the two sides of a conversation are written once.
const (
	flagRemote   = 1
	flagImported = 2
)

var errEntry = errors.New("not an entry of the log")

// MarshalBinary writes an entry; its time is cut to milliseconds.
func (e Entry) MarshalBinary() ([]byte, error) {
	size := 16 + len(e.Stanza)
	for _, o := range e.Owners {
		size += 5 + len(o.Account) + len(o.With)
	}
	b := make([]byte, 1, size)
	if e.Remote {
		b[0] = flagRemote
	}
	b = binary.AppendUvarint(b, uint64(e.At.UnixMilli()))
	if !e.Stored.IsZero() {
		b[0] |= flagImported
		b = binary.AppendUvarint(b, uint64(e.Stored.UnixMilli()))
	}
	b = binary.AppendUvarint(b, uint64(len(e.Owners)))
	var space [8]string
	known := space[:0]
	for _, o := range e.Owners {
		b = append(b, byte(o.Role))
		for _, text := range [...]string{o.Account, o.With} {
			if n := slices.Index(known, text); n >= 0 {
				b = binary.AppendUvarint(b, uint64(n)<<1|1)
				continue
			}
			b = append(binary.AppendUvarint(b, uint64(len(text))<<1), text...)
			known = append(known, text)
		}
	}
	return append(b, e.Stanza...), nil
}

// UnmarshalBinary reads what MarshalBinary wrote.
func (e *Entry) UnmarshalBinary(raw []byte) error {
	h, err := readHead(raw)
	if err != nil {
		return err
	}
	var owners []Owner
	stanza, err := h.walk(func(account, with []byte, role Role) {
		owners = append(owners, Owner{Account: string(account), With: string(with), Role: role})
	})
	if err != nil {
		return err
	}
	*e = Entry{At: time.UnixMilli(h.ms).UTC(), Remote: h.remote, Owners: owners, Stanza: bytes.Clone(stanza)}
	if h.imported {
		e.Stored = time.UnixMilli(h.stored).UTC()
	}
	return nil
}

// head is an entry as it lies in the file: nothing is copied.
type head struct {
	ms       int64
	stored   int64 // the same but for what was imported
	remote   bool
	imported bool
	owners   uint64
	rest     []byte // the owners and the stanza
}

func readHead(raw []byte) (h head, err error) {
	if len(raw) == 0 || raw[0]&^(flagRemote|flagImported) != 0 {
		return h, errEntry
	}
	h.remote, h.imported = raw[0]&flagRemote != 0, raw[0]&flagImported != 0
	ms, raw, ok := cutUvarint(raw[1:])
	if !ok {
		return h, errEntry
	}
	h.ms, h.stored = int64(ms), int64(ms)
	if h.imported {
		if ms, raw, ok = cutUvarint(raw); !ok {
			return h, errEntry
		}
		h.stored = int64(ms)
	}
	if h.owners, h.rest, ok = cutUvarint(raw); !ok {
		return h, errEntry
	}
	return h, nil
}

// walk visits the owners and returns the stanza.
func (h head) walk(visit func(account, with []byte, role Role)) (stanza []byte, err error) {
	var space [8][]byte
	known, raw := space[:0], h.rest
	text := func() (s []byte, ok bool) {
		n, rest, ok := cutUvarint(raw)
		switch n2 := n >> 1; {
		case !ok:
			return nil, false
		case n&1 == 1 && n2 < uint64(len(known)):
			s, raw = known[n2], rest
		case n&1 == 0 && n2 <= uint64(len(rest)):
			s, raw = rest[:n2], rest[n2:]
			known = append(known, s)
		default:
			return nil, false
		}
		return s, true
	}
	for range h.owners {
		if len(raw) == 0 {
			return nil, errEntry
		}
		role := Role(raw[0])
		raw = raw[1:]
		account, ok := text()
		if !ok {
			return nil, errEntry
		}
		with, ok := text()
		if !ok {
			return nil, errEntry
		}
		visit(account, with, role)
	}
	return raw, nil
}

func cutUvarint(b []byte) (v uint64, rest []byte, ok bool) {
	v, n := binary.Uvarint(b)
	if n <= 0 {
		return 0, nil, false
	}
	return v, b[n:], true
}
