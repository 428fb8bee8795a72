package client

import (
	"context"
	"errors"

	"pibox/internal/xmpp"
)

// Access models of the statement's node. Never "open" of our own accord: where somebody moved is not for everybody (XEP-0283 §security-user).
const (
	accessPresence  = "presence"
	accessWhitelist = "whitelist"
)

// readersAtOnce keeps the stanza that names readers below what servers take.
const readersAtOnce = 200

// accessOf is the access model in a node's configuration; empty where the server does not tell.
func accessOf(config map[string][]string) string {
	if v := config["access_model"]; len(v) == 1 {
		return v[0]
	}
	return ""
}

// publishFor publishes the statement for those who are named, and reads back that it is so. Where the server can not do it, why says so; the statement
// is then one that nobody, or not everybody, may read.
func (s *Session) publishFor(ctx context.Context, publish func(access string) error, readers []xmpp.JID) (ok bool, why string, err error) {
	err = publish(accessWhitelist)
	if err == nil {
		why, err = s.letIn(ctx, readers)
	}
	if err == nil && why != "" {
		// What was published with it stays when it is published once more.
		err = s.configure(ctx, accessPresence)
	}
	var none *NoStatement
	if errors.As(err, &none) {
		return false, none.Why, nil
	}
	if refused(err) {
		return false, err.Error(), nil
	}
	return err == nil && why == "", why, err
}

// letIn puts the readers on the node's list (XEP-0060 §8.9.2), and reads back that they are on it, and that it counts.
func (s *Session) letIn(ctx context.Context, readers []xmpp.JID) (why string, err error) {
	for rest := readers; len(rest) > 0; {
		n := min(len(rest), readersAtOnce)
		x := xmpp.NewXMLNS("pubsub", nsOwner).Open("affiliations", "").Attr("node", nsMoved)
		for _, who := range rest[:n] {
			x.Open("affiliation", "").Attr("jid", who.String()).Attr("affiliation", "member").Close()
		}
		rest = rest[n:]
		if _, err := s.ask(ctx, query{typ: "set", raw: x.Bytes()}); refused(err) {
			return err.Error(), nil
		} else if err != nil {
			return "", err
		}
	}
	on, err := s.listed(ctx)
	if err != nil {
		return "", err
	}
	for _, who := range readers {
		if !on[who] {
			return "it accepted a list of them and did not keep it", nil
		}
	}
	config, err := s.configuration(ctx, nsMoved)
	if err == nil && accessOf(config) != accessWhitelist {
		if err = s.configure(ctx, accessWhitelist); err == nil {
			config, err = s.configuration(ctx, nsMoved)
		}
	}
	if refused(err) {
		return err.Error(), nil
	}
	if err == nil && accessOf(config) != accessWhitelist {
		why = "it does not tell that the list counts"
	}
	return why, err
}

// listed are who may read whatever the access model says.
func (s *Session) listed(ctx context.Context) (map[xmpp.JID]bool, error) {
	on := map[xmpp.JID]bool{}
	got, err := s.ask(ctx, query{typ: "get", raw: xmpp.NewXMLNS("pubsub", nsOwner).Open("affiliations", "").Attr("node", nsMoved).Bytes()})
	if refused(err) {
		return on, nil
	}
	if err != nil {
		return nil, err
	}
	list := got.Child(nsOwner, "affiliations")
	if list == nil {
		return on, nil
	}
	for _, c := range list.Children {
		switch c.Attr("affiliation") {
		case "member", "publisher", "owner":
			if who, err := xmpp.ParseJID(c.Attr("jid")); err == nil {
				on[who] = true
			}
		}
	}
	return on, nil
}

// configure sets who may read the statement.
func (s *Session) configure(ctx context.Context, access string) error {
	_, err := s.ask(ctx, query{typ: "set", raw: xmpp.NewXMLNS("pubsub", nsOwner).Open("configure", "").Attr("node", nsMoved).
		Raw(options(nsConfig, "", statementOptions(access))).Bytes()})
	return err
}
