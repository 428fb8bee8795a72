package pep

import (
	"encoding/json"

	"pibox/internal/xmpp"
)

// saveSession keeps which last items a session was told, by the accounts that they are of, over a restart of the box: it is not told them twice.
func (p *PEP) saveSession(s *xmpp.Session) []byte {
	told := map[string][]string{}
	p.mu.Lock()
	for account, ears := range p.ears {
		if e := ears[s.JID]; e != nil && len(e.told) > 0 {
			told[account.String()] = e.told
		}
	}
	p.mu.Unlock()
	if len(told) == 0 {
		return nil
	}
	raw, err := json.Marshal(told)
	if err != nil {
		panic(err) // strings
	}
	return raw
}

func (p *PEP) restoreSession(s *xmpp.Session, saved []byte) {
	if saved == nil {
		return
	}
	var told map[string][]string
	if err := json.Unmarshal(saved, &told); err != nil {
		p.r.Log.Error("pep: what was kept of a session", "conn", s.ConnID, "error", err)
		return
	}
	for name, nodes := range told {
		if account, err := xmpp.ParseJID(name); err == nil {
			p.remember(account, s.JID, nodes, false)
		}
	}
}
