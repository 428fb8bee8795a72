package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"pibox/internal/testclient"
)

// finish lets everybody send what they still have, come once more, and compares.
func (t *town) finish(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Minute)
	defer cancel()
	t.each(func(d *device) { d.sendAll(ctx) })
	pause(ctx, time.Second)
	t.each(func(d *device) { d.sendAll(ctx) }) // receipts of now
	archives, err := t.settled(ctx)
	if err != nil {
		return err
	}
	t.each(func(d *device) { d.comeOnce(ctx, archives[d.account.jid]) })
	for _, a := range t.accounts {
		t.ledger.check(t, a, archives)
	}
	for _, h := range t.homes {
		if err := h.autopsy(ctx, t); err != nil {
			return err
		}
	}
	return ctx.Err()
}

func (t *town) each(do func(*device)) {
	var wg sync.WaitGroup
	for _, d := range t.devices {
		wg.Go(func() { do(d) })
	}
	wg.Wait()
}

// sendAll gives the server all that the device has.
func (d *device) sendAll(ctx context.Context) {
	err := error(nil)
	if d.c == nil {
		err = d.connect(ctx)
	}
	if err == nil {
		err = d.start(ctx)
	}
	if err == nil {
		err = d.thank()
	}
	switch {
	case err != nil:
	case d.acknowledges:
		err = d.c.AwaitAck(ctx)
		d.look()
	default:
		_, err = d.c.IQ(ctx, "get", d.account.home.Domain, "<ping xmlns='urn:xmpp:ping'/>")
	}
	if err != nil {
		d.t.problem(d, "at the end: %v", err)
	}
	if len(d.inflight) > 0 {
		d.t.problem(d, "at the end: %d stanzas are not acknowledged", len(d.inflight))
	}
}

// settled reads all archives when nothing changes in them any more, and what was acknowledged has come to the other box.
func (t *town) settled(ctx context.Context) (map[string][]entry, error) {
	archives, clients := map[string][]entry{}, map[string]*testclient.Client{}
	defer func() {
		for _, c := range clients {
			c.Close(ctx)
		}
	}()
	for _, a := range t.accounts {
		c, err := a.home.Login(ctx, a.name, password, "auditor")
		if err != nil {
			return nil, err
		}
		clients[a.jid] = c
	}
	for began := time.Now(); ; {
		changed := false
		for jid, c := range clients {
			after := ""
			if n := len(archives[jid]); n > 0 {
				after = archives[jid][n-1].id
			}
			found, err := readArchive(ctx, c, after)
			if err != nil {
				return nil, err
			}
			archives[jid] = append(archives[jid], found...)
			changed = changed || len(found) > 0
		}
		if missing := t.ledger.missing(archives); !changed && (missing == 0 || time.Since(began) > patience) {
			fmt.Printf("archives are complete %s after the last message\n", time.Since(began).Round(time.Millisecond))
			return archives, nil
		}
		pause(ctx, time.Second)
	}
}

