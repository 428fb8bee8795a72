package moved

import (
	"log/slog"
	"testing"

	"pibox/internal/xmpp"
)

// What a client sends with an id like the outbox's, to servers that the outbox has nothing for, is his own and leaves no trace.
func TestBouncedOfOthers(t *testing.T) {
	o := newOutbox(xmpp.NewRouter(nil, slog.New(slog.DiscardHandler), []string{"montague.example"}), Options{})
	st := xmpp.Make([]byte("<presence type='error' id='moved-x' from='a@nowhere.example' to='romeo@montague.example'/>"))
	drop, err := o.bounced(&xmpp.Request{Stanza: st})
	if drop || err != nil || len(o.lanes) != 0 {
		t.Errorf("drop %v, error %v, %d lanes", drop, err, len(o.lanes))
	}
	o.lane(lane{"montague.example", "nowhere.example"})
	if drop, _ := o.bounced(&xmpp.Request{Stanza: st}); !drop {
		t.Error("what the outbox sent came back to the user")
	}
}
