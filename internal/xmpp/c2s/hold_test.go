package c2s

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pibox/internal/xmpp"
	"pibox/internal/xmpp/frame"

	"pgregory.net/rapid"
)

// deliver gives a session stanzas.
func (k *talk) deliver(to, text string) error {
	resource, stored, _ := strings.Cut(to, " stored ")
	s := k.box.router.SessionOf(romeo().With(resource))
	if s == nil {
		return errors.New("no such session")
	}
	seq, _ := strconv.ParseUint(stored, 10, 64)
	all, err := parseAll((&peer{}).fill(text))
	if err != nil {
		return err
	}
	for _, st := range all {
		if seq > 0 {
			st = st.Stored(seq)
			seq++
		}
		s.Deliver(st)
	}
	synctest.Wait()
	return nil
}

func parseAll(text string) (all []*xmpp.Stanza, err error) {
	el, err := frame.Parse([]byte("<all>"+text+"</all>"), xmpp.NSClient, frame.Limits{Bytes: 1 << 20, Children: 10_000, Depth: 64, Attrs: 64})
	if err != nil {
		return nil, err
	}
	for _, n := range el.Node().Children {
		st, err := xmpp.ParseStanza(n.Raw())
		if err != nil {
			return nil, err
		}
		all = append(all, st)
	}
	return all, nil
}

