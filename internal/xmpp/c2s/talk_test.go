package c2s

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pibox/internal/xmpp/accounts"
)

// The files in testdata are talks between a client and the server, in virtual time:
//
//	options STANZA=n …    limits of the server; must come first
//	C: text               the client sends this; several lines are one, without the line breaks
//	S: pattern            this is what the server sent next, with * for anything
//	S: nothing            the server sent nothing so far
//	S: ANYTHING           what the server sent does not matter
//	S: closed             the server sent nothing more and closed the connection
//	C: TLS [words]        the client begins TLS; C: DIRECT TLS does so on a connection with TLS from the first byte; NO before it: it must fail.
//	                      1.1 and 1.2 are the highest version, h2 an ALPN, unnamed is without SNI, a domain is whose certificate is expected
//	C: LOGIN name password [mechanism]
//	C: STREAM             a stream header to montague.example; S: STREAM the answer to one
//	C: BOUND resource     all from the first header to the bound resource, as romeo
//	C: LOGGEDIN           all from the first header to the features after the login, as romeo
//	C: SPACE              white space
//	C: GONE               the client's connection breaks
//	C: DEAF               the client stops reading; C: HEARS it begins again
//	shutdown              the server is stopped
//	removed               romeo's account is removed
//	again                 an account of that name is made, with another password
//	password [but orchard]   romeo's password is changed, by that session where one is named
//	stall                 the store stops committing; flow: it goes on; flow in 1s: later. STORE in a client's text is an IQ that is stored, SPOIL one that fails when it
//	                      has changed the store, TELL one that is stored and told the account's other devices
//	restart [with another password]   the server is stopped and started again
//	crash                 what stopping would write is not written
//	wrap                  all counts of stream management are 2^32-1
//	for orchard: stanzas  romeo's session of that name is sent these as they are; for orchard stored n: they are stored, from the sequence n on
//	sessions n            so many sessions are bound
//	5s pass
//
// C2 and S2 (and so on) are further connections. What "S:" matched with (name*) may be used as $name.
func TestTalks(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatal("no talks")
	}
	// Keys and certificates take their time: they are made once.
	start := t.TempDir()
	newBox(t, start, nil, Options{}).stop(t)
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		for _, part := range strings.Split(string(text), "\n# ")[1:] {
			title, body, _ := strings.Cut(part, "\n")
			t.Run(strings.TrimSuffix(filepath.Base(f), ".txt")+"/"+title, func(t *testing.T) { runTalk(t, start, body) })
		}
	}
}

const header = "<?xml version='1.0'?><stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' to='montague.example' version='1.0'>"

type talk struct {
	t       *testing.T
	dir     string
	options Options
	box     *box
	peers   map[string]*peer
	values  map[string]string
}

func runTalk(t *testing.T, start, text string) {
	dir := filepath.Join(t.TempDir(), "box")
	if err := os.CopyFS(dir, os.DirFS(start)); err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		k := &talk{t: t, dir: dir, peers: map[string]*peer{}, values: map[string]string{}}
		defer k.end()
		lines := strings.Split(text, "\n")
		for i := 0; i < len(lines); i++ {
			line := lines[i]
			for i+1 < len(lines) && strings.HasPrefix(lines[i+1], "   ") {
				i++
				line += strings.TrimSpace(lines[i])
			}
			if line = strings.TrimSpace(line); line == "" {
				continue
			}
			if err := k.do(line); err != nil {
				t.Fatalf("%s\n%v", line, err)
			}
		}
	})
}

func (k *talk) end() {
	for _, p := range k.peers {
		_ = p.raw.Close()
	}
	if k.box != nil {
		k.box.flow()
		k.box.stop(k.t)
	}
}

