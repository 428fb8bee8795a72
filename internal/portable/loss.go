package portable

import (
	"strconv"
	"strings"
)

// Losses counts what did not come along. Kinds past the most are counted together: a hostile file has as many as it likes.
type Losses struct {
	list  []LossCount
	at    map[Loss]int
	other int
}

// LossCount is a loss and how often it came.
type LossCount struct {
	Loss
	Count int
}

const (
	maxLosses   = 200
	maxLossText = 300 // bytes of each text
)

// Add counts one.
func (l *Losses) Add(what Loss) { l.AddN(what, 1) }

// AddN counts several.
func (l *Losses) AddN(what Loss, n int) {
	if n <= 0 {
		return
	}
	what.What, what.Why = strings.Clone(brief(what.What, maxLossText)), strings.Clone(brief(what.Why, maxLossText))
	if i, ok := l.at[what]; ok {
		l.list[i].Count += n
		return
	}
	if len(l.list) >= maxLosses {
		l.other += n
		return
	}
	if l.at == nil {
		l.at = map[Loss]int{}
	}
	l.at[what] = len(l.list)
	l.list = append(l.list, LossCount{what, n})
}

// List gives them in the order of their first appearance.
func (l *Losses) List() []LossCount {
	if l.other == 0 {
		return l.list
	}
	return append(l.list[:len(l.list):len(l.list)], LossCount{Loss{What: strconv.Itoa(l.other) + " other things"}, 1})
}

// kept of OMEMO and of a move is nothing: the one belongs to devices, the other to the address.
func neverMoved(node string) (why string, omemo bool) {
	switch {
	case node == nsMoved:
		return "it would announce a move of the new account", false
	case hasPrefix(node, "eu.siacs.conversations.axolotl"), hasPrefix(node, "urn:xmpp:omemo:"):
		return "devices publish their keys for encryption (OMEMO) anew", true
	}
	return "", false
}

const nsMoved = "urn:xmpp:moved:1"

func hasPrefix(s, prefix string) bool { return len(s) >= len(prefix) && s[:len(prefix)] == prefix }
