package client

import (
	"context"
	"errors"
	"strings"

	"pibox/internal/xmpp"
	"pibox/internal/xmpp/frame"
)

// Statement tells what came of publishing a moved statement (XEP-0283).
type Statement struct {
	// Access is the node's access model as it is now: "whitelist" where the readers that were named may read it, else "presence", or what the
	// server made of it; empty where it does not tell.
	Access string `json:"access,omitempty"`
	// Lacks tells, each in words, what the server can not do, so that some contacts' servers may be unable to verify the move.
	Lacks []string `json:"lacks,omitempty"`
}

// NoStatement is why a server can not hold a statement at all.
type NoStatement struct{ Why string }

func (e *NoStatement) Error() string {
	return "the old server can not hold the statement that proves the move: " + e.Why
}

// item 'current' of the node is the statement.
func statement(to xmpp.JID, access string) []byte {
	return xmpp.NewXMLNS("pubsub", nsPubSub).Open("publish", "").Attr("node", nsMoved).Open("item", "").Attr("id", "current").
		Open("moved", nsMoved).Leaf("new-jid", "", to.String()).Close().Close().Close().Raw(options(nsOptions, "publish-options", statementOptions(access))).Bytes()
}

// statementOptions: contacts may read it, nobody else, and it stays (XEP-0283 §security-user).
func statementOptions(access string) [][2]string {
	return [][2]string{{"pubsub#persist_items", "true"}, {"pubsub#access_model", access}}
}

// options is a submitted form, in an element where one is named.
func options(form, element string, fields [][2]string) []byte {
	x := xmpp.NewXMLNS("x", nsData).Attr("type", "submit").
		Open("field", "").Attr("var", "FORM_TYPE").Attr("type", "hidden").Leaf("value", "", form).Close()
	for _, f := range fields {
		x.Open("field", "").Attr("var", f[0]).Leaf("value", "", f[1]).Close()
	}
	if element == "" {
		return x.Bytes()
	}
	return xmpp.NewXML(element).Raw(x.Bytes()).Bytes()
}

// Publish publishes that the account moved to another address, reads it back, and tells what the server lacks. Publishing again is the same as once.
// readers are who may read it: with the access model "presence", which is used where there are none or the server can not do it, it is hidden from
// contacts who do not see the account, although they are told of the move. Errors: *NoStatement, *Refusal, and those that end the session.
func (s *Session) Publish(ctx context.Context, to xmpp.JID, readers []xmpp.JID) (st Statement, err error) {
	to = to.Bare()
	if to == s.me.Bare() || to.Local == "" {
		return st, errors.New("an account can not move to " + to.String())
	}
	has, err := s.supports(ctx, s.me.Bare())
	if err != nil {
		return st, err
	}
	was, there, err := s.Published(ctx)
	if err != nil {
		return st, err
	}
	publish := func(access string) error { return s.publish(ctx, to, has, access) }
	if there && was == to { // by an earlier session; contacts' apps are told of what is published, and once is enough
		publish = func(access string) error { return s.allow(ctx, access) }
	}
	listed, why := false, ""
	if len(readers) > 0 {
		if listed, why, err = s.publishFor(ctx, publish, readers); err != nil {
			return st, err
		}
	}
	if !listed {
		if err := publish(accessPresence); err != nil {
			return st, err
		}
	}
	is, there, err := s.Published(ctx)
	switch {
	case err != nil:
		return st, err
	case !there:
		return st, &NoStatement{Why: "it accepted the statement and did not keep it"}
	case is != to:
		return st, &NoStatement{Why: "it gives another statement than the one it accepted"}
	}
	config, err := s.configuration(ctx, nsMoved)
	if err != nil {
		return st, err
	}
	st.Access = accessOf(config)
	st.Lacks = lacks(config, st.Access, listed)
	if why != "" {
		st.Lacks = append(st.Lacks, "it does not let the statement be read by those who are named ("+why+"): contacts whom you see, and who do not see you, have to approve by hand")
	}
	return st, nil
}

