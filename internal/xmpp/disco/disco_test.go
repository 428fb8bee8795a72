package disco_test

import (
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pibox/internal/store"
	"pibox/internal/transcript"
	"pibox/internal/xmpp"
	"pibox/internal/xmpp/disco"
	"pibox/internal/xmpp/presence"
	"pibox/internal/xmpp/roster"

	"mellium.im/xmpp/stanza"
)

// serverVer is made by hand from what server.txt shows:
//
//	printf %s 'pubsub/pep//<server/im//…<' | openssl dgst -sha1 -binary | base64
const serverVer = "0TtzXSozRUepIiIPHVa0BOzOCrU="

func options() disco.Options {
	return disco.Options{
		Name: "Montague & Sons", Software: "urn:test",
		Contacts: disco.Contacts{Admin: []string{"xmpp:romeo@montague.example", "mailto:romeo@montague.example"}, Abuse: []string{"mailto:abuse@montague.example"}},
		Caps:     disco.CapsOptions{Timeout: 10 * time.Second, MaxCached: 3, MaxResources: 3, MaxStrangers: 2, MaxAsking: 4, MaxPerDomain: 2},
	}
}

func register(r *xmpp.Router) *disco.Disco {
	p := presence.Register(r, presence.Options{})
	roster.Register(r, p, roster.Options{})
	return disco.Register(r, options())
}

func TestTranscripts(t *testing.T) {
	transcript.RunFiles(t, "testdata/*.txt", func(_ testing.TB, st *store.Store, domains []string, remote xmpp.Remote) transcript.Box {
		r := xmpp.NewRouter(st, slog.New(slog.DiscardHandler), domains)
		r.SetRemote(remote)
		d := register(r)
		watch(r, d.Caps)
		d.Identify(xmpp.ToAccount, "pubsub", "pep", "")
		d.Identify(xmpp.ToServer, "pubsub", "pep", "")
		d.SetNodes(shelf{})
		return transcript.Box{Router: r}
	})
}

// watch shows what is known of capabilities: news arrives at log.example, and to ask the server for {test}wants tells what
// a resource wants of tune and mood.
func watch(r *xmpp.Router, c *disco.Caps) {
	wants := func(full xmpp.JID) string {
		return strings.Join(slices.DeleteFunc([]string{"tune", "mood"}, func(n string) bool { return !c.WantsNotify(full, n) }), " ")
	}
	c.OnCaps(func(account, full xmpp.JID) {
		r.Send(xmpp.Make(xmpp.NewXML("message").Attr("from", account.String()).Attr("to", "log.example").
			Open("knows", "test").Attr("jid", full.String()).AttrAlways("wants", wants(full)).Bytes()))
	})
	r.Handle(xmpp.Key{Class: xmpp.ToServer, Kind: xmpp.IQ, Type: "get", NS: "test", Name: "wants"}, func(rq *xmpp.Request) error {
		full := xmpp.MustJID(rq.Node().Children[0].Attr("jid"))
		rq.Reply(xmpp.NewXMLNS("wants", "test").Text(wants(full)).Bytes())
		return nil
	})
}

// shelf takes the place of PEP: each account has a node that is open and one that contacts may read.
type shelf struct{}

func (shelf) DiscoInfo(tx *store.Tx, account, who xmpp.JID, node string) ([]byte, error) {
	if node == "open" || node == "contacts" && xmpp.MaySee(tx, account, who) {
		return []byte("<identity category='pubsub' type='leaf'/>"), nil
	}
	return nil, xmpp.Errorf(stanza.ItemNotFound, "")
}

func (s shelf) DiscoItems(tx *store.Tx, account, who xmpp.JID, node string) (all []byte, err error) {
	if node != "" {
		_, err := s.DiscoInfo(tx, account, who, node)
		return xmpp.NewXML("item").Attr("jid", account.String()).Attr("name", "1").Bytes(), err
	}
	for _, n := range []string{"contacts", "open"} {
		if _, err := s.DiscoInfo(tx, account, who, n); err == nil {
			all = append(all, xmpp.NewXML("item").Attr("jid", account.String()).Attr("node", n).Bytes()...)
		}
	}
	return all, nil
}

// TestStreamFeature: the capabilities in the stream features are those that the transcript server.txt asks for.
func TestStreamFeature(t *testing.T) {
	r := xmpp.NewRouter(nil, slog.New(slog.DiscardHandler), []string{"montague.example"})
	d := register(r)
	d.Identify(xmpp.ToServer, "pubsub", "pep", "")
	want := "<c xmlns='http://jabber.org/protocol/caps' hash='sha-1' node='urn:test' ver='" + serverVer + "'/>"
	if got := string(r.StreamFeatures()); !strings.Contains(got, want) {
		t.Errorf("%s\nwithout\n%s", got, want)
	}
}

// outlet answers questions for capabilities with a wish for tune.
type outlet struct{ r *xmpp.Router }

func (o *outlet) Deliver(st *xmpp.Stanza) bool {
	if st.IsRequest() {
		o.r.Send(st.Result([]byte("<query xmlns='http://jabber.org/protocol/disco#info'><identity category='client' type='pc'/><feature var='tune+notify'/></query>")))
	}
	return true
}

func (o *outlet) Close(*xmpp.StreamError) {}

// A client that came back under its old resource is not forgotten when the end of its dead connection is noticed late.
func TestSuccessor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := xmpp.NewRouter(nil, slog.New(slog.DiscardHandler), []string{"montague.example"})
		c := disco.Register(r, options()).Caps
		romeo := xmpp.MustJID("romeo@montague.example")
		r.SetExists(romeo, true)
		now := xmpp.Make([]byte("<presence from='romeo@montague.example/orchard'><c xmlns='http://jabber.org/protocol/caps' node='urn:c'/></presence>"))
		bind := func() *xmpp.Session {
			s := r.Bind(romeo, "orchard", "", &outlet{r}, xmpp.ConflictReplace)
			r.SetPresence(s, now, 0)
			return s
		}
		old := bind()
		s := bind()
		synctest.Wait()
		r.SetPresence(old, nil, 0)
		if !c.WantsNotify(s.JID, "tune") {
			t.Error("forgotten with the old connection")
		}
		r.SetPresence(s, nil, 0)
		if c.WantsNotify(s.JID, "tune") {
			t.Error("known for ever")
		}
	})
}
