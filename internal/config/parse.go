package config

import (
	"errors"
	"regexp"
	"strings"

	"github.com/BurntSushi/toml"
)

// maxSyntaxErrors ends the search for further syntax errors in a file that is
// no configuration at all.
const maxSyntaxErrors = 20

// parseTOML returns the keys of a TOML text and the lines they stand on. The
// parser stops at its first error; so that a person sees all at once, a line
// that can be taken out alone is blanked and the rest is read again. What
// stands where does not change by that.
func parseTOML(text string, r *report) map[string]any {
	if rest, ok := strings.CutPrefix(text, "\ufeff"); ok { // a byte order mark of Windows editors
		text = "   " + rest
	}
	for range maxSyntaxErrors {
		tree := map[string]any{}
		_, err := toml.Decode(text, &tree)
		if err == nil {
			r.lines, r.spans = positions(text)
			return tree
		}
		var pe toml.ParseError
		if !errors.As(err, &pe) {
			r.put(Problem{Text: err.Error()})
			return nil
		}
		line := mistakeLine(text, pe)
		if len(r.problems) > 0 && strings.Trim(lineOf(text, line), " \t\r") == `"` {
			return nil // the other end of a string that was told already
		}
		r.put(Problem{Line: line, Key: pe.LastKey, Text: "not TOML: " + strings.TrimSuffix(pe.Message, ".")})
		var ok bool
		if text, ok = blankLine(text, line); !ok {
			return nil
		}
	}
	return nil
}

// mistakeLine is the line that a person has to change. The parser notices what is missing at the end of a line only in a later one.
func mistakeLine(text string, pe toml.ParseError) int {
	line := pe.Position.Line
	if strings.Contains(pe.Message, `to end table name, but got '\n'`) {
		line--
	}
	if strings.Contains(pe.Message, "array terminator") { // the one before has no comma, or the list no end
		for line--; line > 1 && strings.TrimSpace(lineOf(text, line)) == ""; {
			line--
		}
	}
	return max(line, 1)
}

func lineOf(text string, line int) string {
	lines := strings.Split(text, "\n")
	if line < 1 || line > len(lines) {
		return ""
	}
	return lines[line-1]
}

// blankLine empties a line that holds one whole key and value. Any other, such
// as a table header or a part of a list, gives the lines after it their
// meaning: without it they would only be wrong in new ways.
func blankLine(text string, line int) (string, bool) {
	whole := regexp.MustCompile(`^\s*[A-Za-z0-9_."-]+\s*=[^\[{]*$`)
	lines := strings.Split(text, "\n")
	if line < 1 || line > len(lines) {
		return text, false
	}
	at := lines[line-1]
	if !whole.MatchString(at) || strings.Contains(at, `"""`) || strings.Contains(at, `'''`) {
		return text, false
	}
	lines[line-1] = strings.Repeat(" ", len(strings.TrimSuffix(at, "\r"))) + at[len(strings.TrimSuffix(at, "\r")):]
	return strings.Join(lines, "\n"), true
}
