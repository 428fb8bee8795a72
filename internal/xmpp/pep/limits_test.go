package pep_test

import (
	"fmt"
	"strings"
	"testing"

	"pibox/internal/store"
	"pibox/internal/transcript"
	"pibox/internal/xmpp"
	"pibox/internal/xmpp/pep"
)

const head = `box capulet.example
account juliet = juliet@capulet.example
juliet/balcony connects
`

func publish(id int, node, item, payload string) string {
	return fmt.Sprintf("juliet/balcony sends <iq type='set' id='%d'><pubsub xmlns='%s'><publish node='%s'><item id='%s'><x xmlns='urn:x'>%s</x></item></publish></pubsub></iq>\n",
		id, pep.NS, node, item, payload)
}

func done(id int) string {
	return fmt.Sprintf("juliet/balcony receives <iq type='result' id='%d'><etc/></iq>\n", id)
}

func refused(id int, typ, condition, app string) string {
	if app != "" {
		app = "<" + app + " xmlns='" + pep.NSErrors + "'/>"
	}
	return fmt.Sprintf("juliet/balcony receives <iq type='error' id='%d'><error type='%s'><%s xmlns='%s'/><text xmlns='%s'>*</text>%s</error></iq>\n",
		id, typ, condition, xmpp.NSStanzas, xmpp.NSStanzas, app)
}

// The limits of start: 12 nodes, 20 items, 2000 bytes of payload, 8000 bytes in all, 5 entities.
func TestLimits(t *testing.T) {
	long := strings.Repeat("n", 1023)
	form := func(scope, fields string) string {
		return "<x xmlns='jabber:x:data' type='submit'><field var='FORM_TYPE'><value>" + pep.NS + "#" + scope + "</value></field>" + fields + "</x>"
	}
	configure := func(id int, fields string) string {
		return fmt.Sprintf("juliet/balcony sends <iq type='set' id='%d'><pubsub xmlns='%s'><configure node='n'>%s</configure></pubsub></iq>\n",
			id, pep.NSOwner, form("node_config", fields))
	}
	create := func(id, n int) string {
		return fmt.Sprintf("juliet/balcony sends <iq type='set' id='%d'><pubsub xmlns='%s'><create node='n%d'/></pubsub></iq>\n", id, pep.NS, n)
	}
	subscribe := func(id int, who string) string {
		return fmt.Sprintf("verona.example sends <iq type='set' id='%d' from='%s' to='juliet@capulet.example'><pubsub xmlns='%s'><subscribe node='n' jid='%s'/></pubsub></iq>\n", id, who, pep.NS, who)
	}
	var nodes, subs, affs strings.Builder
	for i := range 12 {
		nodes.WriteString(create(i+1, i) + fmt.Sprintf("juliet/balcony receives <iq type='result' id='%d'/>\n", i+1))
	}
	for i := range 5 {
		subs.WriteString(subscribe(i+10, fmt.Sprintf("s%d@verona.example", i)))
	}
	for i := range 6 {
		fmt.Fprintf(&affs, "<affiliation jid='a%d@verona.example' affiliation='member'/>", i)
	}
	tests := map[string]string{
		"a name of 1023 bytes, one of 1024": publish(1, long, long, "") + done(1) +
			publish(2, long+"n", "i", "") + refused(2, "modify", "not-acceptable", "") +
			publish(3, "n", long+"n", "") + refused(3, "modify", "not-acceptable", "") +
			fmt.Sprintf("juliet/balcony sends <iq type='set' id='4'><pubsub xmlns='%s'><create node='%s'/></pubsub></iq>\n", pep.NS, long+"n") +
			refused(4, "modify", "not-acceptable", ""),
		"payload": publish(1, "n", "i", strings.Repeat("x", 2000-len("<x xmlns='urn:x'></x>"))) + done(1) +
			publish(2, "n", "i", strings.Repeat("x", 2001-len("<x xmlns='urn:x'></x>"))) + refused(2, "modify", "not-acceptable", "payload-too-big"),
		"payload of a node": publish(1, "n", "i", "") + done(1) +
			configure(2, "<field var='pubsub#max_payload_size'><value>100</value></field>") + done(2) +
			publish(3, "n", "i", strings.Repeat("x", 100)) + refused(3, "modify", "not-acceptable", "payload-too-big") +
			configure(4, "<field var='pubsub#max_payload_size'><value>2001</value></field>") + refused(4, "modify", "not-acceptable", ""),
		"bytes of an account, until something is retracted": publish(1, "a", "i", strings.Repeat("x", 1900)) + publish(2, "b", "i", strings.Repeat("x", 1900)) +
			publish(3, "c", "i", strings.Repeat("x", 1900)) + publish(4, "d", "i", strings.Repeat("x", 1000)) + done(1) + done(2) + done(3) + done(4) +
			publish(5, "e", "i", strings.Repeat("x", 900)) + refused(5, "wait", "resource-constraint", "") +
			fmt.Sprintf("juliet/balcony sends <iq type='set' id='6'><pubsub xmlns='%s'><delete node='a'/></pubsub></iq>\n", pep.NSOwner) + done(6) +
			publish(7, "e", "i", strings.Repeat("x", 900)) + done(7),
		"nodes": nodes.String() + create(20, 20) + refused(20, "modify", "policy-violation", "max-nodes-exceeded") +
			publish(21, "more", "i", "") + refused(21, "modify", "policy-violation", "max-nodes-exceeded") +
			publish(22, "n1", "i", "") + done(22),
		"items asked for by id, 1000 bytes of them": publish(1, "n", "a", strings.Repeat("x", 500)) +
			configure(2, "<field var='pubsub#max_items'><value>3</value></field>") + publish(3, "n", "b", strings.Repeat("x", 500)) + done(1) + done(2) + done(3) +
			"juliet/balcony sends <iq type='get' id='4'><pubsub xmlns='" + pep.NS + "'><items node='n'><item id='b'/><item id='a'/></items></pubsub></iq>\n" +
			"juliet/balcony receives <iq type='result' id='4'><pubsub xmlns='" + pep.NS + "'><items node='n'><item id='b'><etc/></item></items></pubsub></iq>\n",
		"max stands for the limit": publish(1, "n", "i", "") + done(1) + configure(2, "<field var='pubsub#max_items'><value>20</value></field>") + done(2) +
			configure(3, "<field var='pubsub#max_items'><value>21</value></field>") + refused(3, "modify", "not-acceptable", ""),
		"subscriptions": publish(1, "n", "i", "") + configure(2, "<field var='pubsub#access_model'><value>open</value></field>") + subs.String() + "all forget\n" +
			subscribe(30, "late@verona.example") +
			"verona.example receives <iq type='error' id='30'><error type='wait'><policy-violation xmlns='" + xmpp.NSStanzas + "'/><text xmlns='" + xmpp.NSStanzas + "'>*</text><too-many-subscriptions xmlns='" + pep.NSErrors + "'/></error></iq>\n",
		"affiliations": publish(1, "n", "i", "") + done(1) +
			"juliet/balcony sends <iq type='set' id='2'><pubsub xmlns='" + pep.NSOwner + "'><affiliations node='n'>" + affs.String() + "</affiliations></pubsub></iq>\n" +
			"juliet/balcony receives <iq type='error' id='2'><pubsub xmlns='" + pep.NSOwner + "'><affiliations node='n'><etc/></affiliations></pubsub><error type='modify'><etc/></error></iq>\n",
		"configuration": publish(1, "n", "i", "") + done(1) +
			configure(2, "<field var='pubsub#title'><value>"+strings.Repeat("t", 1025)+"</value></field>") + refused(2, "modify", "not-acceptable", "") +
			configure(3, "<field var='pubsub#roster_groups_allowed'>"+strings.Repeat("<value>g</value>", 65)+"</field>") + refused(3, "modify", "not-acceptable", "") +
			configure(4, "<field var='pubsub#roster_groups_allowed'>"+values(9, 1000)+"</field>") + refused(4, "modify", "not-acceptable", "") +
			configure(5, fields(129)) + refused(5, "modify", "bad-request", ""),
	}
	for name, text := range tests {
		t.Run(name, func(t *testing.T) { transcript.Run(t, head+text, start) })
	}
}

