package backup

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"runtime/debug"
	"strings"
	"syscall"

	"filippo.io/age"
	"filippo.io/age/armor"
	"github.com/klauspost/compress/zstd"
)

// ErrKey: the pass phrase or identity does not open the backup, or there is none.
var ErrKey = errors.New("it can not be opened")

const (
	// mostWork bounds the work, as a power of two, that a file may ask for to try its pass phrase; usualWork is age's own, takes 256 MiB of memory and a
	// few seconds, and is tried anywhere.
	mostWork, usualWork = 20, 18
	// window is zstd's, in bytes; maxWindow the largest that is read.
	window    = 1 << 20
	maxWindow = 8 << 20
)

// Lock says who can open a backup: those who know the pass phrase, or those who have the identity of one of the recipients. With neither it is not
// encrypted.
type Lock struct {
	Passphrase string
	Recipients []age.Recipient
	// Work is the work, as a power of two, that trying a pass phrase takes. 0: what this machine can do, up to age's own.
	Work int
}

// ParseRecipients reads public keys, age1….
func ParseRecipients(list []string) ([]age.Recipient, error) {
	var out []age.Recipient
	for _, s := range list {
		r, err := age.ParseRecipients(strings.NewReader(s))
		if err != nil || len(r) != 1 {
			return nil, fmt.Errorf("%q is no public key of age, such as age1…", s)
		}
		out = append(out, r[0])
	}
	return out, nil
}

// Seal compresses and encrypts what is written to it. Close completes the file, and does not close w. The file's own key, with which it can be read
// back, is what the recipients get.
type Seal struct {
	zstd *zstd.Encoder
	age  io.WriteCloser // nil where nothing is encrypted
	key  []byte
}

// NewSeal begins a file on w.
func NewSeal(w io.Writer, lock Lock) (*Seal, error) {
	s := &Seal{}
	recipients := lock.Recipients
	if lock.Passphrase != "" {
		r, err := age.NewScryptRecipient(lock.Passphrase)
		if err != nil {
			return nil, err
		}
		if lock.Work == 0 {
			lock.Work = work()
		}
		r.SetWorkFactor(lock.Work)
		recipients = []age.Recipient{r}
	}
	if len(recipients) > 0 {
		tapped := make([]age.Recipient, len(recipients))
		for i, r := range recipients {
			tapped[i] = &tap{r, s}
		}
		var err error
		if s.age, err = age.Encrypt(w, tapped...); err != nil {
			return nil, err
		}
		if lock.Passphrase != "" {
			debug.FreeOSMemory() // as in Unwrap
		}
		w = s.age
	}
	var err error
	s.zstd, err = zstd.NewWriter(w, zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(window), zstd.WithLowerEncoderMem(true))
	return s, err
}

// work is the work factor for a pass phrase: as much as this machine can do again to open the file, up to age's own.
func work() int {
	if have := memory(); have > 0 && have < 1500<<20 {
		return 16 // 64 MiB
	}
	return usualWork
}

// maxWork is the most work that this machine does to try a pass phrase: more than age's own takes half of its memory at the most.
func maxWork(memory uint64) int {
	for w := mostWork; w > usualWork; w-- {
		if 1<<(w+10) <= memory/2 {
			return w
		}
	}
	return usualWork
}

// memory of this machine, in bytes; 0 where it is not known.
func memory() uint64 {
	var have syscall.Sysinfo_t
	if err := syscall.Sysinfo(&have); err != nil {
		return 0
	}
	return uint64(have.Totalram) * uint64(have.Unit)
}

// tap keeps the key of the file when it is given to a recipient.
type tap struct {
	age.Recipient
	to *Seal
}

// Wrap implements age.Recipient.
func (t *tap) Wrap(key []byte) ([]*age.Stanza, error) {
	t.to.key = bytes.Clone(key)
	return t.Recipient.Wrap(key)
}

// WrapWithLabels implements age.RecipientWithLabels: what the recipient says of whom it can stand beside stays in force.
func (t *tap) WrapWithLabels(key []byte) ([]*age.Stanza, []string, error) {
	if r, ok := t.Recipient.(age.RecipientWithLabels); ok {
		t.to.key = bytes.Clone(key)
		return r.WrapWithLabels(key)
	}
	s, err := t.Wrap(key)
	return s, nil, err
}

// Write implements io.Writer.
func (s *Seal) Write(p []byte) (int, error) { return s.zstd.Write(p) }

// Close completes the file.
func (s *Seal) Close() error {
	err := s.zstd.Close()
	if s.age != nil {
		err = errors.Join(err, s.age.Close())
	}
	return err
}