// TestJudge: what an inactive client is woken for, and what takes the place of what.
func TestJudge(t *testing.T) {
	const (
		body    = "<body>Ay me</body>"
		typing  = "<composing xmlns='http://jabber.org/protocol/chatstates'/>"
		receipt = "<received xmlns='urn:xmpp:receipts' id='1'/>"
		marker  = "<displayed xmlns='urn:xmpp:chat-markers:0' id='1'/>"
		delay   = "<delay xmlns='urn:xmpp:delay' stamp='2027-01-01T00:00:00Z'/>"
	)
	from := func(child string) string {
		return "<message type='chat' from='juliet@capulet.example/b' to='romeo@montague.example/orchard'>" + child + "</message>"
	}
	event := func(attrs, items string) string {
		return "<message " + attrs + "><event xmlns='http://jabber.org/protocol/pubsub#event'>" + items + "</event></message>"
	}
	const pep, item = "type='headline' from='juliet@capulet.example'", "<items node='mood'><item id='a'><mood xmlns='x'/></item></items>"
	room := func(attrs, status string) string {
		return "<presence from='hall@rooms.example/x' " + attrs + "><x xmlns='http://jabber.org/protocol/muc#user'>" + status + "</x></presence>"
	}
	for what, stanzas := range map[string][]string{
		"urgent": {
			"<presence from='juliet@capulet.example' type='subscribe'/>", "<presence from='juliet@capulet.example' type='subscribed'/>",
			"<presence from='juliet@capulet.example' type='unsubscribe'/>", "<presence from='juliet@capulet.example' type='unsubscribed'/>",
			"<presence from='juliet@capulet.example' type='error'/>", "<presence from='juliet@capulet.example' type='probe'/>",
			room("", "<item/><status code='110'/>"), room("type='unavailable'", "<status code='307'/><status code='110'/>"),
			"<iq type='result' id='1'/>", "<iq type='error' id='1'/>", "<iq type='get' id='1'><ping xmlns='urn:xmpp:ping'/></iq>",
			"<iq type='set' id='1'><query xmlns='jabber:iq:roster'/></iq>", "<iq type='set' id='1'><jingle xmlns='urn:xmpp:jingle:1'/></iq>",
			from(body), from(body + typing), from("<subject/>"), from(""), from("<thread>1</thread>"), from("<x xmlns='urn:unknown'/>"), from(typing + "<x xmlns='urn:unknown'/>"),
			from("<encrypted xmlns='eu.siacs.conversations.axolotl'/>"), from(receipt + body), from("<request xmlns='urn:xmpp:receipts'/>"),
			from("<propose xmlns='urn:xmpp:jingle-message:0' id='1'/>"), from("<reactions xmlns='urn:xmpp:reactions:0' id='1'/>"),
			from("<retract xmlns='urn:xmpp:message-retract:1' id='1'/>"), from("<x xmlns='jabber:x:conference' jid='hall@rooms.example'/>"),
			"<message from='rooms.example'><x xmlns='http://jabber.org/protocol/muc#user'><invite/></x></message>",
			"<message type='groupchat' from='hall@rooms.example/x'>" + body + "</message>", "<message type='groupchat' from='hall@rooms.example'><subject/></message>",
			"<message type='error' from='juliet@capulet.example'>" + typing + "<error/></message>",
			"<message from='romeo@montague.example'><result xmlns='urn:xmpp:mam:2' id='1'/></message>",
			carbon("received", from(body)), carbon("sent", from(body)), carbon("sent", "<message type='error'>"+typing+"</message>"),
			carbon("received", from("<accept xmlns='urn:xmpp:jingle-message:0' id='1'/>")), carbon("sent", ""),
			strings.Replace(carbon("received", from(typing)), "from='romeo@", "from='mercutio@", 1), // it is nobody's to copy them but the account's
			event("from='news.example'", item), event("from='juliet@capulet.example'", item+"</event>"+body+"<event xmlns='x'>"),
			"STORED" + from(receipt+delay), "STORED" + carbon("received", from(receipt+delay)),
		},
		"held": {
			from(receipt), from(marker), from(receipt + marker + typing), from(receipt + delay), "STORED" + from(receipt), "STORED" + from(marker),
			carbon("sent", from(receipt)), carbon("received", from(marker)), carbon("sent", from(marker)),
			"<message type='headline' from='montague.example'>" + body + "</message>", "<message type='groupchat' from='hall@rooms.example/x'>" + marker + "</message>",
			event(pep, "<items node='mood'><retract id='a'/></items>"), event(pep, "<purge node='mood'/>"), event(pep, "<delete node='mood'/>"),
			event(pep, "<items node='mood'/>"), event(pep, "<items node='mood'><item/></items>"), event(pep, "<items node='mood'><item id='a'/><item id='b'/></items>"),
			event(pep, item+item), event("type='headline' from='news.example'", "<items node='n'/>"),
		},
		"merged": {
			"<presence from='juliet@capulet.example/b'/>", "<presence from='juliet@capulet.example/b' type='unavailable'/>", room("", "<item/>"),
			from(typing), from(typing + delay + "<thread>1</thread><no-store xmlns='urn:xmpp:hints'/>"), carbon("received", from(typing)), carbon("sent", from(typing)),
			"<message type='groupchat' from='hall@rooms.example/x'>" + typing + "</message>",
			event(pep, item), event("from='juliet@capulet.example'", item), event("type='headline' from='news.example'", item),
		},
	} {
		for _, text := range stanzas {
			raw, stored := strings.CutPrefix(text, "STORED")
			st, err := xmpp.ParseStanza([]byte(raw))
			if err != nil {
				t.Fatalf("%s: %v", text, err)
			}
			if stored {
				st = st.Stored(7)
			}
			have := "held"
			switch v := judge(st, romeo()); {
			case v.urgent:
				have = "urgent"
			case v.topic.kind != nothing:
				have = "merged"
			}
			if have != what {
				t.Errorf("%s is %s, should be %s", text, have, what)
			}
		}
	}
}

// TestTopics: what is about different things does not take another's place.
func TestTopics(t *testing.T) {
	all, err := parseAll(`<presence from='juliet@capulet.example/a'/><presence from='juliet@capulet.example/b'/><presence from='juliet@capulet.example'/>
		<message from='juliet@capulet.example/a'><composing xmlns='http://jabber.org/protocol/chatstates'/></message>
		<message from='juliet@capulet.example/b'><composing xmlns='http://jabber.org/protocol/chatstates'/></message>` +
		sentTyping("juliet@capulet.example") + sentTyping("nurse@capulet.example/b") +
		pepEvent("juliet@capulet.example", "mood", "a") + pepEvent("juliet@capulet.example", "mood", "b") +
		pepEvent("juliet@capulet.example", "tune", "a") + pepEvent("nurse@capulet.example", "mood", "a"))
	if err != nil {
		t.Fatal(err)
	}
	h := newHoldback(romeo())
	for range 2 {
		for _, st := range all {
			if !h.take(st, 1<<20) {
				t.Errorf("%s is not held back", st.Raw)
			}
		}
	}
	sum := 0
	for _, st := range all {
		sum += cost(st)
	}
	if h.cost != sum {
		t.Errorf("%d bytes are held back, not %d", h.cost, sum)
	}
	if got := h.all(); !slices.Equal(got, all) {
		t.Errorf("%d came out, not the %d that are different, in order", len(got), len(all))
	}
	if h.cost != 0 || len(h.last) > 0 || h.waiting.Len() > 0 {
		t.Error("something is left")
	}
}

