package client_test

import (
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pibox/internal/portable/client"
	"pibox/internal/xmpp"
	"pibox/internal/xmpp/frame"
)

const scram = "<mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'><mechanism>SCRAM-SHA-1</mechanism></mechanisms>"

// Whatever a server answers to the login, it ends, and nothing is computed that a server should not be able to ask for.
func TestHostileLogin(t *testing.T) {
	challenge := func(change func(nonce string) string) func(*fakeConn, *frame.Element) {
		return func(c *fakeConn, el *frame.Element) {
			first, _ := base64.StdEncoding.DecodeString(el.Node().Text)
			_, nonce, _ := strings.Cut(string(first), "r=")
			c.say("<challenge xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>" + base64.StdEncoding.EncodeToString([]byte(change(nonce))) + "</challenge>")
		}
	}
	fixed := func(s string) func(*fakeConn, *frame.Element) {
		return challenge(func(nonce string) string { return strings.ReplaceAll(s, "NONCE", nonce) })
	}
	failure := func(condition string) func(*fakeConn, *frame.Element) {
		return func(c *fakeConn, _ *frame.Element) {
			c.say("<failure xmlns='urn:ietf:params:xml:ns:xmpp-sasl'><" + condition + "/><text>go \u009b31maway</text></failure>")
		}
	}
	says := func(s string) func(*fakeConn, *frame.Element) {
		return func(c *fakeConn, _ *frame.Element) { c.say(s) }
	}
	for name, tt := range map[string]struct {
		features string
		login    func(*fakeConn, *frame.Element)
		want     client.Kind
	}{
		"no challenge":              {scram, fixed(""), client.Broken},
		"a challenge of one letter": {scram, fixed("a"), client.Broken},
		"a comma at the end":        {scram, fixed("r=NONCEx,s=QUFBQQ==,i=4096,"), client.Broken},
		"a billion iterations":      {scram, fixed("r=NONCEx,s=QUFBQQ==,i=1000000000"), client.Broken},
		"one iteration":             {scram, fixed("r=NONCEx,s=QUFBQQ==,i=1"), client.Broken},
		"iterations twice":          {scram, fixed("r=NONCEx,s=QUFBQQ==,i=4096,i=1000000000"), client.Broken},
		"another nonce":             {scram, fixed("r=other,s=QUFBQQ==,i=4096"), client.Broken},
		"our own nonce":             {scram, fixed("r=NONCE,s=QUFBQQ==,i=4096"), client.Broken},
		"no salt":                   {scram, fixed("r=NONCEx,i=4096"), client.Broken},
		"a salt that is none":       {scram, fixed("r=NONCEx,s=!!!!,i=4096"), client.Broken},
		"an extension":              {scram, fixed("m=x,r=NONCEx,s=QUFBQQ==,i=4096"), client.Broken},
		"success at once":           {scram, says("<success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>"), client.Broken},
		"success without a proof": {scram, func(c *fakeConn, el *frame.Element) {
			if el.Name == "response" {
				c.say("<success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>" + base64.StdEncoding.EncodeToString([]byte("v=AAAA")) + "</success>")
				return
			}
			fixed("r=NONCEx,s=QUFBQQ==,i=4096")(c, el)
		}, client.Broken},
		"no login at all":     {"<nothing xmlns='urn:x'/>", nil, client.Broken},
		"a resource at once":  {"<bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/>", nil, client.Broken},
		"an unknown method":   {"<mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'><mechanism>X-OAUTH</mechanism></mechanisms>", nil, client.NoMechanism},
		"wrong password":      {scram, failure("not-authorized"), client.WrongPassword},
		"disabled":            {scram, failure("account-disabled"), client.Disabled},
		"later":               {scram, failure("temporary-auth-failure"), client.TryLater},
		"mechanism":           {scram, failure("invalid-mechanism"), client.NoMechanism},
		"something else":      {scram, failure("mood"), client.Broken},
		"silence":             {scram, says(""), client.TimedOut},
		"space for ever":      {scram, func(c *fakeConn, _ *frame.Element) { drip(c, " ") }, client.TimedOut},
		"an endless element":  {scram, func(c *fakeConn, _ *frame.Element) { flood(c, "<challenge xmlns='", "x") }, client.TooMuch},
		"a stream error":      {scram, says("<stream:error><system-shutdown xmlns='urn:ietf:params:xml:ns:xmpp-streams'/></stream:error>"), client.TryLater},
		"host unknown":        {scram, says("<stream:error><host-unknown xmlns='urn:ietf:params:xml:ns:xmpp-streams'/></stream:error>"), client.NameNotFound},
		"not XML":             {scram, says("<<<"), client.Broken},
		"the end":             {scram, func(c *fakeConn, _ *frame.Element) { _ = c.conn.Close() }, client.Lost},
		"endless features":    {strings.Repeat("<x xmlns='urn:x'/>", 40_000), nil, client.TooMuch},
		"the end of a stream": {scram, says("</stream:stream>"), client.Lost},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFake(t)
				f.features, f.login = tt.features, tt.login
				began := time.Now()
				s, err := client.Dial(t.Context(), f.config())
				if s != nil {
					_ = s.Close()
				}
				if kind(err) != string(tt.want) || time.Since(began) > 2*time.Minute {
					t.Errorf("%v after %s, expected %q", err, time.Since(began), tt.want)
				}
				if err != nil && strings.Contains(err.Error(), "\u009b") {
					t.Errorf("%q", err)
				}
			})
		})
	}
}

