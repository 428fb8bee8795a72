package push_test

import (
	"bytes"
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"pibox/internal/store"
	"pibox/internal/xmpp"
	"pibox/internal/xmpp/frame"
	"pibox/internal/xmpp/push"
)

// relay keeps what leaves for other servers.
type relay struct{ sent chan *xmpp.Stanza }

func (r relay) Send(st *xmpp.Stanza) { r.sent <- st }

// FuzzEnable: what a device enables with any content is refused, or published as a well-formed stanza that passes the same publish options on;
// and whatever its push service says then, in a message or as the answer, ends that registration or none.
func FuzzEnable(f *testing.F) {
	const form = "<x xmlns='jabber:x:data' type='submit'><field var='FORM_TYPE'><value>http://jabber.org/protocol/pubsub#publish-options</value></field></x>"
	f.Add("push.example", "node", form, "<pubsub xmlns='http://jabber.org/protocol/pubsub' node='node'><affiliation jid='romeo@montague.example' affiliation='none'/></pubsub>")
	f.Add("x@push.example/y", "", "<a:x xmlns:a='jabber:x:data' type='submit'><a:field var='FORM_TYPE'><a:value>http://jabber.org/protocol/pubsub#publish-options</a:value></a:field><b:c xmlns:b='d'/></a:x>",
		"<error type='cancel'><item-not-found xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error>")
	f.Add("push.example", "\u2603<&'", form+"<y/>", "<event xmlns='http://jabber.org/protocol/pubsub#event'><delete node='node'/></event>")
	st, err := store.Open(filepath.Join(f.TempDir(), "pibox.db"), store.Options{Reserve: 1})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { _ = st.Close() })
	out := relay{make(chan *xmpp.Stanza, 100)}
	r := xmpp.NewRouter(st, slog.New(slog.DiscardHandler), []string{me.Domain})
	r.SetRemote(out)
	r.SetExists(me, true)
	m := newMessages(r)
	p := push.Register(r, m, push.Options{Burst: 1 << 30, Interval: time.Nanosecond})
	f.Cleanup(p.Stop)
	count := func() (n int) {
		_ = r.Update(func(tx *store.Tx, _ *xmpp.Out) error { // behind what is queued
			n = store.Pushes.Count(tx, me.String())
			return nil
		})
		return n
	}
	f.Fuzz(func(t *testing.T, jid, node, content, said string) {
		defer func() {
			_ = r.Update(func(tx *store.Tx, out *xmpp.Out) error {
				p.Forget(tx, out, me, nil)
				return nil
			})
		}()
		s := r.Bind(me, "phone", "test", outlet{}, xmpp.ConflictReplace)
		raw := xmpp.NewXML("iq").Attr("type", "set").Attr("id", "1").Open("enable", push.NS).Attr("jid", jid).Attr("node", node).Raw([]byte(content)).Bytes()
		el, err := frame.Parse(raw, xmpp.NSClient, frame.Limits{Bytes: 1 << 16, Depth: 16, Attrs: 16, Children: 64})
		if err != nil {
			return
		}
		r.FromSession(s, el)
		enabled := count()
		r.Unbind(s)
		message(r)
		if enabled == 0 || count() == 0 { // refused; by ourselves, where the service is at a domain of ours
			return
		}
		select {
		case told := <-out.sent:
			published(t, told, el)
			answer(r, told, "", me.String(), said)
			answer(r, told, "error", me.Domain, said)
			if n := count(); n > 1 {
				t.Errorf("there are %d registrations", n)
			}
			for len(out.sent) > 0 { // errors to its errors
				<-out.sent
			}
		default:
			t.Errorf("%q was enabled, and is not told", jid)
		}
	})
}

// answer lets a push service say something: as an error to the publication, or in a message.
func answer(r *xmpp.Router, told *xmpp.Stanza, typ, to, said string) {
	x := xmpp.NewXML(map[string]string{"": "message", "error": "iq"}[typ]).Attr("type", typ).Attr("id", told.ID).Attr("from", told.To.String()).Attr("to", to)
	el, err := frame.Parse(x.Raw([]byte(said)).Bytes(), xmpp.NSServer, frame.Limits{Bytes: 1 << 16, Depth: 16, Attrs: 16, Children: 64})
	if err != nil {
		return
	}
	if st, err := xmpp.NewStanza(el); err == nil {
		r.FromPeer(&xmpp.Peer{Domain: told.To.Domain}, st)
	}
}

// published checks the publish options of a publication against those that it was enabled with.
func published(t *testing.T, told *xmpp.Stanza, enabled *frame.Element) {
	var want []byte
	for _, x := range enabled.Node().Children[0].Children {
		if x.NS == "jabber:x:data" && x.Name == "x" && bytes.Contains(x.Raw(), []byte("publish-options")) {
			want = x.Raw()
		}
	}
	options := told.Node().Child("", "pubsub").Child("", "publish-options")
	if options != nil && len(options.Children) != 1 {
		t.Errorf("publish options hold %d forms", len(options.Children))
	}
	if have := options.Child("jabber:x:data", "x").Raw(); options != nil && !bytes.Equal(have, want) {
		t.Errorf("publish options are\n%s\nand were\n%s", have, want)
	}
}
