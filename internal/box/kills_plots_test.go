package box

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pibox/internal/admin"
	"pibox/internal/store"
	"pibox/internal/xmpp"
	"pibox/internal/xmpp/accounts"
)

const (
	julietOld  = "juliet@old.example"
	julietHome = "juliet@home.example"
)

// acquaint gives an account a contact of every kind, at a domain: romeo and paris follow by themselves, peter has to be told, mercutio asks, a lady was
// asked; benvolio, who approves whom he is asked about, and escalus, who does not answer, hold nothing of it.
func (w *tale) acquaint(account, domain string) {
	at := func(name string) string { return name + "@" + domain }
	w.accounts(at("romeo"), at("paris"), at("peter"), at("mercutio"), at("lady"), at("benvolio"), at("escalus"))
	w.friends(account, at("romeo"), store.SubBoth)
	w.friends(account, at("paris"), store.SubTo)
	w.friends(account, at("peter"), store.SubFrom)
	request := func(from, to string) {
		w.home(to).update(func(tx *store.Tx) {
			store.Pending.Put(tx, store.Key(to, from), store.PendingIn{Stanza: fmt.Appendf(nil, "<presence type='subscribe' from='%s' to='%s'/>", from, to), Received: time.Now()})
		})
		w.home(from).update(func(tx *store.Tx) { store.Roster.Put(tx, store.Key(from, to), store.RosterItem{Ask: true, Version: 1}) })
	}
	request(at("mercutio"), account)
	request(account, at("lady"))
	w.home(account).update(func(tx *store.Tx) {
		for _, name := range []string{"benvolio", "escalus"} {
			store.Roster.Put(tx, store.Key(account, at(name)), store.RosterItem{Sub: store.SubBoth, Version: 1})
		}
	})
}

// answers lets people be there who may be asked.
func (w *tale) people(domain string) {
	w.connect("lady@"+domain, false)
	w.connect("benvolio@"+domain, true)
	w.connect("escalus@"+domain, false)
}

// questions are those that are asked of these people from an address; the lady was asked from the old one before.
func questions(domain string, old string, new ...string) map[string]bool {
	all := map[string]bool{"lady@" + domain + " " + old: true}
	for _, from := range new {
		for _, name := range []string{"lady", "benvolio", "escalus"} {
			all[name+"@"+domain+" "+from] = true
		}
	}
	return all
}

// fill gives an account what an account has.
func (w *tale) fill(account string) {
	c := w.connect(account, false)
	c.say("<iq type='set' id='v'><vCard xmlns='vcard-temp'><FN>Juliet</FN></vCard></iq>",
		"<iq type='set' id='b'>"+roomItem+"</iq>",
		"<iq type='set' id='k'><block xmlns='urn:xmpp:blocking'><item jid='tybalt@foe.example'/></block></iq>")
	synctest.Wait()
	w.home(account).update(func(tx *store.Tx) {
		for i := range 3 {
			store.AppendLog(tx, &store.Entry{
				Owners: []store.Owner{{Account: account, With: "nurse@old.example", Role: store.Archived}},
				Stanza: fmt.Appendf(nil, "<message from='nurse@old.example/x' to='%s' type='chat'><body>%d</body></message>", account, i),
			})
		}
	})
	w.home(account).b.Router.Unbind(c.s)
}

func (w *tale) withPassword(account, password string) {
	w.Helper()
	if _, err := w.home(account).b.Accounts.Create(xmpp.MustJID(account), password, accounts.Role{}); err != nil {
		w.Fatal(err)
	}
}

// through waits for the end of a migration.
func (w *tale) through(new string) (is admin.Migration) {
	for range 4000 {
		resp, err := w.houses[0].d.Migration(w.Context(), admin.MigrationRequest{New: new})
		if err != nil {
			w.Errorf("%s: %v", w.when, err)
			return is
		}
		switch is = resp.Migration; {
		case is.State == admin.MigrationDone || is.State == admin.MigrationRepeating:
			return is
		case is.State.Over():
			w.Errorf("%s: %s: %v", w.when, is.State, is.Error)
			return is
		}
		time.Sleep(time.Second)
	}
	w.Errorf("%s: the migration to %s does not end", w.when, new)
	return is
}

