package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"
)

// shell is root's, in the box, by way of shellUnit. One command at a time.
type shell struct {
	conn net.Conn
	r    *bufio.Reader
	n    int
}

// openShell waits until the box has come far enough to answer.
func openShell(ctx context.Context, m *vm) (*shell, error) {
	s := &shell{conn: m.shell, r: bufio.NewReader(m.shell)}
	if _, err := s.run(ctx, "true"); err != nil {
		return nil, fmt.Errorf("the shell in the box: %w", err)
	}
	return s, nil
}

// run gives what a command printed, and an error when its exit code was not 0.
func (s *shell) run(ctx context.Context, command string) (string, error) {
	s.n++
	mark := "@@" + strconv.Itoa(s.n)
	stop := context.AfterFunc(ctx, func() { _ = s.conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	if _, err := fmt.Fprintf(s.conn, "( %s\n) </dev/null 2>&1; printf '\\n%s %%d\\n' $?\n", command, mark); err != nil {
		return "", err
	}
	var out strings.Builder
	for {
		line, err := s.r.ReadString('\n')
		if err != nil {
			return out.String(), fmt.Errorf("%q: %w", command, err)
		}
		if code, ok := strings.CutPrefix(line, mark+" "); ok {
			text := strings.TrimSpace(out.String())
			if code = strings.TrimSpace(code); code != "0" {
				return text, fmt.Errorf("%q: exit code %s: %s", command, code, text)
			}
			return text, nil
		}
		out.WriteString(line)
	}
}

// retry asks again every quarter of a second until ctx is over.
func retry(ctx context.Context, f func() error) error {
	tick := time.NewTicker(250 * time.Millisecond)
	defer tick.Stop()
	for {
		err := f()
		if err == nil || errors.Is(err, errEnded) {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("%w (last: %w)", ctx.Err(), err)
		}
	}
}