func drip(c *fakeConn, s string) {
	for range time.Tick(time.Second) {
		if _, err := c.conn.Write([]byte(s)); err != nil {
			return
		}
	}
}

func flood(c *fakeConn, begin, more string) {
	more = strings.Repeat(more, 8192/len(more))
	for _, err := c.conn.Write([]byte(begin)); err == nil; {
		_, err = c.conn.Write([]byte(more))
	}
}

// Before TLS begins: nothing of the account is told, and nothing is believed.
func TestHostileStartTLS(t *testing.T) {
	header := "<stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' version='1.0' from='old.example' id='s'>"
	offer := header + "<stream:features><starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/></stream:features>"
	for name, tt := range map[string]struct {
		answers []string
		want    client.Kind
	}{
		"no offer":          {[]string{header + "<stream:features>" + scram + "</stream:features>"}, client.NoEncryption},
		"refusal":           {[]string{offer, "<failure xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>"}, client.NoEncryption},
		"something behind":  {[]string{offer, "<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/><x/>"}, client.Broken},
		"no TLS":            {[]string{offer, "<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>", "<stream:stream>"}, client.Broken},
		"silence":           {[]string{}, client.TimedOut},
		"silence later":     {[]string{offer}, client.TimedOut},
		"the end":           {[]string{""}, client.Lost},
		"HTTP":              {[]string{"HTTP/1.1 400 Bad Request\r\n\r\n"}, client.Broken},
		"an endless stream": {[]string{header + "<stream:features>" + strings.Repeat("<x/>", 20_000)}, client.TooMuch},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f, told := newFake(t), ""
				ended := make(chan bool)
				f.raw = func(conn net.Conn) {
					defer close(ended)
					buf := make([]byte, 4096)
					for _, a := range append(tt.answers, "wait") {
						n, err := conn.Read(buf)
						told += string(buf[:n])
						if err != nil || a == "" {
							return
						}
						if a != "wait" {
							_, _ = conn.Write([]byte(a))
						}
					}
					for err := error(nil); err == nil; {
						_, err = conn.Read(buf)
					}
				}
				c := f.config()
				c.Direct = false
				_, err := client.Dial(t.Context(), c)
				if kind(err) != string(tt.want) {
					t.Errorf("%v, expected %q", err, tt.want)
				}
				<-ended
				if strings.Contains(told, "juliet") || strings.Contains(told, "secret") {
					t.Errorf("told in the clear: %q", told)
				}
			})
		})
	}
}

func TestResourceOfAnother(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, j := range []string{"romeo@old.example/x", "juliet@old.example", "juliet@new.example/x", "old.example/x"} {
			f := newFake(t)
			f.resource = j
			if _, err := client.Dial(t.Context(), f.config()); kind(err) != string(client.Broken) {
				t.Errorf("%s: %v", j, err)
			}
		}
	})
}

func roster(n int) string {
	var b strings.Builder
	b.WriteString("<query xmlns='jabber:iq:roster'>")
	for i := range n {
		fmt.Fprintf(&b, "<item jid='c%d@x.example' subscription='both'/>", i)
	}
	return b.String() + "</query>"
}

// asks tells whether an iq holds that payload.
func asks(el *frame.Element, ns string) bool {
	return el.Name == "iq" && len(el.Children) > 0 && el.Children[0].NS == ns
}

