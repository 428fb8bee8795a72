package sm

import (
	"fmt"
	"math"
	"testing"
	"time"

	"pibox/internal/xmpp/frame"

	"mellium.im/xmpp/stanza"
)

// TestElements compares with the examples of XEP-0198.
func TestElements(t *testing.T) {
	_, tooHigh := TooHigh(10, 5)
	for _, tt := range []struct{ got, want string }{
		{string(Enabled("some-long-sm-id", 600*time.Second)), "<enabled xmlns='urn:xmpp:sm:3' id='some-long-sm-id' resume='true' max='600'/>"},
		{string(Enabled("", 600*time.Second)), "<enabled xmlns='urn:xmpp:sm:3'/>"},
		{string(AppendAck([]byte("<x/>"), math.MaxUint32)), "<x/><a xmlns='urn:xmpp:sm:3' h='4294967295'/>"},
		{string(Resume(0, "<'&")), "<resume xmlns='urn:xmpp:sm:3' h='0' previd='&lt;&apos;&amp;'/>"},
		{string(Resumed(7, "id")), "<resumed xmlns='urn:xmpp:sm:3' h='7' previd='id'/>"},
		{string(Failed(stanza.UnexpectedRequest)), "<failed xmlns='urn:xmpp:sm:3'><unexpected-request xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></failed>"},
		{string(FailedAt(stanza.ItemNotFound, 0)), "<failed xmlns='urn:xmpp:sm:3' h='0'><item-not-found xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></failed>"},
		{string(tooHigh), "<handled-count-too-high xmlns='urn:xmpp:sm:3' h='10' send-count='5'/>"},
		{Enable, "<enable xmlns='urn:xmpp:sm:3' resume='true'/>"},
	} {
		if tt.got != tt.want {
			t.Errorf("%s, not %s", tt.got, tt.want)
		}
		if el := parse(t, "<all>"+tt.got+"</all>"); len(el.Children) == 0 || el.Children[len(el.Children)-1].NS != NS {
			t.Errorf("%s is read as %+v", tt.got, el.Children)
		}
	}
}

// TestSince: counts are compared modulo 2^32.
func TestSince(t *testing.T) {
	const most = math.MaxUint32
	for _, tt := range []struct {
		before, h, n uint32
		back         bool
	}{
		{0, 0, 0, false},
		{0, 5, 5, false},
		{5, 4, 0, true},
		{most, most, 0, false},
		{most, 0, 1, false},
		{most - 1, 1, 3, false},
		{0, most, 0, true},
		{1, most - 1, 0, true},
		{7, 7 + math.MaxInt32, math.MaxInt32, false},
		{7, 7 + math.MaxInt32 + 1, 0, true},
	} {
		if n, back := Since(tt.before, tt.h); back != tt.back || !back && n != tt.n {
			t.Errorf("%d after %d: %d more, back: %v", tt.h, tt.before, n, back)
		}
	}
}

func TestCountOf(t *testing.T) {
	for text, want := range map[string]string{
		"0": "0 true", "4294967295": "4294967295 true", "007": "7 true",
		"4294967296": "false", "-1": "false", "": "false", "1.0": "false", "0x1": "false", " 1": "false", "+1": "false",
	} {
		h, ok := CountOf(parse(t, "<a h='"+text+"'/>"))
		if got := fmt.Sprint(h, ok); got != want && (ok || want != "false") {
			t.Errorf("%q is %s", text, got)
		}
	}
	if _, ok := CountOf(parse(t, "<a/>")); ok {
		t.Error("there is a count where there is none")
	}
}

func TestBool(t *testing.T) {
	for text, want := range map[string][2]bool{
		"true": {true, true}, "1": {true, true}, "false": {false, true}, "0": {false, true}, "": {false, true},
		"yes": {}, "TRUE": {}, "2": {}, " true": {},
	} {
		if value, ok := Bool(text); value != want[0] || ok != want[1] {
			t.Errorf("%q is %v, %v", text, value, ok)
		}
	}
}

func TestMaxOf(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"1": time.Second, "600": 10 * time.Minute, "2147483647": math.MaxInt32 * time.Second,
		"0": 0, "-1": 0, "": 0, "2147483648": 0, "99999999999999999999": 0, "1.5": 0,
	} {
		if d, ok := MaxOf(parse(t, "<enable max='"+text+"'/>")); ok != (want > 0) || ok && d != want {
			t.Errorf("%q is %v, %v", text, d, ok)
		}
	}
}

func parse(t *testing.T, text string) *frame.Element {
	t.Helper()
	el, err := frame.Parse([]byte(text), NS, frame.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	return el
}
