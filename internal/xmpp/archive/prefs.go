package archive

import (
	"slices"
	"strings"

	"pibox/internal/store"
	"pibox/internal/xmpp"
	"pibox/internal/xmpp/frame"

	"mellium.im/xmpp/stanza"
)

// Archives tells whether an account's preferences let a message to or from an address, bare or full, into its archive: for what the account sends
// that is the message's to, else its from (XEP-0441 §2.3). A listed full JID counts more than a bare one.
// An archive that is much too large takes nothing.
func (a *Archive) Archives(tx *store.Tx, account, with xmpp.JID) bool {
	if !a.room(tx, account.String()) {
		return false
	}
	pref, ok := store.ArchivePrefs.Get(tx, account.String())
	if !ok {
		return true
	}
	for _, j := range []string{with.String(), with.Bare().String()} {
		if slices.Contains(pref.Never, j) {
			return false
		}
		if slices.Contains(pref.Always, j) {
			return true
		}
	}
	if pref.Default != store.ArchiveRoster {
		return pref.Default == store.ArchiveAlways
	}
	item, ok := store.Roster.Get(tx, store.Key(account.String(), with.Bare().String()))
	return ok && !item.Removed
}

func getPrefs(rq *xmpp.Request) error {
	pref := store.ArchivePref{Default: store.ArchiveAlways}
	if err := rq.View(func(tx *store.Tx) error {
		if have, ok := store.ArchivePrefs.Get(tx, rq.Account().String()); ok {
			pref = have
		}
		return nil
	}); err != nil {
		return err
	}
	rq.Reply(prefsXML(pref))
	return nil
}

// setPrefs is XEP-0441 §2.1: the preferences that are set replace those before, whole, and are told back as they are now.
func (a *Archive) setPrefs(tx *store.Tx, out *xmpp.Out, rq *xmpp.Request) error {
	if err := mine(rq); err != nil {
		return err
	}
	pref, err := parsePrefs(rq.Node().Children[0], a.opt.MaxListed)
	if err != nil {
		return err
	}
	account := rq.Account().String()
	if pref.Default == store.ArchiveAlways && len(pref.Never) == 0 && len(pref.Always) == 0 {
		store.ArchivePrefs.Delete(tx, account)
	} else {
		store.ArchivePrefs.Put(tx, account, pref)
	}
	out.Reply(rq, prefsXML(pref))
	return nil
}

func parsePrefs(n *frame.Node, maxListed int) (pref store.ArchivePref, err error) {
	pref.Default = store.ArchiveDefault(n.Attr("default"))
	switch pref.Default {
	case store.ArchiveAlways, store.ArchiveNever, store.ArchiveRoster:
	default:
		return pref, malformed("the default is always, never or roster")
	}
	seen := map[string]bool{}
	for _, c := range n.Children {
		if c.NS != NS || c.Name != "always" && c.Name != "never" {
			continue
		}
		if seen[c.Name] {
			return pref, malformed("there is more than one list of %s", c.Name)
		}
		seen[c.Name] = true
		list, err := parseList(c)
		if err != nil {
			return pref, err
		}
		if c.Name == "always" {
			pref.Always = list
		} else {
			pref.Never = list
		}
	}
	if len(pref.Always)+len(pref.Never) > maxListed {
		return pref, xmpp.Errorf(stanza.ResourceConstraint, "more than %d addresses are listed", maxListed)
	}
	for _, j := range pref.Always {
		if slices.Contains(pref.Never, j) {
			return pref, malformed("an address is in both lists")
		}
	}
	return pref, nil
}

// parseList gives each address once.
func parseList(n *frame.Node) (list []string, err error) {
	seen := map[xmpp.JID]bool{}
	for _, c := range n.Children {
		if c.NS != NS || c.Name != "jid" {
			continue
		}
		j, err := xmpp.ParseJID(strings.TrimSpace(c.Text))
		if err != nil {
			return nil, xmpp.Errorf(stanza.JIDMalformed, "a listed address can not be understood")
		}
		if !seen[j] {
			seen[j] = true
			list = append(list, j.String())
		}
	}
	return list, nil
}

func prefsXML(pref store.ArchivePref) []byte {
	x := xmpp.NewXMLNS("prefs", NS).Attr("default", string(pref.Default))
	for _, l := range []struct {
		name string
		list []string
	}{{"always", pref.Always}, {"never", pref.Never}} {
		x.Open(l.name, "")
		for _, j := range l.list {
			x.Leaf("jid", "", j)
		}
		x.Close()
	}
	return x.Bytes()
}
