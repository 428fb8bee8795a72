package portable_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	"pibox/internal/portable"
	"pibox/internal/store"
	"pibox/internal/xmpp"
	"pibox/internal/xmpp/accounts"
)

// take imports the contents of one account.
func (h *home) take(contents string, change func(*portable.ImportOptions)) portable.Result {
	h.t.Helper()
	results, err := h.load(strings.NewReader(head+contents+tail), change)
	if err != nil || len(results) != 1 {
		h.t.Fatalf("%v, %+v", err, results)
	}
	return results[0]
}

func lost(r portable.Result) string {
	var b strings.Builder
	for _, l := range r.Losses {
		fmt.Fprintf(&b, "%d × %s: %s\n", l.Count, l.What, l.Why)
	}
	return b.String()
}

func wants(t *testing.T, text string, want ...string) {
	t.Helper()
	for _, w := range want {
		if !strings.Contains(text, w) {
			t.Errorf("no %q in\n%s", w, text)
		}
	}
}

// Under the same address the list is what the file says, as far as it can be one.
func TestForgedRoster(t *testing.T) {
	h := newHome(t, t.TempDir())
	defer h.close()
	r := h.take("<query xmlns='jabber:iq:roster'>"+
		"<item jid='romeo@montague.example/orchard' subscription='both'/>"+
		"<item jid='ROMEO@montague.example' subscription='both' ask='subscribe' approved='true' name='"+strings.Repeat("n", 2000)+"'><group/><group>a</group><group>a</group></item>"+
		"<item jid='romeo@montague.example' subscription='none'/>"+
		"<item jid='juliet@capulet.example' subscription='both'/>"+
		"<item jid='x@y' subscription='remove'/><item jid='@' subscription='both'/><item subscription='both'/>"+
		"<item jid='stranger@evil.example' subscription='both'/><item jid='asked@x.example' ask='subscribe'/>"+
		"</query><presence xmlns='jabber:client' type='subscribe' from='juliet@capulet.example'/>"+
		"<presence xmlns='jabber:client' type='unsubscribe' from='a@b'/><presence xmlns='jabber:client' type='subscribe'/>"+
		"<presence type='subscribe' from='c@d/e'><nick xmlns='http://jabber.org/protocol/nick'>C</nick></presence>", nil)
	l := h.read(juliet)
	want := map[string]store.RosterItem{
		"romeo@montague.example": {Sub: store.SubBoth, Name: strings.Repeat("n", 1023), Groups: []string{"a"}},
		"stranger@evil.example":  {Sub: store.SubBoth},
		"asked@x.example":        {Sub: store.SubNone, Ask: true},
	}
	if fmt.Sprint(l.Roster) != fmt.Sprint(want) {
		t.Errorf("%+v", l.Roster)
	}
	if len(l.Pending) != 1 || string(l.Pending["c@d"].Stanza) != "<presence from='c@d' to='juliet@capulet.example' type='subscribe'><nick xmlns='http://jabber.org/protocol/nick'>C</nick></presence>" {
		t.Errorf("%s", l.Pending["c@d"].Stanza)
	}
	wants(t, lost(r), "one resource", "already", "own contact", "no such state", "2 × a contact: its address", "too long", "2 × a contact's group", "only subscription requests")
	if r.Counts.Contacts != 3 || r.Counts.Requests != 1 {
		t.Errorf("%+v", r.Counts)
	}
}

