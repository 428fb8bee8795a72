package xmpp_test

import (
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pibox/internal/store"
	"pibox/internal/xmpp"
	"pibox/internal/xmpp/frame"
)

// world is a router with accounts a and b, each with a session, whose deliveries are noted in one list.
type world struct {
	*xmpp.Router
	t     *testing.T
	a, b  *xmpp.Session
	noted []string
}

type outlet struct {
	w    *world
	name string
}

func (o outlet) Deliver(st *xmpp.Stanza) bool {
	what := st.ID
	if st.Type == "error" {
		what += " error"
	}
	o.w.noted = append(o.w.noted, o.name+" "+what)
	return true
}

func (o outlet) Close(err *xmpp.StreamError) {
	o.w.noted = append(o.w.noted, o.name+" closed: "+err.Condition)
}

func inWorld(t *testing.T, f func(w *world)) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		st, err := store.Open(filepath.Join(dir, "s.db"), store.Options{Reserve: 1})
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = st.Close() }()
		w := &world{Router: xmpp.NewRouter(st, slog.New(slog.DiscardHandler), []string{"here.example"}), t: t}
		for _, name := range []string{"a", "b"} {
			w.SetExists(xmpp.JID{Local: name, Domain: "here.example"}, true)
		}
		w.a = w.Bind(xmpp.MustJID("a@here.example"), "x", "1", outlet{w, "a"}, xmpp.ConflictReplace)
		w.b = w.Bind(xmpp.MustJID("b@here.example"), "y", "2", outlet{w, "b"}, xmpp.ConflictReplace)
		f(w)
	})
}

func (w *world) send(s *xmpp.Session, xml string) {
	w.t.Helper()
	el, err := frame.Parse([]byte(xml), xmpp.NSClient, frame.Limits{})
	if err != nil {
		w.t.Fatal(err)
	}
	if se := w.FromSession(s, el); se != nil {
		s.Close(se)
	}
}

// hold stops the committer until the returned function is called.
func (w *world) hold() (release func()) {
	gate := make(chan struct{})
	w.Store.Submit(&store.Op{Run: func(*store.Tx) error { <-gate; return nil }})
	synctest.Wait()
	return func() {
		close(gate)
		synctest.Wait()
	}
}

func (w *world) want(what ...string) {
	w.t.Helper()
	synctest.Wait()
	if !slices.Equal(w.noted, what) {
		w.t.Errorf("noted\n  %s\nexpected\n  %s", strings.Join(w.noted, "\n  "), strings.Join(what, "\n  "))
	}
	w.noted = nil
}

// RFC 6120 §10.1: what needs no storing waits behind what is being committed for the same pair, and for nothing else.
func TestOrderOfStoredAndUnstored(t *testing.T) {
	inWorld(t, func(w *world) {
		deliver := func(rq *xmpp.Request) { w.SessionOf(rq.To).Deliver(rq.Stanza) }
		w.Handle(xmpp.Key{Class: xmpp.ToResource, Kind: xmpp.Message, Type: "*"}, func(rq *xmpp.Request) error {
			if !strings.HasPrefix(rq.ID, "stored") {
				deliver(rq)
				return nil
			}
			// decides late that it has to write, as offline messages do
			w.Commit(rq, func(tx *store.Tx, out *xmpp.Out, rq *xmpp.Request) error {
				store.Private.Put(tx, rq.ID, store.PrivateXML{})
				out.After(func() { deliver(rq) })
				return nil
			}, nil)
			return nil
		})
		w.HandleTx(xmpp.Key{Class: xmpp.ToResource, Kind: xmpp.IQ, Type: "set", NS: "test", Name: "tx"}, func(tx *store.Tx, out *xmpp.Out, rq *xmpp.Request) error {
			store.Private.Put(tx, rq.ID, store.PrivateXML{})
			out.After(func() { deliver(rq) })
			return nil
		})
		message := func(s *xmpp.Session, to, id string) {
			w.send(s, fmt.Sprintf("<message to='%s' id='%s'/>", to, id))
		}
		release := w.hold()
		const b, a = "b@here.example/y", "a@here.example/x"
		message(w.a, b, "stored1")
		message(w.a, b, "plain2")
		message(w.a, b, "stored3")
		message(w.a, b, "plain4")
		w.send(w.a, "<iq type='set' to='b@here.example/y' id='tx5'><tx xmlns='test'/></iq>")
		message(w.a, b, "plain6")
		message(w.b, a, "other way")
		message(w.a, a, "to itself")
		w.want("a other way", "a to itself")
		release()
		w.want("b stored1", "b plain2", "b stored3", "b plain4", "b tx5", "b plain6")
	})
}

