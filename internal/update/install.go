package update

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/zstd"

	"pibox/internal/admin"
)

// Target is the slot that is written to.
type Target interface {
	io.ReaderAt
	io.WriterAt
	// Size in bytes.
	Size() int64
	// Sync returns when all that was written is on the card, and lets the next reads come from there.
	Sync() error
}

// Progress tells how far an installation is.
type Progress struct {
	Step Step `json:"step"`
	// Done of Total bytes of the slot.
	Done  int64 `json:"done"`
	Total int64 `json:"total"`
}

// Step of an installation.
type Step string

// The steps, in their order.
const (
	StepWrite  Step = "writing"
	StepVerify Step = "verifying"
)

// syncEvery bounds what waits in memory to be written, in bytes.
const syncEvery = 16 << 20

// installer writes an update into a slot. While it does, and however it ends, the slot is either whole or has no superblock: then u-boot
// finds nothing to load in it and takes the other one, whatever the slots' state says.
type installer struct {
	m        Manifest
	from     Stream
	to       Target
	progress func(Progress)
	dec      *zstd.Decoder
	buf      []byte
	dirty    int64 // bytes since the last sync
}

// install writes and verifies. from stands behind the signature.
func install(ctx context.Context, m Manifest, from Stream, to Target, progress func(Progress)) error {
	if to.Size() < m.Size {
		return admin.Errorf(admin.CodeInvalid, "version %s does not fit into this card's slot (%d MiB, %d are needed)", m.Version, to.Size()>>20, m.Size>>20).
			Then("This card was made by an old version: write a new card, and move over with 'pibox backup' and 'pibox restore'.")
	}
	dec, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxMemory(uint64(m.ChunkSize)))
	if err != nil {
		return err
	}
	defer dec.Close()
	in := &installer{m: m, from: from, to: to, progress: progress, dec: dec, buf: make([]byte, m.ChunkSize)}
	return in.run(ctx)
}

func (in *installer) tell(step Step, chunks int) {
	if in.progress != nil {
		in.progress(Progress{Step: step, Done: min(int64(chunks)*int64(in.m.ChunkSize), in.m.Size), Total: in.m.Size})
	}
}

// run: the first block, with the superblock, goes before all, and comes after all else was read back.
func (in *installer) run(ctx context.Context) error {
	first, err := in.content(0)
	if err != nil {
		return err
	}
	first = bytes.Clone(first)
	if err := in.putNow(make([]byte, min(blockSize, len(first))), 0); err != nil {
		return err
	}
	for i := 1; i < len(in.m.Chunks); i++ {
		if err := ctx.Err(); err != nil {
			return err
		}
		in.tell(StepWrite, i)
		if err := in.chunk(i); err != nil {
			return err
		}
	}
	block := min(blockSize, len(first))
	if err := in.putNow(first[block:], blockSize); err != nil {
		return err
	}
	if err := in.verify(ctx, 1); err != nil {
		return err
	}
	if err := in.putNow(first[:block], 0); err != nil {
		return err
	}
	return in.verifyChunk(0)
}

// chunk writes one where the slot does not have it already.
func (in *installer) chunk(i int) error {
	c, at := in.m.Chunks[i], int64(i)*int64(in.m.ChunkSize)
	have := in.buf[:in.m.length(i)]
	if _, err := in.to.ReadAt(have, at); err == nil && sha256.Sum256(have) == c.SHA256 {
		return in.from.Skip(int64(c.Packed))
	}
	content, err := in.content(i)
	if err != nil {
		return err
	}
	return in.put(content, at)
}

// content reads chunk i of the file, verifies and unpacks it. The result is good until the next call.
func (in *installer) content(i int) ([]byte, error) {
	c := in.m.Chunks[i]
	var content []byte
	if c.Packed == 0 {
		content = in.buf[:in.m.length(i)]
		clear(content)
	} else {
		packed := make([]byte, c.Packed)
		if _, err := io.ReadFull(in.from, packed); err != nil {
			return nil, ended(err, errTruncated)
		}
		if sha256.Sum256(packed) != c.PackedSHA256 {
			return nil, errTruncated
		}
		var err error
		if content, err = in.dec.DecodeAll(packed, in.buf[:0]); err != nil {
			return nil, errBroken
		}
	}
	if len(content) != in.m.length(i) || sha256.Sum256(content) != c.SHA256 {
		return nil, errBroken
	}
	return content, nil
}

func (in *installer) put(p []byte, at int64) error {
	if _, err := in.to.WriteAt(p, at); err != nil {
		return in.failed(err)
	}
	if in.dirty += int64(len(p)); in.dirty >= syncEvery {
		return in.sync()
	}
	return nil
}

// putNow returns when it is on the card.
func (in *installer) putNow(p []byte, at int64) error {
	if err := in.put(p, at); err != nil {
		return err
	}
	return in.sync()
}

func (in *installer) sync() error {
	in.dirty = 0
	if err := in.to.Sync(); err != nil {
		return in.failed(err)
	}
	return nil
}

func (in *installer) failed(err error) error {
	return admin.Errorf(admin.CodeFailed, "the card can not be written: %v", err).
		Then("The box stays as it is. The card may be worn out: take a backup, and a new card.")
}

var errUnlike = errors.New("it does not give back what was written to it")

// verify reads the chunks back from the card, but for the ones before from.
func (in *installer) verify(ctx context.Context, from int) error {
	for i := from; i < len(in.m.Chunks); i++ {
		if err := ctx.Err(); err != nil {
			return err
		}
		in.tell(StepVerify, i)
		if err := in.verifyChunk(i); err != nil {
			return err
		}
	}
	return nil
}

func (in *installer) verifyChunk(i int) error {
	have := in.buf[:in.m.length(i)]
	if _, err := in.to.ReadAt(have, int64(i)*int64(in.m.ChunkSize)); err != nil {
		return in.failed(fmt.Errorf("nor read back: %w", err))
	}
	if sha256.Sum256(have) != in.m.Chunks[i].SHA256 {
		return in.failed(errUnlike)
	}
	return nil
}