// Keys of devices, and a statement of a move, are never imported.
func TestNeverImported(t *testing.T) {
	h := newHome(t, t.TempDir())
	defer h.close()
	r := h.take("<pubsub xmlns='http://jabber.org/protocol/pubsub'>"+
		"<items node='eu.siacs.conversations.axolotl.devicelist'><item id='current'><list xmlns='eu.siacs.conversations.axolotl'/></item></items>"+
		"<items node='urn:xmpp:omemo:2:bundles'><item id='1'><bundle xmlns='urn:xmpp:omemo:2'/></item></items>"+
		"<items node='urn:xmpp:moved:1'><item id='current'><moved xmlns='urn:xmpp:moved:1'><new-jid>x@y</new-jid></moved></item></items>"+
		"<items node='private'><item id='1'><a xmlns='b'/></item><item><a xmlns='c'/></item><item id='2'/></items>"+
		"</pubsub><pubsub xmlns='http://jabber.org/protocol/pubsub#owner'><configure node='urn:xmpp:moved:1'><x xmlns='jabber:x:data'/></configure></pubsub>", nil)
	l := h.read(juliet)
	if len(l.Nodes) != 1 || l.Nodes["private"].Config["access_model"][0] != "whitelist" || len(l.Items) != 2 {
		t.Errorf("%+v %+v", l.Nodes, l.Items)
	}
	if !r.OMEMO {
		t.Error("it is not told that there were keys")
	}
	wants(t, lost(r), "axolotl.devicelist", "omemo:2:bundles", "2 × node or item of urn:xmpp:moved:1", "settings of node private", "it is empty")
}

// A file of which nobody knows what its nodes let others do keeps what is private so.
func TestNodeSettings(t *testing.T) {
	h := newHome(t, t.TempDir())
	defer h.close()
	r := h.take("<pubsub xmlns='http://jabber.org/protocol/pubsub'><items node='n'><item id='1'><a xmlns='b'/></item><item id='2'><a xmlns='b'/></item><item id='3'><a xmlns='b'/></item></items></pubsub>"+
		"<pubsub xmlns='http://jabber.org/protocol/pubsub#owner'><configure node='n'><x xmlns='jabber:x:data' type='submit'>"+
		"<field var='pubsub#access_model'><value>vip</value></field><field var='pubsub#max_items'><value>2</value></field><field var='pubsub#new_thing'><value>1</value></field>"+
		"<field var='pubsub#persist_items'><value>1</value></field></x></configure>"+
		"<configure node='m'><x xmlns='jabber:x:data' type='submit'><field var='pubsub#access_model'><value>open</value></field><field var='pubsub#max_items'><value>infinity</value></field></x></configure>"+
		"<affiliations node='m'><affiliation jid='juliet@capulet.example' affiliation='owner'/><affiliation jid='romeo@montague.example' affiliation='member'/><affiliation jid='x' affiliation='king'/></affiliations>"+
		"<subscriptions node='m'><subscription jid='romeo@montague.example/o' subscribed='subscribed'/></subscriptions></pubsub>", nil)
	l := h.read(juliet)
	n, m := l.Nodes["n"], l.Nodes["m"]
	if fmt.Sprint(n.Config) != "map[access_model:[whitelist] max_items:[2]]" || fmt.Sprint(m.Config) != "map[access_model:[open] max_items:[max]]" {
		t.Errorf("%v, %v", n.Config, m.Config)
	}
	if fmt.Sprint(m.Affiliations, m.Subscriptions) != "map[romeo@montague.example:member] map[romeo@montague.example/o:subscribed]" {
		t.Errorf("%v %v", m.Affiliations, m.Subscriptions)
	}
	if _, oldest := l.Items["n\x001"]; oldest || len(l.Items) != 2 || r.Counts.Items != 2 {
		t.Errorf("%v, %+v", l.Items, r.Counts)
	}
	wants(t, lost(r), "setting access_model", "setting new_thing", "somebody's part", "the node holds no more than 2")
}

// Blocks come in two forms, as one list.
func TestBlocks(t *testing.T) {
	h := newHome(t, t.TempDir())
	defer h.close()
	r := h.take("<query xmlns='jabber:iq:privacy'><default name='d'/><list name='d'><item type='jid' value='a@b' action='deny' order='1'/>"+
		"<item type='jid' value='c@d' action='deny' order='2'><message/></item><item type='group' value='x' action='deny' order='3'/><item action='allow' order='4'/></list>"+
		"<list name='other'><item type='jid' value='never@b' action='deny' order='1'/></list></query>"+
		"<blocklist xmlns='urn:xmpp:blocking'><item jid='a@b'/><item jid='evil.example'/><item jid='capulet.example'/><item jid='@'/></blocklist>", nil)
	if l := h.read(juliet); fmt.Sprint(l.Blocks) != "[a@b evil.example]" {
		t.Errorf("%v", l.Blocks)
	}
	wants(t, lost(r), "not the default", "2 × a rule", "block itself or its server", "can not be understood")
}

