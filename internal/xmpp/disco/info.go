package disco

import (
	"crypto"
	_ "crypto/sha1" // XEP-0115 §8.1: mandatory
	_ "crypto/sha256"
	_ "crypto/sha512"
	"encoding/base64"
	"errors"
	"slices"
	"strings"

	"pibox/internal/xmpp"
	"pibox/internal/xmpp/frame"
)

// Identity says what an entity is (XEP-0030 §3.1).
type Identity struct{ Category, Type, Lang, Name string }

// Form is extended information (XEP-0128): Type is the value of FORM_TYPE.
type Form struct {
	Type   string
	Fields []Field
}

// Field of a form.
type Field struct {
	Var    string
	Values []string
}

// Info is what an entity tells of itself.
type Info struct {
	Identities []Identity
	Features   []string
	Forms      []Form
}

// XML is the inside of a query element.
func (i Info) XML() []byte {
	var all []byte
	for _, id := range i.Identities {
		all = append(all, xmpp.NewXML("identity").Attr("category", id.Category).Attr("type", id.Type).
			Attr("xml:lang", id.Lang).Attr("name", id.Name).Bytes()...)
	}
	for _, f := range i.Features {
		all = append(all, xmpp.NewXML("feature").Attr("var", f).Bytes()...)
	}
	for _, f := range i.Forms {
		x := xmpp.NewXMLNS("x", nsData).Attr("type", "result")
		x.Open("field", "").Attr("var", formType).Attr("type", "hidden").Leaf("value", "", f.Type).Close()
		for _, field := range f.Fields {
			x.Open("field", "").Attr("var", field.Var)
			for _, v := range field.Values {
				x.Leaf("value", "", v)
			}
			x.Close()
		}
		all = append(all, x.Bytes()...)
	}
	return all
}

// hashOf gives a function that verification strings are made with, by the names that XEP-0115 §4 refers to. Weaker ones
// count as unknown.
func hashOf(name string) (crypto.Hash, bool) {
	switch name {
	case "sha-1":
		return crypto.SHA1, true
	case "sha-224":
		return crypto.SHA224, true
	case "sha-256":
		return crypto.SHA256, true
	case "sha-384":
		return crypto.SHA384, true
	case "sha-512":
		return crypto.SHA512, true
	}
	return 0, false
}

// Ver is the verification string (XEP-0115 §5.1).
func (i Info) Ver(h crypto.Hash) string {
	var parts []string
	ids := slices.Clone(i.Identities)
	slices.SortStableFunc(ids, func(a, b Identity) int {
		return slices.Compare([]string{a.Category, a.Type, a.Lang}, []string{b.Category, b.Type, b.Lang})
	})
	for _, id := range ids {
		parts = append(parts, id.Category+"/"+id.Type+"/"+id.Lang+"/"+id.Name)
	}
	parts = append(parts, slices.Sorted(slices.Values(i.Features))...)
	forms := slices.Clone(i.Forms)
	slices.SortStableFunc(forms, func(a, b Form) int { return strings.Compare(a.Type, b.Type) })
	for _, f := range forms {
		parts = append(parts, f.Type)
		fields := slices.Clone(f.Fields)
		slices.SortStableFunc(fields, func(a, b Field) int { return strings.Compare(a.Var, b.Var) })
		for _, field := range fields {
			parts = append(parts, field.Var)
			parts = append(parts, slices.Sorted(slices.Values(field.Values))...)
		}
	}
	sum := h.New()
	for _, p := range parts {
		_, _ = sum.Write([]byte(p + "<"))
	}
	return base64.StdEncoding.EncodeToString(sum.Sum(nil))
}

// notified are the nodes of whose events the entity wants to hear (XEP-0060 §9.2), sorted.
func (i Info) notified() []string {
	var nodes []string
	for _, f := range i.Features {
		node, ok := strings.CutSuffix(f, notify)
		if ok && node != "" && len(node) <= maxNode && len(nodes) < maxNodes {
			nodes = append(nodes, strings.Clone(node))
		}
	}
	slices.Sort(nodes)
	return slices.Compact(nodes)
}

// What is kept of one answer: at most so many nodes, with names of at most so many bytes.
const (
	maxNodes = 256
	maxNode  = 1024
)

// parseInfo reads the answer to a disco#info query.
func parseInfo(query *frame.Node) (i Info) {
	for _, c := range query.Children {
		switch {
		case c.NS == NSInfo && c.Name == "identity":
			i.Identities = append(i.Identities, Identity{c.Attr("category"), c.Attr("type"), c.Attr("xml:lang"), c.Attr("name")})
		case c.NS == NSInfo && c.Name == "feature":
			i.Features = append(i.Features, c.Attr("var"))
		case c.NS == nsData && c.Name == "x":
			if f, ok := parseForm(c); ok {
				i.Forms = append(i.Forms, f)
			}
		}
	}
	return i
}

// parseForm reads a form; one without a hidden FORM_TYPE is ignored (XEP-0115 §5.4, 3.6). A FORM_TYPE with several values is kept as a field,
// for check to find.
func parseForm(x *frame.Node) (f Form, ok bool) {
	for _, c := range x.Children {
		if c.NS != nsData || c.Name != "field" {
			continue
		}
		field := Field{Var: c.Attr("var")}
		for _, v := range c.Children {
			if v.NS == nsData && v.Name == "value" {
				field.Values = append(field.Values, v.Text)
			}
		}
		if field.Var != formType {
			f.Fields = append(f.Fields, field)
			continue
		}
		if c.Attr("type") == "hidden" && len(field.Values) > 0 {
			f.Type, ok = field.Values[0], true
		}
		if slices.ContainsFunc(field.Values, func(v string) bool { return v != field.Values[0] }) {
			f.Fields = append(f.Fields, field)
		}
	}
	return f, ok
}

var (
	errTwice     = errors.New("the same thing twice")
	errAmbiguous = errors.New("the verification string could stand for something else")
)

// check tells whether an answer is well-formed as XEP-0115 §5.4 (3.3 to 3.5) says, and one that no other answer with the same
// verification string can be made from: the string does not tell features from what is in identities and forms (§8.3), so
// separators in names, and +notify elsewhere than among the features, make it worthless for others than its sender.
func (i Info) check() error {
	ids, features, forms := map[Identity]bool{}, map[string]bool{}, map[string]bool{}
	for _, id := range i.Identities {
		if ids[id] {
			return errTwice
		}
		ids[id] = true
		if id.Category == "" || id.Type == "" || strings.ContainsAny(id.Category+id.Type+id.Lang, "/<") || ambiguous(id.Name) {
			return errAmbiguous
		}
	}
	for _, f := range i.Features {
		if features[f] {
			return errTwice
		}
		features[f] = true
		if strings.ContainsRune(f, '<') {
			return errAmbiguous
		}
	}
	for _, f := range i.Forms {
		if forms[f.Type] {
			return errTwice
		}
		forms[f.Type] = true
		if ambiguous(f.Type) {
			return errAmbiguous
		}
		for _, field := range f.Fields {
			if field.Var == formType {
				return errTwice
			}
			if ambiguous(field.Var) || slices.ContainsFunc(field.Values, ambiguous) {
				return errAmbiguous
			}
		}
	}
	if len(i.Identities) == 0 {
		return errAmbiguous
	}
	return nil
}

func ambiguous(s string) bool { return strings.ContainsRune(s, '<') || strings.HasSuffix(s, notify) }
