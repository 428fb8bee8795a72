package disco

import (
	"slices"

	"pibox/internal/xmpp"
)

// subject is what one question is about: a verification string, whoever announces it, or capabilities that only their owner vouches for.
type subject struct {
	hash, ver string
	full      xmpp.JID
}

func subjectOf(full xmpp.JID, t tag) subject {
	if _, ok := hashOf(t.hash); ok && t.ver != "" {
		return subject{hash: t.hash, ver: t.ver}
	}
	return subject{full: full}
}

// question waits for an answer. One resource at a time is asked; when it fails, the next that announces the same (XEP-0115 §5.4, 3.9).
type question struct {
	of      subject
	waiting []xmpp.JID
	asked   xmpp.JID // zero: nobody is being asked
}

type questions struct {
	open    map[subject]*question
	queue   []*question // nobody is being asked; the oldest first
	asking  int
	domains map[string]int // questions under way
}

func (qs *questions) join(full xmpp.JID, t tag) {
	s := subjectOf(full, t)
	q := qs.open[s]
	if q == nil {
		q = &question{of: s}
		qs.open[s] = q
		qs.queue = append(qs.queue, q)
	}
	if !slices.Contains(q.waiting, full) {
		q.waiting = append(q.waiting, full)
	}
}

func (qs *questions) leave(full xmpp.JID, t tag) {
	q := qs.open[subjectOf(full, t)]
	if q == nil {
		return
	}
	q.waiting = slices.DeleteFunc(q.waiting, func(j xmpp.JID) bool { return j == full })
	if len(q.waiting) == 0 && q.asked.IsZero() {
		qs.close(q)
	}
}

func (qs *questions) close(q *question) {
	delete(qs.open, q.of)
	qs.queue = slices.DeleteFunc(qs.queue, func(o *question) bool { return o == q })
}

// next takes what may be asked now. The lock is held.
func (c *Caps) next() (asks []xmpp.Ask) {
	qs := &c.questions
	qs.queue = slices.DeleteFunc(qs.queue, func(q *question) bool {
		i := slices.IndexFunc(q.waiting, func(j xmpp.JID) bool { return qs.domains[j.Domain] < c.opt.MaxPerDomain })
		if i < 0 || qs.asking >= c.opt.MaxAsking {
			return false
		}
		q.asked = q.waiting[i]
		qs.asking++
		qs.domains[q.asked.Domain]++
		asks = append(asks, c.about(q, q.asked, c.resources[q.asked]))
		return true
	})
	return asks
}

// about is the question to a resource, from an account that sees its presence.
func (c *Caps) about(q *question, full xmpp.JID, r *resource) xmpp.Ask {
	x, t := xmpp.NewXMLNS("query", NSInfo), r.tag
	if t.hash != "" && t.ver != "" {
		x.Attr("node", t.node+"#"+t.ver) // XEP-0115 §6.2
	}
	return xmpp.Ask{
		From: r.accounts[0], To: full, Type: "get", Timeout: c.opt.Timeout, Payload: x.Bytes(),
		Done: func(reply *xmpp.Request) { c.answered(q, full, t, reply) },
	}
}

// answered: what proves the verification string holds for all who announce it; any other answer for who gave it (XEP-0115 §5.4, 2.3); none
// lets the next be asked.
func (c *Caps) answered(q *question, full xmpp.JID, t tag, reply *xmpp.Request) {
	info, ok := readAnswer(reply)
	h, verifiable := hashOf(q.of.hash)
	proven := ok && verifiable && info.check() == nil && info.Ver(h) == q.of.ver

	c.mu.Lock()
	qs := &c.questions
	qs.asking--
	if qs.domains[full.Domain]--; qs.domains[full.Domain] == 0 {
		delete(qs.domains, full.Domain)
	}
	q.asked = xmpp.JID{}
	var hear []xmpp.JID
	switch {
	case proven:
		c.verified.put(q.of, info.notified())
		hear, q.waiting = q.waiting, nil
	case slices.Contains(q.waiting, full) && c.resources[full].tag == t: // else it is asked again
		q.waiting = slices.DeleteFunc(q.waiting, func(j xmpp.JID) bool { return j == full })
		if ok {
			hear = []xmpp.JID{full}
		}
	}
	var told []news
	nodes := info.notified()
	for _, j := range hear {
		told = append(told, c.resources[j].learned(j, nodes)...)
	}
	if len(q.waiting) == 0 {
		qs.close(q)
	} else {
		qs.queue = append(qs.queue, q)
	}
	asks := c.next()
	c.mu.Unlock()
	c.tell(told)
	if len(asks) > 0 {
		go c.ask(asks) // not here: an answer may come while the question is sent
	}
}

func readAnswer(reply *xmpp.Request) (info Info, ok bool) {
	if reply == nil || reply.Type != "result" {
		return info, false
	}
	query := reply.Node().Child(NSInfo, "query")
	if query == nil {
		return info, false
	}
	return parseInfo(query), true
}
