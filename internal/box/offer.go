package box

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"time"

	"pibox/internal/backup"
	"pibox/internal/store"
	"pibox/internal/transfer"
)

// offer is a listener for a new box.
type offer struct {
	listener net.Listener
	key      []byte
	until    time.Time
	cert     tls.Certificate
	slots    chan struct{}
	timer    *time.Timer

	mu     sync.Mutex
	failed int
	next   time.Time      // when the next connection is looked at
	from   map[string]int // connections now, by whom
}

const (
	offerTime = 15 * time.Minute
	// wrongPause is the wait after a connection that did not have the code; maxWrong of them end the offer.
	wrongPause = 2 * time.Second
	maxWrong   = 10
	// offerSlots are connections at the same time, offerShare those of one address: who has no code must not keep the new box from asking.
	offerSlots = 16
	offerShare = 4
)

func (d *Daemon) openOffer(listen string, key []byte, until time.Time) error {
	cert, err := transfer.Certificate()
	if err != nil {
		return err
	}
	ln, err := endpoint{who: "a new box", key: "--listen"}.listen(listen)
	if err != nil {
		return err
	}
	o := &offer{listener: ln, key: key, until: until, cert: cert, slots: make(chan struct{}, offerSlots), from: map[string]int{}}
	d.handing.Lock()
	old := d.handing.offer
	d.handing.offer = o
	d.handing.Unlock()
	if old != nil {
		old.close()
	}
	o.timer = time.AfterFunc(time.Until(until), func() { d.offerIsOver(o) })
	go d.accept(o)
	return nil
}

func (o *offer) close() {
	if o.timer != nil {
		o.timer.Stop()
	}
	_ = o.listener.Close()
}

// endOffer listens no more.
func (d *Daemon) endOffer() {
	d.handing.Lock()
	o := d.handing.offer
	d.handing.offer = nil
	d.handing.Unlock()
	if o != nil {
		o.close()
	}
}

// offerIsOver ends an offer whose time is over, or at which somebody guesses. What was handed over stays so, and answers.
func (d *Daemon) offerIsOver(o *offer) {
	d.handing.Lock()
	mine := d.handing.offer == o && d.handing.given == nil && d.handing.busy == ""
	d.handing.Unlock()
	if !mine {
		return
	}
	d.endOffer()
	d.log.Info("the offer to a new box is over")
	if s := d.running(); s != nil {
		if err := writeHandover(s.box.Store, nil); err != nil {
			d.log.Warn("the offer could not be removed", "error", err)
		}
	}
}

func (d *Daemon) accept(o *offer) {
	for {
		conn, err := o.listener.Accept()
		switch {
		case errors.Is(err, net.ErrClosed):
			return
		case err != nil:
			d.log.Warn("a new box could not be accepted", "error", err)
			time.Sleep(100 * time.Millisecond)
			continue
		}
		leave, ok := o.enter(network(conn.RemoteAddr()))
		if !ok {
			_ = conn.Close()
			continue
		}
		o.slots <- struct{}{}
		go func() {
			defer func() { <-o.slots }()
			defer leave()
			defer func() { _ = conn.Close() }()
			if err := d.meet(o, conn); err != nil {
				d.log.Warn("a new box", "address", host(conn.RemoteAddr()), "error", err)
			}
		}()
	}
}

// enter counts a connection; false where its address has its share.
func (o *offer) enter(who string) (leave func(), ok bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.from[who] >= offerShare {
		return nil, false
	}
	o.from[who]++
	return func() {
		o.mu.Lock()
		defer o.mu.Unlock()
		if o.from[who]--; o.from[who] == 0 {
			delete(o.from, who)
		}
	}, true
}

// network is whose share a connection takes: an IPv4 address, or the /64 of which a machine may have any number of addresses.
func network(a net.Addr) string {
	tcp, ok := a.(*net.TCPAddr)
	if !ok {
		return a.String()
	}
	ip := tcp.AddrPort().Addr().Unmap()
	if ip.Is4() {
		return ip.String()
	}
	p, _ := ip.Prefix(64)
	return p.String()
}

