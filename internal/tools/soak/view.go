package main

// entry is a message in an archive.
type entry struct {
	id     string // in the archive
	origin string // XEP-0359 origin-id
	with   string // whom the conversation is with
}

// view is what a device has of its account's conversations, in the order of the archive as far as it knows it.
type view struct {
	order []entry
	has   map[string]bool // by id in the archive
	// Up to pin the device knows all. From there to synced it knows all but the ids of what it sent itself; behind that what happened to come.
	pin, synced int
	own         map[string]int // how often it sent something, by origin-id, less how often it found that in the archive
	loose       bool           // something came whose place is not known
}

func newView() *view { return &view{has: map[string]bool{}, own: map[string]int{}} }

// query is what a device asks its archive.
type query struct {
	pin   int    // of the view, when it was asked; it may move meanwhile
	after string // the id behind which it is asked
	last  string // the id up to which the device believes to have all that others sent
}

func (v *view) query() query { return query{v.pin, v.id(v.pin), v.id(v.synced)} }

func (v *view) id(n int) string {
	if n == 0 {
		return ""
	}
	return v.order[n-1].id
}

// live takes what came by itself. all: nothing is missing before it; it has its place at the end. It tells whether the device did not have it.
func (v *view) live(e entry, all, placed bool) bool {
	if v.has[e.id] {
		return false
	}
	v.know(e)
	v.order = append(v.order, e)
	if !placed {
		v.loose = true
	}
	v.advance(all)
	return true
}

// know takes the id of a message.
func (v *view) know(e entry) {
	if v.has[e.id] {
		return
	}
	v.has[e.id] = true
	if n, mine := v.own[e.origin]; mine && n > 1 {
		v.own[e.origin]--
	} else {
		delete(v.own, e.origin)
	}
}

func (v *view) advance(all bool) {
	if all {
		v.synced = len(v.order)
		if len(v.own) == 0 && !v.loose {
			v.pin = v.synced
		}
	}
}

// caughtUp takes the answer to a query. It gives what should have come by itself before that was asked, and did not.
func (v *view) caughtUp(q query, found []entry, all bool, device string) (missed []entry) {
	until := -1
	for i, e := range found {
		if e.id == q.last {
			until = i
		}
	}
	in := map[string]bool{}
	for i, e := range found {
		sender, _ := origin(e.origin)
		if i < until && !v.has[e.id] && sender != device {
			missed = append(missed, e)
		}
		in[e.id] = true
		v.know(e)
	}
	tail := v.order[q.pin:]
	v.order = append(v.order[:q.pin:q.pin], found...)
	v.pin, v.synced, v.loose = len(v.order), len(v.order), false
	for _, e := range tail {
		if !in[e.id] {
			v.order = append(v.order, e)
		}
	}
	v.advance(all)
	return missed
}
