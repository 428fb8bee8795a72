package config

import (
	"fmt"
	"sort"
	"strings"
)

// Problem is one mistake in the configuration file.
type Problem struct {
	File string `json:"file"`
	Line int    `json:"line,omitempty"` // from 1; 0 where the whole file is meant
	Key  string `json:"key,omitempty"`  // path such as s2s.route[0].domain
	Text string `json:"text"`           // what is wrong and what would be right
	// Warning marks what the box can run with.
	Warning bool `json:"warning,omitempty"`
}

func (p Problem) String() string {
	var b strings.Builder
	b.WriteString(p.File)
	if p.Line > 0 {
		fmt.Fprintf(&b, ":%d", p.Line)
	}
	b.WriteString(": ")
	if p.Warning {
		b.WriteString("warning: ")
	}
	if p.Key != "" {
		b.WriteString(p.Key + ": ")
	}
	b.WriteString(p.Text)
	return b.String()
}

// Problems are all mistakes found in a file, by line.
type Problems []Problem

// Mistakes returns the problems that are no mere warnings.
func (ps Problems) Mistakes() Problems {
	var out Problems
	for _, p := range ps {
		if !p.Warning {
			out = append(out, p)
		}
	}
	return out
}

// Err returns nil when there is no mistake, else an error with one line per
// problem.
func (ps Problems) Err() error {
	if len(ps.Mistakes()) == 0 {
		return nil
	}
	return ps
}

func (ps Problems) Error() string {
	lines := make([]string, len(ps))
	for i, p := range ps {
		lines[i] = p.String()
	}
	return strings.Join(lines, "\n")
}

// report collects the problems of one file.
type report struct {
	file     string
	lines    map[string]int
	spans    map[string]Span
	problems Problems
}

// line returns the line of path, or of the nearest table or key around it.
func (r *report) line(path string) int {
	for path != "" {
		if n, ok := r.lines[path]; ok {
			return n
		}
		path = path[:max(strings.LastIndexAny(path, ".["), 0)]
	}
	return 0
}

func (r *report) add(path, format string, args ...any) {
	r.put(Problem{Key: path, Line: r.line(path), Text: fmt.Sprintf(format, args...)})
}

func (r *report) warn(path, format string, args ...any) {
	r.put(Problem{Key: path, Line: r.line(path), Text: fmt.Sprintf(format, args...), Warning: true})
}

func (r *report) put(p Problem) {
	p.File = r.file
	r.problems = append(r.problems, p)
}

func (r *report) sorted() Problems {
	sort.SliceStable(r.problems, func(i, j int) bool { return r.problems[i].Line < r.problems[j].Line })
	return r.problems
}
