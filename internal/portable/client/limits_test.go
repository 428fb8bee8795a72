package client_test

import (
	"strconv"
	"strings"
	"testing"
	"testing/synctest"

	"pibox/internal/portable"
	"pibox/internal/portable/client"
	"pibox/internal/xmpp/frame"
)

// What is larger than the server takes at a time (XEP-0478) is lost alone: sent, it would end the session, again and again.
func TestUploadWithinTheServersLimit(t *testing.T) {
	for _, tt := range []struct {
		name, features string
		most           int
	}{
		{"told", "<limits xmlns='urn:xmpp:stream-limits:0'><max-bytes>10000</max-bytes><idle-seconds>840</idle-seconds></limits>", 10_000},
		{"not told", "", 256 << 10},
		{"nonsense", "<limits xmlns='urn:xmpp:stream-limits:0'><max-bytes>99</max-bytes></limits>", 256 << 10},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFake(t)
				f.bound = tt.features
				f.hear = func(c *fakeConn, el *frame.Element) bool { return el.Attr("type") == "set" && c.result(el, "") }
				s, err := client.Dial(t.Context(), f.config())
				if err != nil {
					t.Fatal(err)
				}
				defer func() { _ = s.Close() }()
				var lost []portable.Loss
				u := s.Upload(t.Context(), func(l portable.Loss) { lost = append(lost, l) })
				for _, size := range []int{tt.most, tt.most - 500} {
					if err := u.VCard([]byte("<vCard xmlns='vcard-temp'><FN>" + strings.Repeat("x", size-100) + "</FN><X>" + strings.Repeat("x", 200) + "</X></vCard>")); err != nil {
						t.Fatal(err)
					}
				}
				if len(lost) != 1 || lost[0].What != "profile" || !strings.Contains(lost[0].Why, strconv.Itoa(tt.most)+" bytes") {
					t.Errorf("%+v", lost)
				}
			})
		})
	}
}