func sentTyping(to string) string {
	return carbon("sent", message("romeo@montague.example/tablet", to, state("composing")))
}

func pepEvent(from, node, id string) string {
	return "<message type='headline' from='" + from + "'><event xmlns='http://jabber.org/protocol/pubsub#event'><items node='" + node +
		"'><item id='" + id + "'/></items></event></message>"
}

// TestHoldbackRandom: what comes out is what came in, in order, without what was said anew; nothing that is stored or urgent is missing, no chat state
// is left showing, and no more is kept than may be.
func TestHoldbackRandom(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const limit = 8000
		h := newHoldback(romeo())
		var came, out []*xmpp.Stanza
		flush := func() {
			if got := h.all(); len(got) > 0 {
				out = append(out, got...)
			}
		}
		for range rapid.IntRange(0, 200).Draw(t, "n") {
			st := drawStanza(t)
			came = append(came, st)
			if !h.take(st, limit) {
				flush()
				out = append(out, st)
			}
			if h.cost > limit {
				t.Fatalf("%d bytes are kept", h.cost)
			}
		}
		flush()
		i := 0
		for _, st := range out {
			for i < len(came) && came[i] != st {
				if came[i].Seq != 0 || judge(came[i], romeo()).urgent {
					t.Fatalf("%s is missing", came[i].Raw)
				}
				i++
			}
			if i == len(came) {
				t.Fatalf("%s comes too late or twice", st.Raw)
			}
			i++
		}
		if want, have := shown(came), shown(out); !maps.Equal(want, have) {
			t.Fatalf("the client shows %v, not %v", have, want)
		}
	})
}

func drawStanza(t *rapid.T) *xmpp.Stanza {
	from := rapid.SampledFrom([]string{"a@x.example/1", "a@x.example/2", "b@x.example/1"}).Draw(t, "from")
	payload := rapid.SampledFrom([]string{
		"", "<show>away</show>", "<show>xa</show>", "unavailable", "composing", "composing", "paused", "active", "<body>x</body>",
		"<received xmlns='urn:xmpp:receipts' id='1'/>",
	}).Draw(t, "payload")
	stored := rapid.IntRange(0, 4).Draw(t, "stored") == 0
	x := xmpp.NewXML("message").Attr("from", from).Attr("type", "chat")
	switch payload {
	case "", "<show>away</show>", "<show>xa</show>":
		x, stored = xmpp.NewXML("presence").Attr("from", from).Raw([]byte(payload)), false
	case "unavailable":
		x, stored = xmpp.NewXML("presence").Attr("from", from).Attr("type", payload), false
	case "composing", "paused", "active":
		x, stored = x.Open(payload, nsChatStates).Close(), false
	default:
		x = x.Raw([]byte(payload))
	}
	st := xmpp.Make(x.Bytes())
	if stored {
		return st.Stored(1)
	}
	return st
}

// shown is what a client shows in the end.
func shown(list []*xmpp.Stanza) map[string]string {
	m := map[string]string{}
	for _, st := range list {
		from := st.From.String()
		switch {
		case st.Kind == xmpp.Presence:
			m["presence "+from] = string(st.Raw)
		case st.HasChild(nsChatStates, "composing"):
			m["typing "+from] = "yes"
		case st.HasChild(xmpp.NSClient, "body"), len(st.Children) > 0 && st.Children[0].NS == nsChatStates:
			delete(m, "typing "+from)
		}
	}
	return m
}

// countedConn counts writes.
type countedConn struct {
	net.Conn
	writes, bytes int
}

func (c *countedConn) Write(b []byte) (int, error) {
	c.writes++
	c.bytes += len(b)
	return len(b), nil
}

