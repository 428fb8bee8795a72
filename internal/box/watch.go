package box

import (
	"context"
	"fmt"
	"time"

	"pibox/internal/health"
)

const (
	watchEvery = time.Minute
	// expirySoon is how long before the end of a certificate that the box can not renew itself somebody is told.
	expirySoon = 14 * 24 * time.Hour
)

// watch looks after what runs out slowly, and tells the health.
func (d *Daemon) watch(ctx context.Context) {
	for {
		d.watchDisk()
		d.watchCertificates()
		d.watchKeys()
		d.watchUpdate()
		select {
		case <-ctx.Done():
			return
		case <-time.After(watchEvery):
		}
	}
}

func (d *Daemon) watchDisk() {
	cfg := d.config()
	free, err := freeBytes(cfg.DataDir)
	reserve := int64(cfg.Store.Reserve)
	switch {
	case err == nil && free < reserve:
		d.health.Set(health.Fact{Name: "disk", Severity: health.Failing, Text: "the disk is full: nothing can be stored any more. Free some space."})
	case err == nil && free < 4*reserve:
		d.health.Set(health.Fact{Name: "disk", Severity: health.Degraded, Text: "the disk is nearly full. Free some space."})
	default:
		d.health.Clear("disk")
	}
}

func (d *Daemon) watchCertificates() {
	s := d.running()
	if s == nil {
		return
	}
	domain, at := s.certs.Expiry()
	switch left := time.Until(at); {
	case at.IsZero() || left > expirySoon:
		d.health.Clear("certificate")
	case left <= 0:
		d.health.Set(health.Fact{Name: "certificate", Severity: health.Degraded, Text: fmt.Sprintf("the certificate of %s has expired: put a new one in its place.", domain)})
	default:
		d.health.Set(health.Fact{Name: "certificate", Severity: health.Degraded, Text: fmt.Sprintf("the certificate of %s expires on %s: renew it.", domain, at.Format(time.DateOnly))})
	}
}