// A session with a hostile server: what comes of the question for the contacts.
func TestHostileAnswers(t *testing.T) {
	iq := func(el *frame.Element, from, typ, payload string) string {
		return "<iq type='" + typ + "' id='" + el.Attr("id") + "'" + from + ">" + payload + "</iq>"
	}
	for name, tt := range map[string]struct {
		answer func(c *fakeConn, el *frame.Element)
		want   client.Kind
		have   string
	}{
		"honest":            {func(c *fakeConn, el *frame.Element) { c.result(el, roster(2)) }, "", "c0@x.example c1@x.example"},
		"no address":        {func(c *fakeConn, el *frame.Element) { c.say(iq(el, "", "result", roster(1))) }, "", "c0@x.example"},
		"too many contacts": {func(c *fakeConn, el *frame.Element) { c.result(el, roster(10_001)) }, client.TooMuch, ""},
		"too long": {func(c *fakeConn, el *frame.Element) {
			flood(c, "<iq type='result' id='"+el.Attr("id")+"'><query xmlns='jabber:iq:roster'><!--", "x")
		}, client.Broken, ""},
		"too large": {func(c *fakeConn, el *frame.Element) {
			flood(c, "<iq type='result' id='"+el.Attr("id")+"'><query xmlns='jabber:iq:roster'>", "<item jid='a@b'/>")
		}, client.TooMuch, ""},
		"too deep": {func(c *fakeConn, el *frame.Element) { flood(c, "<iq>", "<a>") }, client.TooMuch, ""},
		"silence":  {func(*fakeConn, *frame.Element) {}, client.TimedOut, ""},
		"spaces":   {func(c *fakeConn, el *frame.Element) { drip(c, " ") }, client.TimedOut, ""},
		"other ids": {func(c *fakeConn, el *frame.Element) {
			c.say("<iq type='result' id='x' from='" + own + "'>" + roster(1) + "</iq>")
		}, client.TimedOut, ""},
		"another's answer": {func(c *fakeConn, el *frame.Element) {
			c.say(iq(el, " from='romeo@old.example'", "result", roster(1)) + iq(el, " from='old.example'", "result", roster(1)) + iq(el, " from='"+own+"/other'", "result", roster(1)))
		}, client.TimedOut, ""},
		"a push of another's": {func(c *fakeConn, el *frame.Element) {
			push := "<query xmlns='jabber:iq:roster'><item jid='evil@x.example' subscription='both'/></query>"
			c.say("<iq type='set' id='p1' from='evil@x.example'>" + push + "</iq><iq type='set' id='p2' from='old.example'>" + push + "</iq>")
			c.result(el, roster(1))
		}, "", "c0@x.example"},
		"a push in between": {func(c *fakeConn, el *frame.Element) {
			c.say("<iq type='set' id='p'><query xmlns='jabber:iq:roster'><item jid='new@x.example' subscription='to'/></query></iq>")
			c.result(el, roster(1))
		}, "", "new@x.example c0@x.example"},
		"rubbish": {func(c *fakeConn, el *frame.Element) {
			c.result(el, "<query xmlns='jabber:iq:roster'><item/><item jid=''/><item jid='@@'/><item jid='"+own+"'/><item jid='a@b.example' subscription='god'/>"+
				"<item jid='A@B.example' name='"+strings.Repeat("ä", 2000)+"'/><item jid='a@b.example' subscription='to'/><item xmlns='urn:x' jid='c@d.example'/></query>")
		}, "", "a@b.example"},
		"stanzas for ever": {func(c *fakeConn, _ *frame.Element) { flood(c, "", "<message/>") }, client.TooMuch, ""},
		"pings for ever": {func(c *fakeConn, _ *frame.Element) {
			go flood(c, "", "<iq type='get' id='1' from='x.example'><ping xmlns='urn:xmpp:ping'/></iq>")
		}, client.TooMuch, ""},
		"the end of the stream": {func(c *fakeConn, _ *frame.Element) { c.say("</stream:stream>") }, client.Ended, ""},
		"the connection's end":  {func(c *fakeConn, _ *frame.Element) { _ = c.conn.Close() }, client.Lost, ""},
		"a stream error": {func(c *fakeConn, _ *frame.Element) {
			c.say("<stream:error><conflict xmlns='urn:ietf:params:xml:ns:xmpp-streams'/></stream:error>")
		}, client.Ended, ""},
		"a new stream": {func(c *fakeConn, _ *frame.Element) { c.open("") }, client.Broken, ""},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFake(t)
				f.hear = func(c *fakeConn, el *frame.Element) bool {
					if el.Attr("type") == "get" && asks(el, "jabber:iq:roster") {
						tt.answer(c, el)
						return true
					}
					return false
				}
				s, err := client.Dial(t.Context(), f.config())
				if err != nil {
					t.Fatal(err)
				}
				defer func() { _ = s.Close() }()
				began := time.Now()
				list, err := s.Roster(t.Context())
				if kind(err) != string(tt.want) || time.Since(began) > 2*time.Minute {
					t.Errorf("%v after %s, expected %q", err, time.Since(began), tt.want)
				}
				var have []string
				for _, item := range list {
					have = append(have, item.JID)
				}
				if got := strings.Join(have, " "); got != tt.have {
					t.Errorf("got %q, expected %q", got, tt.have)
				}
			})
		})
	}
}

