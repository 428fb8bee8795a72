package client_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pibox/internal/portable/client"
	"pibox/internal/xmpp"
	"pibox/internal/xmpp/frame"
)

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
				st, err := s.Publish(t.Context(), xmpp.MustJID("juliet@new.example"), nil)
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
