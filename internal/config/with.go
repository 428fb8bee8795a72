package config

import (
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"time"
)

// File is what a text says.
type File struct {
	Config   Config
	Problems Problems
	// Tree holds the keys as they were written, those of Config only.
	Tree map[string]any
	// Spans tell where the value of each key stands in the text, Lines on which line.
	Spans map[string]Span
	Lines map[string]int
	// Written are the names of Config.Files as they stand in the text.
	Written []string
}

// Checker is a struct that finds mistakes in its own values. Keys have paths
// such as wifi.ssid.
type Checker interface {
	Check(r Reporter)
}

// Reporter takes mistakes.
type Reporter struct{ r *report }

// Add reports a mistake in the value at path.
func (r Reporter) Add(path, format string, args ...any) { r.r.add(path, format, args...) }

// Written tells whether the key is in the file.
func (r Reporter) Written(path string) bool { return r.r.lines[path] != 0 }

// ParseWith is Parse for a text that may also have the keys of another struct
// with the tags of Config, which is filled in. more points to it; its values
// are the defaults.
func ParseWith(name, text string, now time.Time, more any) File {
	r := &report{file: name, lines: map[string]int{}}
	cfg := Default()
	tree := parseTOML(text, r)
	mine, other := reflect.ValueOf(&cfg).Elem(), reflect.ValueOf(more).Elem()
	decoder{r, []reflect.Type{mine.Type(), other.Type()}}.table("", tree, mine, other)
	if c, ok := more.(Checker); ok {
		c.Check(Reporter{r})
	}
	base := filepath.Dir(name)
	if abs, err := filepath.Abs(base); err == nil {
		base = abs
	}
	written := cfg.Files()
	checker{report: r, now: now, base: base}.all(&cfg)
	own := map[string]any{}
	for k, v := range tree {
		own[k] = v
	}
	for i := range other.NumField() {
		delete(own, other.Type().Field(i).Tag.Get("toml"))
	}
	return File{Config: cfg, Problems: r.sorted(), Tree: own, Spans: r.spans, Lines: r.lines, Written: written}
}

// Text writes a tree as TOML, each of its keys on a line of its own. It drops
// what no key of a configuration can be, such as dates.
func Text(tree map[string]any) string {
	var b strings.Builder
	for _, k := range sortedKeys(tree) {
		if v, ok := inline(tree[k]); ok {
			b.WriteString(quoted(k) + " = " + v + "\n")
		}
	}
	return b.String()
}

func inline(value any) (string, bool) {
	switch v := value.(type) {
	case string:
		return quoted(v), true
	case int64:
		return strconv.FormatInt(v, 10), true
	case bool:
		return strconv.FormatBool(v), true
	case map[string]any:
		var parts []string
		for _, k := range sortedKeys(v) {
			if s, ok := inline(v[k]); ok {
				parts = append(parts, quoted(k)+" = "+s)
			}
		}
		return "{" + strings.Join(parts, ", ") + "}", true
	}
	list, ok := asList(value)
	parts := []string{}
	for _, item := range list {
		if s, ok := inline(item); ok {
			parts = append(parts, s)
		}
	}
	return "[" + strings.Join(parts, ", ") + "]", ok
}

// quoted is a basic string of TOML.
func quoted(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range strings.ToValidUTF8(s, "\uFFFD") {
		switch {
		case r == '"' || r == '\\':
			b.WriteString("\\" + string(r))
		case r < ' ' || r == 0x7f:
			b.WriteString("\\u00" + string("0123456789abcdef"[r>>4]) + string("0123456789abcdef"[r&15]))
		default:
			b.WriteRune(r)
		}
	}
	b.WriteByte('"')
	return b.String()
}
