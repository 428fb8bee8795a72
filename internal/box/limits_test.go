package box

import (
	"fmt"
	"reflect"
	"strings"
	"testing"

	"pibox/internal/config"
	"pibox/internal/xmpp"
	"pibox/internal/xmpp/frame"
)

// TestOwnStanzas: what a box takes in whose limits are as wide as the configuration lets them be, it can read when it stored it, or wrapped it for a
// carbon, an archive's result or another domain.
func TestOwnStanzas(t *testing.T) {
	size := int(highest(t, config.C2S{}, "Stanza"))
	if s2s := int(highest(t, config.S2S{}, "Stanza")); s2s > size {
		size = s2s
	}
	lim := frame.Limits{
		Bytes: size, Depth: int(highest(t, config.Limits{}, "Depth")), Attrs: int(highest(t, config.Limits{}, "Attributes")),
		Children: int(highest(t, config.Limits{}, "Children")),
	}
	const open, end = "<message type='chat'>", "</message>"
	var attrs strings.Builder
	for i := range lim.Attrs {
		fmt.Fprintf(&attrs, " a%d=''", i)
	}
	for name, inner := range map[string]string{
		"bytes":      "<body>" + strings.Repeat("x", lim.Bytes-len(open)-len(end)-len("<body></body>")) + "</body>",
		"depth":      strings.Repeat("<a>", lim.Depth-1) + strings.Repeat("</a>", lim.Depth-1),
		"attributes": "<a" + attrs.String() + "/>",
		"children":   strings.Repeat("<a/>", lim.Children),
	} {
		raw := open + inner + end
		if _, err := frame.Parse([]byte(raw), xmpp.NSClient, lim); err != nil {
			t.Fatalf("%s: it is not taken in: %v", name, err)
		}
		if _, err := frame.Parse([]byte(strings.Replace(raw, inner, more(name, inner), 1)), xmpp.NSClient, lim); err == nil {
			t.Errorf("%s: more is taken in", name)
		}
		for _, own := range []string{
			raw,
			"<message><received xmlns='urn:xmpp:carbons:2'><forwarded xmlns='urn:xmpp:forward:0'>" + raw + "</forwarded></received></message>",
		} {
			if _, err := xmpp.ParseStanza([]byte(own)); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
}

// more is beyond the limit by one.
func more(name, inner string) string {
	switch name {
	case "bytes":
		return inner + " "
	case "depth":
		return "<a>" + inner + "</a>"
	case "attributes":
		return strings.Replace(inner, " a0=", " more='' a0=", 1)
	}
	return inner + "<a/>"
}

// highest is what a key may be at most.
func highest(t *testing.T, table any, field string) (n int64) {
	t.Helper()
	f, ok := reflect.TypeOf(table).FieldByName(field)
	_, high, _ := strings.Cut(f.Tag.Get("range"), "..")
	unit := ""
	if _, err := fmt.Sscanf(high+" ", "%d%s", &n, &unit); err != nil && unit != "" || !ok || n == 0 {
		t.Fatalf("%s has the range %q", field, f.Tag.Get("range"))
	}
	switch unit {
	case "MiB":
		n <<= 20
	case "":
	default:
		t.Fatalf("%s has the range %q", field, f.Tag.Get("range"))
	}
	return n
}
