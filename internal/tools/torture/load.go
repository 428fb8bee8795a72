package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"pibox/internal/admin"
	"pibox/internal/testclient"
	"pibox/internal/xmpp/frame"
)

// The people of Verona. Those who are logged in during a round, those who are away, and one who comes and goes.
var (
	people    = []string{"juliet", "romeo", "nurse", "tybalt"}
	mailboxes = []string{"mercutio", "benvolio"}
	couples   = [][2]string{{"juliet", "romeo"}, {"nurse", "tybalt"}, {"juliet", "nurse"}, {"romeo", "tybalt"}}
)

const (
	visitor  = "paris"
	road     = "road" // his resource
	password = "a plague on both your houses"

	nsRoster = "jabber:iq:roster"
	nsPubSub = "http://jabber.org/protocol/pubsub"
	pepNode  = "urn:pibox:torture"
)

// worker does one thing over and over, one step at a time, until the box is killed.
type worker struct {
	name string
	step func(ctx context.Context, rng *rand.Rand) error
}

// town is the people while the box is up.
type town struct {
	*run
	m       *model
	clients map[string]*testclient.Client
	serial  int         // number of the town: nothing survives it but what is told to be
	whole   bool        // archives are read from their beginning
	down    atomic.Bool // the power is being cut: what fails from now on, fails for that

	mu       sync.Mutex
	pending  map[string]map[string]bool // by who was asked: who asked
	problems []error
}

// problem notes what must not be.
func (t *town) problem(format string, args ...any) {
	if t.down.Load() {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.problems = append(t.problems, fmt.Errorf(format, args...))
}

// maxProblems is how many are printed.
const maxProblems = 10

// wrong is what was noted.
func (t *town) wrong() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if more := len(t.problems) - maxProblems; more > 0 {
		return errors.Join(append(t.problems[:maxProblems:maxProblems], fmt.Errorf("and %d more", more))...)
	}
	return errors.Join(t.problems...)
}

func (t *town) jid(name string) string { return name + "@" + t.box.Domain }

func (t *town) workers() []worker {
	var all []worker
	for _, name := range people {
		for shard := range 2 {
			all = append(all, worker{fmt.Sprintf("roster %s %d", name, shard), t.values(name, "roster", fmt.Sprintf("friend%d", shard), 6, t.setContact)})
		}
		all = append(all, worker{"private " + name, t.values(name, "private", "k", 4, t.setPrivate)})
		all = append(all, worker{"vcard " + name, t.values(name, "vcard", "", 1, t.setVCard)})
		all = append(all, worker{"pep " + name, t.values(name, "pep", "item", 6, t.setItem)})
	}
	for _, c := range couples {
		all = append(all, worker{"chat " + c[0] + " " + c[1], t.chat(c[0], c[1])}, worker{"chat " + c[1] + " " + c[0], t.chat(c[1], c[0])})
		all = append(all, worker{"subscription " + c[0] + " " + c[1], func(ctx context.Context, rng *rand.Rand) error { return t.subscribe(ctx, rng, c) }})
	}
	for i, name := range mailboxes {
		all = append(all, worker{"messages to " + name, func(ctx context.Context, rng *rand.Rand) error {
			return t.post(ctx, people[i], name, 1+rng.IntN(5))
		}})
	}
	return append(all,
		worker{"visitor", t.visit},
		worker{"accounts", t.accounts},
		worker{"password", t.changePassword},
		worker{"backup", t.backup},
	)
}

// values is a worker that sets values, or takes them away ("").
func (t *town) values(name, kind, prefix string, n int, set func(ctx context.Context, c *testclient.Client, key, value string) error) func(context.Context, *rand.Rand) error {
	return func(ctx context.Context, rng *rand.Rand) error {
		key := prefix
		if n > 1 {
			key += fmt.Sprint(rng.IntN(n))
		}
		full, value := kind+"/"+name+"/"+key, ""
		if t.m.value(full) == "" || rng.IntN(4) > 0 {
			value = t.m.next()
		}
		t.m.try(full, value)
		if err := set(ctx, t.clients[name], key, value); err != nil {
			return err
		}
		t.m.ack(full)
		t.done.add(kind)
		return nil
	}
}

