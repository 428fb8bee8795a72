package config

import (
	"fmt"
	"io"
	"reflect"
	"strconv"
	"strings"
)

// docWidth is the width that comments are wrapped at.
const docWidth = 90

// Example writes the whole configuration file with its defaults, every key
// commented out and described. It is a valid file and means the same as none.
func Example(w io.Writer) error {
	return ExampleOf(w, "The configuration of pibox. Every key is shown with its default and needs no line here;"+
		" take the # away from a line to change it. 'pibox config check' tells all mistakes at once."+
		" Times are written like 90s, 5m or 2h30m, sizes like 512B, 10kB, 256KiB or 4MiB."+
		" Names of files start from the folder of this file.", Default())
}

// ExampleOf writes such a file for any struct with the tags of Config, whose
// values are the defaults.
func ExampleOf(w io.Writer, intro string, v any) error {
	var b strings.Builder
	comment(&b, intro)
	exampleTable(&b, "", reflect.ValueOf(v))
	_, err := io.WriteString(w, b.String())
	return err
}

// exampleTable writes the plain keys of a table, then the tables in it.
func exampleTable(b *strings.Builder, path string, v reflect.Value) {
	t := v.Type()
	for i := range t.NumField() {
		if f := t.Field(i); !isTable(f.Type) {
			b.WriteByte('\n')
			comment(b, f.Tag.Get("doc")+bounds(f.Tag))
			fmt.Fprintf(b, "#%s = %s\n", f.Tag.Get("toml"), tomlValue(v.Field(i)))
		}
	}
	for i := range t.NumField() {
		f := t.Field(i)
		name := join(path, f.Tag.Get("toml"))
		switch {
		case f.Type.Kind() == reflect.Struct:
			b.WriteString("\n\n")
			comment(b, f.Tag.Get("doc"))
			fmt.Fprintf(b, "[%s]\n", name)
			exampleTable(b, name, v.Field(i))
		case isTable(f.Type):
			exampleArray(b, name, f)
		}
	}
}

// exampleArray writes what an array of tables is for, with a sample entry.
func exampleArray(b *strings.Builder, name string, f reflect.StructField) {
	b.WriteByte('\n')
	comment(b, f.Tag.Get("doc"))
	element := f.Type.Elem()
	for i := range element.NumField() {
		key := element.Field(i)
		comment(b, key.Tag.Get("toml")+": "+key.Tag.Get("doc")+bounds(key.Tag))
	}
	fmt.Fprintf(b, "#\n# [[%s]]\n", name)
	for line := range strings.SplitSeq(f.Tag.Get("sample"), "\n") {
		fmt.Fprintf(b, "# %s\n", line)
	}
}

func isTable(t reflect.Type) bool {
	return t.Kind() == reflect.Struct || t.Kind() == reflect.Slice && t.Elem().Kind() == reflect.Struct
}

// bounds says which values are allowed, from the tags that check them.
func bounds(tag reflect.StructTag) string {
	if low, high, ok := strings.Cut(tag.Get("range"), ".."); ok {
		return " (" + low + " to " + high + ")"
	}
	if words := strings.Fields(tag.Get("oneof")); len(words) > 0 {
		return " (" + strings.Join(words, ", ") + ")"
	}
	return ""
}

func tomlValue(v reflect.Value) string {
	if s, ok := v.Interface().(fmt.Stringer); ok {
		return strconv.Quote(s.String())
	}
	switch v.Kind() {
	case reflect.String:
		return strconv.Quote(v.String())
	case reflect.Slice:
		items := make([]string, v.Len())
		for i := range items {
			items[i] = tomlValue(v.Index(i))
		}
		return "[" + strings.Join(items, ", ") + "]"
	}
	return fmt.Sprint(v.Interface())
}

// comment writes text as wrapped comment lines.
func comment(b *strings.Builder, text string) {
	line := "#"
	for _, word := range strings.Fields(text) {
		if len(line)+1+len(word) > docWidth {
			b.WriteString(line + "\n")
			line = "#"
		}
		line += " " + word
	}
	b.WriteString(line + "\n")
}