func message(id, from, to, more string) string {
	return fmt.Sprintf("<message xmlns='jabber:client' id='%s' from='%s' to='%s'><body>%s</body>%s</message>", id, from, to, id, more)
}

func result(id, stamp, msg string) string {
	return "<result xmlns='urn:xmpp:mam:2' id='" + id + "'><forwarded xmlns='urn:xmpp:forward:0'><delay xmlns='urn:xmpp:delay' stamp='" + stamp + "'/>" + msg + "</forwarded></result>"
}

const (
	nurse = "nurse@capulet.example/x"
	me    = "juliet@capulet.example"
)

func (h *home) entries(account xmpp.JID) string {
	var b strings.Builder
	for _, m := range h.read(account).Log {
		st, err := xmpp.ParseStanza([]byte(m.Stanza))
		if err != nil {
			h.t.Fatal(err)
		}
		fmt.Fprintf(&b, "%s %s with %s", m.At.Format("2006-01-02T15:04:05"), st.ID, m.With)
		for role, name := range map[store.Role]string{store.Archived: "archived"} {
			if m.Role&role != 0 {
				b.WriteString(" " + name)
			}
		}
		if m.Role&store.Owed != 0 {
			b.WriteString(" owed")
		}
		if m.Role&store.ByOwner != 0 {
			b.WriteString(" sent")
		}
		b.WriteString("\n")
	}
	return b.String()
}

// What waits and is in the archive is one message, whichever comes first, and whether or not the two know of each other.
func TestWaitingAndArchived(t *testing.T) {
	own := "<account xmlns='urn:pibox:portable:0'/>"
	sid := func(id string) string {
		return "<stanza-id xmlns='urn:xmpp:sid:0' by='juliet@capulet.example' id='" + id + "'/>"
	}
	delay := func(stamp string) string {
		return "<delay xmlns='urn:xmpp:delay' from='capulet.example' stamp='" + stamp + "'>Offline Storage</delay>"
	}
	offline := "<offline-messages>" + message("2", nurse, me, delay("2020-01-02T00:00:00Z")+sid("b")) + message("3", nurse, me, delay("2020-01-03T00:00:00Z")) +
		message("4", nurse, me, delay("2020-01-04T00:00:01.5Z")) + "</offline-messages>"
	archive := "<archive xmlns='urn:xmpp:pie:0#mam'>" + result("a", "2020-01-01T00:00:00Z", message("1", me+"/b", nurse, sid("a"))) +
		result("b", "2020-01-02T00:00:00Z", message("2", nurse, me, sid("b"))) + result("c", "2020-01-04T00:00:00Z", message("4", nurse, me, "")) +
		result("d", "2020-01-03T00:00:00Z", message("5", nurse, me, "")) + result("e", "2999-01-03T00:00:00Z", message("6", nurse, me, "")) +
		result("f", "2020-01-06T00:00:00Z", message("7", nurse, "romeo@montague.example", "")) + result("g", "x", "<presence xmlns='jabber:client'/>") + "</archive>"
	for name, file := range map[string]string{"waiting first": offline + archive, "archive first": archive + offline, "of a pibox": own + offline + archive} {
		t.Run(name, func(t *testing.T) {
			h := newHome(t, t.TempDir())
			defer h.close()
			r := h.take(file, nil)
			got := h.entries(juliet)
			lines := []string{
				"2020-01-01T00:00:00 1 with nurse@capulet.example archived sent",
				"2020-01-02T00:00:00 2 with nurse@capulet.example archived owed",
				"2020-01-03T00:00:00 3 with nurse@capulet.example owed",
				"2020-01-04T00:00:00 4 with nurse@capulet.example archived owed",
				"2020-01-04T00:00:00 5 with nurse@capulet.example archived",
				" 6 with nurse@capulet.example archived",
			}
			switch name {
			case "of a pibox": // which would have said so, were 4 in the archive
				lines[3] = "2020-01-04T00:00:00 4 with nurse@capulet.example archived"
				lines = slices.Insert(lines, 5, "2020-01-04T00:00:01 4 with nurse@capulet.example owed")
			default: // what is not found in the archive comes behind it
				lines = append(slices.Delete(lines, 2, 3), " 3 with nurse@capulet.example owed")
			}
			for i, line := range strings.Split(strings.TrimSpace(got), "\n") {
				if i >= len(lines) || !strings.HasSuffix(line, lines[i]) {
					t.Fatalf("%s\ninstead of\n%s", got, strings.Join(lines, "\n"))
				}
			}
			wants(t, lost(r), "lies ahead", "earlier than", "neither from nor to", "holds no message")
			if all := fmt.Sprint(h.read(juliet).Log); strings.Contains(all, "stanza-id") || strings.Contains(all, "Offline Storage") {
				t.Error("what the old server added is still there")
			}
		})
	}
}

