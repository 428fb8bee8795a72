package roster

import (
	"encoding/json"

	"pibox/internal/xmpp"
)

// save keeps which requests a session was shown, over a restart of the box: it is not shown them twice.
func (ro *Roster) save(s *xmpp.Session) []byte {
	shown := map[string]int64{}
	ro.mu.Lock()
	for who, at := range ro.shown[s] {
		shown[who.String()] = at
	}
	ro.mu.Unlock()
	if len(shown) == 0 {
		return nil
	}
	raw, err := json.Marshal(shown)
	if err != nil {
		panic(err) // strings and numbers
	}
	return raw
}

func (ro *Roster) restore(s *xmpp.Session, saved []byte) {
	if saved == nil {
		return
	}
	var shown map[string]int64
	if err := json.Unmarshal(saved, &shown); err != nil {
		ro.r.Log.Error("roster: what was kept of a session", "conn", s.ConnID, "error", err)
		return
	}
	ro.mu.Lock()
	defer ro.mu.Unlock()
	ro.shown[s] = map[xmpp.JID]int64{}
	for who, at := range shown {
		if j, err := xmpp.ParseJID(who); err == nil {
			ro.shown[s][j] = at
		}
	}
}
