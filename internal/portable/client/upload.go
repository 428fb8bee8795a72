package client

import (
	"context"
	"errors"
	"strconv"

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
}

// Upload gives an Uploader. ctx bounds all of it.
func (s *Session) Upload(ctx context.Context, lost func(portable.Loss)) *Uploader {
	return &Uploader{ctx: ctx, s: s, Lost: lost, nodes: map[string]portable.Node{}, refusedNodes: map[string]bool{}}
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
	raw := func() []byte {
		return xmpp.NewXMLNS("pubsub", nsPubSub).Open("publish", "").Attr("node", node).Open("item", "").Attr("id", it.ID).Raw(it.Payload).Close().Close().
			Raw(options(nsOptions, "publish-options", u.config(node))).Bytes()
	}
	_, err := u.s.ask(u.ctx, query{typ: "set", raw: raw()})
	var r *Refusal
	if errors.As(err, &r) && (r.Specific == "precondition-not-met" || r.Condition == "conflict") {
		configure := xmpp.NewXMLNS("pubsub", nsOwner).Open("configure", "").Attr("node", node).Raw(options(nsConfig, "", u.config(node))).Bytes()
		if _, err = u.s.ask(u.ctx, query{typ: "set", raw: configure}); err == nil {
			_, err = u.s.ask(u.ctx, query{typ: "set", raw: raw()})
		}
	}
	if refused(err) {
		u.refusedNodes[node] = true
		u.lose("what is published at "+quoted(node), "the new server answered: "+err.Error())
		return nil
	}
	return err
}

// config is what of a node's configuration every server with PEP knows.
func (u *Uploader) config(node string) [][2]string {
	fields := [][2]string{}
	for _, name := range []string{"persist_items", "access_model", "max_items", "send_last_published_item"} {
		v := u.nodes[node].Config[name]
		if len(v) != 1 || v[0] == "" {
			continue
		}
		if _, err := strconv.Atoi(v[0]); name == "max_items" && err != nil && v[0] != "max" {
			continue
		}
		fields = append(fields, [2]string{"pubsub#" + name, v[0]})
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