func contactOf(key string) string { return key + "@elsewhere.example" }

func (t *town) setContact(ctx context.Context, c *testclient.Client, key, value string) error {
	if value == "" {
		return c.Set(ctx, "", fmt.Sprintf("<query xmlns='%s'><item jid='%s' subscription='remove'/></query>", nsRoster, contactOf(key)))
	}
	return c.Set(ctx, "", fmt.Sprintf("<query xmlns='%s'><item jid='%s' name='%s'><group>%s</group></item></query>", nsRoster, contactOf(key), value, value))
}

func (t *town) setPrivate(ctx context.Context, c *testclient.Client, key, value string) error {
	return c.Set(ctx, "", fmt.Sprintf("<query xmlns='jabber:iq:private'><note xmlns='urn:pibox:%s'>%s</note></query>", key, value))
}

func (t *town) setVCard(ctx context.Context, c *testclient.Client, _, value string) error {
	return c.Set(ctx, "", "<vCard xmlns='vcard-temp'><FN>"+value+"</FN></vCard>")
}

func (t *town) setItem(ctx context.Context, c *testclient.Client, key, value string) error {
	if value == "" {
		return c.Set(ctx, "", fmt.Sprintf("<pubsub xmlns='%s'><retract node='%s' notify='true'><item id='%s'/></retract></pubsub>", nsPubSub, pepNode, key))
	}
	return c.Set(ctx, "", fmt.Sprintf("<pubsub xmlns='%s'><publish node='%s'><item id='%s'><note xmlns='%s'>%s</note></item></publish>%s</pubsub>",
		nsPubSub, pepNode, key, pepNode, value, publishOptions))
}

const publishOptions = "<publish-options><x xmlns='jabber:x:data' type='submit'>" +
	"<field var='FORM_TYPE' type='hidden'><value>http://jabber.org/protocol/pubsub#publish-options</value></field>" +
	"<field var='pubsub#persist_items'><value>true</value></field><field var='pubsub#max_items'><value>50</value></field></x></publish-options>"

// subscribe changes the subscription between two accounts of the box.
func (t *town) subscribe(ctx context.Context, rng *rand.Rand, c [2]string) error {
	if rng.IntN(2) == 0 {
		c[0], c[1] = c[1], c[0]
	}
	who, whom := t.clients[c[0]], t.jid(c[1])
	key := pairKey(c)
	t.m.change(key)
	ops := []string{"subscribe", "subscribe", "subscribed", "subscribed", "unsubscribe", "unsubscribed", "remove"}
	switch op := ops[rng.IntN(len(ops))]; op {
	case "remove": // refused where there is nothing to remove
		if _, err := who.IQ(ctx, "set", "", fmt.Sprintf("<query xmlns='%s'><item jid='%s' subscription='remove'/></query>", nsRoster, whom)); err != nil {
			return err
		}
	default:
		if err := who.Send("<presence type='" + op + "' to='" + whom + "'/>"); err != nil {
			return err
		}
		if err := t.handled(ctx, who, whom); err != nil {
			return err
		}
	}
	seen, err := t.look(ctx, c)
	if err != nil {
		return err
	}
	t.m.settled(key, seen)
	t.done.add("subscription")
	return nil
}

// behind waits for the answer to a request behind what was sent to the same address: it comes only after what stood before it is committed
// (internal/xmpp/order.go). What it says does not matter.
func (t *town) behind(ctx context.Context, c *testclient.Client, to string) error {
	_, err := c.IQ(ctx, "get", to, "<ping xmlns='urn:xmpp:ping'/>")
	return err
}

