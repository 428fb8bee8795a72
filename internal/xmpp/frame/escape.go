package frame

import (
	"bytes"
	"unicode/utf8"
)

// AppendEscaped appends s as character data or as the inside of an attribute value in either quote. Tab, newline and return become
// references, because a parser turns them into spaces in a value. What XML can not hold becomes U+FFFD.
func AppendEscaped(dst []byte, s string) []byte {
	done := 0
	for i := 0; i < len(s); {
		c := s[i]
		if class[c]&(inText|inValue) == inText|inValue && c != '>' || c == ']' {
			i++
			continue
		}
		n, rep := 1, "\uFFFD"
		switch c {
		case '&':
			rep = "&amp;"
		case '<':
			rep = "&lt;"
		case '>':
			rep = "&gt;"
		case '"':
			rep = "&quot;"
		case '\'':
			rep = "&apos;"
		case '\t':
			rep = "&#9;"
		case '\n':
			rep = "&#10;"
		case '\r':
			rep = "&#13;"
		default:
			var r rune
			r, n = utf8.DecodeRuneInString(s[i:])
			if isChar(r) && (r != utf8.RuneError || n > 1) {
				i += n
				continue
			}
		}
		dst = append(append(dst, s[done:i]...), rep...)
		i += n
		done = i
	}
	return append(dst, s[done:]...)
}

// unescapeText returns character data as a parser hands it out: references resolved, line ends made newlines (XML 1.0 §2.11).
func unescapeText(b []byte) string {
	if bytes.IndexByte(b, '&') < 0 && bytes.IndexByte(b, '\r') < 0 {
		return string(b)
	}
	return string(appendUnescaped(make([]byte, 0, len(b)), b, '\n'))
}

// unescapeValue returns an attribute value as a parser hands it out: each literal white space is a space (XML 1.0 §3.3.3).
func unescapeValue(b []byte) string {
	return string(appendUnescaped(make([]byte, 0, len(b)), b, ' '))
}

// appendUnescaped appends checked bytes with references resolved; newline is what a line end becomes.
func appendUnescaped(dst, b []byte, newline byte) []byte {
	for i := 0; i < len(b); {
		switch c := b[i]; c {
		case '&':
			r, n, err := reference(b[i:])
			if err != nil {
				return dst
			}
			dst = utf8.AppendRune(dst, r)
			i += n
			continue
		case '\r':
			if i+1 < len(b) && b[i+1] == '\n' {
				i++
			}
			dst = append(dst, newline)
		case '\n':
			dst = append(dst, newline)
		case '\t':
			if newline == ' ' {
				c = ' '
			}
			dst = append(dst, c)
		default:
			dst = append(dst, c)
		}
		i++
	}
	return dst
}

// escapedLen is how many bytes AppendEscaped appends at most.
func escapedLen(s string) int {
	n := len(s)
	for i := range len(s) {
		switch c := s[i]; {
		case c >= utf8.RuneSelf:
			n += len("\uFFFD") - 1
		case class[c]&(inText|inValue) != inText|inValue || c == '>':
			n += len("&quot;") - 1
		}
	}
	return n
}
