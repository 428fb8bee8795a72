package pep

import (
	"strings"

	"pibox/internal/xmpp"
	"pibox/internal/xmpp/frame"
)

const nsData = "jabber:x:data"

// FORM_TYPEs (XEP-0068).
const (
	formConfig    = NS + "#node_config"
	formOptions   = NS + "#publish-options"
	formMetadata  = NS + "#meta-data"
	formAuthorize = NS + "#subscribe_authorization"
)

const maxFields = 128

// form is a data form that came in (XEP-0004).
type form struct {
	typ    string // submit, cancel, …
	scope  string // FORM_TYPE
	fields []formField
}

type formField struct {
	name   string
	values []string
}

// readForm reads the one form that an element holds. Without a form it is absent.
func readForm(parent *frame.Node) (f form, ok bool, err error) {
	for _, c := range parent.Children {
		if c.NS != nsData || c.Name != "x" {
			continue
		}
		if ok {
			return form{}, false, malformed("there is more than one form")
		}
		ok = true
		if f, err = parseForm(c); err != nil {
			return form{}, false, err
		}
	}
	return f, ok, nil
}

func parseForm(x *frame.Node) (form, error) {
	f := form{typ: x.Attr("type")}
	seen := map[string]bool{}
	for _, c := range x.Children {
		if c.Name != "field" || c.NS != nsData {
			continue
		}
		name := c.Attr("var")
		if name == "" {
			continue
		}
		if seen[name] || len(seen) >= maxFields {
			return form{}, malformed("a form has each field once, and not too many")
		}
		seen[name] = true
		field := formField{name: name}
		for _, v := range c.Children {
			if v.Name == "value" && v.NS == nsData {
				field.values = append(field.values, v.Text)
			}
		}
		if name == "FORM_TYPE" {
			f.scope = strings.Join(field.values, " ")
			continue
		}
		f.fields = append(f.fields, field)
	}
	return f, nil
}

func (f form) value(name string) string {
	for _, field := range f.fields {
		if field.name == name && len(field.values) > 0 {
			return field.values[0]
		}
	}
	return ""
}

// yes tells whether a boolean field is set; known is false when it is no boolean.
func (f form) yes(name string) (set, known bool) {
	switch f.value(name) {
	case "1", "true":
		return true, true
	case "0", "false":
		return false, true
	}
	return false, false
}

// writeForm begins a form; the caller closes it.
func writeForm(x *xmpp.XML, typ, scope string) *xmpp.XML {
	x.Open("x", nsData).Attr("type", typ)
	x.Open("field", "").Attr("var", "FORM_TYPE").Attr("type", "hidden").Leaf("value", "", scope).Close()
	return x
}

func writeField(x *xmpp.XML, name, typ, label string, values ...string) *xmpp.XML {
	x.Open("field", "").Attr("var", name).Attr("type", typ).Attr("label", label)
	for _, v := range values {
		x.Leaf("value", "", v)
	}
	return x.Close()
}
