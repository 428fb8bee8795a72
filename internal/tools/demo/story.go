package main

import (
	"fmt"
	"strings"
	"sync"
	"time"

	"pibox/internal/testclient"
	"pibox/internal/xmpp/frame"
)

// story is what a person at the terminal reads.
type story struct {
	mu    sync.Mutex
	began time.Time
	step  int
	over  bool
}

func newStory() *story { return &story{began: time.Now()} }

// chapter begins a step.
func (s *story) chapter(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.step++
	fmt.Printf("\n%2d. %s  [%.1f s]\n", s.step, fmt.Sprintf(format, args...), time.Since(s.began).Seconds())
}

// curtain: what the boxes say when they are stopped is not shown.
func (s *story) curtain() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.over = true
}

// says is a line of a step.
func (s *story) says(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	fmt.Println("    " + fmt.Sprintf(format, args...))
}

// sees tells what came to a client, where a person would notice it.
func (s *story) sees(who string, st *frame.Element) {
	s.mu.Lock()
	over := s.over
	s.mu.Unlock()
	if own := bare(st.Attr("to")); over || own == bare(st.Attr("from")) {
		return
	}
	if words := inWords(st); words != "" {
		s.says("%-14s sees: %s", who, words)
	}
}

func bare(jid string) string {
	b, _, _ := strings.Cut(jid, "/")
	return b
}

// inWords is what a stanza means to the person who gets it; "" for what a client keeps to itself.
func inWords(st *frame.Element) string {
	from := bare(st.Attr("from"))
	n := st.Node()
	switch st.Name {
	case "message":
		if body := n.ChildText("jabber:client", "body"); body != "" {
			return fmt.Sprintf("a message from %s: “%s”", from, body)
		}
	case "iq":
		if item := n.Child("jabber:iq:roster", "query").Child("jabber:iq:roster", "item"); item != nil && st.Attr("type") == "set" {
			return "the contact list changed: " + readItem(item).String()
		}
	case "presence":
		return presenceInWords(from, st)
	}
	return ""
}

func presenceInWords(from string, st *frame.Element) string {
	switch st.Attr("type") {
	case "subscribe":
		words := from + " asks to be a contact"
		if old := oldJID(st); old != "" {
			words += ", and claims to be " + old + " moved"
		}
		return words
	case "subscribed":
		return from + " said yes: you see whether they are there"
	case "unsubscribed":
		return from + " does not let this address see them any more"
	case "unsubscribe":
		return from + " does not want to see you any more"
	case "":
		return from + " is there"
	case "unavailable":
		return from + " is gone"
	}
	return ""
}

func oldJID(st *frame.Element) string {
	return st.Node().Child(nsMoved, "moved").ChildText(nsMoved, "old-jid")
}

// item is a contact as the server tells him.
type item struct {
	jid, name, sub, ask, groups string
}

func readItem(n *frame.Node) item {
	i := item{jid: n.Attr("jid"), name: n.Attr("name"), sub: n.Attr("subscription"), ask: n.Attr("ask")}
	var groups []string
	for _, c := range n.Children {
		if c.Name == "group" {
			groups = append(groups, c.Text)
		}
	}
	i.groups = strings.Join(groups, ", ")
	return i
}

func (i item) String() string {
	words := map[string]string{
		"both": "each sees the other", "to": "you see them, they do not see you", "from": "they see you, you do not see them",
		"none": "neither sees the other", "remove": "removed",
	}[i.sub]
	if i.ask != "" {
		words += ", asked to see them"
	}
	out := i.jid
	if i.name != "" {
		out += " “" + i.name + "”"
	}
	if i.groups != "" {
		out += " [" + i.groups + "]"
	}
	return fmt.Sprintf("%s: %s (%s)", out, i.sub, words)
}

// roster prints a contact list.
func (s *story) roster(whose string, items []item) {
	if len(items) == 0 {
		s.says("%-28s nobody", whose)
	}
	for _, i := range items {
		s.says("%-28s %s", whose, i)
		whose = ""
	}
}

// person is somebody at a client, whose screen the reader sees.
type person struct {
	name string
	*testclient.Client
}
