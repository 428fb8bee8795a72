package archive

import (
	"strconv"
	"strings"
	"time"

	"pibox/internal/xmpp"
	"pibox/internal/xmpp/frame"

	"mellium.im/xmpp/stanza"
)

// query asks for a page, as its sender wrote it: whether the ids exist is not known yet.
type query struct {
	id    *string // queryid
	with  xmpp.JID
	start time.Time // zero: open
	end   time.Time
	ids   []string // nil: all

	afterID, beforeID *string // of the form
	after, before     *string // of Result Set Management; an empty before is the last page
	max               int     // results; 0: the sender wants the count only
	flip              bool    // the results are sent in reverse order
}

func malformed(text string, args ...any) error { return xmpp.Errorf(stanza.BadRequest, text, args...) }

// parseQuery reads a query element.
func parseQuery(n *frame.Node) (query, error) {
	q := query{max: defaultPage}
	if n.HasAttr("node") { // XEP-0442
		return q, xmpp.Errorf(stanza.FeatureNotImplemented, "there are no archives of nodes")
	}
	if n.HasAttr("queryid") {
		id := n.Attr("queryid")
		if len(id) > maxQueryID {
			return q, malformed("the queryid is too long")
		}
		q.id = &id
	}
	form, set := false, false
	for _, c := range n.Children {
		var err error
		switch {
		case c.NS == nsData && c.Name == "x":
			if form {
				return q, malformed("there is more than one form")
			}
			form, err = true, q.form(c)
		case c.NS == NSRSM && c.Name == "set":
			if set {
				return q, malformed("there is more than one set")
			}
			set, err = true, q.set(c)
		case c.NS == NS && c.Name == "flip-page":
			q.flip = true
		}
		if err != nil {
			return q, err
		}
	}
	return q, nil
}

// set is XEP-0059.
func (q *query) set(n *frame.Node) error {
	seen := map[string]bool{}
	for _, c := range n.Children {
		if c.NS != NSRSM {
			continue
		}
		if seen[c.Name] {
			return malformed("the set has %s twice", c.Name)
		}
		seen[c.Name] = true
		switch text := c.Text; c.Name {
		case "max":
			n, err := strconv.Atoi(strings.TrimSpace(text))
			if err != nil || n < 0 {
				return malformed("max is no number")
			}
			q.max = min(n, maxPage)
		case "after":
			q.after = &text
		case "before":
			q.before = &text
		case "index": // §2.6: to find the place is what an index over the whole archive would be needed for
			return xmpp.Errorf(stanza.FeatureNotImplemented, "pages are not found by their index")
		}
	}
	return nil
}

// form is XEP-0313 §"Filtering results". Fields without a value are as if they were absent (XEP-0004 §3.3).
func (q *query) form(x *frame.Node) error {
	if x.Attr("type") != "submit" {
		return malformed("the form is not one that is submitted")
	}
	seen := map[string]bool{}
	for _, c := range x.Children {
		if c.NS != nsData || c.Name != "field" || c.Attr("type") == "fixed" {
			continue
		}
		name := c.Attr("var")
		if seen[name] {
			return malformed("the form has %q twice", name)
		}
		seen[name] = true
		var values []string
		for _, v := range c.Children {
			if v.NS == nsData && v.Name == "value" {
				values = append(values, v.Text)
			}
		}
		if err := q.field(name, values); err != nil {
			return err
		}
	}
	if !seen["FORM_TYPE"] {
		return malformed("the form has no FORM_TYPE")
	}
	return nil
}

func (q *query) field(name string, values []string) error {
	switch name {
	case "FORM_TYPE":
		if len(values) != 1 || values[0] != NS {
			return malformed("the form is of another type")
		}
		return nil
	case "with", "start", "end", "before-id", "after-id", "include-groupchat":
		if len(values) > 1 {
			return malformed("%s has one value", name)
		}
		if len(values) == 0 || values[0] == "" {
			return nil
		}
		return q.single(name, values[0])
	case "ids":
		if len(values) > maxIDs {
			return xmpp.Errorf(stanza.PolicyViolation, "more than %d ids at once", maxIDs)
		}
		q.ids = values
		return nil
	}
	return xmpp.Errorf(stanza.FeatureNotImplemented, "there is no such field")
}

func (q *query) single(name, value string) (err error) {
	switch name {
	case "with":
		if q.with, err = xmpp.ParseJID(strings.TrimSpace(value)); err != nil {
			return xmpp.Errorf(stanza.JIDMalformed, "with is no address")
		}
	case "start":
		q.start, err = parseTime(value)
	case "end":
		q.end, err = parseTime(value)
	case "before-id":
		q.beforeID = &value
	case "after-id":
		q.afterID = &value
	case "include-groupchat": // nothing of a room is in the archive, whatever is asked for
		switch strings.TrimSpace(value) {
		case "true", "false", "1", "0":
		default:
			return malformed("include-groupchat is true or false")
		}
	}
	return err
}

// parseTime is the DateTime of XEP-0082.
func parseTime(s string) (t time.Time, err error) {
	s = strings.TrimSpace(s)
	if err := t.UnmarshalText([]byte(s)); err != nil || strings.Contains(s, ",") { // strict, other than time.Parse, but for the comma of ISO 8601
		return t, malformed("a time is written like 2010-06-07T00:00:00Z")
	}
	return t.UTC(), nil
}

// fields tells what can be asked for (XEP-0313 §"Retrieving form fields").
func fields(rq *xmpp.Request) error {
	x := xmpp.NewXMLNS("query", NS).Open("x", nsData).Attr("type", "form")
	x.Open("field", "").Attr("type", "hidden").Attr("var", "FORM_TYPE").Leaf("value", "", NS).Close()
	for _, f := range [][2]string{
		{"jid-single", "with"}, {"text-single", "start"}, {"text-single", "end"}, {"text-single", "before-id"}, {"text-single", "after-id"},
		{"boolean", "include-groupchat"},
	} {
		x.Open("field", "").Attr("type", f[0]).Attr("var", f[1]).Close()
	}
	x.Open("field", "").Attr("type", "list-multi").Attr("var", "ids").
		Open("validate", nsValidate).Attr("datatype", "xs:string").Leaf("open", "", "").Close().Close()
	rq.Reply(x.Bytes())
	return nil
}
