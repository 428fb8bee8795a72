package c2s

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// TestDay plays a day in which somebody looks at his phone ten times, for two minutes: once with the phone saying nothing of that, once saying when it is
// inactive (XEP-0352). It counts what the box writes to the phone's socket, TLS and all. The figures in docs/performance.md are those of
//
//	go test -v -run TestDay ./internal/xmpp/c2s
func TestDay(t *testing.T) {
	start := t.TempDir()
	newBox(t, start, nil, Options{}).stop(t)
	day := writeDay(rand.New(rand.NewPCG(1, 2)))
	whole := play(t, start, day, false)
	quiet := play(t, start, day, true)
	t.Logf("%-22s %8s %8s %9s %9s %9s", "", "wake-ups", "packets", "writes", "bytes", "stanzas")
	t.Logf("%-22s %s", "active all day", whole)
	t.Logf("%-22s %s", "active for ten looks", quiet)
	if whole.bodies != quiet.bodies || whole.bodies != messages {
		t.Errorf("%d and %d messages came, not %d", whole.bodies, quiet.bodies, messages)
	}
	if quiet.wakeups*5 > whole.wakeups || quiet.packets*3 > whole.packets || quiet.bytes*4 > whole.bytes*3 {
		t.Error("that saves too little")
	}
}

const (
	contacts = 40
	messages = 60
	looks    = 10
	// tail is how long a phone's radio stays up after something came. What comes later wakes it.
	tail = 10 * time.Second
)

// event is what happens at a time of the day.
type event struct {
	at   time.Duration
	text string // stanzas for the phone
	seq  int    // where the first is stored
	look bool   // the phone is looked at
	away bool   // it is put away
}

// diary is a day that is being written.
type diary struct {
	*rand.Rand
	events []event
	seq    int
}

func (d *diary) note(at time.Duration, text string) {
	d.events = append(d.events, event{at: at, text: text})
}

func (d *diary) store(at time.Duration, text string) {
	d.seq++
	d.events = append(d.events, event{at: at, text: text, seq: d.seq})
}

// waking is a time when people are up, from 7 to 23.
func (d *diary) waking() time.Duration {
	return 7*time.Hour + time.Duration(d.Int64N(int64(16*time.Hour)))
}

func (d *diary) seconds(from, to int) time.Duration {
	return time.Duration(from+d.IntN(to-from)) * time.Second
}

// writeDay writes a day.
func writeDay(r *rand.Rand) []event {
	d := &diary{Rand: r}
	for i := range contacts {
		for range 8 + d.IntN(24) {
			d.note(d.waking(), d.presence(fmt.Sprintf("c%d@capulet.example/phone.%d", i, i)))
		}
	}
	for _, own := range []string{"tablet", "desktop"} {
		for range 20 {
			d.note(d.waking(), d.presence("romeo@montague.example/"+own))
		}
	}
	for range 120 {
		who := fmt.Sprintf("c%d@capulet.example", d.IntN(8))
		d.note(d.waking(), published(who, "http://jabber.org/protocol/tune", "current", "<tune xmlns='http://jabber.org/protocol/tune'><artist>"+
			strings.Repeat("x", d.IntN(20))+"</artist><title>"+strings.Repeat("y", d.IntN(30))+"</title></tune>"))
	}
	for range 30 {
		who := fmt.Sprintf("c%d@capulet.example", d.IntN(contacts))
		d.note(d.waking(), published(who, "http://jabber.org/protocol/mood", "current", "<mood xmlns='http://jabber.org/protocol/mood'><happy/></mood>"))
	}
	for range 10 {
		id := fmt.Sprintf("%040x", d.Uint64())
		d.note(d.waking(), published(fmt.Sprintf("c%d@capulet.example", d.IntN(contacts)), "urn:xmpp:avatar:metadata", id,
			"<metadata xmlns='urn:xmpp:avatar:metadata'><info bytes='12345' id='"+id+"' height='192' type='image/png' width='192'/></metadata>"))
	}
	for i := range 6 {
		d.note(d.waking(), published("romeo@montague.example", "urn:xmpp:bookmarks:1", fmt.Sprintf("room%d@rooms.example", i%3),
			"<conference xmlns='urn:xmpp:bookmarks:1' autojoin='true' name='Ball'><nick>Romeo</nick></conference>"))
	}
	d.talks()
	for range 2 {
		d.note(d.waking(), "<iq type='get' id='d1' from='c1@capulet.example/phone.1' to='romeo@montague.example/phone'><query xmlns='http://jabber.org/protocol/disco#info'/></iq>")
		d.note(d.waking(), "<iq type='set' id='r1' to='romeo@montague.example/phone'><query xmlns='jabber:iq:roster' ver='17'><item jid='c2@capulet.example' name='Ben' subscription='both'/></query></iq>")
	}
	for i := range looks {
		at := 7*time.Hour + time.Duration(i)*96*time.Minute + d.seconds(0, 3600)
		d.events = append(d.events, event{at: at, look: true}, event{at: at + 2*time.Minute, away: true})
	}
	slices.SortStableFunc(d.events, func(a, b event) int { return cmp.Compare(a.at, b.at) })
	return d.events
}

