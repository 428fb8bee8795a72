package config

import (
	"strconv"
	"strings"
)

// Span is where something stands in a text: its first byte, and the first one
// behind it.
type Span struct{ From, To int }

// positions maps the path of each key, table and array entry of a TOML text
// to its line, and that of each key with a value, and each array entry, to where the value stands. A path looks like the one in an error: s2s.route[1].domain.
// The TOML library keeps this for itself, and without an entry's number.
//
// The text must have been accepted by the TOML parser; of another text the
// lines may be wrong, but reading it ends.
func positions(text string) (map[string]int, map[string]Span) {
	s := &posScanner{text: text, line: 1, lines: map[string]int{}, spans: map[string]Span{}, entries: map[string]int{}}
	table := ""
	for {
		s.skipBlank()
		if s.done() {
			return s.lines, s.spans
		}
		if s.peek() == '[' {
			table = s.header()
			continue
		}
		before := s.pos
		s.pair(table)
		if s.pos == before {
			return s.lines, s.spans
		}
	}
}

type posScanner struct {
	text    string
	pos     int
	line    int
	lines   map[string]int
	spans   map[string]Span
	entries map[string]int // array of tables: entries seen so far
}

func (s *posScanner) done() bool { return s.pos >= len(s.text) }

func (s *posScanner) peek() byte {
	if s.done() {
		return 0
	}
	return s.text[s.pos]
}

func (s *posScanner) next() {
	if s.peek() == '\n' {
		s.line++
	}
	s.pos++
}

func (s *posScanner) has(prefix string) bool { return strings.HasPrefix(s.text[s.pos:], prefix) }

// skipBlank goes to the next byte that is no white space and no comment.
func (s *posScanner) skipBlank() {
	for !s.done() {
		switch s.peek() {
		case ' ', '\t', '\r', '\n':
			s.next()
		case '#':
			for !s.done() && s.peek() != '\n' {
				s.next()
			}
		default:
			return
		}
	}
}

// header reads [table] or [[array of tables]] and returns its path.
func (s *posScanner) header() string {
	line, array := s.line, s.has("[[")
	for s.peek() == '[' {
		s.next()
	}
	keys := s.keys()
	for s.peek() == ']' {
		s.next()
	}
	path := ""
	for i, k := range keys {
		path = join(path, k)
		if array && i == len(keys)-1 {
			s.note(path, line)
			s.entries[path]++
		}
		if n := s.entries[path]; n > 0 {
			path = entry(path, n-1)
		}
	}
	s.note(path, line)
	return path
}

// pair reads key = value inside a table.
func (s *posScanner) pair(table string) {
	line, path := s.line, table
	for _, k := range s.keys() {
		path = join(path, k)
		s.note(path, line)
	}
	if s.peek() == '=' {
		s.next()
	}
	s.skipSpace()
	from := s.pos
	s.value(path)
	s.spans[path] = Span{from, min(s.pos, len(s.text))}
}

// keys reads a dotted key, up to what follows it.
func (s *posScanner) keys() []string {
	var keys []string
	for {
		s.skipSpace()
		switch c := s.peek(); {
		case c == '"' || c == '\'':
			keys = append(keys, s.quoted())
		default:
			start := s.pos
			for isBare(s.peek()) {
				s.next()
			}
			if s.pos == start {
				return keys
			}
			keys = append(keys, s.text[start:s.pos])
		}
		s.skipSpace()
		if s.peek() != '.' {
			return keys
		}
		s.next()
	}
}

func (s *posScanner) skipSpace() {
	for s.peek() == ' ' || s.peek() == '\t' {
		s.next()
	}
}

// value reads over a value and notes the entries of arrays in it.
func (s *posScanner) value(path string) {
	s.skipSpace()
	switch c := s.peek(); c {
	case '"', '\'':
		s.quoted()
	case '[':
		s.next()
		for i := 0; ; i++ {
			s.skipBlank()
			if s.done() || s.peek() == ']' {
				s.next()
				return
			}
			s.note(entry(path, i), s.line)
			from := s.pos
			s.value(entry(path, i))
			s.spans[entry(path, i)] = Span{from, min(s.pos, len(s.text))}
			s.skipComma(']')
		}
	case '{':
		s.next()
		for {
			s.skipBlank()
			if s.done() || s.peek() == '}' {
				s.next()
				return
			}
			s.pair(path)
			s.skipComma('}')
		}
	default:
		for !s.done() && !strings.ContainsRune(",]}#\r\n", rune(s.peek())) {
			s.next()
		}
	}
}

// skipComma leaves an entry behind. It always moves on, so that reading a text
// that is not TOML ends too.
func (s *posScanner) skipComma(end byte) {
	s.skipBlank()
	if !s.done() && s.peek() != end {
		s.next()
	}
}

// quoted reads a string of any of the four kinds and returns what stands
// between its quotes. Escapes stay: no key of ours has any.
func (s *posScanner) quoted() string {
	quote := s.text[s.pos : s.pos+1]
	if s.has(quote + quote + quote) {
		quote += quote + quote
	}
	for range quote {
		s.next()
	}
	start := s.pos
	for !s.done() && !s.has(quote) {
		if s.peek() == '\\' && quote[0] == '"' {
			s.next()
		}
		if !s.done() {
			s.next()
		}
	}
	end := min(s.pos, len(s.text))
	for range quote {
		s.next()
	}
	for len(quote) == 3 && !s.done() && s.peek() == quote[0] { // """" ends with a quote inside
		s.next()
	}
	return s.text[start:end]
}

func (s *posScanner) note(path string, line int) {
	if _, seen := s.lines[path]; !seen {
		s.lines[path] = line
	}
}

func isBare(c byte) bool {
	return c == '_' || c == '-' || '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

func entry(path string, i int) string { return path + "[" + strconv.Itoa(i) + "]" }
