package testclient

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"pibox/internal/xmpp/frame"
)

// Namespaces of archives.
const (
	NSArchive = "urn:xmpp:mam:2"
	nsForward = "urn:xmpp:forward:0"
	nsDelay   = "urn:xmpp:delay"
	nsRSM     = "http://jabber.org/protocol/rsm"
	nsDisco   = "http://jabber.org/protocol/disco#info"
)

// Archived is a message of an archive (XEP-0313).
type Archived struct {
	ID      string // in the archive
	Stamp   string // XEP-0203
	Message *frame.Node
}

// ArchivePage is the answer to one query.
type ArchivePage struct {
	Messages    []Archived // in the order in which they came
	Complete    bool
	First, Last string
	Count       int // -1: not told
}

// ArchiveQuery is one query. The zero value asks for the oldest page of everything.
type ArchiveQuery struct {
	To     string            // whose archive; "": the own
	Fields map[string]string // of the form: with, start, end, before-id, after-id, ids
	Set    string            // what stands in <set/> of XEP-0059, e.g. "<max>50</max><after>…</after>"
	Flip   bool              // the latest first
}

// Archive asks for a page. It may run beside other queries of the same client.
func (c *Client) Archive(ctx context.Context, q ArchiveQuery) (ArchivePage, error) {
	var page ArchivePage
	c.mu.Lock()
	c.lastID++
	id := "a" + strconv.Itoa(c.lastID)
	if c.queries == nil {
		c.queries = map[string]*[]Archived{}
	}
	c.queries[id] = &page.Messages
	c.mu.Unlock()
	reply, err := c.IQ(ctx, "set", q.To, q.payload(id))
	c.mu.Lock()
	delete(c.queries, id)
	c.mu.Unlock()
	if err == nil {
		err = Refusal(reply)
	}
	if err != nil {
		return page, err
	}
	fin := reply.Node().Child(NSArchive, "fin")
	if fin == nil {
		return page, fmt.Errorf("the answer to a query of the archive is %s", reply.Raw)
	}
	set := fin.Child(nsRSM, "set")
	page.Complete = fin.Attr("complete") == "true" || fin.Attr("complete") == "1"
	page.First, page.Last, page.Count = set.ChildText(nsRSM, "first"), set.ChildText(nsRSM, "last"), -1
	if n, err := strconv.Atoi(set.ChildText(nsRSM, "count")); err == nil {
		page.Count = n
	}
	return page, nil
}

func (q ArchiveQuery) payload(id string) string {
	var w strings.Builder
	w.WriteString("<query xmlns='" + NSArchive + "' queryid='" + id + "'>")
	if len(q.Fields) > 0 {
		w.WriteString("<x xmlns='jabber:x:data' type='submit'><field var='FORM_TYPE' type='hidden'><value>" + NSArchive + "</value></field>")
		for name, value := range q.Fields {
			w.WriteString("<field var='" + Escape(name) + "'><value>" + Escape(value) + "</value></field>")
		}
		w.WriteString("</x>")
	}
	if q.Set != "" {
		w.WriteString("<set xmlns='" + nsRSM + "'>" + q.Set + "</set>")
	}
	if q.Flip {
		w.WriteString("<flip-page/>")
	}
	w.WriteString("</query>")
	return w.String()
}

// archived takes a message that answers a query; from the reading goroutine.
func (c *Client) archived(st *frame.Element) bool {
	if !st.HasChild(NSArchive, "result") {
		return false
	}
	result := st.Node().Child(NSArchive, "result")
	c.mu.Lock()
	defer c.mu.Unlock()
	into, ok := c.queries[result.Attr("queryid")]
	if !ok {
		return false
	}
	forwarded := result.Child(nsForward, "forwarded")
	*into = append(*into, Archived{
		ID: result.Attr("id"), Stamp: forwarded.Child(nsDelay, "delay").Attr("stamp"), Message: forwarded.Child(frame.NSClient, "message"),
	})
	return true
}

// Offers tells whether an entity ("": the own account) has a feature (XEP-0030).
func (c *Client) Offers(ctx context.Context, to, feature string) (bool, error) {
	st, err := c.IQ(ctx, "get", to, "<query xmlns='"+nsDisco+"'/>")
	if err == nil {
		err = Refusal(st)
	}
	if err != nil {
		return false, err
	}
	if query := st.Node().Child(nsDisco, "query"); query != nil {
		for _, n := range query.Children {
			if n.Name == "feature" && n.Attr("var") == feature {
				return true, nil
			}
		}
	}
	return false, nil
}
