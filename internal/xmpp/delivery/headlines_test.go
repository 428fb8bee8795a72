package delivery_test

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"

	"pibox/internal/store"
	"pibox/internal/xmpp"
	"pibox/internal/xmpp/delivery"
)

// Headlines with <store/> are owed to nobody, so that the bound on what waits for an account does not see them: an archive takes them only while a
// device does.
func TestFloodOfHeadlines(t *testing.T) {
	inWorld(t, delivery.Options{MaxBytes: 3000}, func(w *world) {
		send := func() {
			w.r.Send(xmpp.Make(fmt.Appendf(nil, "<message from='romeo@verona.example' type='headline' to='%s'><body>%s</body><store xmlns='urn:xmpp:hints'/></message>",
				w.juliet, strings.Repeat("x", 1000))))
			synctest.Wait()
		}
		kept := func() (n int) {
			if err := w.store.View(func(tx *store.Tx) error { n = store.LogStats(tx, w.juliet.String()).Count; return nil }); err != nil {
				t.Fatal(err)
			}
			return n
		}
		for range 10 {
			send()
		}
		w.is("kept for nobody", kept(), 0)
		w.available(w.bind("balcony", true))
		send()
		w.is("kept of what a device got", kept(), 1)
	})
}
