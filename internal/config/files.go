package config

import (
	"slices"
	"strings"
)

// Files are the names of the files that a configuration names: of each certificate chain and key, then those of trusted authorities. Of one that was
// checked they are absolute.
func (c Config) Files() (list []string) {
	c.eachFile(func(_ string, name *string) { list = append(list, *name) })
	return list
}

func (c Config) eachFile(do func(key string, name *string)) {
	for i := range c.TLS.Certificates {
		path := entry("tls.certificate", i)
		do(path+".chain", &c.TLS.Certificates[i].Chain)
		do(path+".key", &c.TLS.Certificates[i].Key)
	}
	for i := range c.S2S.Trust {
		do(entry("s2s.trust", i), &c.S2S.Trust[i])
	}
}

// WithFiles is the text of f with other names of files: names are as many as f.Written, "" leaves one as it is.
func (f File) WithFiles(text string, names []string) string {
	type change struct {
		Span
		to string
	}
	var changes []change
	i := 0
	f.Config.eachFile(func(key string, _ *string) {
		if span, ok := f.Spans[key]; ok && names[i] != "" {
			changes = append(changes, change{span, quoted(names[i])})
		}
		i++
	})
	slices.SortFunc(changes, func(x, y change) int { return x.From - y.From })
	var b strings.Builder
	at := 0
	for _, c := range changes {
		b.WriteString(text[at:c.From] + c.to)
		at = c.To
	}
	return b.String() + text[at:]
}