// meet talks with what may be a new box.
func (d *Daemon) meet(o *offer, raw net.Conn) error {
	o.mu.Lock()
	wait := time.Until(o.next)
	o.mu.Unlock()
	time.Sleep(wait)
	conn, err := transfer.Server(raw, o.key, o.cert)
	if errors.Is(err, transfer.ErrProof) {
		o.mu.Lock()
		o.failed, o.next = o.failed+1, time.Now().Add(wrongPause)
		over := o.failed >= maxWrong
		o.mu.Unlock()
		if over {
			d.offerIsOver(o)
		}
	}
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	m, err := conn.Receive(transfer.Fetch, transfer.Ask)
	if err != nil {
		return err
	}
	if m.Op == transfer.Ask {
		return d.answer(conn, m)
	}
	return d.letFetch(conn, m)
}

// answer tells a new box that lost its connection how it stands.
func (d *Daemon) answer(conn *transfer.Conn, m transfer.Message) error {
	d.handing.Lock()
	op := transfer.Serving
	switch {
	case d.handing.given != nil && d.handing.given.ID == m.ID:
		op = transfer.Given
	case d.handing.busy != "":
		op = transfer.Busy
	}
	d.handing.Unlock()
	if err := conn.Send(transfer.Message{Op: op}); err != nil || op != transfer.Given {
		return err
	}
	if _, err := conn.Receive(transfer.Installed); err != nil {
		return err
	}
	d.handing.Lock()
	defer d.handing.Unlock()
	if d.handing.store == nil || d.handing.given == nil {
		return nil // it asks no more, whatever stands there
	}
	h := *d.handing.given
	h.Installed = true
	return writeHandover(d.handing.store, &h)
}

// letFetch makes sure that both are ready, then lets run stop serving, and waits until it is over.
func (d *Daemon) letFetch(conn *transfer.Conn, m transfer.Message) error {
	refuse := func(format string, args ...any) error {
		return conn.Send(transfer.Message{Op: transfer.Refused, Text: fmt.Sprintf(format, args...)})
	}
	s := d.running()
	d.handing.Lock()
	given, busy, serving := d.handing.given, d.handing.busy, d.handing.cancel != nil && s != nil
	ok := given == nil && busy == "" && serving && m.ID != ""
	if ok {
		d.handing.busy = m.ID
	}
	d.handing.Unlock()
	switch {
	case given != nil:
		return refuse("it was handed over to %s already", given.To)
	case busy != "":
		return refuse("it is being handed over to another one")
	case !ok:
		return refuse("it does not serve; 'pibox status' there tells why")
	}
	taken := false
	defer func() {
		d.handing.Lock()
		defer d.handing.Unlock()
		if !taken {
			d.handing.busy = ""
		}
	}()
	if m.Schema < store.Schema() || m.Format < backup.Format {
		return refuse("its pibox is newer (%s): install that version on the new box first", d.version)
	}
	if err := conn.Send(transfer.Message{Op: transfer.Offer, Size: d.estimate(), Schema: store.Schema(), Version: d.version, Domains: s.box.Router.Domains()}); err != nil {
		return err
	}
	if _, err := conn.Receive(transfer.Begin); err != nil {
		return err
	}
	d.step("begun")
	b := &newBox{conn, m.ID, make(chan struct{})}
	d.handing.Lock()
	if cancel := d.handing.cancel; cancel != nil {
		taken, d.handing.ready = true, b
		cancel(errHandingOver)
	}
	d.handing.Unlock()
	if taken {
		<-b.done
	}
	return nil
}

// estimate is more than the box has, in bytes.
func (d *Daemon) estimate() int64 {
	const small = 16 << 20
	info, err := os.Stat(StorePath(d.config()))
	if err != nil {
		return small
	}
	return info.Size() + small
}
