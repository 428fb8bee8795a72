package client

import (
	"context"
	"errors"

	"pibox/internal/portable"
	"pibox/internal/xmpp"
	"pibox/internal/xmpp/frame"
)

// Uploader is a Sink that builds up the account it is logged in to, as far as its server takes it; what it does not is told to Lost. Contacts are not
// entered but collected, for Mover. It overwrites what has the same name there and leaves everything else. Repeated it changes nothing.
type Uploader struct {
	ctx context.Context
	s   *Session
	// Contacts are those of the account that came.
	Contacts []portable.RosterItem
	Lost     func(portable.Loss)

	archived, waiting int
	nodes             map[string]portable.Node
	refusedNodes      map[string]bool
	published         map[string]bool // something of it, in this session
}

// Upload gives an Uploader. ctx bounds all of it.
func (s *Session) Upload(ctx context.Context, lost func(portable.Loss)) *Uploader {
	return &Uploader{ctx: ctx, s: s, Lost: lost, nodes: map[string]portable.Node{}, refusedNodes: map[string]bool{}, published: map[string]bool{}}
}

// set asks for a change; a refusal is a loss.
func (u *Uploader) set(what string, raw []byte) error {
	_, err := u.s.ask(u.ctx, query{typ: "set", raw: raw})
	if refused(err) {
		u.lose(what, "the new server answered: "+err.Error())
		return nil
	}
	return err
}

func (u *Uploader) lose(what, why string) {
	if u.Lost != nil {
		u.Lost(portable.Loss{What: what, Why: why})
	}
}

// User, Credentials and Own are those of the account that is there.
func (u *Uploader) User(portable.User) error { return nil }

// Credentials implements portable.Sink.
func (u *Uploader) Credentials(portable.Credentials) error { return nil }

// Own implements portable.Sink.
func (u *Uploader) Own(portable.Own) error { return nil }

// Roster implements portable.Sink.
func (u *Uploader) Roster(item portable.RosterItem) error {
	if len(u.Contacts) >= u.s.c.Limits.Roster {
		return tooMuch("more than %d contacts", u.s.c.Limits.Roster)
	}
	u.Contacts = append(u.Contacts, item)
	return nil
}

// Pending can not be given on: only its sender can ask again.
func (u *Uploader) Pending(stanza []byte) error {
	who := "somebody"
	if el, err := frame.Parse(stanza, frame.NSClient, frame.Limits{}); err == nil {
		who = quoted(el.Attr("from"))
	}
	u.lose("the request of "+who, "no server takes it from a client: answer it before leaving, or add the contact at the new address")
	return nil
}

// Offline implements portable.Sink.
func (u *Uploader) Offline([]byte) error { u.waiting++; return nil }

// Archived implements portable.Sink.
func (u *Uploader) Archived(portable.Archived) error { u.archived++; return nil }

// Private implements portable.Sink.
func (u *Uploader) Private(element []byte) error {
	return u.set("private data", xmpp.NewXMLNS("query", nsPrivate).Raw(element).Bytes())
}

// VCard implements portable.Sink.
func (u *Uploader) VCard(element []byte) error { return u.set("profile", element) }

// ArchivePrefs implements portable.Sink.
func (u *Uploader) ArchivePrefs(element []byte) error {
	return u.set("preferences of the archive", element)
}

// Blocked implements portable.Sink.
func (u *Uploader) Blocked(jid string) error {
	return u.set("the block of "+quoted(jid), xmpp.NewXMLNS("block", nsBlocking).Open("item", "").Attr("jid", jid).Bytes())
}

// Node is noted: its items carry its configuration.
func (u *Uploader) Node(n portable.Node) error {
	if len(u.nodes) >= u.s.c.Limits.Nodes {
		return tooMuch("more than %d nodes", u.s.c.Limits.Nodes)
	}
	u.nodes[n.Name] = n
	return nil
}

// Item publishes an item, with the node's access and persistence; where the server can not do these, who may read it could be others than before, so it
// is not published there.
func (u *Uploader) Item(node string, it portable.Item) error {
	if stays(node) || u.refusedNodes[node] {
		return nil
	}
	err := u.publish(node, it)
	var r *Refusal
	if errors.As(err, &r) && (r.Specific == "precondition-not-met" || r.Condition == "conflict") {
		if err = u.configure(node); err == nil {
			err = u.publish(node, it)
		}
	} else if err == nil && !u.published[node] {
		err = u.configure(node) // the node is there only now, and may hold no more than one item
	}
	if refused(err) {
		u.refusedNodes[node] = true
		u.lose("what is published at "+quoted(node), "the new server answered: "+err.Error())
		return nil
	}
	u.published[node] = true
	return err
}

func (u *Uploader) publish(node string, it portable.Item) error {
	_, err := u.s.ask(u.ctx, query{typ: "set", raw: xmpp.NewXMLNS("pubsub", nsPubSub).
		Open("publish", "").Attr("node", node).Open("item", "").Attr("id", it.ID).Raw(it.Payload).Close().Close().
		// Some servers know no others than these two here.
		Raw(options(nsOptions, "publish-options", u.config(node, "persist_items", "access_model"))).Bytes()})
	return err
}

// configure gives a node its configuration. Servers differ in how many items they hold at the most, and in whether they know a word for that.
func (u *Uploader) configure(node string) (err error) {
	fields := u.config(node, "persist_items", "access_model", "send_last_published_item", "max_items")
	if len(fields) == 0 {
		return nil
	}
	last := &fields[len(fields)-1]
	for _, most := range []string{last[1], "max", "1000", "100"} {
		if last[0] == "pubsub#max_items" {
			last[1] = most
		}
		_, err = u.s.ask(u.ctx, query{typ: "set", raw: xmpp.NewXMLNS("pubsub", nsOwner).Open("configure", "").Attr("node", node).
			Raw(options(nsConfig, "", fields)).Bytes()})
		if !refused(err) || last[0] != "pubsub#max_items" {
			return err
		}
	}
	return err
}

// config is what of a node's configuration every server with PEP knows.
func (u *Uploader) config(node string, names ...string) [][2]string {
	fields := [][2]string{}
	for _, name := range names {
		if v := u.nodes[node].Config[name]; len(v) == 1 && v[0] != "" {
			fields = append(fields, [2]string{"pubsub#" + name, v[0]})
		}
	}
	return fields
}

// Unknown implements portable.Sink.
func (u *Uploader) Unknown(what portable.Loss) error { u.lose(what.What, what.Why); return nil }

// End implements portable.Sink.
func (u *Uploader) End() error {
	if u.archived > 0 {
		u.lose(word(u.archived, "message")+" of the archive", "no server takes them from a client; the export file holds them")
	}
	if u.waiting > 0 {
		u.lose(word(u.waiting, "message")+" that no device has got", "no server takes them from a client; read them before leaving")
	}
	return nil
}
