package config

import (
	"encoding"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
)

// decoder copies a TOML tree into a struct and notes every mistake, where a
// usual decoder stops at the first.
type decoder struct {
	*report
	roots []reflect.Type // what the whole file is made of
}

// table fills structs, which together are the table at path, from the TOML table there.
func (d decoder) table(path string, tree map[string]any, structs ...reflect.Value) {
	type field struct {
		v   reflect.Value
		tag reflect.StructTag
	}
	known := map[string]field{}
	var names []string
	for _, v := range structs {
		for i := range v.NumField() {
			tag := v.Type().Field(i).Tag
			names = append(names, tag.Get("toml"))
			known[tag.Get("toml")] = field{v.Field(i), tag}
		}
	}
	for _, k := range sortedKeys(tree) {
		f, ok := known[k]
		if !ok {
			d.add(join(path, k), "unknown key%s", d.suggest(withoutEntries(path), k, names))
			continue
		}
		d.field(join(path, k), tree[k], f.v, f.tag)
	}
}

func sortedKeys(tree map[string]any) []string { return slices.Sorted(maps.Keys(tree)) }

func (d decoder) field(path string, value any, v reflect.Value, tag reflect.StructTag) {
	switch v.Kind() {
	case reflect.Struct:
		tree, ok := value.(map[string]any)
		if !ok {
			d.wrongType(path, "a table", value)
			return
		}
		d.table(path, tree, v)
	case reflect.Slice:
		items, ok := asList(value)
		if !ok {
			d.wrongType(path, "a list", value)
			return
		}
		d.list(path, items, v, tag)
	default:
		d.scalar(path, value, v, tag)
	}
}

// list replaces the default: a list in the file is the whole list.
func (d decoder) list(path string, items []any, v reflect.Value, tag reflect.StructTag) {
	list := reflect.MakeSlice(v.Type(), len(items), len(items))
	for i, item := range items {
		d.field(entry(path, i), item, list.Index(i), tag)
	}
	v.Set(list)
}

func (d decoder) scalar(path string, value any, v reflect.Value, tag reflect.StructTag) {
	read := reflect.New(v.Type()) // a value out of range leaves the default, so that it is reported once
	if u, ok := read.Interface().(encoding.TextUnmarshaler); ok {
		s, isText := value.(string)
		if n, isNumber := value.(int64); isNumber {
			s, isText = strconv.FormatInt(n, 10), true // for the unit's error text
		}
		if !isText {
			d.wrongType(path, "a string in quotes", value)
			return
		}
		if err := u.UnmarshalText([]byte(s)); err != nil {
			d.add(path, "%v", err)
		} else if d.checkRange(path, read.Elem(), tag) {
			v.Set(read.Elem())
		}
		return
	}
	switch v.Kind() {
	case reflect.String:
		s, ok := value.(string)
		if !ok {
			d.wrongType(path, "a string in quotes", value)
			return
		}
		v.SetString(d.checkText(path, s, tag))
	case reflect.Bool:
		b, ok := value.(bool)
		if !ok {
			d.wrongType(path, "true or false", value)
			return
		}
		v.SetBool(b)
	case reflect.Int:
		n, ok := value.(int64)
		if !ok {
			d.wrongType(path, "a whole number", value)
			return
		}
		number := reflect.ValueOf(&n).Elem() // 64 bits wide on every board
		if d.checkRange(path, number, tag) {
			v.SetInt(n)
		}
	}
}

func (d decoder) wrongType(path, want string, got any) {
	d.add(path, "must be %s, not %s", want, describe(got))
}

// checkRange obeys the range tag: inclusive bounds in the unit of the field.
func (d decoder) checkRange(path string, v reflect.Value, tag reflect.StructTag) bool {
	low, high, ok := strings.Cut(tag.Get("range"), "..")
	if ok && (v.Int() < bound(low, v.Type()) || v.Int() > bound(high, v.Type())) {
		d.add(path, "%v is out of range: %s to %s", v.Interface(), low, high)
		return false
	}
	return true
}

// bound reads one end of a range tag. A tag that can not be read is a mistake
// of ours that the test of the tags finds.
func bound(text string, t reflect.Type) int64 {
	v := reflect.New(t)
	if u, ok := v.Interface().(encoding.TextUnmarshaler); ok {
		if err := u.UnmarshalText([]byte(text)); err != nil {
			panic("config: bad range tag " + text)
		}
		return v.Elem().Int()
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		panic("config: bad range tag " + text)
	}
	return n
}

// asList turns both kinds of TOML array into one.
func asList(value any) ([]any, bool) {
	switch l := value.(type) {
	case []any:
		return l, true
	case []map[string]any:
		items := make([]any, len(l))
		for i := range l {
			items[i] = l[i]
		}
		return items, true
	}
	return nil, false
}

func describe(value any) string {
	switch v := value.(type) {
	case string:
		return "the string " + strconv.Quote(v)
	case int64:
		return "the number " + strconv.FormatInt(v, 10)
	case float64:
		return "the number " + strconv.FormatFloat(v, 'g', -1, 64)
	case bool:
		return strconv.FormatBool(v)
	case map[string]any:
		return "a table"
	case []any, []map[string]any:
		return "a list"
	case time.Time:
		return "a date"
	}
	return fmt.Sprintf("%T", value)
}

// withoutEntries takes the entry numbers out of a path.
func withoutEntries(path string) string {
	var b strings.Builder
	in := false
	for _, c := range path {
		switch c {
		case '[':
			in = true
		case ']':
			in = false
		default:
			if !in {
				b.WriteRune(c)
			}
		}
	}
	return b.String()
}
