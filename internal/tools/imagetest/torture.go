package main

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"time"

	"pibox/internal/tools/cutcard"
)

// torture cuts the power of running cards: at their first start, while the family chats, during an update and during a restore. What a cut leaves of
// the card is told by package cutcard. Behind each the box has to come back, with all that it acknowledged.
type torture struct {
	*tester
	lot   *rand.Rand
	pibox string // this machine's, for backups and update files
	root  string // the image's root slot, for updates
	key   string // its secret key
	left  int    // cuts

	cuts, lost, boots int
	slowest           time.Duration // from power to the first answer behind a cut
}

// back is how long a box may take to answer: an emulated processor is slow, and this machine may be busy.
const back = 10 * time.Minute

// play is one card, from a fresh one to its end, with about so many cuts.
type play struct {
	name  string
	share int // of 10
	run   func(ctx context.Context, p *played, cuts int) error
}

// all plays cards until all cuts were made.
func (t *torture) all(ctx context.Context) error {
	plays := []play{{"first start", 3, t.firstStart}, {"chat", 3, t.chat}, {"update", 2, t.update}, {"restore", 2, t.restore}}
	want := t.left
	for _, p := range plays {
		if t.only != "" && t.only != p.name {
			continue
		}
		for share := max(want*p.share/10, 1); share > 0; share -= 5 {
			fmt.Println("==", p.name)
			if err := t.one(ctx, p, min(share, 5)); err != nil {
				return fmt.Errorf("%s: %w", p.name, err)
			}
		}
	}
	fmt.Printf("%d cuts, %d starts, %d sectors lost of what was not flushed; the box came back each time, after %s at most, and nothing acknowledged was missing\n",
		t.cuts, t.boots, t.lost, t.slowest.Round(time.Second))
	return nil
}

func (t *torture) one(ctx context.Context, p play, cuts int) error {
	dir, err := os.MkdirTemp(t.dir, "card-")
	if err != nil {
		return err
	}
	pl := &played{t: t, dir: dir, password: "correct horse battery staple"}
	if pl.card, err = t.fresh.copyTo(filepath.Join(dir, "card")); err != nil {
		return err
	}
	if err := p.run(ctx, pl, cuts); err != nil {
		return err
	}
	return os.RemoveAll(dir)
}

// played is a card under torture, and what is known of it.
type played struct {
	t        *torture
	dir      string
	card     card
	password string // of the first administrator
	sent     int
	acked    []string // bodies of the messages that the box acknowledged
}

// powered is a box that runs, and its card.
type powered struct {
	*vm
	reader *cutcard.Card
}

// power turns the box on.
func (p *played) power(ctx context.Context) (*powered, error) {
	p.t.boots++
	dir := filepath.Join(p.dir, fmt.Sprintf("boot%d", p.t.boots))
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, err
	}
	socket := filepath.Join(dir, "nbd")
	reader, err := cutcard.Insert(p.card.file, socket)
	if err != nil {
		return nil, err
	}
	m, err := boot(ctx, p.t.virt("nbd+unix:///?socket="+socket).sealed(), dir)
	if err != nil {
		_ = reader.Eject()
		return nil, err
	}
	return &powered{m, reader}, nil
}

// cutStarting turns the box on and takes the power away in the midst of a write, drawn by lot from so many, the early ones more often; or, where it has
// not come to that one, when it did nothing for so long behind its first answer.
func (p *played) cutStarting(ctx context.Context, most float64, idle time.Duration) error {
	b, err := p.power(ctx)
	if err != nil {
		return err
	}
	at := int(math.Exp(p.t.lot.Float64() * math.Log(most)))
	b.reader.CutAfter(at, p.t.lot)
	bounded, cancel := context.WithTimeout(ctx, back)
	defer cancel()
	stop := make(chan error, 1)
	go func() { stop <- b.serving(bounded, local) }()
	select {
	case <-b.reader.WhenCut():
	case err = <-stop:
		select {
		case <-b.reader.WhenCut():
			err = nil
		case <-time.After(idle):
		case <-bounded.Done():
		}
	}
	if e := p.cut(b); e != nil {
		return e
	}
	if err != nil {
		return fmt.Errorf("the box does not come back (%s): %w", b.console, err)
	}
	return nil
}

func (p *played) cut(b *powered) error {
	lost, err := b.reader.Cut(p.t.lot)
	took := time.Since(b.began)
	b.cut()
	p.t.cuts++
	p.t.lost += lost
	fmt.Printf("cut %d after %s and %d writes: %d sectors lost\n", p.t.cuts, took.Round(100*time.Millisecond), len(b.reader.Written()), lost)
	return err
}

// serves turns the box on and waits until it answers.
func (p *played) serves(ctx context.Context) (*powered, error) {
	b, err := p.power(ctx)
	if err != nil {
		return nil, err
	}
	bounded, cancel := context.WithTimeout(ctx, back)
	defer cancel()
	if err := b.serving(bounded, local); err != nil {
		_ = p.cut(b)
		return nil, fmt.Errorf("the box does not come back (%s): %w", b.console, err)
	}
	p.t.slowest = max(p.t.slowest, time.Since(b.began))
	return b, nil
}

// complete compares the archive with what was acknowledged: each of it once.
func (p *played) complete(ctx context.Context, b *powered) error {
	have, err := p.archive(ctx, b)
	if err != nil {
		return fmt.Errorf("reading the archive: %w", err)
	}
	for _, body := range p.acked {
		n := 0
		for _, h := range have {
			if h == body {
				n++
			}
		}
		if n != 1 {
			return fmt.Errorf("message %q was acknowledged, and is %d times in the archive", body, n)
		}
	}
	for _, body := range have {
		if !slices.Contains(p.acked, body) { // came, but its acknowledgement did not
			p.acked = append(p.acked, body)
		}
	}
	return nil
}
