package client_test

import (
	"encoding/base64"
	"fmt"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pibox/internal/portable/client"
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
