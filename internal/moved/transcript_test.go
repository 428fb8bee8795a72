package moved_test

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"pibox/internal/box"
	"pibox/internal/config"
	"pibox/internal/store"
	"pibox/internal/transcript"
	"pibox/internal/xmpp"
	"pibox/internal/xmpp/accounts"

	"mellium.im/xmpp/stanza"
)

// TestTranscripts runs whole boxes, as the daemon makes them. Lines that begin with "#:" are the box's configuration file.
func TestTranscripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatal("no transcripts")
	}
	for _, f := range files {
		t.Run(strings.TrimSuffix(filepath.Base(f), ".txt"), func(t *testing.T) {
			t.Parallel()
			text, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			transcript.Run(t, string(text), starter(t, f, string(text)))
		})
	}
}

func starter(t testing.TB, file, text string) transcript.Start {
	var toml strings.Builder
	for line := range strings.Lines(text) {
		rest, _ := strings.CutPrefix(line, "#:")
		if rest == line {
			rest = "\n" // the lines of a mistake are those of the transcript
		}
		toml.WriteString(rest)
	}
	cfg, problems := config.Parse(file, toml.String(), time.Now())
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	return func(t testing.TB, st *store.Store, domains []string, remote xmpp.Remote) transcript.Box {
		b := newBox(t, st, cfg, domains, remote)
		return transcript.Box{Router: b.Router, Close: func() { _ = b.Close() }, Do: func(words []string) error { return administer(b, words) }}
	}
}

func noLog() *slog.Logger { return slog.New(slog.DiscardHandler) }

func newBox(t testing.TB, st *store.Store, cfg config.Config, domains []string, remote xmpp.Remote) *box.Box {
	b, err := box.New(st, cfg, domains, "test", remote, noLog())
	if err == nil {
		err = b.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// administer is what the administrator of the box does, as "close juliet@here", and what a transcript can not say in a line.
func administer(b *box.Box, words []string) error {
	switch {
	case isMove(words):
		return move(b, words)
	case len(words) == 5 && words[0] == "flood":
		return flood(b.Router, words[1:])
	case len(words) == 6 && words[0] == "long":
		return long(b.Router, words[1:])
	case len(words) == 5 && words[0] == "bounce":
		return bounce(b.Router, words[1:])
	case len(words) == 4 && words[0] == "away":
		asked := xmpp.Make(fmt.Appendf(nil, "<iq type='get' id='%s' from='%s' to='%s'><x xmlns='urn:x'/></iq>", words[1], words[3], words[2]))
		b.Router.Bounce(asked, xmpp.Errorf(stanza.RemoteServerNotFound, ""))
		return nil
	case len(words) == 4 && words[0] == "bounced":
		return bounced(b.Router, "iq type='get'", words[1:])
	case len(words) == 4 && words[0] == "bouncedpresence":
		return bounced(b.Router, "presence type='unsubscribed'", words[1:])
	case len(words) != 2:
		return fmt.Errorf("not understood")
	}
	j, err := xmpp.ParseJID(words[1])
	if err != nil {
		return err
	}
	switch words[0] {
	case "close":
		return b.Forward(j)
	case "closefails":
		return fails(b.Forward(j))
	case "remove":
		_, err := b.Accounts.Remove(j)
		return err
	case "createfails":
		_, err := b.Accounts.Create(j, "", accounts.Role{})
		return fails(err)
	case "restrict", "derestrict":
		return b.Store.Update(func(tx *store.Tx) error {
			acc, _ := store.Accounts.Get(tx, j.String())
			acc.Restricted = words[0] == "restrict"
			store.Accounts.Put(tx, j.String(), acc)
			return nil
		})
	}
	return fmt.Errorf("not understood")
}

func fails(err error) error {
	if err == nil {
		return fmt.Errorf("it did not fail")
	}
	return nil
}

// flood is a number of requests from a domain to an account, each from another sender with another claim at a third domain.
func flood(r *xmpp.Router, words []string) error {
	n, err := strconv.Atoi(words[0])
	for i := range n {
		st := xmpp.Make(fmt.Appendf(nil, "<presence type='subscribe' from='m%d@%s' to='%s'><moved xmlns='urn:xmpp:moved:1'><old-jid>victim%d@%s</old-jid></moved></presence>",
			i, words[1], words[2], i, words[3]))
		r.FromPeer(&xmpp.Peer{Domain: words[1], Proof: xmpp.ProofCertificate}, st)
	}
	return err
}

// long is one request with so many bytes of text.
func long(r *xmpp.Router, words []string) error {
	n, err := strconv.Atoi(words[0])
	r.FromPeer(&xmpp.Peer{Domain: words[1], Proof: xmpp.ProofCertificate}, xmpp.Make(fmt.Appendf(nil,
		"<presence type='subscribe' from='%s' to='%s'><status>%s</status><moved xmlns='urn:xmpp:moved:1'><old-jid>%s</old-jid></moved></presence>",
		words[2], words[3], strings.Repeat("a", n), words[4])))
	return err
}

// bounce is what the box itself says of an IQ that it could not deliver, with the worst that it could hold.
func bounce(r *xmpp.Router, words []string) error {
	asked := xmpp.Make(fmt.Appendf(nil, "<iq type='get' id='%s' from='%s' to='%s'><x xmlns='urn:x'/></iq>", words[0], words[2], words[1]))
	r.Bounce(asked, &xmpp.StanzaError{Type: stanza.Cancel, Condition: stanza.Gone, Value: words[3]})
	return nil
}

// bounced is what the box itself says of a stanza whose recipient's server it can not reach.
func bounced(r *xmpp.Router, head string, words []string) error {
	sent := xmpp.Make(fmt.Appendf(nil, "<%s id='%s' from='%s' to='%s'><x xmlns='urn:x'/></%s>", head, words[0], words[2], words[1], strings.Fields(head)[0]))
	r.Bounce(sent, xmpp.Errorf(stanza.RemoteServerTimeout, ""))
	return nil
}