func (c *countedConn) SetWriteDeadline(time.Time) error { return nil }

// TestOneWrite: what was held back goes with what is urgent, and the request for an acknowledgement, in one write.
func TestOneWrite(t *testing.T) {
	for _, managed := range []bool{false, true} {
		conn := &countedConn{}
		o := &outbox{
			shared: &outboxConfig{limit: 1 << 20, kept: 1 << 20, held: 1 << 16, timeout: time.Minute}, conn: conn,
			failed: func(err error) { t.Error(err) }, asked: func() {},
		}
		if managed {
			o.sm = &unacked{}
		}
		o.setInactive(romeo())
		for i := range 30 {
			o.put(xmpp.Make(fmt.Appendf(nil, "<presence from='juliet@capulet.example/%d'/>", i)))
		}
		if conn.writes > 0 {
			t.Error("something was written")
		}
		o.put(xmpp.Make([]byte("<message from='juliet@capulet.example/b'><body>Ay me</body></message>")))
		if err := o.flush(time.Time{}); err != nil {
			t.Fatal(err)
		}
		if conn.writes != 1 {
			t.Errorf("managed %v: %d writes", managed, conn.writes)
		}
		if managed && len(o.sm.list) != 31 {
			t.Errorf("%d stanzas are counted", len(o.sm.list))
		}
	}
}

// TestRoomOfInactive: what is held back takes room, with stream management too.
func TestRoomOfInactive(t *testing.T) {
	o := &outbox{shared: &outboxConfig{limit: 10_000, kept: 20_000, held: 5000}, held: true}
	l := &link{out: o}
	st := xmpp.Make([]byte("<presence from='juliet@capulet.example/b'/>"))
	o.setInactive(romeo())
	for _, want := range []int{10_000, 10_000 - cost(st)} {
		if l.Room() != want {
			t.Errorf("room for %d, not %d", l.Room(), want)
		}
		o.put(st)
	}
	o.setActive()
	o.sm = &unacked{cost: 100}
	o.setInactive(romeo())
	o.put(st)
	if want := 20_000 - 100 - 2*cost(st); l.Room() != want {
		t.Errorf("room for %d, not %d", l.Room(), want)
	}
}

// TestNothingBehindTheEnd: what is held back when the stream ends is not written behind its end, but given back.
func TestNothingBehindTheEnd(t *testing.T) {
	conn := &countedConn{}
	o := &outbox{shared: &outboxConfig{limit: 1 << 20, held: 1 << 16, timeout: time.Minute}, conn: conn}
	o.setInactive(romeo())
	o.put(xmpp.Make([]byte("<presence from='juliet@capulet.example/b'/>")))
	o.close([]byte("</stream:stream>"), time.Now().Add(time.Minute))
	o.setActive()
	o.releaseFirst()
	if err := o.flush(time.Time{}); err != nil {
		t.Fatal(err)
	}
	if conn.bytes != len("</stream:stream>") {
		t.Errorf("%d bytes were written", conn.bytes)
	}
	if n := len(o.unsent()); n != 1 {
		t.Errorf("%d stanzas are given back", n)
	}
}

// FuzzHoldback: whatever comes, nothing panics, and what is stored or urgent comes out.
func FuzzHoldback(f *testing.F) {
	text, err := os.ReadFile("testdata/csi.txt")
	if err != nil {
		f.Fatal(err)
	}
	for line := range strings.SplitSeq(string(text), "\n") {
		if what, ok := strings.CutPrefix(line, "for orchard: "); ok {
			f.Add(what, uint64(0))
			f.Add(what, uint64(7))
		}
	}
	f.Fuzz(func(t *testing.T, text string, seq uint64) {
		all, err := parseAll(text)
		if err != nil {
			return
		}
		h := newHoldback(romeo())
		due, out := 0, 0
		for _, st := range all {
			st = st.Stored(seq)
			if seq != 0 || judge(st, romeo()).urgent {
				due++
			}
			if !h.take(st, 1<<20) {
				out++
			}
		}
		if out += len(h.all()); out < due || out > len(all) {
			t.Errorf("%d came out of %d, %d of which are due", out, len(all), due)
		}
	})
}