// lacks; listed: the readers are on the node's list.
func lacks(config map[string][]string, access string, listed bool) (list []string) {
	if config == nil {
		list = append(list, "it does not tell who may read the statement")
	}
	if access != "" && access != accessPresence && access != "open" && (access != accessWhitelist || !listed) {
		list = append(list, "only "+quoted(access)+" may read the statement: contacts' servers will not be able to verify the move")
	}
	if v := config["persist_items"]; len(v) == 1 && !isTrue(v[0]) {
		list = append(list, "it does not keep the statement when it is restarted")
	}
	return list
}

// publish publishes; a node that is there with another configuration is configured first.
func (s *Session) publish(ctx context.Context, to xmpp.JID, has map[string]bool, access string) error {
	_, err := s.ask(ctx, query{typ: "set", raw: statement(to, access)})
	var r *Refusal
	switch {
	case err == nil || !errors.As(err, &r):
		return err
	case r.Specific == "precondition-not-met" || r.Condition == "conflict":
		if err := s.configure(ctx, access); err != nil {
			return err
		}
		_, err = s.ask(ctx, query{typ: "set", raw: statement(to, access)})
		return err
	case r.Condition == "service-unavailable" || r.Condition == "feature-not-implemented":
		why := "it has no personal eventing (PEP)"
		if has["pubsub/pep"] {
			why = "it refused to store it (" + r.Condition + ")"
		}
		return &NoStatement{Why: why}
	}
	return &NoStatement{Why: r.Error()}
}

// allow sets who may read a statement that is published. A server that does not let that be set says itself who may (Statement.Lacks).
func (s *Session) allow(ctx context.Context, access string) error {
	config, err := s.configuration(ctx, nsMoved)
	if err != nil || accessOf(config) == access {
		return err
	}
	if err = s.configure(ctx, access); refused(err) && access == accessPresence {
		return nil
	}
	return err
}

// Published reads the statement that the account serves.
func (s *Session) Published(ctx context.Context) (to xmpp.JID, there bool, err error) {
	got, err := s.ask(ctx, query{typ: "get", raw: xmpp.NewXMLNS("pubsub", nsPubSub).
		Open("items", "").Attr("node", nsMoved).Open("item", "").Attr("id", "current").Bytes()})
	if refused(err) {
		return to, false, nil
	}
	if err != nil {
		return to, false, err
	}
	list := got.Child(nsPubSub, "items")
	if list.Attr("node") != nsMoved {
		return to, false, nil
	}
	for _, it := range list.Children {
		if it.Attr("id") != "current" || it.NS != nsPubSub || it.Name != "item" {
			continue
		}
		if to, there = newJID(it.Child(nsMoved, "moved")); there {
			return to, true, nil
		}
	}
	return xmpp.JID{}, false, nil
}

// newJID is the one new address of a statement.
func newJID(moved *frame.Node) (to xmpp.JID, ok bool) {
	if moved == nil {
		return to, false
	}
	n := 0
	for _, c := range moved.Children {
		if c.NS == nsMoved && c.Name == "new-jid" {
			n++
			j, err := xmpp.ParseJID(strings.Trim(c.Text, " \t\r\n"))
			to, ok = j, err == nil && j.IsBare() && j.Local != ""
		}
	}
	return to, ok && n == 1
}

// Retract takes the statement back; one that is not there is taken back already. It reads back that it is gone.
func (s *Session) Retract(ctx context.Context) error {
	_, err := s.ask(ctx, query{typ: "set", raw: xmpp.NewXMLNS("pubsub", nsPubSub).
		Open("retract", "").Attr("node", nsMoved).Attr("notify", "true").Open("item", "").Attr("id", "current").Bytes()})
	if err != nil && !refused(err) {
		return err
	}
	_, there, readErr := s.Published(ctx)
	switch {
	case readErr != nil:
		return readErr
	case !there:
		return nil
	case err != nil:
		return err
	}
	return errors.New("the old server still serves the statement that it was told to take back")
}