func (d *diary) presence(from string) string {
	x := []string{"", "<show>away</show>", "<show>xa</show><status>Auto away</status>", "<show>dnd</show><status>at the ball</status>"}[d.IntN(4)]
	return "<presence from='" + from + "' to='romeo@montague.example'>" + x + "<priority>5</priority>" +
		"<c xmlns='http://jabber.org/protocol/caps' hash='sha-1' node='https://client.example' ver='QgayPKawpkPSDYmwT/WM94uAlu0='/>" +
		"<x xmlns='vcard-temp:x:update'><photo>01b87fcd030b72895ff8e88db57ec525450f000d</photo></x></presence>"
}

func published(from, node, id, payload string) string {
	return "<message type='headline' from='" + from + "' to='romeo@montague.example/phone' id='k3jd8s7f6g5h4j3k'>" +
		"<event xmlns='http://jabber.org/protocol/pubsub#event'><items node='" + node + "'><item id='" + id + "'>" + payload + "</item></items></event></message>"
}

// talks are ten conversations of six messages, of which Romeo writes every other one, on his tablet or desktop. Both are on all day.
func (d *diary) talks() {
	for range messages / 6 {
		who := fmt.Sprintf("c%d@capulet.example", d.IntN(6))
		at := d.waking()
		for i := range 6 {
			at += d.seconds(15, 240)
			if i%2 == 0 {
				d.written(at, who)
			} else {
				d.answered(at, who)
			}
		}
	}
}

// written is a message to Romeo: both his other devices confirm that it arrived, and one that it was read.
func (d *diary) written(at time.Duration, who string) {
	from := who + "/phone"
	own := []string{"tablet", "desktop"}
	d.note(at-d.seconds(5, 14), message(from, "romeo@montague.example", state("composing")))
	d.note(at-d.seconds(2, 5), message(from, "romeo@montague.example", state("paused")))
	d.store(at, message(from, "romeo@montague.example", "<body>"+strings.Repeat("z", 20+d.IntN(120))+"</body>"+state("active")+
		"<markable xmlns='urn:xmpp:chat-markers:0'/><request xmlns='urn:xmpp:receipts'/>"+ids(d)))
	for i, device := range own {
		d.note(at+time.Duration(i+1)*200*time.Millisecond, carbon("sent", message("romeo@montague.example/"+device, from,
			"<received xmlns='urn:xmpp:receipts' id='"+randomID(d)+"'/>"+ids(d))))
	}
	read := at + d.seconds(20, 600)
	d.note(read, carbon("sent", message("romeo@montague.example/"+own[d.IntN(2)], who,
		"<displayed xmlns='urn:xmpp:chat-markers:0' id='"+randomID(d)+"'/>"+ids(d))))
	d.note(read+100*time.Millisecond, published("romeo@montague.example", "urn:xmpp:mds:displayed:0", who,
		"<displayed xmlns='urn:xmpp:mds:displayed:0'><stanza-id xmlns='urn:xmpp:sid:0' by='romeo@montague.example' id='"+randomID(d)+"'/></displayed>"))
}

// answered is a message that Romeo writes elsewhere; it is confirmed, and read.
func (d *diary) answered(at time.Duration, who string) {
	from := "romeo@montague.example/tablet"
	d.note(at-d.seconds(5, 14), carbon("sent", message(from, who, state("composing"))))
	d.note(at, carbon("sent", message(from, who, "<body>"+strings.Repeat("z", 20+d.IntN(120))+"</body>"+state("active")+
		"<markable xmlns='urn:xmpp:chat-markers:0'/><request xmlns='urn:xmpp:receipts'/>"+ids(d))))
	d.store(at+300*time.Millisecond, message(who+"/phone", "romeo@montague.example", "<received xmlns='urn:xmpp:receipts' id='"+randomID(d)+"'/>"+ids(d)))
	d.store(at+d.seconds(2, 300), message(who+"/phone", "romeo@montague.example", "<displayed xmlns='urn:xmpp:chat-markers:0' id='"+randomID(d)+"'/>"+ids(d)))
	d.note(at+d.seconds(30, 200), message(who+"/phone", "romeo@montague.example", state("inactive")))
}

func randomID(d *diary) string { return fmt.Sprintf("%016x%016x", d.Uint64(), d.Uint64()) }

