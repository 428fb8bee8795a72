package cutcard

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"testing"
)

// machine is a client as QEMU's.
type machine struct {
	t    *testing.T
	conn net.Conn
	r    *bufio.Reader
}

func insert(t *testing.T, sectors int64) (*Card, *machine, string) {
	dir := t.TempDir()
	file, socket := filepath.Join(dir, "card"), filepath.Join(dir, "s")
	if err := os.WriteFile(file, bytes.Repeat([]byte{'0'}, int(sectors*Sector)), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := Insert(file, socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Eject() })
	conn, err := net.Dial("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	m := &machine{t, conn, bufio.NewReader(conn)}
	m.take(make([]byte, 18))
	m.give(uint32(3), uint64(magicOption), uint32(99), uint32(0))               // an option that nobody knows
	m.give(uint64(magicOption), uint32(optGo), uint32(6), uint32(0), uint16(0)) // no name, no wishes
	m.take(make([]byte, 20+20+12+20+14+20))                                     // unsupported, export, block size, ack
	return c, m, file
}

func (m *machine) give(values ...any) {
	if err := put(m.conn, values...); err != nil {
		m.t.Fatal(err)
	}
}

func (m *machine) take(b []byte) []byte {
	if _, err := io.ReadFull(m.r, b); err != nil {
		m.t.Fatal(err)
	}
	return b
}

func (m *machine) command(command, flags uint16, at, length int64) {
	m.give(uint32(magicRequest), flags, command, uint64(7), uint64(at*Sector), uint32(length*Sector))
}

func (m *machine) answer() uint32 {
	b := m.take(make([]byte, 16))
	return binary.BigEndian.Uint32(b[4:])
}

func (m *machine) write(at int64, text string, flags uint16) {
	m.command(cmdWrite, flags, at, int64(len(text)))
	for _, letter := range []byte(text) {
		m.give(bytes.Repeat([]byte{letter}, Sector))
	}
	if code := m.answer(); code != 0 {
		m.t.Fatalf("a write: error %d", code)
	}
}

func (m *machine) flush() {
	m.command(cmdFlush, 0, 0, 0)
	if code := m.answer(); code != 0 {
		m.t.Fatalf("a flush: error %d", code)
	}
}

func (m *machine) read(at, length int64) string {
	m.command(cmdRead, 0, at, length)
	if code := m.answer(); code != 0 {
		m.t.Fatalf("a read: error %d", code)
	}
	return letters(m.take(make([]byte, length*Sector)))
}

// letters is a letter for each sector; '!' for one that is torn.
func letters(data []byte) string {
	var all []byte
	for i := 0; i < len(data); i += Sector {
		if !bytes.Equal(data[i:i+Sector], bytes.Repeat(data[i:i+1], Sector)) {
			all = append(all, '!')
			continue
		}
		all = append(all, data[i])
	}
	return string(all)
}

func left(t *testing.T, file string) string {
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return letters(data)
}

func TestReadsWhatWasWritten(t *testing.T) {
	c, m, file := insert(t, 6)
	m.write(1, "ab", 0)
	m.write(2, "c", 0)
	if got := m.read(0, 6); got != "0ac000" {
		t.Errorf("before a flush: %s", got)
	}
	if got := left(t, file); got != "000000" {
		t.Errorf("on the card before a flush: %s", got)
	}
	m.flush()
	m.write(5, "d", cmdFlagFUA)
	if got := left(t, file); got != "0ac00d" {
		t.Errorf("on the card: %s", got)
	}
	if got := c.Written(); len(got) != 3 || got[0] != (Write{Sector, 2 * Sector}) {
		t.Errorf("written: %v", got)
	}
}

func TestCutKeepsWhatWasFlushed(t *testing.T) {
	seen := map[string]bool{}
	for seed := range uint64(200) {
		c, m, file := insert(t, 4)
		m.write(0, "a", 0)
		m.flush()
		m.write(1, "bb", 0)
		m.write(2, "c", 0)
		m.write(3, "d", cmdFlagFUA)
		if _, err := c.Cut(rand.New(rand.NewPCG(seed, 1))); err != nil {
			t.Fatal(err)
		}
		got := left(t, file)
		if got[0] != 'a' || got[3] != 'd' || (got[1] != '0' && got[1] != 'b') || (got[2] != '0' && got[2] != 'b' && got[2] != 'c') {
			t.Fatalf("after a cut: %s", got)
		}
		seen[got] = true
	}
	if len(seen) != 6 {
		t.Errorf("the lot leaves %v", seen)
	}
}

func TestNothingIsAnsweredAfterACut(t *testing.T) {
	c, m, file := insert(t, 2)
	if _, err := c.Cut(rand.New(rand.NewPCG(1, 1))); err != nil {
		t.Fatal(err)
	}
	_ = put(m.conn, uint32(magicRequest), uint16(0), uint16(cmdFlush), uint64(7), uint64(0), uint32(0))
	if _, err := m.r.ReadByte(); err == nil {
		t.Error("a flush is answered without power")
	}
	if got := left(t, file); got != "00" {
		t.Errorf("after the cut: %s", got)
	}
}

func TestCutInTheMidstOfAWrite(t *testing.T) {
	c, m, file := insert(t, 3)
	c.CutAfter(2, rand.New(rand.NewPCG(1, 1)))
	m.write(0, "a", cmdFlagFUA)
	m.command(cmdWrite, cmdFlagFUA, 1, 1)
	m.give(bytes.Repeat([]byte{'b'}, Sector))
	if _, err := m.r.ReadByte(); err == nil {
		t.Error("a write is answered without power")
	}
	<-c.WhenCut()
	if got := left(t, file); got != "a00" && got != "ab0" {
		t.Errorf("after the cut: %s", got)
	}
	if _, err := c.Cut(rand.New(rand.NewPCG(1, 1))); err != nil {
		t.Error(err)
	}
}

func TestOutsideOfTheCard(t *testing.T) {
	_, m, _ := insert(t, 2)
	for _, at := range []int64{2, 1 << 50, -1} {
		m.command(cmdRead, 0, at, 1)
		if code := m.answer(); code != errInput {
			t.Errorf("sector %d: error %d", at, code)
		}
	}
}
