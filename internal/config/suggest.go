package config

import (
	"reflect"
	"strings"
)

// suggest returns the end of an error text about the unknown key: the known
// key that was probably meant, or an empty string. table is the key's path
// without its last part, without entry numbers.
func (d decoder) suggest(table, key string, siblings []string) string {
	best, distance := "", 3
	if len(key) <= 4 {
		distance = 2
	}
	for _, s := range siblings {
		if d := editDistance(strings.ToLower(key), s); d < distance {
			best, distance = s, d
		}
	}
	if best != "" {
		return "; did you mean " + best + "?"
	}
	var all []string
	for _, root := range d.roots {
		all = append(all, allKeys(root, "")...)
	}
	for _, path := range all {
		parent, last := "", path
		if i := strings.LastIndex(path, "."); i >= 0 {
			parent, last = path[:i], path[i+1:]
		}
		if last == strings.ToLower(key) && parent != table {
			if parent == "" {
				return "; " + last + " belongs at the top, before the first [table]"
			}
			return "; " + last + " belongs in [" + parent + "]"
		}
	}
	return "; known here: " + strings.Join(siblings, ", ")
}

// allKeys lists the path of every key of a struct.
func allKeys(t reflect.Type, prefix string) []string {
	var keys []string
	for i := range t.NumField() {
		f := t.Field(i)
		path := join(prefix, f.Tag.Get("toml"))
		keys = append(keys, path)
		ft := f.Type
		if ft.Kind() == reflect.Slice {
			ft = ft.Elem()
		}
		if ft.Kind() == reflect.Struct {
			keys = append(keys, allKeys(ft, path)...)
		}
	}
	return keys
}

// editDistance counts the insertions, deletions, replacements and swaps of
// neighbours between a and b.
func editDistance(a, b string) int {
	rows := make([][]int, len(a)+1)
	for i := range rows {
		rows[i] = make([]int, len(b)+1)
		rows[i][0] = i
	}
	for j := range rows[0] {
		rows[0][j] = j
	}
	for i := 1; i <= len(a); i++ {
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			rows[i][j] = min(rows[i-1][j]+1, rows[i][j-1]+1, rows[i-1][j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				rows[i][j] = min(rows[i][j], rows[i-2][j-2]+1)
			}
		}
	}
	return rows[len(a)][len(b)]
}