func archived(query, id, from, message string) string {
	return "<message" + from + "><result xmlns='urn:xmpp:mam:2' queryid='" + query + "' id='" + id + "'><forwarded xmlns='urn:xmpp:forward:0'>" +
		"<delay xmlns='urn:xmpp:delay' stamp='2020-01-01T00:00:00Z'/>" + message + "</forwarded></result></message>"
}

const word = "<message xmlns='jabber:client' from='romeo@x.example/a' to='" + own + "' type='chat'><body>b</body></message>"

// archive is the question for a page.
type archive struct {
	c            *fakeConn
	el           *frame.Element
	query, after string
	page         int
}

func (a *archive) fin(attrs, last string) {
	a.c.result(a.el, "<fin xmlns='urn:xmpp:mam:2'"+attrs+"><set xmlns='http://jabber.org/protocol/rsm'><last>"+last+"</last></set></fin>")
}

func (a *archive) give(id string) { a.c.say(archived(a.query, id, "", word)) }

// A hostile archive: whatever it does, the bring ends, takes what is an archive of the account, and everything else still comes.
func TestHostileArchive(t *testing.T) {
	for name, tt := range map[string]struct {
		answer func(a *archive)
		want   []string // what was taken
		loss   string
	}{
		"honest": {func(a *archive) {
			if a.after == "" {
				a.give("1")
				a.give("2")
				a.fin("", "2")
				return
			}
			a.give("3")
			a.fin(" complete='true'", "3")
		}, []string{"1", "2", "3"}, ""},
		"never complete, and empty": {func(a *archive) { a.fin("", "") }, nil, ""},
		"the same page again":       {func(a *archive) { a.give("1"); a.give("2"); a.fin("", "2") }, []string{"1", "2"}, "archive: "},
		"in circles": {func(a *archive) {
			a.give([]string{"1", "2"}[a.page%2])
			a.fin("", "x")
		}, []string{"2", "1", "2", "1", "2"}, "newer messages of the archive: "},
		"pages of rubbish": {func(a *archive) {
			a.c.say(archived(a.query, "", "", word))
			a.fin("", "same")
		}, nil, "archive: "},
		"new ids for ever": {func(a *archive) { a.give(fmt.Sprint("n", a.page)); a.fin("", "x") }, []string{"n1", "n2", "n3", "n4", "n5"}, "newer messages of the archive: "},
		"a page without end": {func(a *archive) {
			flood(a.c, "", archived(a.query, "", "", word))
		}, nil, "archive: "},
		"others' results": {func(a *archive) {
			a.c.say(archived("other", "1", "", word) + archived(a.query, "2", " from='romeo@old.example'", word) + archived(a.query, "3", " from='old.example'", word))
			a.c.say(archived(a.query, "4", " from='"+own+"'", word))
			a.fin(" complete='true'", "4")
		}, []string{"4"}, ""},
		"others' words": {func(a *archive) {
			a.c.say(archived(a.query, "1", "", strings.Replace(word, own, "paris@x.example", 1)))
			a.c.say(archived(a.query, "2", "", strings.Replace(word, "jabber:client", "urn:x", 1)))
			a.c.say(archived(a.query, "3", "", ""))
			a.c.say(strings.Replace(archived(a.query, "4", "", word), "2020-01-01", "yesterday", 1))
			a.c.say(archived(a.query, strings.Repeat("i", 2000), "", word))
			a.give("5")
			a.fin(" complete='true'", "5")
		}, []string{"5"}, "5 messages of the archive: "},
		"no end of the page": {func(a *archive) { a.give("1"); a.c.result(a.el, "") }, []string{"1"}, "archive: "},
		"silence":            {func(a *archive) { a.give(fmt.Sprint("s", a.page)) }, []string{"s1", "s2", "s3", "s4", "s5"}, "archive: the server of old.example did not answer in time"},
		"forgotten": {func(a *archive) {
			if a.after != "" {
				a.c.say("<iq type='error' id='" + a.el.Attr("id") + "'><error type='cancel'><item-not-found xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></iq>")
				return
			}
			a.give("1")
			a.fin("", "1")
		}, []string{"1"}, "newer messages of the archive: "},
		"prefixes of the stream": {func(a *archive) {
			a.c.say(archived(a.query, "1", "", strings.Replace(word, "<body>", "<extra:y/><body>", 1)))
			a.fin(" complete='true'", "1")
		}, []string{"1"}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f, page := newFake(t), 0
				f.hear = func(c *fakeConn, el *frame.Element) bool {
					switch {
					case asks(el, "http://jabber.org/protocol/disco#info"):
						return c.result(el, "<query xmlns='http://jabber.org/protocol/disco#info'><feature var='urn:xmpp:mam:2'/></query>")
					case asks(el, "jabber:iq:roster") && el.Attr("type") == "get":
						return c.result(el, roster(1))
					case asks(el, "urn:xmpp:mam:2") && el.Attr("type") == "set":
						n := el.Node().Child("urn:xmpp:mam:2", "query")
						page++
						tt.answer(&archive{c, el, n.Attr("queryid"), n.Child("", "set").ChildText("", "after"), page})
						return true
					}
					return false
				}
				c := f.config()
				c.Limits.Archived, c.Limits.Page = 5, 3
				n := &notebook{}
				if _, err := client.Bring(t.Context(), c, n, client.Options{}); err != nil {
					t.Fatal(err)
				}
				var have []string
				for _, line := range n.with("archived ") {
					have = append(have, strings.Fields(line)[1])
				}
				if strings.Join(have, " ") != strings.Join(tt.want, " ") {
					t.Errorf("taken: %v", have)
				}
				losses := strings.Join(n.with("loss "), "\n")
				if tt.loss != "" != (losses != "") || !strings.Contains(losses, tt.loss) {
					t.Errorf("lost: %q", losses)
				}
				if len(n.with("roster ")) != 1 || n.users != 1 || n.ended != 1 {
					t.Errorf("not whole:\n%s", n.text())
				}
			})
		})
	}
}

