package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const tables = `tcp   sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid
tcp    0: 3500007F:0035 00000000:0000 0A 00000000:00000000 00:00000000 00000000   992
tcp    1: 0F02000A:1466 0202000A:A1B2 01 00000000:00000000 00:00000000 00000000   880
tcp6    0: 00000000000000000000000000000000:1466 00000000000000000000000000000000:0000 0A 0:0 0:0 0   880
tcp6    1: 00000000000000000000000000000000:1467 00000000000000000000000000000000:0000 0A 0:0 0:0 0   880
tcp6    2: 00000000000000000000000000000000:1495 00000000000000000000000000000000:0000 0A 0:0 0:0 0   880
tcp6    3: 00000000000000000000000000000000:1496 00000000000000000000000000000000:0000 0A 0:0 0:0 0   880
udp    9: 00000000:14E9 00000000:0000 07 0:0 0:0 0   992
udp   10: 0F02000A:0044 00000000:0000 07 0:0 0:0 0   998
`

func TestListeners(t *testing.T) {
	if err := allowed(listeners(tables)); err != nil {
		t.Error(err)
	}
	for name, line := range map[string]string{
		"tcp 22":   "tcp 3: 00000000:0016 00000000:0000 0A 0:0 0:0 0 0\n",
		"udp 5355": "udp6 3: 00000000000000000000000000000000:14EB 00000000000000000000000000000000:0000 07 0:0 0:0 0 0\n",
	} {
		if err := allowed(listeners(tables + line)); err == nil || !strings.Contains(err.Error(), name+" listens") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := allowed(listeners(strings.ReplaceAll(tables, ":14E9", ":14EA"))); err == nil || !strings.Contains(err.Error(), "udp 5353 does not listen") {
		t.Errorf("without mDNS: %v", err)
	}
}

// A card that is copied with holes has the same bytes.
func TestCopySparse(t *testing.T) {
	text := strings.Repeat("\x00", 3*block) + "x" + strings.Repeat("\x00", block) + "the end"
	out, err := os.Create(filepath.Join(t.TempDir(), "card"))
	if err != nil {
		t.Fatal(err)
	}
	if err := copySparse(out, strings.NewReader(text)); err != nil {
		t.Fatal(err)
	}
	if err := out.Close(); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(out.Name())
	if err != nil || string(got) != text {
		t.Errorf("%d bytes, want %d; %v", len(got), len(text), err)
	}
}

// QEMU refuses longer names.
func TestNames(t *testing.T) {
	for _, name := range []string{shellUnitName, shellRuleName} {
		if len(name) > 55 {
			t.Errorf("%s has %d characters", name, len(name))
		}
	}
}