// look reads both sides of a subscription.
func (t *town) look(ctx context.Context, c [2]string) (string, error) {
	var sides [2]string
	for i, name := range c {
		items, _, err := roster(ctx, t.clients[name], nil)
		if err != nil {
			return "", err
		}
		sides[i] = items[t.jid(c[1-i])]
	}
	if c[0] > c[1] {
		sides[0], sides[1] = sides[1], sides[0]
	}
	return strings.Join(sides[:], " / "), nil
}

// visit is somebody who comes, reads what was left, and goes.
func (t *town) visit(ctx context.Context, rng *rand.Rand) error {
	if err := t.post(ctx, "tybalt", visitor, 1+rng.IntN(8)); err != nil {
		return err
	}
	c, err := t.box.LoginSM(ctx, visitor, password, road)
	if err != nil {
		return err
	}
	defer c.Cut()
	if err := c.Send("<presence/>"); err != nil {
		return err
	}
	for len(t.m.missing(visitor)) > 0 {
		st, err := c.Next(ctx)
		if err != nil {
			return err
		}
		if st.Name == "message" {
			t.came(visitor, st)
		}
	}
	c.Close(ctx)
	t.done.add("visit")
	return nil
}

// accounts makes and removes accounts by the admin socket.
func (t *town) accounts(ctx context.Context, rng *rand.Rand) error {
	name := fmt.Sprintf("guest%d", rng.IntN(4))
	key := "account/" + name
	if t.m.value(key) == "" {
		t.m.try(key, "there")
		if _, err := t.box.Admin().UserAdd(ctx, admin.UserAddRequest{User: name, Password: password}); err != nil {
			return err
		}
	} else {
		t.m.try(key, "")
		if _, err := t.box.Admin().UserRemove(ctx, admin.UserRemoveRequest{User: name}); err != nil {
			return err
		}
	}
	t.m.ack(key)
	t.done.add("account")
	return nil
}

const watched = "password/benvolio"

func (t *town) changePassword(ctx context.Context, _ *rand.Rand) error {
	value := "secret " + t.m.next()
	t.m.try(watched, value)
	if _, err := t.box.Admin().UserPassword(ctx, admin.UserPasswordRequest{User: "benvolio", Password: value}); err != nil {
		return err
	}
	t.m.ack(watched)
	t.done.add("password")
	return nil
}

// backup lets the box write a copy of its database, while the others go on.
func (t *town) backup(ctx context.Context, rng *rand.Rand) error {
	select {
	case <-time.After(time.Duration(rng.Int64N(int64(2 * time.Second)))):
	case <-ctx.Done():
		return ctx.Err()
	case <-t.box.Ended():
		return io.EOF
	}
	if _, err := t.box.Admin().Backup(ctx, admin.BackupRequest{}, io.Discard); err != nil {
		return err
	}
	t.done.add("backup")
	return nil
}

// on sees what comes to a client that is logged in for the round.
func (t *town) on(name string) func(*testclient.Client, *frame.Element) bool {
	l := t.m.list(name)
	return func(_ *testclient.Client, st *frame.Element) bool {
		switch {
		case st.Name == "iq" && st.Attr("type") == "set":
			if query := st.Node().Child(nsRoster, "query"); query != nil {
				t.m.mu.Lock()
				err := l.push(query.Attr("ver"), query.Child(nsRoster, "item"))
				t.m.mu.Unlock()
				if err != nil {
					t.problem("%s: %w", name, err)
				}
			}
			return false
		case st.Name == "presence" && st.Attr("type") == "subscribe":
			t.mu.Lock()
			t.pending[name][st.Attr("from")] = true
			t.mu.Unlock()
		case st.Name == "message" && st.Attr("type") != "error":
			t.came(name, st)
		case st.Attr("type") == "error" && st.Name != "iq":
			t.problem("%s was refused: %s", name, st.Raw)
		}
		return st.Name != "iq"
	}
}
