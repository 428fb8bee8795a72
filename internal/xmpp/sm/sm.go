// Package sm is the wire format of stream management (XEP-0198 1.6), for both ends of a stream and whoever is at the other one: the elements as bytes,
// what is read from them, and the arithmetic of counts. What is counted, and kept, belongs to who has the stream.
package sm

import (
	"strconv"
	"time"

	"pibox/internal/xmpp/frame"

	"mellium.im/xmpp/stanza"
)

// NS is the namespace of all elements.
const NS = "urn:xmpp:sm:3"

// Feature is what is offered among the stream features (§3).
const Feature = "<sm xmlns='" + NS + "'/>"

// Ask is the request for an acknowledgement (§4).
const Ask = "<r xmlns='" + NS + "'/>"

// Enable asks for a stream that can be resumed (§3).
const Enable = "<enable xmlns='" + NS + "' resume='true'/>"

// Enabled answers Enable (§3). With id "" the stream can not be resumed; otherwise it is kept for life, told in whole seconds.
func Enabled(id string, life time.Duration) []byte {
	b := begin("enabled")
	if id != "" {
		b = attr(b, "id", id)
		b = attr(b, "resume", "true")
		b = attr(b, "max", strconv.FormatInt(int64(life/time.Second), 10))
	}
	return append(b, "/>"...)
}

// AppendAck appends an acknowledgement (§4).
func AppendAck(b []byte, h uint32) []byte {
	return append(strconv.AppendUint(append(b, "<a xmlns='"+NS+"' h='"...), uint64(h), 10), "'/>"...)
}

// Resume asks to go on with a stream, from the other side's stanzas that were handled (§5).
func Resume(h uint32, previd string) []byte { return resumption("resume", h, previd) }

// Resumed answers Resume (§5).
func Resumed(h uint32, previd string) []byte { return resumption("resumed", h, previd) }

func resumption(name string, h uint32, previd string) []byte {
	return append(attr(attr(begin(name), "h", decimal(h)), "previd", previd), "/>"...)
}

// Failed refuses to enable or to resume (§3, §5).
func Failed(c stanza.Condition) []byte { return failed(begin("failed"), c) }

// FailedAt refuses to resume, and tells how much was handled (§5).
func FailedAt(c stanza.Condition, h uint32) []byte {
	return failed(attr(begin("failed"), "h", decimal(h)), c)
}

func failed(b []byte, c stanza.Condition) []byte {
	return append(append(append(b, "><"...), c...), " xmlns='"+stanza.NSError+"'/></failed>"...)
}

// TooHigh is what a stream error undefined-condition says when more was acknowledged than sent (§6): its text, and the element beside the condition.
func TooHigh(h, sent uint32) (text string, app []byte) {
	text = "You acknowledged " + decimal(h) + " stanzas, but I only sent you " + decimal(sent) + " so far."
	return text, append(attr(attr(begin("handled-count-too-high"), "h", decimal(h)), "send-count", decimal(sent)), "/>"...)
}

// CountOf reads h, an xs:unsignedInt (§4, §13).
func CountOf(el *frame.Element) (h uint32, ok bool) {
	n, err := strconv.ParseUint(el.Attr("h"), 10, 32)
	return uint32(n), err == nil
}

// Since is how many stanzas h acknowledges beyond those before; counts go on at zero behind 2^32-1 (§4). back: h is the earlier one, and n of no use.
func Since(before, h uint32) (n uint32, back bool) {
	n = h - before
	return n, int32(n) < 0
}

// Bool reads an xs:boolean, which is false where it is left out.
func Bool(s string) (value, ok bool) {
	switch s {
	case "true", "1":
		return true, true
	case "false", "0", "":
		return false, true
	}
	return false, false
}

// MaxOf reads max, for how many seconds a stream may be resumed (§3): an xs:positiveInteger, of which as much is taken as fits into 31 bits.
func MaxOf(el *frame.Element) (d time.Duration, ok bool) {
	n, err := strconv.ParseUint(el.Attr("max"), 10, 31)
	return time.Duration(n) * time.Second, err == nil && n > 0
}

func begin(name string) []byte { return append(append([]byte{'<'}, name...), " xmlns='"+NS+"'"...) }

func attr(b []byte, name, value string) []byte {
	b = append(append(append(b, ' '), name...), "='"...)
	return append(frame.AppendEscaped(b, value), '\'')
}

func decimal(n uint32) string { return strconv.FormatUint(uint64(n), 10) }