func TestAHandlerThatFails(t *testing.T) {
	inWorld(t, func(w *world) {
		k := func(name string) xmpp.Key {
			return xmpp.Key{Class: xmpp.ToServer, Kind: xmpp.IQ, Type: "get", NS: "test", Name: name}
		}
		w.Handle(k("panic"), func(*xmpp.Request) error { panic("a fault") })
		w.Handle(k("error"), func(*xmpp.Request) error { return errors.New("secret detail") })
		w.HandleTx(k("tx-panic"), func(*store.Tx, *xmpp.Out, *xmpp.Request) error { panic("a fault") })
		w.HandleTx(k("after"), func(tx *store.Tx, out *xmpp.Out, rq *xmpp.Request) error {
			out.After(func() { panic("a fault") })
			out.Reply(rq, nil)
			return nil
		})
		for _, name := range []string{"panic", "error", "tx-panic", "after", "nobody"} {
			w.send(w.a, "<iq type='get' to='here.example' id='"+name+"'><"+name+" xmlns='test'/></iq>")
			synctest.Wait()
		}
		w.want("a panic error", "a error error", "a tx-panic error", "a after", "a nobody error")
	})
}

// A reply with the right id from the wrong address is not a reply.
func TestAsk(t *testing.T) {
	inWorld(t, func(w *world) {
		var got []string
		ask := func() string {
			w.noted = nil
			w.Ask(xmpp.Ask{From: xmpp.JID{Domain: "here.example"}, To: w.b.JID, Type: "get", Timeout: 10 * time.Second,
				Payload: xmpp.NewXMLNS("q", "test").Bytes(), Done: func(rq *xmpp.Request) {
					if rq == nil {
						got = append(got, "timeout")
						return
					}
					got = append(got, rq.Type)
				}})
			return strings.TrimPrefix(w.noted[0], "b ")
		}
		id := ask()
		w.send(w.a, "<iq type='result' to='here.example' id='"+id+"'/>")
		w.send(w.b, "<iq type='result' to='here.example' id='guess'/>")
		w.send(w.b, "<iq type='result' to='a@here.example' id='"+id+"'/>")
		if len(got) != 0 {
			t.Errorf("taken for a reply: %v", got)
		}
		w.send(w.b, "<iq type='error' to='here.example' id='"+id+"'/>")
		w.send(w.b, "<iq type='result' to='here.example' id='"+id+"'/>") // twice
		ask()
		time.Sleep(11 * time.Second) // virtual
		synctest.Wait()
		if !slices.Equal(got, []string{"error", "timeout"}) {
			t.Errorf("replies: %v", got)
		}
	})
}

func TestWhatASessionMaySend(t *testing.T) {
	for xml, want := range map[string]string{
		"<message from='b@here.example' to='b@here.example'/>":       "a closed: invalid-from",
		"<message from='a@here.example/other' to='b@here.example'/>": "a closed: invalid-from",
		"<auth xmlns='x'/>": "a closed: unsupported-stanza-type",
		"<message xmlns='jabber:server' to='b@here.example'/>":                "a closed: unsupported-stanza-type",
		"<iq type='get' to='here.example'><q xmlns='x'/></iq>":                "a  error",
		"<iq type='get' id='1' to='here.example'/>":                           "a 1 error",
		"<iq type='get' id='2' to='here.example'><q/><q/></iq>":               "a 2 error",
		"<iq type='what' id='3' to='here.example'><q xmlns='x'/></iq>":        "",
		"<iq type='get' id='4' to='@'><q xmlns='x'/></iq>":                    "a 4 error",
		"<iq type='get' id='5' to='elsewhere.example'><q xmlns='x'/></iq>":    "a 5 error",
		"<iq type='get' id='6' to='b@here.example/none'><q xmlns='x'/></iq>":  "a 6 error",
		"<iq type='get' id='7' to='b@here.example/y'><q xmlns='x'/></iq>":     "b 7",
		"<iq type='result' id='8' to='b@here.example/y'><q xmlns='x'/></iq>":  "b 8",
		"<iq type='get' id='9' to='nobody@here.example'><q xmlns='x'/></iq>":  "a 9 error",
		"<iq type='get' id='10' from='a@here.example/x'><q xmlns='x'/></iq>":  "a 10 error",
		"<iq type='result' id='11' to='nobody@here.example'/>":                "",
		"<message type='error' id='12' to='elsewhere.example'><x/></message>": "",
	} {
		inWorld(t, func(w *world) {
			w.send(w.a, xml)
			synctest.Wait()
			if got := strings.Join(w.noted, "; "); got != want {
				t.Errorf("%s\n  got %q, expected %q", xml, got, want)
			}
		})
	}
}