func values(n, size int) (s string) {
	for i := range n {
		s += fmt.Sprintf("<value>%d%s</value>", i, strings.Repeat("g", size-1))
	}
	return s
}

func fields(n int) (s string) {
	for i := range n {
		s += fmt.Sprintf("<field var='f%d'/>", i)
	}
	return s
}

// A clock that is set back does not put a new item before older ones.
func TestClockSetBack(t *testing.T) {
	text := head + publish(1, "n", "a", "") + done(1) +
		"juliet/balcony sends <iq type='set' id='2'><pubsub xmlns='" + pep.NSOwner + "'><configure node='n'><x xmlns='jabber:x:data' type='submit'><field var='FORM_TYPE'><value>" + pep.NS + "#node_config</value></field><field var='pubsub#max_items'><value>3</value></field></x></configure></pubsub></iq>\n" + done(2) +
		"juliet/balcony sends <iq type='set' id='3'><ahead xmlns='test'/></iq>\n" + done(3) +
		publish(4, "n", "b", "") + done(4) + publish(5, "n", "c", "") + done(5) +
		"juliet/balcony sends <iq type='get' id='6'><pubsub xmlns='" + pep.NS + "'><items node='n'/></pubsub></iq>\n" +
		"juliet/balcony receives <iq type='result' id='6'><pubsub xmlns='" + pep.NS + "'><items node='n'><item id='a'><etc/></item><item id='b'><etc/></item><item id='c'><etc/></item></items></pubsub></iq>\n"
	transcript.Run(t, text, func(t testing.TB, st *store.Store, domains []string, remote xmpp.Remote) transcript.Box {
		box := start(t, st, domains, remote)
		box.Router.HandleTx(xmpp.Key{Class: xmpp.ToAccount, Kind: xmpp.IQ, Type: "set", NS: "test", Name: "ahead"}, func(tx *store.Tx, out *xmpp.Out, rq *xmpp.Request) error {
			key := store.Key(rq.Account().String(), "n", "a")
			item, _ := store.PEPItems.Get(tx, key)
			item.At = item.At.AddDate(1, 0, 0)
			store.PEPItems.Put(tx, key, item)
			out.Reply(rq, nil)
			return nil
		})
		return box
	})
}
