package client

import (
	"context"
	"errors"
	"time"

	"pibox/internal/portable"
	"pibox/internal/store"
	"pibox/internal/xmpp"
)

// State is how far a bring has come, so that it goes on in another session after one was lost. The zero State begins.
type State struct {
	done   map[string]bool
	after  string // id of the last message of the archive that was taken
	tries  map[string]int
	counts Counts

	pages  int             // of the archive that were asked for
	recent map[string]bool // ids of its last page
}

// Counts tell what came along.
type Counts struct {
	Contacts int   `json:"contacts"`
	Requests int   `json:"requests"` // subscription requests that wait for an answer
	Waiting  int   `json:"waiting"`  // messages that no device had got
	Nodes    int   `json:"nodes"`
	Items    int   `json:"items"`
	Private  int   `json:"private"`
	Blocked  int   `json:"blocked"`
	VCard    bool  `json:"vcard"`
	Archived int   `json:"archived"`
	Bytes    int64 `json:"bytes"` // of archived messages
}

// Counts gives what came so far.
func (st *State) Counts() Counts { return st.counts }

// Options of Bring.
type Options struct {
	// User is how the sink is to name the account; the old address when zero. The old password is never part of it.
	User portable.User
	// Progress is called now and then with the part that is being taken and what came so far.
	Progress func(part string, c Counts)
	// Tries is how often a lost session is begun anew without getting further, Pause the time before the first such attempt, which doubles up to
	// MaxPause. Defaults 8, 5 s, 5 min.
	Tries           int
	Pause, MaxPause time.Duration
}

func (o Options) orDefault(c Config) Options {
	if o.User == (portable.User{}) {
		o.User = portable.User{Name: c.Account.Local, Domain: c.Account.Domain}
	}
	if o.Progress == nil {
		o.Progress = func(string, Counts) {}
	}
	if o.Tries <= 0 {
		o.Tries = 8
	}
	if o.Pause <= 0 {
		o.Pause = 5 * time.Second
	}
	if o.MaxPause <= 0 {
		o.MaxPause = 5 * time.Minute
	}
	return o
}

// sinkError is what ends a transfer because the sink can take no more.
type sinkError struct{ error }

func (e sinkError) Unwrap() error { return e.error }

func sunk(err error) error {
	if err == nil {
		return nil
	}
	return sinkError{err}
}

// part is one thing that an account has. Parts that lack at the server, or that it refuses, are told to the sink as a loss, but for those without
// which there is no move.
type part struct {
	name      string // in words
	essential bool
	take      func(*Session, context.Context, portable.Sink, *State) error
}

// parts in their order. The archive takes longest, and the roster comes last, so that it is fresh.
func parts() []part {
	return []part{
		{name: "profile", take: (*Session).bringVCard},
		{name: "published items", take: (*Session).bringNodes},
		{name: "private data", take: (*Session).bringPrivate},
		{name: "blocks", take: (*Session).bringBlocks},
		{name: "preferences of the archive", take: (*Session).bringPrefs},
		{name: "archive", take: (*Session).bringArchive},
		{name: "requests", take: (*Session).bringRequests},
		{name: "contacts", essential: true, take: (*Session).bringRoster},
	}
}

// Bring logs in and gives everything in the account to the sink, as one account. A session that is lost is begun anew with the password, which stays
// in memory. A part that the server does not give is a loss and no failure; only what keeps from logging in at all, the sink's own error, or ctx ends
// it. The device lists and keys of OMEMO, which belong to devices, and a moved statement never come along.
func Bring(ctx context.Context, c Config, sink portable.Sink, opt Options) (Counts, error) {
	opt, st := opt.orDefault(c), &State{}
	// Log in before the sink begins an account: most of what can go wrong does so there.
	s, err := Dial(ctx, c)
	if err != nil {
		return st.counts, err
	}
	if _, err = s.roster(ctx); err == nil {
		err = sink.User(opt.User)
	}
	if err != nil {
		_ = s.Close()
		return st.counts, err
	}
	for failures := 0; ; {
		before := st.progress()
		err := s.Bring(ctx, sink, st, opt.Progress)
		_ = s.Close()
		if err == nil {
			return st.counts, sink.End()
		}
		var own sinkError
		if errors.As(err, &own) {
			return st.counts, own.error
		}
		if st.progress() > before {
			failures = 0
		} else if !Again(err) {
			return st.counts, err
		}
		for s = nil; s == nil; {
			if failures++; ctx.Err() != nil || failures > opt.Tries {
				return st.counts, err
			}
			if err := pause(ctx, min(opt.Pause<<min(failures-1, 16), opt.MaxPause)); err != nil {
				return st.counts, err
			}
			if s, err = Dial(ctx, c); err != nil && !Again(err) {
				return st.counts, err
			}
		}
	}
}

func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// progress grows with everything that was taken for good.
func (st *State) progress() int { return len(st.done) + st.counts.Archived }

// maxTries is how often one part may end the session before it is given up.
const maxTries = 3

