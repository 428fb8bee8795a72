package slot

import (
	"bytes"
	"encoding/binary"
	"os"
	"path/filepath"
	"strconv"
	"testing"
)

// table is a disk's first sector with partitions of these starts and lengths.
func table(parts ...[2]uint32) []byte {
	b := make([]byte, Size)
	copy(b[440:], "\x78\x62\x69\x70")
	b[510], b[511] = 0x55, 0xaa
	for i, p := range parts {
		e := b[446+16*i:]
		e[4] = 0x83
		binary.LittleEndian.PutUint32(e[8:], p[0])
		binary.LittleEndian.PutUint32(e[12:], p[1])
	}
	return b
}

func TestStretched(t *testing.T) {
	card := [][2]uint32{{8192, 4096}, {12288, 4096}, {16384, 4096}, {20480, 4096}}
	data := extent{4, 20480, 4096}
	for name, c := range map[string]struct {
		parts   [][2]uint32
		p       extent
		sectors int64
		want    int64 // 0: refused
	}{
		"a large card":               {card, data, 1 << 23, 1<<23 - 20480},
		"not whole MiB":              {card, data, 1<<23 + 2047, 1<<23 - 20480},
		"nothing to gain":            {card, data, 24576, 4096},
		"less than 2 MiB":            {card, data, 24576 + 4095, 4096},
		"2 MiB":                      {card, data, 24576 + 4096, 8192},
		"a card smaller than it was": {card, data, 22000, 4096},
		"more than an MBR can hold":  {card, data, 1 << 34, 1<<32 - 2048 - 20480},
		// The kernel was not told, such as where it refused.
		"the table was written before": {append(card[:3:3], [2]uint32{20480, 1<<23 - 20480}), data, 1 << 23, 1<<23 - 20480},
		"not the last partition":       {card, extent{3, 16384, 4096}, 1 << 23, 0},
		"another partition":            {card, extent{4, 20482, 4096}, 1 << 23, 0},
		"a smaller one":                {card, extent{4, 20480, 5000}, 1 << 23, 0},
		"no such number":               {card, extent{5, 20480, 4096}, 1 << 23, 0},
	} {
		sector := table(c.parts...)
		before := bytes.Clone(sector)
		_, size, err := stretched(sector, c.p, c.sectors)
		if (err == nil) != (c.want != 0) || size != c.want {
			t.Errorf("%s: %d, %v, want %d", name, size, err, c.want)
		}
		copy(before[446+48+5:], sector[446+48+5:][:3])
		copy(before[446+48+12:], sector[446+48+12:][:4])
		if !bytes.Equal(before, sector) {
			t.Errorf("%s: more than the last entry's length has changed", name)
		}
	}
	if _, _, err := stretched(make([]byte, Size), data, 1<<23); err == nil {
		t.Error("no table, and no error")
	}
}

// On a file there is a table, but no kernel that would take a new size.
func TestGrow(t *testing.T) {
	d := card(t, append(table([2]uint32{8192, 4096}, [2]uint32{12288, 4096}, [2]uint32{16384, 4096}, [2]uint32{20480, 4096}), make([]byte, 127*Size)...))
	sys := t.TempDir()
	put := func(device, file string, n int64) {
		t.Helper()
		dir := filepath.Join(sys, "class/block", device)
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, file), []byte(strconv.FormatInt(n, 10)+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	put("card", "size", 1<<23)
	put("card4", "partition", 4)
	put("card4", "start", 20480)
	put("card4", "size", 4096)
	g, err := Grow(d, "/dev/card4", sys)
	if err == nil || !g.Written || g.To != (1<<23-20480)*Size {
		t.Errorf("%+v, %v: want a table and an error", g, err)
	}
	// As after the next start: the kernel has read it.
	put("card4", "size", 1<<23-20480)
	if g, err := Grow(d, "/dev/card4", sys); err != nil || g.Written || g.From != g.To {
		t.Errorf("%+v, %v: want nothing", g, err)
	}
}
