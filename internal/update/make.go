package update

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"io"

	"github.com/klauspost/compress/zstd"
)

// DefaultChunk is the length of a chunk that Make is usually asked for: what is the same in the slot already is neither fetched nor
// written, so shorter ones save more.
const DefaultChunk = 1 << 20

// Make writes an update file of a slot's image. m describes it but for Format, System, Size and Chunks; a ChunkSize of 0 is DefaultChunk. The
// same input gives the same bytes.
func Make(out io.Writer, image io.ReaderAt, size int64, m Manifest, key ed25519.PrivateKey) (Manifest, error) {
	m.Format, m.System, m.Size, m.Chunks = format, System, size, nil
	if m.ChunkSize == 0 {
		m.ChunkSize = DefaultChunk
	}
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedBetterCompression))
	if err != nil {
		return m, err
	}
	defer func() { _ = enc.Close() }()
	// Twice over the image: the manifest with all lengths comes first, and the whole may not fit into memory.
	pack := func(i int) ([]byte, Digest, error) {
		content := make([]byte, m.length(i))
		if _, err := image.ReadAt(content, int64(i)*int64(m.ChunkSize)); err != nil && !errors.Is(err, io.EOF) {
			return nil, Digest{}, err
		}
		if allZero(content) {
			return nil, sha256.Sum256(content), nil
		}
		return enc.EncodeAll(content, nil), sha256.Sum256(content), nil
	}
	for i := 0; int64(i)*int64(m.ChunkSize) < size; i++ {
		packed, sum, err := pack(i)
		if err != nil {
			return m, err
		}
		c := Chunk{SHA256: sum, Packed: len(packed)}
		if len(packed) > 0 {
			c.PackedSHA256 = sha256.Sum256(packed)
		}
		m.Chunks = append(m.Chunks, c)
	}
	if err := m.check(); err != nil {
		return m, err
	}
	raw, err := json.Marshal(m)
	if err != nil {
		return m, err
	}
	head := binary.LittleEndian.AppendUint32([]byte(magic), uint32(len(raw)))
	head = append(head, raw...)
	if _, err := out.Write(append(head, ed25519.Sign(key, head)...)); err != nil {
		return m, err
	}
	for i := range m.Chunks {
		packed, _, err := pack(i)
		if err != nil {
			return m, err
		}
		if sha256.Sum256(packed) != m.Chunks[i].PackedSHA256 && len(packed) > 0 {
			return m, errors.New("the image changed while it was read")
		}
		if _, err := out.Write(packed); err != nil {
			return m, err
		}
	}
	return m, nil
}

func allZero(p []byte) bool {
	zero := make([]byte, blockSize)
	for len(p) > 0 {
		n := min(len(p), len(zero))
		if !bytes.Equal(p[:n], zero[:n]) {
			return false
		}
		p = p[n:]
	}
	return true
}
