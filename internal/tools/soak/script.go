package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"pibox/internal/testclient"
)

// live comes and goes until it is over.
func (d *device) live(ctx context.Context) {
	d.rest(ctx, d.upTo(3*time.Second))
	for !d.isOver(ctx) {
		if d.c == nil && d.connect(ctx) != nil {
			return
		}
		if err := d.stay(ctx); err != nil {
			d.lost(ctx, err)
		} else if !d.isOver(ctx) {
			d.rest(ctx, d.leave(ctx))
		}
	}
}

func (d *device) isOver(ctx context.Context) bool {
	select {
	case <-d.t.over:
		return true
	default:
		return ctx.Err() != nil
	}
}

// rest does nothing for a while, or until it is over.
func (d *device) rest(ctx context.Context, wait time.Duration) {
	select {
	case <-time.After(wait):
	case <-d.t.over:
	case <-ctx.Done():
	}
}

// idle is rest, and ends when the connection does.
func (d *device) idle(ctx context.Context, wait time.Duration) {
	for until := time.Now().Add(wait); d.c.Err() == nil && time.Now().Before(until) && !d.isOver(ctx); {
		d.rest(ctx, min(time.Until(until), 100*time.Millisecond))
	}
}

// about is a random time with that mean, not much longer.
func (d *device) about(mean time.Duration) time.Duration {
	return min(time.Duration(d.rng.ExpFloat64()*float64(mean)), 5*mean)
}

func (d *device) upTo(most time.Duration) time.Duration {
	return time.Duration(d.rng.Int64N(int64(most) + 1))
}

// stay is one connection, up to the moment when the device wants it to end.
func (d *device) stay(ctx context.Context) error {
	asking, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if err := d.start(asking); err != nil {
		return err
	}
	for until := time.Now().Add(d.about(min(max(d.t.time/40, 5*time.Second), 45*time.Second))); time.Now().Before(until) && !d.isOver(ctx); {
		if d.c.Err() != nil {
			return errLost
		}
		if err := d.step(ctx); err != nil {
			return err
		}
		d.idle(ctx, d.about(d.t.pace))
	}
	return nil
}

// lost looks why a connection ended without the device wanting it.
func (d *device) lost(ctx context.Context, err error) {
	if ctx.Err() != nil {
		return
	}
	for began := time.Now(); d.c.Err() == nil && time.Since(began) < 2*time.Second; { // what could not be written is not to be read, either
		pause(ctx, 10*time.Millisecond)
	}
	if d.c.Err() == nil {
		d.t.problem(d, "%v", err)
		d.cut(ctx)
		d.rest(ctx, 3*time.Second)
		return
	}
	why, runs := errors.Join(err, d.c.Err()), d.runs
	d.gone(ctx)
	pause(ctx, 100*time.Millisecond)
	if d.account.home.runs.Load() == runs && ctx.Err() == nil {
		d.t.problem(d, "the connection was lost: %v", why)
	}
}

// step is one thing that a device does.
func (d *device) step(ctx context.Context) error {
	if err := d.thank(); err != nil {
		return err
	}
	partner := d.account.partners[d.rng.IntN(len(d.account.partners))]
	to := partner.jid
	if d.rng.IntN(4) == 0 {
		to += "/" + partner.devices[d.rng.IntN(len(partner.devices))].resource
	}
	var err error
	switch x := d.rng.IntN(100); {
	case x < 75:
		err = d.say(partner, to)
	case x < 85:
		err = d.noise(to, "<composing xmlns='http://jabber.org/protocol/chatstates'/>")
	case x < 90:
		err = d.noise(to, "<body>between us</body><no-store xmlns='urn:xmpp:hints'/>")
	case x < 92:
		ctx, cancel := context.WithTimeout(ctx, patience)
		defer cancel()
		err = d.catchUp(ctx)
	}
	if err == nil && d.acknowledges && d.rng.IntN(2) == 0 {
		err = d.c.Send("<r xmlns='urn:xmpp:sm:3'/>")
		d.look()
	}
	return err
}

