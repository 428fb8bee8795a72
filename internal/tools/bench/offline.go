package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"pibox/internal/testclient"
	"pibox/internal/xmpp/frame"
)

const (
	offlineMessages = 2000
	offlineSenders  = 10
	offlineUser     = 150 // who is not there
)

// offline is messages to somebody who is not there, and his coming back.
func offline(ctx context.Context, s server, f figures) error {
	return on(ctx, s, func(*testclient.Client) error {
		took, err := leaveMessages(ctx, s)
		if err != nil {
			return err
		}
		f["offline_stored_rate"] = offlineMessages / took.Seconds()
		before, err := usageOf(s.pid())
		if err != nil {
			return err
		}
		took, disorder, err := collect(ctx, s)
		if err != nil {
			return err
		}
		after, err := usageOf(s.pid())
		f["offline_collected_rate"], f["offline_disorder"] = offlineMessages/took.Seconds(), float64(disorder)
		f["offline_collected_cpu_us"] = us(after.cpu-before.cpu) / offlineMessages
		return err
	})
}

// leaveMessages has several people write to the one who is not there, and waits until all is stored.
func leaveMessages(ctx context.Context, s server) (time.Duration, error) {
	var senders []*testclient.Client
	defer func() {
		for _, c := range senders {
			c.Cut()
		}
	}()
	for i := range offlineSenders {
		c, err := login(ctx, s, i+1, quiet)
		if err != nil {
			return 0, err
		}
		senders = append(senders, c)
	}
	to := user(offlineUser) + "@" + domain
	began := time.Now()
	errs := make(chan error, len(senders))
	for k, c := range senders {
		go func() {
			for i := range offlineMessages / offlineSenders {
				if err := c.Send(fmt.Sprintf("<message type='chat' id='s%d-%d' to='%s'>%s</message>", k, i+1, to, archivedBody)); err != nil {
					errs <- err
					return
				}
			}
			_, err := c.IQ(ctx, "get", to, "<ping xmlns='urn:xmpp:ping'/>") // answered behind them
			errs <- err
		}()
	}
	var err error
	for range senders {
		err = errors.Join(err, <-errs)
	}
	return time.Since(began), err
}

// collect is the time from presence to the last message; disorder is how many came before an earlier one of the same sender.
func collect(ctx context.Context, s server) (took time.Duration, disorder int, err error) {
	type seen struct {
		n, disorder int
		err         error
	}
	var now seen
	last := map[string]int{}
	all := make(chan seen, 1)
	c, err := login(ctx, s, offlineUser, func(cfg *testclient.Config) {
		cfg.On = func(_ *testclient.Client, st *frame.Element) bool {
			if st.Name == "message" && st.HasChild(frame.NSClient, "body") {
				var number int
				sender, rest, _ := strings.Cut(st.Attr("id"), "-")
				if _, err := fmt.Sscan(rest, &number); err != nil {
					now.err = fmt.Errorf("a message with id %q", st.Attr("id"))
				}
				if number < last[sender] {
					now.disorder++
				}
				last[sender] = number
				if now.n++; now.n == offlineMessages {
					all <- now
				}
			}
			return st.Name != "iq"
		}
	})
	if err != nil {
		return 0, 0, err
	}
	defer c.Close(ctx)
	began := time.Now()
	if err := c.Send("<presence/>"); err != nil {
		return 0, 0, err
	}
	select {
	case now := <-all:
		return time.Since(began), now.disorder, now.err
	case <-ctx.Done():
		return 0, 0, fmt.Errorf("not all of %d offline messages came: %w", offlineMessages, ctx.Err())
	}
}
