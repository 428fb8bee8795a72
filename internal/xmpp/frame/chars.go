package frame

import (
	"bytes"
	"unicode/utf8"
)

// Bits of class.
const (
	inName  = 1 // continues a name
	inStart = 2 // begins a name
	inText  = 4 // stands for itself in character data
	inValue = 8 // stands for itself in an attribute value within either quote
)

// class tells, in the low four bits of the character at its index, what an ASCII byte may be; bytes of longer sequences are 0.
const class = "" +
	"0000000004400400" + "0000000000000000" + // controls; tab, newline and return are text, and a space in a value
	"<<4<<<04<<<<<==<" + "==========<<0<<<" + // punctuation and digits
	"<???????????????" + "???????????<<8<?" + // ']' is looked at in text
	"<???????????????" + "???????????<<<<<" +
	"0000000000000000" + "0000000000000000" + "0000000000000000" + "0000000000000000" +
	"0000000000000000" + "0000000000000000" + "0000000000000000" + "0000000000000000"

func isSpace(c byte) bool { return c == ' ' || c == '\n' || c == '\t' || c == '\r' }

func skipSpace(b []byte, i int) int {
	for i < len(b) && isSpace(b[i]) {
		i++
	}
	return i
}

// char checks the character at the start of b, which is not plain ASCII, and returns its length. XML 1.0 §2.2.
func char(b []byte) (rune, int, error) {
	r, n := utf8.DecodeRune(b)
	switch {
	case r == utf8.RuneError && n <= 1:
		return 0, 0, &Error{UnsupportedEncoding, "not UTF-8"} // RFC 6120 §4.9.3.22
	case !isChar(r):
		return 0, 0, notWellFormed("character that XML does not allow")
	}
	return r, n, nil
}

// isChar is XML 1.0 §2.2, Char.
func isChar(r rune) bool {
	switch {
	case r < 0x20:
		return r == '\t' || r == '\n' || r == '\r'
	case r <= 0xD7FF:
		return true
	case r <= 0xFFFD:
		return r >= 0xE000
	}
	return 0x10000 <= r && r <= 0x10FFFF
}

// isLetter tells whether a character beyond ASCII may be in a name. The editions of XML 1.0 differ here, and many parsers keep to the
// fourth: what they refuse must not reach them, or one user's stanza would end the stream of all. So these are scripts, or large parts of
// them, on which all editions agree.
func isLetter(r rune) bool {
	switch {
	case r < 0x370: // Latin
		return 0xC0 <= r && r <= 0xD6 || 0xD8 <= r && r <= 0xF6 || 0xF8 <= r && r <= 0x131 || 0x14A <= r && r <= 0x17E
	case r < 0x530: // Greek, Cyrillic
		return 0x3A3 <= r && r <= 0x3CE || 0x40E <= r && r <= 0x44F || 0x451 <= r && r <= 0x45C
	case r < 0x3000: // Armenian, Hebrew, Arabic
		return 0x531 <= r && r <= 0x556 || 0x561 <= r && r <= 0x586 || 0x5D0 <= r && r <= 0x5EA || 0x621 <= r && r <= 0x63A
	}
	// Kana, Han, Hangul
	return 0x3041 <= r && r <= 0x3094 || 0x30A1 <= r && r <= 0x30FA || 0x4E00 <= r && r <= 0x9FA5 || 0xAC00 <= r && r <= 0xD7A3
}

// qname reads a name at b[i:] and returns where it ends and where its colon is, 0 for none. Namespaces in XML 1.0 §4.
func qname(b []byte, i int) (end, colon int, err error) {
	start := i
	if i < len(b) && class[b[i]]&inStart != 0 {
		for i++; i < len(b) && class[b[i]]&inName != 0; i++ {
		}
	}
	for i < len(b) {
		c := b[i]
		bit := byte(inName)
		if i == start {
			bit = inStart
		}
		switch {
		case class[c]&bit != 0:
			i++
		case c >= utf8.RuneSelf:
			r, n, err := char(b[i:])
			if err != nil {
				return 0, 0, err
			}
			if !isLetter(r) {
				return 0, 0, notWellFormed("character that names can not have")
			}
			i += n
		case c == ':' && colon == 0 && i > start:
			colon = i
			i++
			start = i
		default:
			if i == start {
				return 0, 0, notWellFormed("a name was expected")
			}
			return i, colon, nil
		}
	}
	return 0, 0, notWellFormed("a name that does not end")
}

// checkText checks character data. XML 1.0 §2.4.
func checkText(b []byte) error {
	for i := 0; i < len(b); {
		c := b[i]
		if class[c]&inText != 0 {
			i++
			continue
		}
		n := 1
		var err error
		switch {
		case c == '&':
			_, n, err = reference(b[i:])
		case c == ']':
			if bytes.HasPrefix(b[i:], []byte("]]>")) {
				err = notWellFormed("]]> outside of a CDATA section")
			}
		default:
			_, n, err = char(b[i:])
		}
		if err != nil {
			return err
		}
		i += n
	}
	return nil
}

// checkCDATA checks the content of a CDATA section. XML 1.0 §2.7.
func checkCDATA(b []byte) error {
	for i := 0; i < len(b); {
		c := b[i]
		if class[c]&inText != 0 || c == '&' || c == '<' || c == ']' {
			i++
			continue
		}
		_, n, err := char(b[i:])
		if err != nil {
			return err
		}
		i += n
	}
	return nil
}

// reference reads the reference at b[0], an ampersand. Only the five predefined entities exist (RFC 6120 §11.1).
func reference(b []byte) (rune, int, error) {
	if len(b) > 1 && b[1] == '#' {
		return charReference(b)
	}
	i := 1
	for i < len(b) && class[b[i]]&inName != 0 {
		i++
	}
	if i == 1 || i == len(b) || b[i] != ';' || class[b[1]]&inStart == 0 {
		return 0, 0, notWellFormed("& that begins no reference")
	}
	switch string(b[1:i]) {
	case "amp":
		return '&', i + 1, nil
	case "lt":
		return '<', i + 1, nil
	case "gt":
		return '>', i + 1, nil
	case "quot":
		return '"', i + 1, nil
	case "apos":
		return '\'', i + 1, nil
	}
	return 0, 0, &Error{RestrictedXML, "reference to an entity other than the predefined ones"}
}

// charReference reads "&#10;" or "&#xa;". XML 1.0 §4.1.
func charReference(b []byte) (rune, int, error) {
	bad := func() (rune, int, error) { return 0, 0, notWellFormed("character reference to no character") }
	i, base := 2, rune(10)
	if len(b) > 2 && b[2] == 'x' {
		i, base = 3, 16
	}
	var r rune
	first := i
	for ; i < len(b); i++ {
		c, d := b[i], rune(0)
		switch {
		case '0' <= c && c <= '9':
			d = rune(c - '0')
		case base == 16 && 'a' <= c|0x20 && c|0x20 <= 'f':
			d = rune(c|0x20-'a') + 10
		case c == ';' && i > first && isChar(r):
			return r, i + 1, nil
		default:
			return bad()
		}
		if r = r*base + d; r > utf8.MaxRune {
			return bad()
		}
	}
	return bad()
}
