package main

import (
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
)

// message is one that is archived, by its origin-id: the sending device's name and a number.
type message struct {
	id       string
	from, to *account
	receipt  bool
	sends    int // how often a fresh stanza was sent; what a resumed session retransmits is the same one
	acked    bool
	told     bool // it is sent again because the server told that it had not handled it
}

// ledger is all messages.
type ledger struct {
	mu       sync.Mutex
	messages map[string]*message
}

func (l *ledger) sending(m *message) {
	l.mu.Lock()
	defer l.mu.Unlock()
	m.sends++
	l.messages[m.id] = m
}

func (l *ledger) acked(m *message) {
	l.mu.Lock()
	defer l.mu.Unlock()
	m.acked = true
}

// sends is how often a message was sent.
func (l *ledger) sends(id string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	if m := l.messages[id]; m != nil {
		return m.sends
	}
	return 0
}

// origin is the device and the number in an origin-id.
func origin(id string) (device string, number int) {
	device, n, _ := strings.Cut(id, "-")
	number, _ = strconv.Atoi(n)
	return device, number
}

// counts are what happened.
type counts struct {
	sessions, asked, resumed, late, killed, forgot, closed, cut atomic.Int64
	messages, receipts, again, noise, acked                     atomic.Int64
	direct, carbons, delayed, redelivered, twice, bounced       atomic.Int64
	queries, entries                                            atomic.Int64
	copies, twofold, unsorted                                   atomic.Int64
}

func (c *counts) line() string {
	return fmt.Sprintf("%d sessions, %d of %d resumed; %d messages, %d receipts, %d sent again; %d came directly, %d by carbon, %d redelivered, %d twice",
		c.sessions.Load(), c.resumed.Load(), c.asked.Load(), c.messages.Load(), c.receipts.Load(), c.again.Load(),
		c.direct.Load(), c.carbons.Load(), c.redelivered.Load(), c.twice.Load())
}

func (c *counts) print() {
	for _, row := range []struct {
		n    *atomic.Int64
		what string
	}{
		{&c.sessions, "fresh sessions"},
		{&c.closed, "streams closed"},
		{&c.cut, "connections cut"},
		{&c.forgot, "sessions forgotten by their device"},
		{&c.asked, "resumptions asked for"},
		{&c.resumed, "  done"},
		{&c.late, "  failed: too late"},
		{&c.killed, "  failed: the box was killed meanwhile"},
		{&c.messages, "messages sent"},
		{&c.receipts, "receipts sent"},
		{&c.again, "sent again in a fresh session"},
		{&c.acked, "acknowledged"},
		{&c.noise, "chat states and unstored messages sent"},
		{&c.direct, "stanzas delivered directly"},
		{&c.carbons, "  as carbons"},
		{&c.delayed, "  of both, those that had waited"},
		{&c.redelivered, "  of both, those that the device had seen in an earlier session"},
		{&c.twice, "  of both, those that the session had seen"},
		{&c.unsorted, "  of both, those that came behind a later one of the archive"},
		{&c.bounced, "errors that came back"},
		{&c.queries, "catch-ups"},
		{&c.entries, "messages that they brought"},
		{&c.copies, "copies in archives beyond the first, for what was sent again"},
		{&c.twofold, "  of these, those of what the server had told not to have handled"},
	} {
		fmt.Printf("%9d %s\n", row.n.Load(), row.what)
	}
}
