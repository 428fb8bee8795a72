package moved

import (
	"crypto/rand"
	"fmt"
	"strings"

	"pibox/internal/xmpp"
)

// texts of the notices, by language.
var texts = map[string]struct{ followed, announced, cancelled string }{
	"en": {
		"%s moved from %s to %s. Your contact list was changed accordingly; you need not do anything.",
		"Your account announced that it moves to %s. If that was not you: remove the announcement, change your password, and tell whoever runs this box.",
		"Your account does not announce a move any more.",
	},
	"de": {
		"%s ist von %s nach %s umgezogen. Deine Kontaktliste wurde angepasst; du brauchst nichts zu tun.",
		"Dein Konto hat seinen Umzug nach %s angekündigt. Falls du das nicht warst: Nimm die Ankündigung zurück, ändere dein Passwort und sag es der Person, die diese Box betreibt.",
		"Dein Konto kündigt keinen Umzug mehr an.",
	},
	"fr": {
		"%s a déménagé de %s à %s. Votre liste de contacts a été adaptée ; vous n’avez rien à faire.",
		"Votre compte a annoncé son déménagement vers %s. Si ce n’était pas vous : retirez l’annonce, changez votre mot de passe et prévenez la personne qui gère cette box.",
		"Votre compte n’annonce plus de déménagement.",
	},
}

// noticeFollowed tells a user that a contact moved: one message from the server's address per move.
func (m *Moved) noticeFollowed(k claimKey, name string) *xmpp.Stanza {
	if name == "" {
		name = k.old.Local
	}
	return m.notice(k.account, fmt.Sprintf(m.text().followed, name, k.old, k.new))
}

// announced tells all the user's devices that the account announced a move: it may have been a hijacker (XEP-0283 §security-user).
func (m *Moved) announced(to xmpp.JID) string { return fmt.Sprintf(m.text().announced, to) }

func (m *Moved) text() struct{ followed, announced, cancelled string } {
	if t, ok := texts[m.opt.Language]; ok {
		return t
	}
	return texts["en"]
}

func (m *Moved) notice(account xmpp.JID, body string) *xmpp.Stanza {
	lang := m.opt.Language
	if _, ok := texts[lang]; !ok {
		lang = "en"
	}
	x := xmpp.NewXML("message").Attr("from", account.Host().String()).Attr("to", account.String())
	x = x.Attr("id", "notice-"+strings.ToLower(rand.Text()[:12])).Attr("xml:lang", lang)
	return xmpp.Make(x.Leaf("body", "", body).Bytes())
}
