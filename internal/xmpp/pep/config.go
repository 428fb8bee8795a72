package pep

import (
	"maps"
	"slices"
	"strconv"
	"strings"

	"pibox/internal/xmpp"

	"mellium.im/xmpp/stanza"
)

// field is one field of a node's configuration (XEP-0060 §16.4.4), named without "pubsub#".
type field struct {
	name, label string
	kind        kind
	def         string
	options     []string // of a list
	limit       int      // of a number
	unlimited   bool     // the number may also be "max"
	fixed       bool     // has one possible value only and is in no form of ours, but clients send it
}

type kind uint8

const (
	boolean kind = iota
	list
	number
	text
	jids
	groups
	tag // a language tag; the options are some of them
)

// String is the field's type (XEP-0004 §3.3).
func (k kind) String() string {
	return [...]string{"boolean", "list-single", "text-single", "text-single", "jid-multi", "list-multi", "list-single"}[k]
}

const (
	maxText   = 1024 // bytes of one value
	maxValues = 64   // of one field
	maxConfig = 8192 // bytes of all that differs from the defaults
)

// Access models (XEP-0060 §4.5).
const (
	accessOpen      = "open"
	accessPresence  = "presence"
	accessRoster    = "roster"
	accessAuthorize = "authorize"
	accessWhitelist = "whitelist"
)

// languages are offered for a node; a form takes any other tag, too.
func languages() []string {
	return []string{"ar", "bg", "ca", "cs", "da", "de", "el", "en", "es", "et", "fa", "fi", "fr", "he", "hi", "hr", "hu", "id", "it", "ja", "ko", "lt", "lv",
		"nb", "nl", "pl", "pt", "ro", "ru", "sk", "sl", "sr", "sv", "th", "tr", "uk", "vi", "zh"}
}

// languageTag tells what has the form of one (RFC 5646 §2.1): parts of one to eight letters and digits.
func languageTag(s string) bool {
	for part := range strings.SplitSeq(s, "-") {
		if len(part) < 1 || len(part) > 8 || strings.Trim(strings.ToLower(part), "abcdefghijklmnopqrstuvwxyz0123456789") != "" {
			return false
		}
	}
	return true
}

func configFields(opt Options) []field {
	return []field{
		{name: "title", kind: text, label: "A friendly name for the node"},
		{name: "description", kind: text, label: "A description of the node"},
		{name: "language", kind: tag, options: languages(), label: "The default language of the node"},
		{name: "contact", kind: jids, label: "The JIDs of those to contact with questions"},
		{name: "type", kind: text, label: "The semantic type of the data in the node"},
		{name: "access_model", kind: list, def: accessPresence, options: []string{accessAuthorize, accessOpen, accessPresence, accessRoster, accessWhitelist}, label: "Who may subscribe and retrieve items"},
		{name: "roster_groups_allowed", kind: groups, label: "The roster groups allowed to subscribe and retrieve items"},
		{name: "publish_model", kind: list, def: "publishers", options: []string{"publishers", "subscribers", "open"}, label: "Who may publish"},
		{name: "persist_items", kind: boolean, def: "true", label: "Whether to keep items"},
		{name: "max_items", kind: number, def: "1", limit: opt.MaxItems, unlimited: true, label: "How many items to keep"},
		{name: "publish_node_full", kind: list, def: "retract-oldest", options: []string{"retract-oldest", "discard-oldest", "reject"}, label: "What to do when one item too many is published"},
		{name: "item_expire", kind: number, def: "max", limit: 1 << 30, unlimited: true, label: "After how many seconds to remove items"},
		{name: "max_payload_size", kind: number, def: strconv.Itoa(opt.MaxPayload), limit: opt.MaxPayload, label: "The maximum payload size in bytes"},
		{name: "deliver_notifications", kind: boolean, def: "true", label: "Whether to send event notifications"},
		{name: "deliver_payloads", kind: boolean, def: "true", label: "Whether event notifications hold payloads"},
		{name: "notification_type", kind: list, def: "headline", options: []string{"headline", "normal"}, label: "The type of event notifications"},
		{name: "send_last_published_item", kind: list, def: "on_sub_and_presence", options: []string{"never", "on_sub", "on_sub_and_presence"}, label: "When to send the last published item"},
		{name: "presence_based_delivery", kind: boolean, def: "false", label: "Whether to notify available subscribers only"},
		{name: "notify_config", kind: boolean, def: "false", label: "Whether to notify of configuration changes"},
		{name: "notify_delete", kind: boolean, def: "true", label: "Whether to notify when the node is deleted"},
		{name: "notify_retract", kind: boolean, def: "false", label: "Whether to notify when items are removed"},
		{name: "notify_sub", kind: boolean, def: "false", label: "Whether to notify the owner about subscriptions"},
		{name: "itemreply", kind: list, def: "none", options: []string{"none", "publisher"}, label: "Whether items name their publisher"},
		{name: "subscribe", kind: boolean, def: "true", label: "Whether to allow subscriptions"},
		{name: "node_type", kind: list, def: "leaf", options: []string{"leaf"}, fixed: true},
		{name: "purge_offline", kind: list, def: "false", options: []string{"false"}, fixed: true},
		{name: "tempsub", kind: list, def: "false", options: []string{"false"}, fixed: true},
	}
}

// config is a node's configuration: what differs from the defaults.
type config struct {
	p   *PEP
	set map[string][]string
}

// field finds a field of a form by its name with "pubsub#".
func (c config) field(name string) (field, bool) {
	name, ours := strings.CutPrefix(name, "pubsub#")
	i, known := c.p.fieldAt[name]
	if !ours || !known {
		return field{}, false
	}
	return c.p.fields[i], true
}

