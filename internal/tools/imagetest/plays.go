package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"pibox/internal/testbox"
	"pibox/internal/testclient"
	"pibox/internal/xmpp/frame"
)

// administrator is who the card's pibox.toml names: his password is a secret that has to leave the FAT partition, and must not be lost on its way.
const administrator = "mum"

// settings is what a household writes on the card.
func (p *played) settings(more string) error {
	return p.card.put("pibox.toml", fmt.Sprintf("[administrator]\nname = %q\npassword = %q\n%s", administrator, p.password, more))
}

// firstStart cuts the first starts of a fresh card, and then those of a card with some messages.
func (t *torture) firstStart(ctx context.Context, p *played, cuts int) error {
	if err := p.settings(""); err != nil {
		return err
	}
	for range cuts {
		if err := p.cutStarting(ctx, 2000, 20*time.Second); err != nil {
			return err
		}
	}
	return p.lives(ctx)
}

// lives: the box serves, takes messages, and ends in order.
func (p *played) lives(ctx context.Context) error {
	b, err := p.serves(ctx)
	if err != nil {
		return err
	}
	defer p.end(b)
	if err := p.complete(ctx, b); err != nil {
		return err
	}
	return p.send(ctx, b, 5)
}

// end takes the power away without counting it: all that matters is on the card.
func (p *played) end(b *powered) {
	_, _ = b.reader.Cut(p.t.lot)
	b.vm.cut()
}

// chat cuts while messages are sent.
func (t *torture) chat(ctx context.Context, p *played, cuts int) error {
	if err := p.settings(""); err != nil {
		return err
	}
	for range cuts {
		b, err := p.serves(ctx)
		if err != nil {
			return err
		}
		if err := p.complete(ctx, b); err != nil {
			p.end(b)
			return err
		}
		bounded, cancel := context.WithTimeout(ctx, time.Second+time.Duration(p.t.lot.Int64N(int64(20*time.Second))))
		err = p.send(bounded, b, 1<<30)
		cancel()
		if e := p.cut(b); e != nil {
			return e
		}
		if err != nil && !errors.Is(err, context.DeadlineExceeded) {
			return err
		}
		fmt.Printf("%d messages acknowledged\n", len(p.acked))
	}
	return p.lives(ctx)
}

// update puts a newer system on the card, signed, and cuts until it is there and confirmed.
func (t *torture) update(ctx context.Context, p *played, cuts int) error {
	if err := p.settings(""); err != nil {
		return err
	}
	if err := p.lives(ctx); err != nil {
		return err
	}
	file, err := t.updateFile(ctx)
	if err != nil {
		return err
	}
	if err := p.card.mtools("mcopy", "-o", file, "::new.update"); err != nil {
		return err
	}
	for range cuts {
		// Most writes are the slot's; behind them come the restart and two minutes of trial.
		if err := p.cutStarting(ctx, 5000, 4*time.Minute); err != nil {
			return err
		}
	}
	// Undisturbed it installs what is left, restarts, and is confirmed after two minutes.
	b, err := p.serves(ctx)
	if err != nil {
		return err
	}
	defer p.end(b)
	bounded, cancel := context.WithTimeout(ctx, 2*back)
	defer cancel()
	if err := retry(bounded, func() error { return p.card.confirmed() }); err != nil {
		return fmt.Errorf("the update is not confirmed: %w", err)
	}
	if err := b.serving(bounded, local); err != nil {
		return err
	}
	return p.complete(ctx, b)
}

// restore cuts the first starts of a card with a backup on it.
func (t *torture) restore(ctx context.Context, p *played, cuts int) error {
	if err := p.backup(ctx); err != nil {
		return fmt.Errorf("making a backup: %w", err)
	}
	if err := p.card.mtools("mcopy", "-o", filepath.Join(p.dir, "family.age"), "::family.age"); err != nil {
		return err
	}
	if err := p.card.put("pibox.toml", "[restore]\npassphrase = \""+p.password+"\"\n"); err != nil {
		return err
	}
	for range cuts {
		if err := p.cutStarting(ctx, 2000, 20*time.Second); err != nil {
			return err
		}
	}
	return p.lives(ctx)
}

// backup makes one on this machine, of a family with an account and some messages.
func (p *played) backup(ctx context.Context) error {
	host, err := testbox.FreeHost()
	if err != nil {
		return err
	}
	box := &testbox.Box{Binary: p.t.pibox, Dir: filepath.Join(p.dir, "old"), Host: host, Domain: local}
	if err := os.Mkdir(box.Dir, 0o700); err != nil {
		return err
	}
	if err := box.Start(ctx); err != nil {
		return err
	}
	defer box.Stop()
	if err := box.AddUser(ctx, administrator, p.password); err != nil {
		return err
	}
	c, err := box.LoginSM(ctx, administrator, p.password, "")
	if err != nil {
		return err
	}
	if err := p.say(ctx, c, 20); err != nil {
		return err
	}
	c.Close(ctx)
	word := filepath.Join(p.dir, "word")
	if err := os.WriteFile(word, []byte(p.password), 0o600); err != nil {
		return err
	}
	return run(ctx, p.t.pibox, "--config", box.ConfigFile(), "backup", "--passphrase-file", word, filepath.Join(p.dir, "family.age"))
}

func run(ctx context.Context, program string, args ...string) error {
	out, err := exec.CommandContext(ctx, program, args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %w: %s", program, err, out)
	}
	return nil
}

// login is the administrator's. Whether he may trust the box's certificate is not what is tried here.
func (p *played) login(ctx context.Context, b *powered) (*testclient.Client, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	return testclient.Dial(ctx, testclient.Config{
		Addr: b.forward[5223], Direct: true, SM: true, Account: administrator + "@" + local, Password: p.password,
		TLS: &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS12},
	})
}

// send writes messages to the account itself, and notes those that the box acknowledged (XEP-0198).
func (p *played) send(ctx context.Context, b *powered, n int) error {
	c, err := p.login(ctx, b)
	if err != nil {
		return err
	}
	defer c.Cut()
	return p.say(ctx, c, n)
}

func (p *played) say(ctx context.Context, c *testclient.Client, n int) error {
	for range n {
		p.sent++
		body := fmt.Sprintf("message %d", p.sent)
		if err := c.Send(fmt.Sprintf("<message type='chat' id='m%d' to='%s'><body>%s</body></message>", p.sent, c.Account(), body)); err != nil {
			return err
		}
		if err := c.AwaitAck(ctx); err != nil {
			return err
		}
		p.acked = append(p.acked, body)
	}
	return nil
}

// archive is the text of all messages in it.
func (p *played) archive(ctx context.Context, b *powered) (bodies []string, err error) {
	c, err := p.login(ctx, b)
	if err != nil {
		return nil, err
	}
	defer c.Cut()
	after := ""
	for {
		page, err := c.Archive(ctx, testclient.ArchiveQuery{Set: "<max>100</max>" + after})
		if err != nil {
			return nil, err
		}
		for _, e := range page.Messages {
			bodies = append(bodies, e.Message.ChildText(frame.NSClient, "body"))
		}
		if page.Complete || len(page.Messages) == 0 {
			return bodies, nil
		}
		after = "<after>" + testclient.Escape(page.Last) + "</after>"
	}
}
