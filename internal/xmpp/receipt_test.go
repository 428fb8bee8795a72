package xmpp_test

import (
	"errors"
	"testing"

	"pibox/internal/store"
	"pibox/internal/xmpp"
	"pibox/internal/xmpp/frame"
)

// XEP-0198 §4: a stanza is handled when all that it caused is durable and out, also when it first waited behind another one, and also when it
// failed.
func TestReceipt(t *testing.T) {
	inWorld(t, func(w *world) {
		w.Handle(xmpp.Key{Class: xmpp.Outbound, Kind: xmpp.Message, Type: "*"}, func(rq *xmpp.Request) error {
			rq.Send(rq.Stanza)
			return nil
		})
		deliver := func(rq *xmpp.Request) { w.SessionOf(rq.To).Deliver(rq.Stanza) }
		w.HandleEither(xmpp.Key{Class: xmpp.ToResource, Kind: xmpp.Message, Type: "*"}, nil, func(rq *xmpp.Request) error {
			if rq.ID == "plain" || rq.Type == "error" {
				deliver(rq)
				return nil
			}
			w.Commit(rq, func(tx *store.Tx, out *xmpp.Out, rq *xmpp.Request) error {
				switch rq.ID {
				case "fails":
					return errors.New("no")
				case "nothing":
					return nil
				}
				store.Private.Put(tx, rq.ID, store.PrivateXML{})
				out.After(func() { deliver(rq) })
				return nil
			}, nil)
			return nil
		}, nil)
		receive := func(id string) {
			el, err := frame.Parse([]byte("<message to='b@here.example/y' id='"+id+"'/>"), xmpp.NSClient, frame.Limits{})
			if err != nil {
				t.Fatal(err)
			}
			se := w.FromSessionWith(w.a, el, &xmpp.Receipt{
				Commit: func(tx *store.Tx) { store.Private.Put(tx, "handled "+id, store.PrivateXML{}) },
				Done:   func() { w.noted = append(w.noted, "handled "+id) },
			})
			if se != nil {
				t.Error(se)
			}
		}
		receive("plain")
		w.want("b plain", "handled plain")
		release := w.hold()
		receive("stored")
		receive("plain") // waits behind it
		receive("fails")
		receive("nothing")
		w.want()
		release()
		w.want("b stored", "b plain", "handled plain", "handled stored", "a fails error", "handled fails", "handled nothing")
		if err := w.Store.View(func(tx *store.Tx) error {
			for id, want := range map[string]bool{"plain": false, "stored": true, "fails": false, "nothing": false} {
				if store.Private.Has(tx, "handled "+id) != want {
					t.Errorf("%s: counted in its transaction: %v", id, !want)
				}
			}
			return nil
		}); err != nil {
			t.Error(err)
		}
		// A stream error ends the session; what caused it is not handled.
		el, _ := frame.Parse([]byte("<message from='b@here.example'/>"), xmpp.NSClient, frame.Limits{})
		if w.FromSessionWith(w.a, el, &xmpp.Receipt{Done: func() { t.Error("handled") }}) == nil {
			t.Error("no stream error")
		}
		w.want()
	})
}