// Another address is a move: contacts are not taken over, and the account's own address is the new one.
func TestAs(t *testing.T) {
	h := newHome(t, t.TempDir())
	defer h.close()
	to := xmpp.MustJID("jule@capulet.example")
	r := h.take("<scram-credentials xmlns='urn:xmpp:pie:0#scram' mechanism='SCRAM-SHA-1'><iter-count>4096</iter-count><salt>QUFBQQ==</salt>"+
		"<server-key>0pXWGK0GZJ6TR73AIUN3ITYtA1g=</server-key><stored-key>Q6qT/SbybblGCZz8e8eSfCJOQic=</stored-key></scram-credentials>"+
		"<account xmlns='urn:pibox:portable:0' admin='true' created='2001-01-01T00:00:00Z'/>"+
		"<presence xmlns='jabber:client' type='subscribe' from='c@d'/>"+
		"<query xmlns='jabber:iq:roster'><item jid='romeo@montague.example' name='R' subscription='both'><group>g</group></item><item jid='c@d' subscription='to'/></query>"+
		"<offline-messages>"+message("1", nurse, me, "")+"</offline-messages>"+
		"<archive xmlns='urn:xmpp:pie:0#mam'>"+result("a", "2020-01-01T00:00:00Z", message("2", me+"/b", nurse, ""))+"</archive>", func(o *portable.ImportOptions) { o.As = to })
	if r.Refused != nil || !r.Moving || r.To != to.String() || r.Admin {
		t.Fatalf("%+v", r)
	}
	l := h.read(to)
	if len(l.Roster) != 0 || len(l.Pending) != 0 || l.Acc.Admin || len(l.Acc.SHA1.StoredKey) != 20 || l.Acc.Created.Year() == 2001 {
		t.Errorf("%+v", l)
	}
	for _, m := range l.Log {
		if strings.Contains(m.Stanza, "juliet") || !strings.Contains(m.Stanza, "jule@capulet.example") {
			t.Error(m.Stanza)
		}
	}
	h.update(func(tx *store.Tx) {
		job, ok := store.MoveJobs.Get(tx, to.String())
		if !ok || job.Old != me || job.State != store.MovePlanned {
			t.Errorf("%+v", job)
		}
		c, _ := store.MoveContacts.Get(tx, store.Key(to.String(), "romeo@montague.example"))
		if c.Sub != store.SubBoth || c.Name != "R" || c.Groups[0] != "g" {
			t.Errorf("%+v", c)
		}
		c, _ = store.MoveContacts.Get(tx, store.Key(to.String(), "c@d"))
		if c.Sub != store.SubTo || !strings.Contains(string(c.Pending), "to='jule@capulet.example'") {
			t.Errorf("%+v %s", c, c.Pending)
		}
	})
}

