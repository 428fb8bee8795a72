package xmpp_test

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pibox/internal/store"
	"pibox/internal/xmpp"
)

// What waits behind an operation of its pair while the card stalls is bounded like what waits for the committer itself.
func TestWaitingBehindAStalledCard(t *testing.T) {
	inWorld(t, func(w *world) {
		w.HandleTx(xmpp.Key{Class: xmpp.ToAccount, Kind: xmpp.Message, Type: "chat"}, func(*store.Tx, *xmpp.Out, *xmpp.Request) error { return nil })
		room := func() error {
			ctx, cancel := context.WithTimeout(context.Background(), time.Second) // virtual
			defer cancel()
			return w.Store.WaitRoom(ctx)
		}
		stall := make(chan struct{})
		w.Store.Submit(&store.Op{Run: func(*store.Tx) error { <-stall; return nil }})
		w.send(w.a, "<message type='chat' to='b@here.example' id='1'/>")
		for range 200 {
			w.send(w.a, "<message type='headline' to='b@here.example' id='2'><body>"+strings.Repeat("x", 64<<10)+"</body></message>")
		}
		if room() == nil {
			t.Error("12 MiB wait, and there is room for more")
		}
		close(stall)
		synctest.Wait()
		if err := room(); err != nil {
			t.Error(err)
		}
	})
}