// Key opens the file that was written. It proves every byte of it but the part that only the recipients' identities open.
func (s *Seal) Key() *Keys {
	if s.key == nil {
		return &Keys{}
	}
	return &Keys{Identities: []age.Identity{age.NewInjectedFileKeyIdentity(s.key)}}
}

// Keys open a backup.
type Keys struct {
	Identities []age.Identity
	// Passphrase is asked for where the file has one. May be nil.
	Passphrase func() (string, error)

	refused error // by Passphrase
}

// ParseIdentities reads the identities of a file: AGE-SECRET-KEY-1….
func ParseIdentities(text string) ([]age.Identity, error) {
	list, err := age.ParseIdentities(strings.NewReader(text))
	if err != nil {
		return nil, errors.New("it holds no identity of age (AGE-SECRET-KEY-1…)") // age's error shows the line
	}
	return list, nil
}

// Unwrap implements age.Identity.
func (k *Keys) Unwrap(stanzas []*age.Stanza) ([]byte, error) {
	for _, id := range k.Identities {
		key, err := id.Unwrap(stanzas)
		if !errors.Is(err, age.ErrIncorrectIdentity) {
			return key, err
		}
	}
	if len(stanzas) != 1 || stanzas[0].Type != "scrypt" {
		if len(k.Identities) > 0 {
			return nil, fmt.Errorf("%w: it is for other keys than the given identity's", ErrKey)
		}
		return nil, fmt.Errorf("%w: it needs the identity (AGE-SECRET-KEY-1…) of one of its recipients", ErrKey)
	}
	if k.Passphrase == nil {
		return nil, fmt.Errorf("%w: it needs its pass phrase", ErrKey)
	}
	phrase, err := k.Passphrase()
	if err != nil {
		k.refused = err
		return nil, err
	}
	id, err := age.NewScryptIdentity(phrase)
	if err != nil {
		return nil, fmt.Errorf("%w: the pass phrase is empty", ErrKey)
	}
	id.SetMaxWorkFactor(maxWork(memory()))
	key, err := id.Unwrap(stanzas)
	debug.FreeOSMemory() // trying it took up to 256 MiB, of which nobody knows when they would be given back
	if errors.Is(err, age.ErrIncorrectIdentity) {
		return nil, fmt.Errorf("%w: the pass phrase is wrong", ErrKey)
	}
	return key, err
}

// Kind is what a file is.
type Kind int

// The kinds.
const (
	KindUnknown  Kind = iota
	KindStream        // a stream as Write writes it, encrypted, compressed, or plain
	KindDatabase      // a copy of the database, which is what a backup was at first
)

// Stream is an opened backup.
type Stream struct {
	io.Reader
	Kind      Kind
	Encrypted bool
	close     func()
}

// Close frees what reading needed; it does not close the file.
func (s *Stream) Close() { s.close() }

// magic are the first bytes of what a backup may be.
const (
	ageMagic  = "age-encryption.org/v1\n"
	zstdMagic = "\x28\xb5\x2f\xfd"
	// boltAt is where a database has boltMagic (or, where it is of another byte order, its reverse).
	boltAt    = 16
	boltMagic = "\xed\xda\x0c\xed"
)

// Open looks at what r is, and decrypts and decompresses it. The errors of the stream itself come when it is read.
func Open(r io.Reader, keys *Keys) (*Stream, error) {
	s := &Stream{close: func() {}}
	in := bufio.NewReaderSize(r, 64<<10)
	head := func(n int) string {
		b, _ := in.Peek(n)
		return string(b)
	}
	if strings.HasPrefix(head(len(armor.Header)), armor.Header) {
		in = bufio.NewReader(armor.NewReader(in))
	}
	if head(len(ageMagic)) == ageMagic {
		opened, err := age.Decrypt(in, keys)
		switch {
		case keys.refused != nil:
			return nil, keys.refused
		case err != nil:
			return nil, notStream(err)
		}
		s.Encrypted = true
		in = bufio.NewReaderSize(opened, 64<<10)
	}
	if head(len(zstdMagic)) == zstdMagic {
		d, err := zstd.NewReader(in, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(maxWindow), zstd.WithDecoderMaxMemory(maxWindow))
		if err != nil {
			return nil, damaged("%w", err)
		}
		s.close = d.Close
		in = bufio.NewReaderSize(d, 64<<10)
	}
	s.Reader = in
	switch first := head(boltAt + len(boltMagic)); {
	case strings.HasPrefix(first, manifestName):
		s.Kind = KindStream
	case strings.HasSuffix(first, boltMagic) && len(first) == boltAt+len(boltMagic):
		s.Kind = KindDatabase
	default:
		if _, err := in.Peek(1); err != nil && !errors.Is(err, io.EOF) {
			s.close()
			return nil, notStream(err)
		}
	}
	return s, nil
}