// missing is how many acknowledged messages are not in the recipient's archive.
func (l *ledger) missing(archives map[string][]entry) (n int) {
	have := map[string]bool{}
	for jid, list := range archives {
		for _, e := range list {
			have[jid+" "+e.origin] = true
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, m := range l.messages {
		if m.acked && !have[m.to.jid+" "+m.id] {
			n++
		}
	}
	return n
}

// comeOnce: a device that comes once more has of each conversation what the archive has.
func (d *device) comeOnce(ctx context.Context, archive []entry) {
	if d.c != nil {
		d.close(ctx)
	}
	d.resume = nil
	if err := d.connect(ctx); err != nil {
		return
	}
	if err := d.start(ctx); err != nil {
		d.t.problem(d, "catching up at the end: %v", err)
		return
	}
	d.close(ctx)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.unsorted(archive)
	mine, its := byConversation(d.view.order), byConversation(archive)
	for _, with := range slices.Sorted(maps.Keys(its)) {
		if !slices.Equal(mine[with], its[with]) {
			d.t.problem(d, "the conversation with %s is not that of the archive: %s", with, differ(mine[with], its[with]))
		}
		delete(mine, with)
	}
	for with, list := range mine {
		d.t.problem(d, "the conversation with %s is not in the archive: %v", with, list)
	}
	if len(d.view.order) != len(archive) {
		d.t.problem(d, "%d messages, and %d in the archive", len(d.view.order), len(archive))
	}
}

// unsorted counts what came by itself behind something that is later in the archive.
func (d *device) unsorted(archive []entry) {
	place := map[string]int{}
	for i, e := range archive {
		place[e.id] = i
	}
	last, session := 0, 0
	for _, a := range d.arrivals {
		if a.session != session {
			last, session = 0, a.session
		}
		if a.delayed {
			continue
		}
		if place[a.id] < last {
			d.t.count.unsorted.Add(1)
		}
		last = max(last, place[a.id])
	}
}

func byConversation(list []entry) map[string][]entry {
	by := map[string][]entry{}
	for _, e := range list {
		by[e.with] = append(by[e.with], e)
	}
	return by
}

// differ shows both around the first difference.
func differ(mine, its []entry) string {
	n := 0
	for n < min(len(mine), len(its)) && mine[n] == its[n] {
		n++
	}
	around := func(list []entry) string {
		var w strings.Builder
		for i := max(0, n-3); i < min(len(list), n+5); i++ {
			fmt.Fprintf(&w, "\n    %d: %s as %s", i, list[i].origin, list[i].id)
		}
		return w.String()
	}
	return fmt.Sprintf("%d and %d messages, from number %d on\n  the device:%s\n  the archive:%s", len(mine), len(its), n, around(mine), around(its))
}

// check compares an archive with what was sent: each message that was acknowledged is there, as often as it was sent at most; where it was sent
// once, once; both archives have it equally often; each device's in its order.
func (l *ledger) check(t *town, a *account, archives map[string][]entry) {
	l.mu.Lock()
	defer l.mu.Unlock()
	copies, latest := map[string][]string{}, map[[2]string]int{}
	for _, e := range archives[a.jid] {
		m := l.messages[e.origin]
		if m == nil || m.from != a && m.to != a {
			t.problem(nil, "%s's archive has %v, which nobody sent", a.jid, e)
			continue
		}
		copies[e.origin] = append(copies[e.origin], e.id)
		if len(copies[e.origin]) > 1 {
			continue
		}
		sender, number := origin(e.origin)
		if key := [2]string{sender, e.with}; number < latest[key] {
			t.problem(nil, "%s's archive has %s (%s, sent %d times) behind number %d", a.jid, e.origin, e.id, m.sends, latest[key])
		} else {
			latest[key] = number
		}
	}
	other := map[string]int{}
	for _, p := range a.partners {
		for _, e := range archives[p.jid] {
			if m := l.messages[e.origin]; m != nil && m.from == a {
				other[e.origin]++
			}
		}
	}
	for id, m := range l.messages {
		n := len(copies[id])
		if m.from != a && m.to != a {
			continue
		}
		if n > m.sends || n == 0 && m.acked {
			t.problem(nil, "%s's archive has %d copies of %s from %s to %s (acknowledged: %t, sent %d times): %v", a.jid, n, id, m.from.jid, m.to.jid, m.acked, m.sends, copies[id])
		}
		if m.from == a {
			t.count.copies.Add(int64(max(0, n-1)))
			if n == 2 && m.sends == 2 && m.told {
				t.count.twofold.Add(1)
			}
			if n != other[id] {
				t.problem(nil, "message %s from %s to %s (acknowledged: %t, sent %d times) is %d times in the one's archive, and %d times in the other's",
					id, m.from.jid, m.to.jid, m.acked, m.sends, n, other[id])
			}
		}
	}
}