// A session that is lost in the middle of the archive is begun anew, and the archive goes on where it was.
func TestResume(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		var askedFor []string
		f.hear = func(c *fakeConn, el *frame.Element) bool {
			switch {
			case asks(el, "jabber:iq:roster") && el.Attr("type") == "get":
				return c.result(el, roster(1))
			case asks(el, "http://jabber.org/protocol/disco#info"):
				return c.result(el, "<query xmlns='http://jabber.org/protocol/disco#info'><feature var='urn:xmpp:mam:2'/></query>")
			case asks(el, "urn:xmpp:mam:2") && el.Attr("type") == "set":
				n := el.Node().Child("urn:xmpp:mam:2", "query")
				after := n.Child("", "set").ChildText("", "after")
				f.mu.Lock()
				askedFor = append(askedFor, after)
				f.mu.Unlock()
				at := len(after)
				a := &archive{c: c, el: el, query: n.Attr("queryid")}
				a.give(strings.Repeat("i", at+1))
				if at%2 == 1 { // in the middle of the page
					_ = c.conn.Close()
					return true
				}
				a.give(strings.Repeat("i", at+2))
				if at > 20 {
					a.fin(" complete='true'", "")
				} else {
					a.fin("", strings.Repeat("i", at+2))
				}
				if at%4 == 2 { // between pages
					_ = c.conn.Close()
				}
				return true
			}
			return false
		}
		n := &notebook{}
		counts, err := client.Bring(t.Context(), f.config(), n, client.Options{})
		if err != nil {
			t.Fatal(err)
		}
		f.wg.Wait()
		seen := map[string]bool{}
		for _, line := range n.with("archived ") {
			id := strings.Fields(line)[1]
			if seen[id] {
				t.Errorf("%s came twice", id)
			}
			seen[id] = true
		}
		if counts.Archived != len(seen) || len(seen) < 22 || n.users != 1 || f.conns < 5 {
			t.Errorf("%+v, %d connections, asked for %q", counts, f.conns, askedFor)
		}
		if losses := n.with("loss "); len(losses) > 0 {
			t.Error(losses)
		}
	})
}

