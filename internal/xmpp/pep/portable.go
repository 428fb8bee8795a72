package pep

import (
	"maps"
	"slices"
)

// Portable is how nodes are exported and imported: their configuration with the defaults that others may have otherwise.
type Portable struct{ p *PEP }

// Portable gives it.
func (p *PEP) Portable() Portable { return Portable{p} }

// Effective is a node's whole configuration, of what is stored of it.
func (x Portable) Effective(stored map[string][]string) map[string][]string {
	all := map[string][]string{}
	c := config{x.p, stored}
	for _, f := range x.p.fields {
		if v := c.values(f.name); !f.fixed && len(v) > 0 {
			all[f.name] = v
		}
	}
	return all
}

// MaxItems that a node holds.
func (x Portable) MaxItems(stored map[string][]string) int {
	return config{x.p, stored}.number("max_items")
}

// Kept is what is stored of a configuration that comes from elsewhere. Left out are fields that nobody knows here, and values that a field can not
// have; a node whose access model is such a value is its owner's alone.
func (x Portable) Kept(fields map[string][]string) (stored map[string][]string, left []string) {
	size := 0
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		i, known := x.p.fieldAt[name]
		if !known {
			left = append(left, name)
			continue
		}
		f := x.p.fields[i]
		v, skip, err := f.canonical(fields[name])
		switch {
		case err != nil && name == "access_model":
			v, left = []string{accessWhitelist}, append(left, name)
		case err != nil && f.kind == number && f.unlimited:
			v = []string{"max"} // more than there can be, or a word for that
		case err != nil:
			left = append(left, name)
			continue
		}
		for _, one := range v {
			size += len(one)
		}
		switch {
		case skip, f.fixed, len(v) == 0, len(v) == 1 && v[0] == f.def:
		case size > maxConfig:
			left = append(left, name)
		default:
			if stored == nil {
				stored = map[string][]string{}
			}
			stored[name] = v
		}
	}
	return stored, left
}
