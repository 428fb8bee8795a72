package main

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
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
	cardSize = 4 << 30 // a power of two, as QEMU's SD controller wants it
	fatStart = 4 << 20 // image/lib.sh
	block    = 1 << 20
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
func (c card) copyTo(other card) error {
	in, err := os.Open(c.file)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(other.file, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer out.Close()
	if err := copySparse(out, in); err != nil {
		return err
	}
	return out.Truncate(cardSize)
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