// An account that is there is touched only where it is empty.
func TestExisting(t *testing.T) {
	h := newHome(t, t.TempDir())
	defer h.close()
	if _, err := h.Accounts.Create(juliet, "a secret of juliet", accounts.Role{Restricted: true}); err != nil {
		t.Fatal(err)
	}
	old := h.read(juliet).Acc
	contents := "<query xmlns='jabber:iq:roster'><item jid='a@b' subscription='both'/></query>"
	if r := h.take(contents, nil); r.Refused != nil || r.OneTime != "" {
		t.Fatalf("%+v", r)
	}
	now := h.read(juliet)
	if fmt.Sprint(now.Acc) != fmt.Sprint(old) || len(now.Roster) != 1 {
		t.Errorf("%+v instead of %+v", now.Acc, old)
	}
	r := h.take("<query xmlns='jabber:iq:roster'><item jid='c@d' subscription='both'/></query>", nil)
	if !errors.Is(r.Refused, portable.ErrExists) {
		t.Errorf("%+v", r)
	}
	if again := h.read(juliet); len(again.Roster) != 1 || len(again.Roster["a@b"].Sub) == 0 {
		t.Errorf("%+v", again)
	}
}

// A password in the file becomes keys; without one, and without keys, one is made.
func TestPasswords(t *testing.T) {
	h := newHome(t, t.TempDir())
	defer h.close()
	_, err := h.load(strings.NewReader("<server-data xmlns='urn:xmpp:pie:0'><host jid='capulet.example'><user name='a' password='pass word 1'/>"+
		"<user name='c' password='&#x7;'/></host></server-data>"), nil)
	if err == nil {
		t.Fatal("a control character is read")
	}
	results, err := h.load(strings.NewReader("<server-data xmlns='urn:xmpp:pie:0'><host jid='capulet.example'><user name='b'/><user name='c' password='&#x200b;&#xad;'/>"+
		"<user name='d'><scram-credentials xmlns='urn:xmpp:pie:0#scram' mechanism='SCRAM-SHA-512'><iter-count>1</iter-count><salt>AA==</salt><server-key>AA==</server-key><stored-key>AA==</stored-key></scram-credentials>"+
		"<scram-credentials xmlns='urn:xmpp:pie:0#scram' mechanism='SCRAM-SHA-1'><iter-count>1</iter-count><salt>AA==</salt><server-key>AA==</server-key><stored-key>AA==</stored-key></scram-credentials>"+
		"<scram-credentials xmlns='urn:xmpp:pie:0#scram' mechanism='SCRAM-SHA-1'><iter-count>0x1</iter-count></scram-credentials></user></host>"+
		"<host jid='elsewhere.example'><user name='e'/></host></server-data>"), nil)
	if err != nil || len(results) != 4 {
		t.Fatalf("%v %+v", err, results)
	}
	for _, r := range results[:3] {
		if r.OneTime == "" || r.Refused != nil {
			t.Errorf("%+v", r)
		}
		h.logsIn(r.To, r.OneTime)
	}
	h.logsIn("a@capulet.example", "pass word 1")
	wants(t, lost(results[1]), "the password")
	wants(t, lost(results[2]), "SCRAM-SHA-512", "can not be right", "no number")
	if !errors.Is(results[3].Refused, portable.ErrUnserved) {
		t.Errorf("%+v", results[3])
	}
}

// ejabberd 23.01 writes keys in base64 of base64.
func TestKeysTwice(t *testing.T) {
	h := newHome(t, t.TempDir())
	defer h.close()
	r := h.take("<scram-credentials xmlns='urn:xmpp:pie:0#scram' mechanism='SCRAM-SHA-1'><iter-count>4096</iter-count><salt>UDZlUWZvbkJxVmlDbG1rNFBwclh6Zz09</salt>"+
		"<server-key>bEtwWGpFUFFhNW1ZaWJPRFZzeitoQ3g4ZXVNPQ==</server-key><stored-key>VWc5SEdSRStIU3BYTEpaRnU1QzZtTVpYSWx3PQ==</stored-key></scram-credentials>", nil)
	acc := h.read(juliet).Acc
	if r.OneTime != "" || len(acc.SHA1.StoredKey) != 20 || len(acc.SHA1.ServerKey) != 20 || len(acc.SHA1.Salt) != 16 || len(acc.SHA256.StoredKey) != 0 {
		t.Errorf("%+v", acc)
	}
}

