package s2s

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pibox/internal/xmpp"
)

// What waits for a server that can not be reached is taken back and goes nowhere, nor does it come back; what was written is not.
func TestRecall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, c := twoBoxes(t)
		defer m.stop()
		defer c.stop()
		asks := func(id string) *xmpp.Stanza {
			return xmpp.Make([]byte("<presence type='subscribe' id='" + id + "' from='juliet@capulet.example' to='romeo@montague.example'/>"))
		}
		c.net.setCut(true)
		for _, id := range []string{"a", "b", "a"} {
			c.Send(asks(id))
		}
		time.Sleep(time.Second)
		for _, want := range []int{2, 0} {
			if n, why := c.Recall(asks("a")); n != want || n > 0 && !strings.Contains(why.Text, "no server listens") {
				t.Errorf("%d were taken back, not %d: %v", n, want, why)
			}
		}
		if n, _ := c.Recall(xmpp.Make([]byte("<presence type='subscribe' id='b' from='juliet@capulet.example' to='paris@nowhere.example'/>"))); n != 0 {
			t.Error("something was taken back that is for somebody else")
		}
		c.net.setCut(false)
		time.Sleep(time.Minute)
		m.hears("b by certificate")
		if n, _ := c.Recall(asks("b")); n != 0 {
			t.Errorf("%d were taken back that had arrived", n)
		}
		c.net.setCut(true)
		time.Sleep(time.Hour)
		c.hears()
	})
}

// A question whose time is over while it waits is not asked any more.
func TestQuestionThatIsLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, c := twoBoxes(t)
		defer m.stop()
		defer c.stop()
		c.net.setCut(true)
		var reply *xmpp.Request
		c.router.Ask(xmpp.Ask{
			From: xmpp.MustJID("juliet@capulet.example"), To: xmpp.MustJID("romeo@montague.example"), Type: "get", Timeout: 30 * time.Second,
			Payload: []byte("<x xmlns='urn:x'/>"), Done: func(rq *xmpp.Request) { reply = rq },
		})
		time.Sleep(30 * time.Second)
		synctest.Wait()
		if reply == nil || reply.Type != "error" || reply.Peer != nil {
			t.Errorf("the answer is %v", reply)
		}
		c.net.setCut(false)
		time.Sleep(2 * time.Minute)
		m.hears()
	})
}
