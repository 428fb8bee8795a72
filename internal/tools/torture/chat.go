package main

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"syscall"
	"time"

	"pibox/internal/testclient"
	"pibox/internal/xmpp/frame"
)

const (
	nsStanzaID = "urn:xmpp:sid:0"
	nsArchive  = testclient.NSArchive
)

// post sends messages and waits until the server has taken them over: until then they may be lost, from then on not.
func (t *town) post(ctx context.Context, from, to string, n int) error {
	c := t.clients[from]
	var ids []string
	for range n {
		id := t.m.next()
		ids = append(ids, id)
		if err := t.send(c, from, to, id); err != nil {
			return err
		}
	}
	if err := t.handled(ctx, c, t.jid(to)); err != nil {
		return err
	}
	t.m.acked(ids, t.owes)
	t.done.addN("message", n)
	return nil
}

func (t *town) send(c *testclient.Client, from, to, id string) error {
	t.m.sending(id, from, to, t.serial)
	return c.Send(fmt.Sprintf("<message type='chat' id='%s' to='%s'><body>%s</body><origin-id xmlns='%s' id='%s'/></message>",
		id, t.jid(to), bodyOf(id), nsStanzaID, id))
}

// handled waits until the server has acknowledged all that a client sent: by stream management or else by the answer to a request behind it.
func (t *town) handled(ctx context.Context, c *testclient.Client, to string) error {
	if c.SM() {
		return c.AwaitAck(ctx)
	}
	return t.behind(ctx, c, to)
}

// owes: an acknowledged message has to come to him. Who is there may lose what is on its way to him, if he has no stream management; without
// an archive it is not stored at all.
func (t *town) owes(to string) bool {
	return !slices.Contains(people, to) || t.offers.archive && t.offers.sm
}

// chat is a talk between two who are there.
func (t *town) chat(from, to string) func(context.Context, *rand.Rand) error {
	return func(ctx context.Context, rng *rand.Rand) error {
		select {
		case <-time.After(time.Duration(rng.Int64N(int64(40 * time.Millisecond)))):
		case <-t.box.Ended():
			return io.EOF
		}
		return t.post(ctx, from, to, 1+rng.IntN(6))
	}
}

// came notes a message that came to a client of name.
func (t *town) came(name string, st *frame.Element) {
	id := st.Attr("id")
	if number(id) == 0 {
		return
	}
	stanzaID := ""
	for _, n := range st.Node().Children {
		if n.NS == nsStanzaID && n.Name == "stanza-id" && n.Attr("by") == t.jid(name) {
			stanzaID = n.Attr("id")
		}
	}
	t.m.seen(id, name, stanzaID)
}

// login lets somebody in, when the box is up, and finishes what was not acknowledged to him before the power went.
func (t *town) login(ctx context.Context, name string) error {
	t.pending[name] = map[string]bool{}
	before := t.sessions[name]
	c, err := t.enter(ctx, name, before.session)
	if err != nil {
		return err
	}
	if !t.offers.known {
		if err := t.ask(ctx, c); err != nil {
			return err
		}
	}
	if c.Resumption().Resumed {
		if c, err = t.afterResumption(ctx, name, c); err != nil {
			return err
		}
	} else if t.orderly && before.session != nil {
		t.problem("%s could not resume the session after an orderly restart", name)
	}
	delete(t.sessions, name)
	t.clients[name] = c
	t.took(name, before.serial, c.Resumption())
	return t.again(ctx, name)
}

// afterResumption ends a session that survived an orderly restart; what it sent is handled now.
func (t *town) afterResumption(ctx context.Context, name string, c *testclient.Client) (*testclient.Client, error) {
	if err := c.AwaitAck(ctx); err != nil {
		return nil, err
	}
	t.m.acked(t.m.unacked(name, t.sessions[name].serial), t.owes)
	c.Close(ctx)
	t.done.add("resumption")
	return t.enter(ctx, name, nil)
}

// took: the server told how many stanzas of the session before it had handled. Those are there (XEP-0198 §5).
func (t *town) took(name string, session int, r testclient.Resumption) {
	if !r.Told {
		return
	}
	t.done.add("session told of")
	open := map[string]bool{}
	for _, raw := range r.Unhandled {
		open[idOf(raw)] = true
	}
	var ids []string
	for _, id := range t.m.unacked(name, session) {
		if !open[id] {
			ids = append(ids, id)
		}
	}
	t.m.acked(ids, t.owes)
	t.done.addN("message told after the cut", len(ids))
}

func idOf(raw string) string {
	el, err := frame.Parse([]byte(raw), frame.NSClient, frame.Limits{})
	if err != nil || el.Name != "message" {
		return ""
	}
	return el.Attr("id")
}

// again sends what was never acknowledged once more, as a client does that is connected again.
func (t *town) again(ctx context.Context, name string) error {
	c, to := t.clients[name], map[string]bool{}
	ids := t.m.unacked(name, 0)
	for _, id := range ids {
		t.m.mu.Lock()
		whom := t.m.Messages[id].To
		t.m.mu.Unlock()
		to[whom] = true
		if err := t.send(c, name, whom, id); err != nil {
			return err
		}
	}
	for whom := range to {
		if err := t.handled(ctx, c, t.jid(whom)); err != nil {
			return err
		}
	}
	t.m.acked(ids, t.owes)
	t.done.addN("message sent again", len(ids))
	return nil
}

// enter tries until the box is up. A box that does not let anybody in is made to write into its log what each goroutine does.
func (t *town) enter(ctx context.Context, name string, resume *testclient.SMSession) (*testclient.Client, error) {
	tried := map[string]int{}
	for {
		cfg, err := t.box.ClientConfig(name, password, "balcony")
		if err == nil {
			cfg.On, cfg.SM, cfg.Resume = t.on(name), true, resume
			var c *testclient.Client
			if c, err = testclient.Dial(ctx, cfg); err == nil {
				return c, nil
			}
		}
		tried[err.Error()]++
		select {
		case <-time.After(time.Millisecond):
		case <-t.box.Ended():
			return nil, fmt.Errorf("the box ended by itself; see %s", t.box.LogFile())
		case <-ctx.Done():
			t.box.Signal(syscall.SIGQUIT)
			select {
			case <-t.box.Ended():
			case <-time.After(patience / 10):
			}
			return nil, fmt.Errorf("%s can not log in: %w; how often which: %v", name, err, tried)
		}
	}
}

// left is a session that nobody closed.
type left struct {
	session *testclient.SMSession
	serial  int // of the town that it was in
}

// leave notes how the sessions of those who are there were left, after the power went.
func (t *town) leave() {
	for name, c := range t.clients {
		s := c.SMSession()
		if s == nil {
			continue
		}
		t.sessions[name] = left{s, t.serial}
		open := map[string]bool{}
		for _, raw := range s.Unacked {
			open[idOf(raw)] = true
		}
		var ids []string
		for _, id := range t.m.unacked(name, t.serial) {
			if !open[id] {
				ids = append(ids, id)
			}
		}
		t.m.acked(ids, t.owes)
	}
}
