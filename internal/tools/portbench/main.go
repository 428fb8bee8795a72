// Command portbench measures `pibox import` and `pibox export` with a large archive: memory of the server and of the command, speed, and whether
// what comes out is what went in.
//
//	go run ./internal/tools/portbench -pibox bin/pibox -size 2147483648
//
// It needs four times the size on the disk that -dir is on.
package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"hash"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"pibox/internal/portable"
	"pibox/internal/store"
	"pibox/internal/testbox"
)

func main() {
	pibox := flag.String("pibox", "bin/pibox", "the program")
	dir := flag.String("dir", os.TempDir(), "where files and the database lie")
	size := flag.Int64("size", 2<<30, "of the export, in bytes")
	most := flag.Int64("most", 64<<20, "RssAnon, in bytes, beyond which it fails; 0: any")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *pibox, *dir, *size, *most); err != nil {
		fmt.Fprintln(os.Stderr, "portbench:", err)
		os.Exit(1)
	}
}

const domain = "home.example"

func run(ctx context.Context, pibox, dir string, size, most int64) (err error) {
	if pibox, err = filepath.Abs(pibox); err != nil {
		return err
	}
	work, err := os.MkdirTemp(dir, "pibox-portbench-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(work) }()
	in, out := filepath.Join(work, "in.xml"), filepath.Join(work, "out.xml")
	want, err := write(in, size)
	if err != nil {
		return err
	}
	host, err := testbox.FreeHost()
	if err != nil {
		return err
	}
	box := &testbox.Box{Binary: pibox, Dir: filepath.Join(work, "box"), Host: host, Domain: domain}
	if err := box.Launch(); err != nil {
		return err
	}
	defer box.Stop()
	if err := box.AwaitServing(ctx); err != nil {
		return err
	}
	b := bench{ctx: ctx, box: box, pibox: pibox, most: most}
	if err := b.measure("import", in, "import", in); err != nil {
		return err
	}
	if info, err := os.Stat(box.Store()); err == nil {
		fmt.Printf("database: %d MiB\n", info.Size()>>20)
	}
	if err := b.measure("export", out, "export", "--all", "--to", out); err != nil {
		return err
	}
	got, err := read(ctx, out)
	if err != nil {
		return err
	}
	if got != want {
		return fmt.Errorf("what came out is not what went in: %+v instead of %+v", got, want)
	}
	fmt.Printf("what came out is what went in: %d messages\n", got.messages)
	return nil
}

type bench struct {
	ctx   context.Context
	box   *testbox.Box
	pibox string
	most  int64
}

// measure runs a command and watches it and the server. file is what it reads or writes.
func (b *bench) measure(name, file string, args ...string) error {
	cmd := exec.CommandContext(b.ctx, b.pibox, append(args, "--config", b.box.ConfigFile())...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	began := time.Now()
	if err := cmd.Start(); err != nil {
		return err
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	var server, command int64
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case err := <-done:
			if err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			return b.told(name, file, time.Since(began), server, command)
		case <-tick.C:
			server, command = max(server, anonymous(b.box.PID())), max(command, anonymous(cmd.Process.Pid))
		}
	}
}

func (b *bench) told(name, file string, took time.Duration, server, command int64) error {
	info, err := os.Stat(file)
	if err != nil {
		return err
	}
	fmt.Printf("%s: %d MiB in %s, %.1f MB/s; RssAnon at most %.1f MiB (server), %.1f MiB (command)\n", name, info.Size()>>20, took.Round(time.Second/10),
		float64(info.Size())/1e6/took.Seconds(), float64(server)/(1<<20), float64(command)/(1<<20))
	if b.most > 0 && max(server, command) > b.most {
		return fmt.Errorf("%s: RssAnon was above %d MiB", name, b.most>>20)
	}
	return nil
}

// anonymous is what of a process's memory is no file's, in bytes; 0 where it is gone.
func anonymous(pid int) int64 {
	raw, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/status")
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(raw), "RssAnon:")
	kb, _, _ := strings.Cut(strings.TrimSpace(rest), " ")
	n, _ := strconv.ParseInt(kb, 10, 64)
	return n << 10
}

// sum is what two exports of one archive have in common: all but the ids that each box makes.
type sum struct {
	messages int
	hash     string
}

// write makes an export: an account with messages of many lengths, to and from many others.
func write(path string, size int64) (s sum, err error) {
	f, err := os.Create(path)
	if err != nil {
		return s, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	h := sha256.New()
	count := &counter{w: f}
	w := portable.NewWriter(count)
	if err := head(w); err != nil {
		return s, err
	}
	at := time.Date(2015, 1, 1, 0, 0, 0, 0, time.UTC)
	text := bytes.Repeat([]byte("O Romeo, Romeo! wherefore art thou Romeo? "), 100)
	for ; count.n < size; s.messages++ {
		at = at.Add(time.Duration(1+s.messages%40_000) * time.Millisecond)
		who, me := fmt.Sprintf("contact%d@x%d.example/phone", s.messages%199, s.messages%7), "juliet@"+domain
		from, to := who, me
		if s.messages%2 == 0 {
			from, to = me+"/balcony", strings.TrimSuffix(who, "/phone")
		}
		n := 20 + s.messages*7919%500
		if s.messages%1000 == 0 {
			n = len(text)
		}
		m := portable.Archived{ID: strconv.Itoa(s.messages), At: at, Stanza: fmt.Appendf(nil, "<message type='chat' id='m%d' from='%s' to='%s'><body>%s</body><origin-id xmlns='urn:xmpp:sid:0' id='m%d'/></message>",
			s.messages, from, to, text[:n], s.messages)}
		add(h, m)
		if err := w.Archived(m); err != nil {
			return s, err
		}
	}
	s.hash = hex.EncodeToString(h.Sum(nil))
	return s, errors.Join(w.End(), w.Close())
}

// head is an account with some contacts and a large avatar.
func head(w *portable.Writer) error {
	if err := w.User(portable.User{Name: "juliet", Domain: domain}); err != nil {
		return err
	}
	for i := range 199 {
		if err := w.Roster(portable.RosterItem{JID: fmt.Sprintf("contact%d@x%d.example", i, i%7), Sub: store.SubBoth}); err != nil {
			return err
		}
	}
	return w.Item("urn:xmpp:avatar:data", portable.Item{ID: "1", Payload: []byte("<data xmlns='urn:xmpp:avatar:data'>" + strings.Repeat("A", 200_000) + "</data>")})
}

func add(h hash.Hash, m portable.Archived) {
	fmt.Fprintf(h, "%d ", m.At.UnixMilli())
	_, _ = h.Write(m.Stanza)
}

type counter struct {
	w io.Writer
	n int64
}

func (c *counter) Write(p []byte) (int, error) {
	c.n += int64(len(p))
	return c.w.Write(p)
}

// reader sums an export up.
type reader struct {
	*portable.Writer
	h   hash.Hash
	sum sum
}

// Archived implements portable.Sink.
func (r *reader) Archived(m portable.Archived) error {
	r.sum.messages++
	add(r.h, m)
	return nil
}

func read(ctx context.Context, path string) (sum, error) {
	f, err := os.Open(path)
	if err != nil {
		return sum{}, err
	}
	defer func() { _ = f.Close() }()
	r := &reader{Writer: portable.NewWriter(io.Discard), h: sha256.New()}
	if err := (&portable.Reader{}).Read(ctx, bufio.NewReaderSize(f, 1<<20), r); err != nil {
		return sum{}, err
	}
	r.sum.hash = hex.EncodeToString(r.h.Sum(nil))
	return r.sum, nil
}
