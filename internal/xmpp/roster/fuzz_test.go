package roster

import (
	"slices"
	"testing"

	"pibox/internal/store"
	"pibox/internal/xmpp"
	"pibox/internal/xmpp/frame"
)

// FuzzRosterSet: whatever a client puts into a roster set, what passes is within the limits and can be written and read again.
func FuzzRosterSet(f *testing.F) {
	ro := &Roster{}
	ro.opt.defaults()
	for _, seed := range []string{
		"<item jid='a@b.example'/>", "<item jid='a@b.example' subscription='remove'/>", "<item/>", "<item jid='@'/><item jid='a@b'/>",
		"<item jid='A@B.example/x' name='&lt;&#10;&apos;'><group>x</group><group/></item>", "<item jid='a@b.example'><group>g</group><group>g</group></item>",
		"<x:item xmlns:x='jabber:iq:roster' jid='a@b.example'><x:group><![CDATA[<g>]]></x:group></x:item>", "text",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, inner string) {
		el, err := frame.Parse([]byte("<iq><query xmlns='"+NS+"'>"+inner+"</query></iq>"), xmpp.NSClient, frame.Limits{})
		if err != nil {
			return
		}
		e, err := ro.parse(el.Node().Child(NS, "query"))
		if err != nil {
			return
		}
		if !e.who.IsBare() || e.who.IsZero() || len(e.name) > ro.opt.MaxName || len(e.groups) > ro.opt.MaxGroups {
			t.Fatalf("accepted %+v", e)
		}
		x := xmpp.NewXML("iq").Attr("type", "set").Attr("id", "1").Open("query", NS)
		writeItem(x, entry{e.who.String(), store.RosterItem{Name: e.name, Groups: e.groups, Sub: store.SubNone}})
		again, err := ro.parse(xmpp.Make(x.Bytes()).Node().Child(NS, "query"))
		if err != nil || again.who != e.who || again.name != e.name || !slices.Equal(again.groups, e.groups) {
			t.Fatalf("written and read again: %+v, %v, before: %+v", again, err, e)
		}
	})
}
