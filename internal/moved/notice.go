package moved

import (
	"crypto/rand"
	"fmt"
	"strings"

	"pibox/internal/xmpp"
)

// texts of the notices, by language.
var texts = map[string]struct{ followed, announced, cancelled, moved string }{
	"en": {
		"%s moved from %s to %s. Your contact list was changed accordingly; you need not do anything.",
		"Your account announced that it moves to %s. If that was not you: remove the announcement, change your password, and tell whoever runs this box.",
		"Your account does not announce a move any more.",
		"My address is %s now. It was %s. Please add the new one.",
	},
	"de": {
		"%s ist von %s nach %s umgezogen. Deine Kontaktliste wurde angepasst; du brauchst nichts zu tun.",
		"Dein Konto hat seinen Umzug nach %s angekündigt. Falls du das nicht warst: Nimm die Ankündigung zurück, ändere dein Passwort und sag es der Person, die diese Box betreibt.",
		"Dein Konto kündigt keinen Umzug mehr an.",
		"Meine Adresse ist jetzt %s. Bisher war sie %s. Bitte nimm die neue auf.",
	},
	"fr": {
		"%s a déménagé de %s à %s. Votre liste de contacts a été adaptée ; vous n’avez rien à faire.",
		"Votre compte a annoncé son déménagement vers %s. Si ce n’était pas vous : retirez l’annonce, changez votre mot de passe et prévenez la personne qui gère cette box.",
		"Votre compte n’annonce plus de déménagement.",
		"Mon adresse est maintenant %s. C’était %s. Merci d’ajouter la nouvelle.",
	},
}

// noticeFollowed tells a user that a contact moved: one message from the server's address per move.
func (m *Moved) noticeFollowed(k claimKey, name string) *xmpp.Stanza {
	if name == "" {
		name = k.old.Local
	}
	lang := m.language(k.account)
	return notice(k.account, lang, fmt.Sprintf(texts[lang].followed, name, k.old, k.new))
}

// noticeAnnounced tells all the user's devices that the account announced a move: it may have been a hijacker (XEP-0283 §security-user).
func (m *Moved) noticeAnnounced(account, to xmpp.JID) *xmpp.Stanza {
	lang := m.language(account)
	return notice(account, lang, fmt.Sprintf(texts[lang].announced, to))
}

func (m *Moved) noticeCancelled(account xmpp.JID) *xmpp.Stanza {
	lang := m.language(account)
	return notice(account, lang, texts[lang].cancelled)
}

// sayMoved is what a contact reads whose server or client knows nothing of moves.
func sayMoved(lang, old, new string) string { return fmt.Sprintf(texts[lang].moved, new, old) }

// boxLanguage is that of what goes to people on other servers.
func (m *Moved) boxLanguage() string {
	lang, _, _ := strings.Cut(strings.ToLower(m.opt.Language), "-")
	if _, ok := texts[lang]; ok {
		return lang
	}
	return "en"
}

func newMessageID() string { return "moved-" + strings.ToLower(rand.Text()[:12]) }

// language is that of one of the user's devices, as far as it says, else the box's.
func (m *Moved) language(account xmpp.JID) string {
	said := []string{}
	for _, s := range m.r.Available(account) {
		if st, _ := s.Presence(); st != nil {
			said = append(said, st.Attr("xml:lang"))
		}
	}
	for _, lang := range append(said, m.opt.Language) {
		lang, _, _ = strings.Cut(strings.ToLower(lang), "-")
		if _, ok := texts[lang]; ok {
			return lang
		}
	}
	return "en"
}

func notice(account xmpp.JID, lang, body string) *xmpp.Stanza {
	x := xmpp.NewXML("message").Attr("from", account.Host().String()).Attr("to", account.String())
	x = x.Attr("id", "notice-"+strings.ToLower(rand.Text()[:12])).Attr("xml:lang", lang)
	return xmpp.Make(x.Leaf("body", "", body).Bytes())
}
