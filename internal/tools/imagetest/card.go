package main

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"

	"github.com/klauspost/compress/zstd"
)

// card is a file that stands for an SD card.
type card struct{ file string }

const (
	cardSize  = 4 << 30 // a power of two, as QEMU's SD controller wants it
	imageSize = dataStart + 128<<20
	fatStart  = 4 << 20 // image/lib.sh
	fatSize   = 256 << 20
	// dataEntry is where the partition table has the length of the fourth partition, in sectors.
	dataEntry = 446 + 3*16 + 12
	dataStart = 1796 << 20
	block     = 1 << 20
)

// flash writes the compressed image on a new card, sparsely, and checks it by the manifest, as Raspberry Pi Imager does.
func flash(image, manifest, file string) (card, error) {
	in, err := os.Open(image)
	if err != nil {
		return card{}, fmt.Errorf("%w ('make image' builds it)", err)
	}
	defer in.Close()
	r, err := zstd.NewReader(in)
	if err != nil {
		return card{}, err
	}
	defer r.Close()
	out, err := os.OpenFile(file, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return card{}, err
	}
	defer out.Close()
	sum := sha256.New()
	if err := copySparse(out, io.TeeReader(r, sum)); err != nil {
		return card{}, err
	}
	want, err := extractSum(manifest)
	if err != nil {
		return card{}, err
	}
	if got := hex.EncodeToString(sum.Sum(nil)); got != want {
		return card{}, fmt.Errorf("the image is %s, the manifest says %s", got, want)
	}
	return card{file}, out.Truncate(cardSize)
}

// copyTo makes another card of the same content.
func (c card) copyTo(file string) (card, error) {
	in, err := os.Open(c.file)
	if err != nil {
		return card{}, err
	}
	defer in.Close()
	out, err := os.OpenFile(file, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return card{}, err
	}
	defer out.Close()
	// What lies behind the image is a hole.
	if err := copySparse(out, io.LimitReader(in, imageSize)); err != nil {
		return card{}, err
	}
	return card{file}, out.Truncate(cardSize)
}

// dataSize is that of the data partition, by the partition table, in bytes.
func (c card) dataSize() (int64, error) {
	f, err := os.Open(c.file)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	var length [4]byte
	_, err = f.ReadAt(length[:], dataEntry)
	return int64(binary.LittleEndian.Uint32(length[:])) * 512, err
}

// wipe makes zeros of a part of the card.
func (c card) wipe(at, length int64) error {
	f, err := os.OpenFile(c.file, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(make([]byte, length), at)
	return errors.Join(err, f.Close())
}

func copySparse(out *os.File, in io.Reader) error {
	buf, zero := make([]byte, block), string(make([]byte, block))
	for at := int64(0); ; at += block {
		n, err := io.ReadFull(in, buf)
		if string(buf[:n]) != zero[:n] {
			if _, err := out.WriteAt(buf[:n], at); err != nil {
				return err
			}
		}
		if err == io.EOF || err == io.ErrUnexpectedEOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func extractSum(manifest string) (string, error) {
	text, err := os.ReadFile(manifest)
	if err != nil {
		return "", err
	}
	var m struct {
		List []struct {
			Sum string `json:"extract_sha256"`
		} `json:"os_list"`
	}
	if err := json.Unmarshal(text, &m); err != nil || len(m.List) != 1 {
		return "", fmt.Errorf("%s: not one image in it (%w)", manifest, err)
	}
	return m.List[0].Sum, nil
}

// has tells whether there is such a file on the first partition.
func (c card) has(name string) bool {
	return exec.Command("mdir", "-i", c.fat(), "::"+name).Run() == nil
}

// put writes a file on the FAT partition, as a computer with the card in it would.
func (c card) put(name, text string) error {
	file := filepath.Join(filepath.Dir(c.file), "put")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		return err
	}
	return c.mtools("mcopy", "-o", file, "::"+name)
}

// take gets one out, into a file of the host.
func (c card) take(name, file string) error { return c.mtools("mcopy", "-o", "::"+name, file) }

func (c card) fat() string { return c.file + "@@" + strconv.Itoa(fatStart) }

func (c card) mtools(program string, args ...string) error {
	out, err := exec.Command(program, append([]string{"-i", c.fat()}, args...)...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %w: %s", program, err, out)
	}
	return nil
}