// told tells whether the box says that something has to be done again, after it had its time; where it does not, it must have come to its end.
func (w *tale) told(new string, command, password string) (rests bool) {
	time.Sleep(30 * time.Minute)
	resp, err := w.houses[0].d.MoveStatus(w.Context(), admin.MoveStatusRequest{New: new})
	if err != nil {
		return false // it knows of nothing: the command was not answered
	}
	s := resp.Moves[0].Session
	if s == nil {
		return resp.Moves[0].State != "planned"
	}
	if strings.Contains(s.Error.Next, "Nobody was told the password of "+new) {
		if _, err := w.houses[0].d.UserPassword(w.Context(), admin.UserPasswordRequest{User: new}); err != nil {
			w.Errorf("%s: %v", w.when, err)
		}
		return true
	}
	if s.State != admin.MigrationInterrupted || !strings.Contains(s.Error.Next, "'"+command+"'") || !strings.Contains(s.Error.Next, "Give the password of "+password+" again") {
		w.Errorf("%s: %+v %+v", w.when, s, s.Error)
	}
	return false
}

func plots() []plot {
	bring := admin.MoveBringRequest{Old: julietOld, OldPassword: "wherefore-art", New: julietHome}
	leave := admin.MoveLeaveRequest{Account: julietHome, New: "julia@away.example", Password: "wherefore-art"}
	const montague = "montague.example"
	var file bytes.Buffer
	doing := func(w *tale, err error, but ...admin.Code) {
		var known *admin.Error
		if err != nil && (!errors.As(err, &known) || !slices.Contains(but, known.Code)) {
			w.Errorf("%s: %v", w.when, err)
		}
	}
	start := func(w *tale, old, new string) {
		_, err := w.houses[0].d.MoveStart(w.Context(), admin.MoveStartRequest{Old: old, New: new})
		doing(w, err)
	}
	return []plot{
		{
			name: "bring", domains: [][]string{{"home.example"}, {"old.example", montague}}, least: 18,
			asks: questions(montague, julietOld, julietHome),
			setUp: func(w *tale) {
				w.withPassword(julietOld, "wherefore-art")
				w.acquaint(julietOld, montague)
				w.fill(julietOld)
			},
			act: func(w *tale) {
				w.people(montague)
				_, err := w.houses[0].d.MoveBring(w.Context(), bring)
				doing(w, err)
				if is := w.through(julietHome); is.Password == "" {
					w.Errorf("%s: nobody is told the password: %+v", w.when, is)
				}
			},
			rests: func(w *tale) bool {
				return w.told(julietHome, "pibox move bring "+julietOld+" "+julietHome, julietOld)
			},
		},
		{
			name: "leave", domains: [][]string{{"home.example"}, {"away.example"}, {montague}}, least: 10,
			asks: questions(montague, julietHome, "julia@away.example"),
			setUp: func(w *tale) {
				w.withPassword("julia@away.example", "wherefore-art")
				w.accounts(julietHome)
				w.acquaint(julietHome, montague)
				w.fill(julietHome)
			},
			act: func(w *tale) {
				w.people(montague)
				_, err := w.houses[0].d.MoveLeave(w.Context(), leave)
				doing(w, err)
				w.through("julia@away.example")
			},
			rests: func(w *tale) bool {
				return w.told("julia@away.example", "pibox move leave "+julietHome+" julia@away.example --build", "julia@away.example")
			},
		},
		{
			name: "undo of a leave", domains: [][]string{{"home.example"}, {"away.example"}, {montague}}, least: 2,
			asks: questions(montague, julietHome, "julia@away.example"),
			setUp: func(w *tale) {
				w.withPassword("julia@away.example", "wherefore-art")
				w.accounts(julietHome)
				w.acquaint(julietHome, montague)
			},
			before: func(w *tale) {
				_, err := w.houses[0].d.MoveLeave(w.Context(), leave)
				doing(w, err)
				w.through("julia@away.example")
				time.Sleep(10 * time.Minute)
			},
			act: func(w *tale) {
				resp, err := w.houses[0].d.MoveUndo(w.Context(), admin.MoveUndoRequest{New: "julia@away.example"})
				doing(w, err)
				if err == nil && len(resp.Undone[0].There) == 0 {
					w.Errorf("%s: nobody is named who was asked from there", w.when)
				}
			},
		},
		{
			name: "close", domains: [][]string{{"old.example", "home.example"}, {montague}}, least: 3,
			asks: questions(montague, julietOld, julietHome),
			setUp: func(w *tale) {
				w.accounts(julietOld)
				w.acquaint(julietOld, montague)
				w.fill(julietOld)
			},
			before: func(w *tale) {
				start(w, julietOld, julietHome)
				time.Sleep(10 * time.Minute)
			},
			act: func(w *tale) {
				w.people(montague)
				_, err := w.houses[0].d.MoveClose(w.Context(), admin.MoveCloseRequest{Old: julietOld, Now: true})
				doing(w, err, admin.CodeInvalid) // it is closed already
			},
		},
		{
			name: "chain", domains: [][]string{{"old.example", "home.example", "last.example"}, {montague}}, least: 18,
			asks: questions(montague, julietOld, julietHome, "juliet@last.example"),
			setUp: func(w *tale) {
				w.accounts(julietOld)
				w.acquaint(julietOld, montague)
				w.fill(julietOld)
			},
			before: func(w *tale) {
				start(w, julietOld, julietHome)
				time.Sleep(10 * time.Minute)
			},
			act: func(w *tale) {
				w.people(montague)
				start(w, julietHome, "juliet@last.example")
			},
		},
		{
			name: "family", domains: [][]string{{"old.example", "home.example"}, {montague}}, least: 18,
			asks: questions(montague, julietOld, julietHome),
			setUp: func(w *tale) {
				w.accounts(julietOld, "nurse@old.example", "susan@old.example")
				w.acquaint(julietOld, montague)
				w.friends(julietOld, "nurse@old.example", store.SubBoth)
				w.friends("susan@old.example", "nurse@old.example", store.SubTo)
				w.friends("nurse@old.example", "romeo@montague.example", store.SubBoth)
				w.fill(julietOld)
			},
			act: func(w *tale) {
				w.people(montague)
				_, err := w.houses[0].d.MoveFamily(w.Context(), admin.MoveFamilyRequest{OldDomain: "old.example", NewDomain: "home.example"})
				doing(w, err)
			},
		},
		{
			name: "import", domains: [][]string{{"home.example"}, {"old.example", montague}}, least: 14,
			asks: questions(montague, julietOld, julietHome),
			setUp: func(w *tale) {
				w.accounts(julietOld)
				w.acquaint(julietOld, montague)
				w.fill(julietOld)
				file.Reset()
				_, err := w.houses[1].d.Export(w.Context(), admin.ExportRequest{Users: []string{julietOld}}, &file)
				doing(w, err)
				w.connect(julietOld, false).say("<iq type='set' id='m'><pubsub xmlns='http://jabber.org/protocol/pubsub'><publish node='urn:xmpp:moved:1'><item id='current'>" +
					"<moved xmlns='urn:xmpp:moved:1'><new-jid>" + julietHome + "</new-jid></moved></item></publish></pubsub></iq>")
			},
			act: func(w *tale) {
				w.people(montague)
				_, err := w.houses[0].d.Import(w.Context(), admin.ImportRequest{Only: julietOld, As: julietHome}, bytes.NewReader(file.Bytes()))
				doing(w, err, admin.CodeExists)
				start(w, julietOld, julietHome)
			},
		},
	}
}

// TestKills plays all of them.
func TestKills(t *testing.T) {
	for _, p := range plots() {
		t.Run(p.name, func(t *testing.T) {
			t.Parallel()
			p.play(t)
		})
	}
}
