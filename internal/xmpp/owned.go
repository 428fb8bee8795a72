package xmpp

import "pibox/internal/store"

// OwnedStanza is an entry of the log as it reads in an account's archive: what it had under a former address reads as if it had been under its own, so
// that its apps know which side of a conversation it is.
func OwnedStanza(o store.Owned, account string) []byte {
	if o.Former == "" {
		return o.Stanza
	}
	me, bad := ParseJID(account)
	st, err := ParseStanza(o.Stanza)
	if err != nil || bad != nil {
		return o.Stanza
	}
	return st.Addressed(readdressed(st.From, o.Former, me), readdressed(st.To, o.Former, me)).Raw
}

func readdressed(j JID, former string, account JID) JID {
	if j.Bare().String() != former {
		return j
	}
	return JID{Local: account.Local, Domain: account.Domain, Resource: j.Resource}
}
