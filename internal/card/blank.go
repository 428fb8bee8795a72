package card

import (
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strings"
	"time"

	"pibox/internal/config"
)

// blank is what is being taken from a file on the card, so that a power cut can not leave half of a secret there.
type blank struct {
	Spans []config.Span `json:"spans,omitempty"`
	Rest  string        `json:"rest,omitempty"` // digest of the text without it
}

// without gives a text of the same length whose values at the spans are empty strings.
func without(text string, spans []config.Span) string {
	b := []byte(text)
	for _, s := range spans {
		if s.From < 0 || s.To > len(b) || s.To-s.From < 2 {
			continue
		}
		copy(b[s.From:], `""`+strings.Repeat(" ", s.To-s.From-2))
	}
	return string(b)
}

func digest(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])
}

// isOf tells whether the text is the one that was being changed, however far that came.
func (b blank) isOf(text string) bool {
	return len(b.Spans) > 0 && digest(without(text, b.Spans)) == b.Rest
}

// source is pibox.toml as it was found.
type source struct {
	path     string
	text     string // as it is to be read
	settings Settings
	file     config.File
	pending  []config.Span // what an earlier boot was taking away
}

// parse reads the text. pending is what an earlier boot was taking away.
func parse(path, text string, pending blank, now time.Time) source {
	s := parseText(path, text, now)
	if !pending.isOf(text) {
		return s
	}
	if len(s.file.Problems.Mistakes()) > 0 { // half of a secret makes no sense
		s = parseText(path, without(text, pending.Spans), now)
	}
	s.pending = pending.Spans
	return s
}

func parseText(path, text string, now time.Time) source {
	s := source{path: path, text: text, settings: Defaults()}
	s.file = config.ParseWith(path, text, now, &s.settings)
	return s
}

// taking is what is to be taken from the text, of the secrets in sections that were taken over. left are those that can not be taken away.
func (s source) taking(taken func(section string) bool, now time.Time) (b blank, left []string) {
	spans := slices.Clone(s.pending)
	var names []string
	for name, secret := range s.settings.secrets() {
		section, _, _ := strings.Cut(name, ".")
		span, ok := s.file.Spans[name]
		switch {
		case *secret == "" || !taken(section):
		case ok:
			names, spans = append(names, name), append(spans, span)
		default:
			left = append(left, name)
		}
	}
	if len(spans) == 0 {
		return b, left
	}
	slices.SortFunc(spans, func(x, y config.Span) int { return x.From - y.From })
	spans = slices.Compact(spans)
	after := parseText(s.path, without(s.text, spans), now)
	found := after.settings.secrets()
	for _, name := range names {
		if *found[name] != "" {
			left = append(left, name)
		}
	}
	slices.Sort(left)
	return blank{Spans: spans, Rest: digest(without(s.text, spans))}, left
}