func (d *device) say(partner *account, to string) error {
	if d.rng.IntN(3) == 0 {
		if err := d.noise(to, "<composing xmlns='http://jabber.org/protocol/chatstates'/>"); err != nil {
			return err
		}
	}
	d.t.count.messages.Add(1)
	id := d.nextID()
	return d.message(partner, to, id, false, "<body>"+id+"</body><request xmlns='urn:xmpp:receipts'/><active xmlns='http://jabber.org/protocol/chatstates'/>")
}

func (d *device) nextID() string {
	d.number++
	return fmt.Sprintf("%s-%d", d.name, d.number)
}

func (d *device) message(partner *account, to, id string, receipt bool, content string) error {
	raw := fmt.Sprintf("<message type='chat' to='%s' id='%s'>%s<origin-id xmlns='urn:xmpp:sid:0' id='%s'/></message>", testclient.Escape(to), id, content, id)
	return d.post(flight{raw: raw, m: &message{id: id, from: d.account, to: partner, receipt: receipt}})
}

// noise sends what is not stored.
func (d *device) noise(to, content string) error {
	d.t.count.noise.Add(1)
	return d.c.Send(fmt.Sprintf("<message type='chat' to='%s' id='noise-%s'>%s</message>", testclient.Escape(to), d.nextID(), content))
}

// thank sends the receipts that are due.
func (d *device) thank() error {
	d.mu.Lock()
	due := d.thanks
	d.thanks = nil
	d.mu.Unlock()
	for _, x := range due {
		d.t.count.receipts.Add(1)
		partner := d.t.accountOf(bare(x.to))
		if err := d.message(partner, x.to, d.nextID(), true, "<received xmlns='urn:xmpp:receipts' id='"+x.id+"'/>"); err != nil {
			return err
		}
	}
	return nil
}

func (t *town) accountOf(jid string) *account {
	for _, a := range t.accounts {
		if a.jid == jid {
			return a
		}
	}
	return nil
}

// leave ends the connection in one of the ways in which they end, and tells for how long.
func (d *device) leave(ctx context.Context) time.Duration {
	long := d.t.time/10 + d.upTo(d.t.time/5)
	if d.rng.IntN(3) == 0 { // in the midst of something
		for range 1 + d.rng.IntN(5) {
			partner := d.account.partners[d.rng.IntN(len(d.account.partners))]
			if err := d.say(partner, partner.jid); err != nil {
				break
			}
		}
	}
	switch x := d.rng.IntN(100); {
	case x < 20:
		d.close(ctx)
		if d.rng.IntN(5) == 0 {
			return long
		}
		return d.upTo(10 * time.Second)
	case x < 35:
		d.cut(ctx)
		d.t.count.forgot.Add(1)
		if d.resume = nil; d.rng.IntN(2) == 0 { // what it had not sent yet, too
			d.inflight, d.again = nil, nil
		}
		return d.upTo(3 * time.Second)
	case x < 50:
		d.cut(ctx)
		return 0
	case x < 80:
		d.cut(ctx)
		return d.upTo(d.t.resume * 6 / 10)
	case x < 92:
		d.cut(ctx)
		return d.t.resume*12/10 + d.upTo(10*time.Second)
	}
	d.cut(ctx)
	return long
}

func (d *device) cut(ctx context.Context) {
	d.t.count.cut.Add(1)
	d.c.Cut()
	d.gone(ctx)
}

// close ends the stream; what nobody acknowledged is sent again in the next session.
func (d *device) close(ctx context.Context) {
	d.t.count.closed.Add(1)
	ctx, cancel := context.WithTimeout(ctx, patience/2)
	defer cancel()
	if d.acknowledges && d.rng.IntN(4) > 0 {
		_ = d.c.AwaitAck(ctx)
	}
	d.c.Close(ctx)
	d.gone(ctx)
	d.resume = nil
}