// A server that can not give one part does not keep the others from coming; and one that is gone for good ends it with words.
func TestPartThatBreaks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		f.hear = func(c *fakeConn, el *frame.Element) bool {
			switch {
			case asks(el, "vcard-temp"):
				_ = c.conn.Close()
				return true
			case asks(el, "jabber:iq:roster") && el.Attr("type") == "get":
				return c.result(el, roster(3))
			}
			return false
		}
		n := &notebook{}
		if _, err := client.Bring(t.Context(), f.config(), n, client.Options{}); err != nil {
			t.Fatal(err)
		}
		f.wg.Wait()
		if len(n.with("roster ")) != 3 || len(n.with("loss profile: ")) != 1 || n.ended != 1 {
			t.Error(n.text())
		}
		f.hear = func(c *fakeConn, _ *frame.Element) bool {
			f.login = func(c *fakeConn, _ *frame.Element) {
				c.say("<failure xmlns='urn:ietf:params:xml:ns:xmpp-sasl'><temporary-auth-failure/></failure>")
			}
			_ = c.conn.Close()
			return true
		}
		n = &notebook{}
		began := time.Now()
		_, err := client.Bring(t.Context(), f.config(), n, client.Options{})
		if !client.Again(err) || n.ended != 0 || time.Since(began) > time.Hour {
			t.Errorf("%v after %s", err, time.Since(began))
		}
	})
}

// The sink's own error ends the transfer at once, wherever it comes.
func TestFullSink(t *testing.T) {
	full := errors.New("the card is full")
	for _, line := range []string{"user", "roster", "end"} {
		synctest.Test(t, func(t *testing.T) {
			f := newFake(t)
			f.hear = func(c *fakeConn, el *frame.Element) bool {
				return asks(el, "jabber:iq:roster") && el.Attr("type") == "get" && c.result(el, roster(3))
			}
			n := &notebook{fail: func(l string) error {
				if strings.HasPrefix(l, line) {
					return full
				}
				return nil
			}}
			if _, err := client.Bring(t.Context(), f.config(), n, client.Options{}); !errors.Is(err, full) || f.connections() != 1 {
				t.Errorf("%s: %v, %d connections", line, err, f.connections())
			}
		})
	}
}

// What a server may do with a statement, and what is told then.
func TestHostileStatement(t *testing.T) {
	item := func(to string) string {
		return "<pubsub xmlns='http://jabber.org/protocol/pubsub'><items node='urn:xmpp:moved:1'><item id='current'><moved xmlns='urn:xmpp:moved:1'>" + to + "</moved></item></items></pubsub>"
	}
	right := item("<new-jid>juliet@new.example</new-jid>")
	for name, tt := range map[string]struct {
		publish, read, want string
	}{
		"kept":                 {"", right, ""},
		"not kept":             {"", "", "did not keep it"},
		"of another":           {"", item("<new-jid>evil@x.example</new-jid>"), "another statement"},
		"of two":               {"", item("<new-jid>juliet@new.example</new-jid><new-jid>evil@x.example</new-jid>"), "did not keep it"},
		"no personal eventing": {"<error type='cancel'><service-unavailable xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error>", "", "no personal eventing"},
		"forbidden":            {"<error type='auth'><forbidden xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error>", "", "forbidden"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFake(t)
				f.hear = func(c *fakeConn, el *frame.Element) bool {
					switch {
					case !asks(el, "http://jabber.org/protocol/pubsub"):
						return false
					case el.Attr("type") == "get":
						return tt.read != "" && c.result(el, tt.read)
					case tt.publish == "":
						return c.result(el, "")
					}
					c.say("<iq type='error' id='" + el.Attr("id") + "'>" + tt.publish + "</iq>")
					return true
				}
				s, err := client.Dial(t.Context(), f.config())
				if err != nil {
					t.Fatal(err)
				}
				defer func() { _ = s.Close() }()
				st, err := s.Publish(t.Context(), xmpp.MustJID("juliet@new.example"))
				if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
					t.Errorf("%+v, %v", st, err)
				}
				if err == nil && len(st.Lacks) == 0 {
					t.Error("nobody knows who may read it, and that is not told")
				}
			})
		})
	}
}
