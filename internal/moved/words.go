package moved

import "pibox/internal/xmpp"

// Words are what a request says to people whose server or app knows nothing of moves, and the language of that.
func (m *Moved) Words(old, new xmpp.JID) (lang, text string) {
	lang = m.boxLanguage()
	return lang, sayMoved(lang, old.String(), new.String())
}