// Bring gives the sink what st does not have yet. The sink's User was called before and its End is the caller's. When the session is lost, the same
// State goes on in another one.
func (s *Session) Bring(ctx context.Context, sink portable.Sink, st *State, progress func(part string, c Counts)) error {
	if st.done == nil {
		st.done, st.tries = map[string]bool{}, map[string]int{}
	}
	for _, p := range parts() {
		if st.done[p.name] {
			continue
		}
		progress(p.name, st.counts)
		s.presence, s.message = nil, nil
		had := st.progress()
		err := p.take(s, ctx, sink, st)
		var e *Error
		switch {
		case err == nil:
			st.done[p.name] = true
			continue
		case refused(err) && !p.essential:
			st.done[p.name] = true
			if err := sunk(sink.Unknown(portable.Loss{What: p.name, Why: "the old server answered: " + err.Error()})); err != nil {
				return err
			}
			continue
		case !errors.As(err, &e):
			return err
		}
		if st.tries[p.name]++; st.progress() > had && e.Again() {
			st.tries[p.name] = 0
		}
		// The server may be unable to give this one part: then it must not keep the others from coming.
		if (st.tries[p.name] >= maxTries || !e.Again()) && !p.essential {
			st.done[p.name] = true
			if err := sunk(sink.Unknown(portable.Loss{What: p.name, Why: e.Error()})); err != nil {
				return err
			}
		}
		return err
	}
	return nil
}

func (s *Session) bringVCard(ctx context.Context, sink portable.Sink, st *State) error {
	card, err := s.ask(ctx, query{typ: "get", raw: xmpp.NewXMLNS("vCard", nsVCard).Bytes()})
	if lacking(err) || err == nil && (card == nil || card.NS != nsVCard || card.Name != "vCard" || len(card.Children) == 0) {
		return nil
	}
	if err != nil {
		return err
	}
	st.counts.VCard = true
	return sunk(sink.VCard(card.Raw()))
}

// privateNames are the elements of private XML storage that programs are known to use; nobody can ask for a list (XEP-0049).
func privateNames() [][2]string {
	return [][2]string{
		{"storage", "storage:bookmarks"}, {"storage", "storage:rosternotes"}, {"storage", "storage:metacontacts"}, {"roster", "roster:delimiter"},
		{"storage", "storage:imprpst"}, {"gajim", "gajim:prefs"}, {"options", "psi:options"}, {"exodus", "exodus:prefs"}, {"prefs", "jisp:prefs"},
	}
}

func (s *Session) bringPrivate(ctx context.Context, sink portable.Sink, st *State) error {
	for i, name := range privateNames() {
		raw := xmpp.NewXMLNS("query", nsPrivate).Open(name[0], name[1]).Close().Bytes()
		got, err := s.ask(ctx, query{typ: "get", raw: raw})
		if i == 0 && lacking(err) {
			return nil
		}
		if refused(err) {
			continue
		}
		if err != nil {
			return err
		}
		el := got.Child(name[1], name[0])
		key := "private " + name[1]
		if el == nil || len(el.Children) == 0 && el.Text == "" || st.done[key] {
			continue
		}
		if err := sunk(sink.Private(el.Raw())); err != nil {
			return err
		}
		st.done[key] = true
		st.counts.Private++
	}
	return nil
}

func (s *Session) bringBlocks(ctx context.Context, sink portable.Sink, st *State) error {
	list, err := s.ask(ctx, query{typ: "get", raw: xmpp.NewXMLNS("blocklist", nsBlocking).Bytes()})
	if lacking(err) || err == nil && list == nil {
		return nil
	}
	if err != nil {
		return err
	}
	n := 0
	for _, item := range list.Children {
		if item.NS != nsBlocking || item.Name != "item" {
			continue
		}
		if n++; n > s.c.Limits.Blocks {
			return s.fail(ctx, tooMuch("more than %d blocks", s.c.Limits.Blocks))
		}
		j, err := xmpp.ParseJID(item.Attr("jid"))
		if err != nil {
			err = sink.Unknown(portable.Loss{What: "a block", Why: "its address can not be read"})
		} else if err = sink.Blocked(j.String()); err == nil {
			st.counts.Blocked++
		}
		if err != nil {
			return sunk(err)
		}
	}
	return nil
}

func (s *Session) bringRoster(ctx context.Context, sink portable.Sink, st *State) error {
	c, err := s.roster(ctx)
	if err != nil {
		return err
	}
	st.counts.Contacts = 0
	for _, item := range c.list() {
		if err := sunk(sink.Roster(item)); err != nil {
			return err
		}
		st.counts.Contacts++
	}
	if c.refused > 0 {
		return sunk(sink.Unknown(portable.Loss{What: word(c.refused, "contact"), Why: "what the old server told of them can not be read"}))
	}
	return nil
}

// Roster gives the contacts, as the importer would get them, for a plan before anything is moved.
func (s *Session) Roster(ctx context.Context) ([]portable.RosterItem, error) {
	c, err := s.roster(ctx)
	if err != nil {
		return nil, err
	}
	return c.list(), nil
}

// Contact gives one contact as it is now, where Roster was called before.
func (s *Session) Contact(j xmpp.JID) (portable.RosterItem, bool) {
	if s.contacts == nil {
		return portable.RosterItem{Sub: store.SubNone}, false
	}
	item, ok := s.contacts.items[j]
	return item, ok
}
