package delivery_test

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"

	"pibox/internal/xmpp"
	"pibox/internal/xmpp/delivery"
)

// RFC 6120 §10.1: what one sends to another arrives in order, stored or not. Messages that are stored share a sync all the same.
func TestOrder(t *testing.T) {
	inWorld(t, delivery.Options{}, func(w *world) {
		romeo := xmpp.MustJID("romeo@montague.example")
		w.r.SetExists(romeo, true)
		from := &client{}
		from.Session = w.r.Bind(romeo, "orchard", "", from, xmpp.ConflictReplace)
		to := w.available(w.bind("phone", true))
		send := func(n int, more string) {
			xml := fmt.Sprintf("<message type='chat' to='juliet@montague.example'><body>%d</body>%s</message>", n, more)
			if se := w.r.FromSession(from.Session, xmpp.Make([]byte(xml)).Element); se != nil {
				t.Fatal(se)
			}
		}
		var want []string
		for n := range 300 {
			more := ""
			if n%3 == 0 || n%50 > 40 {
				more = "<no-store xmlns='urn:xmpp:hints'/>"
			}
			send(n, more)
			want = append(want, fmt.Sprint(n))
		}
		synctest.Wait()
		w.is("came", to.bodies(), strings.Join(want, " "))

		w.syncs.Store(0)
		for n := range 200 {
			send(n, "")
		}
		synctest.Wait()
		if got := strings.Fields(to.bodies()); len(got) != 200 || w.syncs.Load() > 50 {
			t.Errorf("%d messages came with %d syncs", len(got), w.syncs.Load())
		}
	})
}