// values are those of a field, set or default.
func (c config) values(name string) []string {
	if v, ok := c.set[name]; ok {
		return v
	}
	if def := c.p.fields[c.p.fieldAt[name]].def; def != "" {
		return []string{def}
	}
	return nil
}

func (c config) get(name string) string {
	if v := c.values(name); len(v) > 0 {
		return v[0]
	}
	return ""
}

func (c config) on(name string) bool { return c.get(name) == "true" }

// number is the value of a numeric field; "max" is its limit.
func (c config) number(name string) int {
	limit := c.p.fields[c.p.fieldAt[name]].limit
	n, err := strconv.Atoi(c.get(name))
	if err != nil || n > limit {
		return limit
	}
	return n
}

// with gives the configuration with the form's fields. Fields that nobody knows are ignored, as are those without a value (XEP-0004 §3.3).
func (c config) with(f form) (config, error) {
	set := maps.Clone(c.set)
	if set == nil {
		set = map[string][]string{}
	}
	size := 0
	for _, ff := range f.fields {
		fd, ok := c.field(ff.name)
		if !ok {
			continue
		}
		v, skip, err := fd.canonical(ff.values)
		switch {
		case err != nil:
			return config{}, err
		case skip:
		case len(v) == 0 || len(v) == 1 && v[0] == fd.def:
			delete(set, fd.name)
		default:
			set[fd.name] = v
		}
	}
	for _, values := range set {
		for _, v := range values {
			size += len(v)
		}
	}
	if size > maxConfig {
		return config{}, unacceptable("that is too much configuration")
	}
	return config{c.p, set}, nil
}

// unmet tells the first field of publish-options that the configuration does not fulfil, or that nobody knows (XEP-0060 §7.1.5); "" when
// there is none.
func (c config) unmet(f form) string {
	for _, ff := range f.fields {
		fd, ok := c.field(ff.name)
		if !ok {
			return ff.name
		}
		want, skip, err := fd.canonical(ff.values)
		if err != nil || !skip && !slices.Equal(want, c.values(fd.name)) {
			return ff.name
		}
	}
	return ""
}

// canonical checks values and gives them one form. skip: there is no value that could mean something.
func (f field) canonical(in []string) (out []string, skip bool, err error) {
	if len(in) > maxValues {
		return nil, false, unacceptable(f.name + " has too many values")
	}
	for _, v := range in {
		if len(v) > maxText {
			return nil, false, unacceptable(f.name + " is too long")
		}
	}
	switch f.kind {
	case jids:
		return f.jids(in)
	case groups:
		out = slices.Clone(in)
		slices.Sort(out)
		return slices.Compact(out), false, nil
	case text, tag:
		if len(in) == 0 || in[0] == "" {
			return nil, false, nil
		}
		if f.kind == tag && !languageTag(in[0]) {
			return nil, false, unacceptable(f.name + " is a language tag, such as en or pt-BR")
		}
		return in[:1], false, nil
	}
	if len(in) == 0 || in[0] == "" {
		return nil, true, nil
	}
	if len(in) > 1 {
		return nil, false, unacceptable(f.name + " has one value")
	}
	v, err := f.single(in[0])
	return []string{v}, false, err
}

func (f field) jids(in []string) (out []string, skip bool, err error) {
	for _, v := range in {
		j, err := xmpp.ParseJID(v)
		if err != nil {
			return nil, false, unacceptable(f.name + " holds addresses")
		}
		out = append(out, j.String())
	}
	return out, false, nil
}

func (f field) single(v string) (string, error) {
	switch {
	case f.kind == number:
		return f.count(v)
	case f.kind == boolean || slices.Contains(f.options, "false"):
		switch v {
		case "0":
			v = "false"
		case "1":
			v = "true"
		}
	}
	switch {
	case f.kind == boolean && (v == "true" || v == "false"), slices.Contains(f.options, v):
		return v, nil
	case f.name == "access_model":
		return "", fault(stanza.NotAcceptable, "unsupported-access-model", "there is no such access model")
	}
	return "", unacceptable(f.name + " can not have that value")
}

func (f field) count(v string) (string, error) {
	if v == "max" && f.unlimited {
		return v, nil
	}
	n, err := strconv.Atoi(strings.TrimSpace(v))
	if err != nil || n < 1 || n > f.limit {
		return "", unacceptable(f.name + " is a number from 1 to " + strconv.Itoa(f.limit))
	}
	return strconv.Itoa(n), nil
}

// write writes the configuration as a form: to be filled in ("form") or to be read ("result").
func (c config) write(x *xmpp.XML, typ string) *xmpp.XML {
	writeForm(x, typ, formConfig)
	for _, f := range c.p.fields {
		if f.fixed {
			continue
		}
		if typ == "result" {
			writeField(x, "pubsub#"+f.name, "", "", c.values(f.name)...)
			continue
		}
		x.Open("field", "").Attr("var", "pubsub#"+f.name).Attr("type", f.kind.String()).Attr("label", f.label)
		options := f.options
		switch f.kind {
		case groups:
			options = c.values(f.name)
		case tag:
			options = slices.Concat(options, c.values(f.name))
			slices.Sort(options)
			options = slices.Compact(options)
		}
		for _, o := range options {
			x.Open("option", "").Leaf("value", "", o).Close()
		}
		for _, v := range c.values(f.name) {
			x.Leaf("value", "", v)
		}
		x.Close()
	}
	return x.Close()
}
