package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"pibox/internal/admin"
)

// restores makes a backup of the contacts' box, changes it, and puts the backup in its place. Whenever the power is cut, the box that starts then is
// the whole old one or the whole new one, and it is the new one once the command said so.
func (p *play) restores(ctx context.Context) error {
	h := p.houses[1]
	file := filepath.Join(p.dir, "backup")
	if out, err := exec.CommandContext(ctx, h.Binary, "--config", h.ConfigFile(), "backup", "--plain", "--force", file).CombinedOutput(); err != nil {
		return fmt.Errorf("backup: %w: %s", err, out)
	}
	saved, changed := newEnding(), newEnding()
	if err := saved.look(ctx, h); err != nil {
		return err
	}
	if _, err := h.Admin().UserAdd(ctx, admin.UserAddRequest{User: paolo, Password: password}); err != nil {
		return err
	}
	if err := changed.look(ctx, h); err != nil {
		return err
	}
	h.Stop()
	for {
		said, err := p.restoreOnce(ctx, h, file)
		if err != nil {
			return err
		}
		for p.fate.IntN(3) == 0 {
			if err := p.cutStarting(ctx, h); err != nil {
				return err
			}
		}
		if err := p.comeUp(ctx, h); err != nil {
			return err
		}
		p.last = time.Now()
		if err := p.sameAuthority(h); err != nil {
			return err
		}
		now := newEnding()
		if err := now.look(ctx, h); err != nil {
			return err
		}
		switch diff := differences(saved, now); {
		case diff == "":
			p.done.add("boxes restored")
			return p.confirm(ctx, h)
		case said:
			return fmt.Errorf("the command said that the box is restored, and it is not:%s", diff)
		case differences(changed, now) != "":
			return fmt.Errorf("the box is neither the old one nor the new one:%s", diff)
		}
		h.Stop()
	}
}

// restoreOnce runs the command until it ends or the power is cut.
func (p *play) restoreOnce(ctx context.Context, h *house, file string) (said bool, err error) {
	if err := h.power.on(); err != nil {
		return false, err
	}
	h.power.cutAfter(1 + p.fate.IntN(1<<(1+p.fate.IntN(9))))
	var out bytes.Buffer
	cmd := exec.Command(h.Binary, "--config", h.ConfigFile(), "restore", "--replace", file)
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		return false, err
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	var failed error
	over := false
	select {
	case failed = <-ended:
		over = true
	case <-h.power.whenCut():
	case <-time.After(time.Duration(p.fate.Int64N(int64(2 * time.Second)))):
	case <-ctx.Done():
	}
	said = over && failed == nil
	if over && failed != nil && !h.power.isCut() {
		return false, fmt.Errorf("restore: %w: %s", failed, &out)
	}
	p.unlucky = true
	p.done.add("cuts of a restore")
	h.power.stand()
	if !over {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // with its children
	}
	h.power.release()
	if !over {
		<-ended
	}
	p.cuts++
	return said, h.power.cut(h.Box, p.fate)
}

// sameAuthority: the box's certificate authority is part of both, and no start makes another one.
func (p *play) sameAuthority(h *house) error {
	was, err1 := os.ReadFile(filepath.Join(p.blank(1), "tls", "authority.pem"))
	is, err2 := os.ReadFile(h.Authority())
	if err := errors.Join(err1, err2); err != nil {
		return err
	}
	if !bytes.Equal(was, is) {
		return fmt.Errorf("%s has another certificate authority than before", h.Domain)
	}
	return nil
}

// confirm lets the restored box talk to others.
func (p *play) confirm(ctx context.Context, h *house) error {
	out, err := exec.CommandContext(ctx, h.Binary, "--config", h.ConfigFile(), "restore", "--confirm").CombinedOutput()
	if err != nil {
		return fmt.Errorf("restore --confirm: %w: %s", err, out)
	}
	return nil
}