func ids(d *diary) string {
	return "<origin-id xmlns='urn:xmpp:sid:0' id='" + randomID(d) + "'/><stanza-id xmlns='urn:xmpp:sid:0' by='romeo@montague.example' id='" + randomID(d)[:22] + "'/>"
}

func state(name string) string {
	return "<" + name + " xmlns='http://jabber.org/protocol/chatstates'/>"
}

func message(from, to, payload string) string {
	return "<message type='chat' from='" + from + "' to='" + to + "' id='ab12cd34ef56'>" + payload + "</message>"
}

// figures are of what a phone was sent.
type figures struct {
	wakeups int
	packets int // of 1400 bytes
	writes  int
	bytes   int
	stanzas uint32
	bodies  int
}

func (f figures) String() string {
	return fmt.Sprintf("%8d %8d %9d %9d %9d", f.wakeups, f.packets, f.writes, f.bytes, f.stanzas)
}

// meter counts what is written to a socket.
type meter struct {
	net.Conn
	mu   sync.Mutex
	last time.Time
	figures
}

// taken gives what was counted, and begins anew.
func (m *meter) taken() figures {
	m.mu.Lock()
	defer m.mu.Unlock()
	f := m.figures
	m.figures, m.last = figures{}, time.Now()
	return f
}

func (m *meter) Write(b []byte) (int, error) {
	m.mu.Lock()
	if now := time.Now(); now.Sub(m.last) > tail {
		m.wakeups++
	}
	m.last = time.Now()
	m.writes++
	m.packets += (len(b) + 1399) / 1400
	m.bytes += len(b)
	m.mu.Unlock()
	return m.Conn.Write(b)
}

// play plays a day. indicates: the phone says when it is looked at.
func play(t *testing.T, start string, day []event, indicates bool) (f figures) {
	dir := filepath.Join(t.TempDir(), "box")
	if err := os.CopyFS(dir, os.DirFS(start)); err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		k := &talk{t: t, dir: dir, peers: map[string]*peer{}, values: map[string]string{}}
		k.box = newBox(t, dir, nil, Options{})
		defer k.end()
		ours, theirs := net.Pipe()
		m := &meter{Conn: theirs}
		go k.box.server.ServeConn(m, false)
		nc := newPumped(ours)
		p := &peer{raw: nc, in: nc.in, reader: nc.in, writer: nc, values: k.values}
		k.peers[""] = p
		if err := k.phone(p, indicates); err != nil {
			t.Fatal(err)
		}
		m.taken() // the login does not count
		bodies := 0
		midnight := time.Now()
		for _, e := range day {
			for next := midnight.Add(e.at); time.Now().Before(next); {
				bodies += k.answer(p)
				time.Sleep(min(time.Until(next), 30*time.Second)) // virtual
			}
			if err := k.happens(p, e, indicates); err != nil {
				t.Fatal(err)
			}
			bodies += k.answer(p)
		}
		f = m.taken()
		f.bodies, f.stanzas = bodies, k.sent()
	})
	return f
}

// sent is how many stanzas the phone was sent.
func (k *talk) sent() uint32 {
	o := k.box.server.streams.all()[0].out
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.sm.sent()
}

func (k *talk) phone(p *peer, indicates bool) error {
	if err := p.bound(k.box, "phone"); err != nil {
		return err
	}
	if err := p.send("<enable xmlns='urn:xmpp:sm:3' resume='true'/>"); err != nil {
		return err
	}
	if err := p.expect("<enabled */>"); err != nil || !indicates {
		return err
	}
	return p.send("<inactive xmlns='urn:xmpp:csi:0'/>")
}

func (k *talk) happens(p *peer, e event, indicates bool) error {
	switch {
	case e.look && indicates:
		return p.send("<active xmlns='urn:xmpp:csi:0'/>")
	case e.away && indicates:
		return p.send("<inactive xmlns='urn:xmpp:csi:0'/>")
	case e.seq > 0:
		return k.deliver(fmt.Sprint("phone stored ", e.seq), e.text)
	}
	return k.deliver("phone", e.text)
}

// answer is what the phone does: it counts the messages that came, and acknowledges all.
func (k *talk) answer(p *peer) (bodies int) {
	synctest.Wait()
	got := string(p.reader.peek())
	p.reader.take(len(got))
	if strings.Contains(got, string(requestAck)) {
		_ = p.send(fmt.Sprintf("<a xmlns='urn:xmpp:sm:3' h='%d'/>", k.sent()))
	}
	return strings.Count(got, "<body>")
}

func carbon(name, inner string) string {
	return "<message type='chat' from='romeo@montague.example' to='romeo@montague.example/phone'><" + name + " xmlns='urn:xmpp:carbons:2'>" +
		"<forwarded xmlns='urn:xmpp:forward:0'>" + strings.Replace(inner, "<message", "<message xmlns='jabber:client'", 1) + "</forwarded></" + name + "></message>"
}
