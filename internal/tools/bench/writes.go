package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"pibox/internal/testclient"
	"pibox/internal/xmpp/frame"

	"golang.org/x/sys/unix"
)

// writes is what reaches the device for what is kept: one by one, and as many at once as the server takes.
func writes(ctx context.Context, s server, f figures) error {
	set := func(i int) string {
		return fmt.Sprintf("<query xmlns='jabber:iq:roster'><item jid='friend%d@elsewhere.example' name='Friend %d'><group>Friends</group></item></query>", i, i)
	}
	return on(ctx, s, func(c *testclient.Client) error {
		return errors.Join(
			oneByOne(ctx, s, f, "write_isolated_kb", func(i int) error { return c.Set(ctx, "", set(i)) }),
			perWrite(ctx, s, f, "write_bulk_kb", bulk, func() (time.Duration, error) {
				began := time.Now()
				err := inBulk(ctx, c, func(i int) string { return set(i%500 + isolated) })
				return time.Since(began), err
			}),
			oneByOne(ctx, s, f, "write_offline_kb", func(i int) error {
				to := fmt.Sprintf("%s@%s", user(i%20+1), domain)
				if err := c.Send("<message type='chat' to='" + to + "' id='m" + fmt.Sprint(i) + "'><body>Good night, good night!</body></message>"); err != nil {
					return err
				}
				_, err := c.IQ(ctx, "get", to, "<ping xmlns='urn:xmpp:ping'/>") // answered behind it
				return err
			}),
			oneByOne(ctx, s, f, "write_pep_kb", func(i int) error {
				mood := fmt.Sprintf("<mood xmlns='http://jabber.org/protocol/mood'><happy/><text>day %d</text></mood>", i)
				return c.Set(ctx, "", "<pubsub xmlns='http://jabber.org/protocol/pubsub'><publish node='http://jabber.org/protocol/mood'><item id='current'>"+
					mood+"</item></publish></pubsub>")
			}))
	})
}

// inBulk sends requests without waiting, and then waits for all replies.
func inBulk(ctx context.Context, c *testclient.Client, payload func(int) string) error {
	var replies []<-chan *frame.Element
	for i := range bulk {
		reply, err := c.Ask("set", "", payload(i))
		if err != nil {
			return err
		}
		replies = append(replies, reply)
	}
	for _, reply := range replies {
		select {
		case st, ok := <-reply:
			if !ok {
				return c.Err()
			}
			if err := testclient.Refusal(st); err != nil {
				return err
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// oneByOne does something several times, and has the kernel write what the server left to it in between: as what comes minutes apart is written.
func oneByOne(ctx context.Context, s server, f figures, name string, do func(i int) error) error {
	fd, err := unix.Open(s.folder(), unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(fd) }()
	return perWrite(ctx, s, f, name, isolated, func() (took time.Duration, err error) {
		for i := range isolated {
			began := time.Now()
			if err := do(i); err != nil {
				return took, err
			}
			took += time.Since(began)
			if err := unix.Syncfs(fd); err != nil {
				return took, fmt.Errorf("syncfs: %w", err)
			}
		}
		return took, nil
	})
}

// perWrite is what each of n things that are done writes, in kB, and how long it takes, in ms.
func perWrite(ctx context.Context, s server, f figures, name string, n float64, do func() (time.Duration, error)) error {
	before, err := usageOf(s.pid())
	if err != nil {
		return err
	}
	took, err := do()
	if err != nil {
		return errors.Join(err, ctx.Err())
	}
	after, err := usageOf(s.pid())
	f[name], f[name+"_ms"] = (after.written-before.written)/n/1024, ms(took)/n
	return err
}
