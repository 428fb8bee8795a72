package moved_test

import (
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"pibox/internal/store"
	"pibox/internal/xmpp"
)

// Juliet's move asks Romeo, whose box can not verify it. He answers while there is no way to her box, or his own loses power before the answer is out:
// she learns of it nevertheless, and he is asked once.
func TestAnswerThatIsLost(t *testing.T) {
	for name, cut := range map[string]func(a *house, path string){
		"her box is away": func(a *house, _ string) { time.Sleep(24 * time.Hour) },
		"his box starts again": func(a *house, path string) {
			if err := a.box.Close(); err != nil {
				a.t.Error(err)
			}
			a.open(path, "montague.example")
		},
	} {
		for answer, want := range map[string]string{"unsubscribed": "refused", "subscribed": "followed"} {
			t.Run(name+", "+answer, func(t *testing.T) {
				dirs := [2]string{t.TempDir(), t.TempDir()}
				synctest.Test(t, func(t *testing.T) {
					a, b := &house{t: t}, &house{t: t}
					a.other, b.other = b, a
					path := filepath.Join(dirs[0], "pibox.db")
					a.open(path, "montague.example")
					b.open(filepath.Join(dirs[1], "pibox.db"), "capulet.example", "mantua.example")
					defer func() { _, _ = a.box.Close(), b.box.Close() }()
					a.does("romeo@montague.example")
					b.does("juliet@capulet.example")
					if err := b.st.Update(func(tx *store.Tx) error { // what his box knows nothing of
						store.Roster.Put(tx, store.Key("juliet@capulet.example", "romeo@montague.example"), store.RosterItem{Sub: store.SubBoth})
						return nil
					}); err != nil {
						t.Fatal(err)
					}
					b.moves("juliet@capulet.example", "juliet@mantua.example")
					time.Sleep(time.Hour)
					synctest.Wait()
					a.cutOff(true)
					a.does("romeo@montague.example", "<presence type='"+answer+"' to='juliet@mantua.example'/>")
					synctest.Wait()
					cut(a, path)
					a.cutOff(false)
					b.box.Router.Send(xmpp.Make([]byte("<presence type='subscribe' from='juliet@mantua.example' to='romeo@montague.example'/>"))) // as she comes online
					time.Sleep(24 * time.Hour)
					synctest.Wait()
					if have := jobs(t, b.st); have != "\njob juliet@mantua.example done: romeo@montague.example "+want {
						t.Error(have)
					}
					a.quiet()
				})
			})
		}
	}
}