// logsIn tells that an account has keys of a password.
func (h *home) logsIn(name, password string) {
	h.t.Helper()
	acc, err := h.Accounts.Credentials(strings.Split(name, "@")[0], strings.Split(name, "@")[1])
	if err != nil || !acc.Known || len(acc.Credentials.SHA1.StoredKey) != 20 || len(acc.Credentials.SHA256.StoredKey) != 32 || password == "" {
		h.t.Errorf("%s: %v, %v", name, acc.Known, err)
	}
}

// errAfter reads a part of a file, and then fails.
func errAfter(file []byte, n int, err error) io.Reader {
	return io.MultiReader(bytes.NewReader(file[:n]), failing{err})
}

type failing struct{ error }

func (f failing) Read([]byte) (int, error) { return 0, f.error }

// An import that breaks off anywhere leaves what was there before, and the next one is as the first.
func TestBrokenOff(t *testing.T) {
	here := newHome(t, t.TempDir())
	defer here.close()
	here.write(juliet, lives(juliet).Example(5))
	file, _ := here.export(juliet)
	want := fmt.Sprint(here.read(juliet))
	there := newHome(t, t.TempDir())
	defer there.close()
	if _, err := there.Accounts.Create(juliet, "a secret of juliet", accounts.Role{}); err != nil {
		t.Fatal(err)
	}
	empty := fmt.Sprint(there.read(juliet))
	broken := errors.New("the stick was pulled out")
	for n := 0; n < len(file)-30; n += 1 + len(file)/97 {
		if _, err := there.load(errAfter(file, n, broken), nil); !errors.Is(err, broken) {
			t.Fatalf("after %d bytes: %v", n, err)
		}
		if got := fmt.Sprint(there.read(juliet)); got != empty {
			t.Fatalf("after %d bytes there is %s", n, got)
		}
		if !there.Router.Exists(juliet) {
			t.Fatalf("after %d bytes the account that was there does not exist", n)
		}
		there.tidy(t)
	}
	if _, err := there.load(bytes.NewReader(file), nil); err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(there.read(juliet)); got != want {
		t.Errorf("%s\ninstead of\n%s", got, want)
	}
}

// A dry run tells the same and changes nothing.
func TestDryRun(t *testing.T) {
	here := newHome(t, t.TempDir())
	defer here.close()
	here.write(juliet, lives(juliet).Example(3))
	file, _ := here.export(juliet)
	there := newHome(t, t.TempDir())
	defer there.close()
	dry, err := there.load(bytes.NewReader(file), func(o *portable.ImportOptions) { o.DryRun = true })
	if err != nil || there.Router.Exists(juliet) {
		t.Fatal(err)
	}
	if l := there.read(juliet); len(l.Log)+len(l.Roster)+len(l.Nodes) > 0 {
		t.Errorf("%+v", l)
	}
	wet, err := there.load(bytes.NewReader(file), nil)
	if err != nil || fmt.Sprint(wet) != fmt.Sprint(dry) {
		t.Errorf("%v: %+v instead of %+v", err, wet, dry)
	}
}

// An account that is being imported is nobody else's to make.
func TestNameIsTaken(t *testing.T) {
	h := newHome(t, t.TempDir())
	defer h.close()
	im := h.Importer(context.Background(), nil)
	if err := im.User(portable.User{Name: "juliet", Domain: "capulet.example"}); err != nil {
		t.Fatal(err)
	}
	if _, err := h.Accounts.Create(juliet, "", accounts.Role{}); !errors.Is(err, accounts.ErrExists) {
		t.Errorf("%v", err)
	}
	other := h.Importer(context.Background(), nil)
	if err := other.User(portable.User{Name: "juliet", Domain: "capulet.example"}); !errors.Is(err, portable.ErrSkip) {
		t.Errorf("%v", err)
	}
	if err := errors.Join(other.Close(), im.Close()); err != nil {
		t.Error(err)
	}
	if _, err := h.Accounts.Create(juliet, "", accounts.Role{}); err != nil {
		t.Errorf("%v", err)
	}
}