func (k *talk) do(line string) error {
	if rest, ok := strings.CutPrefix(line, "options "); ok {
		return k.setOptions(strings.Fields(rest))
	}
	if k.box == nil {
		k.box = newBox(k.t, k.dir, slog.New(slog.DiscardHandler), k.options)
	}
	who, what, ok := strings.Cut(line, ": ")
	switch {
	case strings.HasPrefix(who, "for "):
		return k.deliver(who[len("for "):], what)
	case line == "shutdown":
		go func() { _ = k.box.server.Shutdown(k.t.Context(), nil) }()
	case line == "stall":
		return k.box.stall()
	case line == "flow":
		k.box.flow()
	case line == "flow in 1s":
		time.AfterFunc(time.Second, k.box.flow)
	case line == "restart", line == "crash", line == "restart with another password":
		return k.restart(strings.TrimPrefix(line, "restart"))
	case line == "password but orchard":
		return k.box.changeOwn(k.box.router.SessionOf(romeo().With("orchard")))
	case line == "wrap":
		for _, l := range k.box.server.streams.all() {
			l.out.sm.acked, l.stream.in.handled = 1<<32-1, 1<<32-1
		}
	case strings.HasPrefix(line, "sessions "):
		if n := len(k.box.router.Sessions(romeo())); line != fmt.Sprintf("sessions %d", n) {
			return fmt.Errorf("there are %d", n)
		}
	case line == "removed":
		if _, err := k.box.accounts.Remove(romeo()); err != nil {
			return err
		}
	case line == "again":
		if _, err := k.box.accounts.Create(romeo(), "another", accounts.Role{}); err != nil {
			return err
		}
	case line == "password":
		if _, _, err := k.box.accounts.SetPassword(romeo(), "another"); err != nil {
			return err
		}
	case strings.HasSuffix(line, " pass"):
		d, err := time.ParseDuration(strings.TrimSuffix(line, " pass"))
		if err != nil {
			return err
		}
		time.Sleep(d) // virtual
	case ok && who[0] == 'C':
		return k.client(who[1:], what)
	case ok && who[0] == 'S':
		synctest.Wait()
		return k.peers[who[1:]].expect(what)
	default:
		return errors.New("not understood")
	}
	synctest.Wait()
	return nil
}

func (k *talk) setOptions(list []string) error {
	fields := map[string]*int{
		"STANZA": &k.options.Stanza, "QUEUE": &k.options.SendQueue, "RATE": &k.options.StanzaRate, "BURST": &k.options.StanzaBurst,
		"DEVICES": &k.options.ResourcesPerAccount, "CONNECTIONS": &k.options.Connections, "PERADDRESS": &k.options.ConnectionsPerAddress,
		"KEPT": &k.options.ResumeQueue, "LOST": &k.options.ResumeTotal, "HOLD": &k.options.HoldQueue, "WAITING": &k.options.UnauthenticatedPerAddress, "BYTERATE": &k.options.ByteRate, "BYTEBURST": &k.options.ByteBurst,
	}
	for _, o := range list {
		name, value, _ := strings.Cut(o, "=")
		if name == "CONFLICT" {
			k.options.Conflict = conflictPolicy(value)
			continue
		}
		n, err := strconv.Atoi(value)
		if err != nil || fields[name] == nil {
			return errors.New("no such option")
		}
		*fields[name] = n
	}
	return nil
}

func (k *talk) client(who, what string) error {
	words := strings.Fields(what)
	p := k.peers[who]
	if p == nil {
		p = k.connect(strings.Contains(what, "DIRECT TLS"))
		k.peers[who] = p
	}
	switch words[0] {
	case "NO":
		if err := p.startTLS(k.box, words[2:]); err == nil {
			return errors.New("TLS succeeded")
		}
	case "DIRECT":
		return p.startTLS(k.box, words[2:])
	case "TLS":
		return p.startTLS(k.box, words[1:])
	case "LOGIN":
		return p.login(words[1:])
	case "STREAM":
		return p.send(header)
	case "SPACE":
		return p.send(" ")
	case "LOGGEDIN":
		return p.loggedIn(k.box)
	case "BOUND":
		return p.bound(k.box, words[1])
	case "GONE":
		_ = p.raw.Close()
	case "DEAF":
		p.in.pause(true)
	case "HEARS":
		p.in.pause(false)
	default:
		return p.send(p.fill(what))
	}
	synctest.Wait()
	return nil
}

func (k *talk) connect(direct bool) *peer {
	ours, theirs := net.Pipe()
	go k.box.server.ServeConn(theirs, direct)
	nc := newPumped(ours)
	return &peer{raw: nc, in: nc.in, reader: nc.in, writer: nc, values: k.values}
}
