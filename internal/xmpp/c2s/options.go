package c2s

import (
	"time"

	"pibox/internal/xmpp"
	"pibox/internal/xmpp/frame"
)

// Options are the limits of client connections. A field that is zero or less stands for its default.
type Options struct {
	Conflict xmpp.ConflictPolicy // what happens when a resource is bound twice; default replace

	StanzaBeforeLogin int // bytes, default 10000 (RFC 6120 §13.12)
	Stanza            int // bytes, default 256 KiB
	Depth             int // elements inside elements, default 64
	Attributes        int // of one element, default 64
	Children          int // elements in one stanza, default 4096

	StanzaRate  int // stanzas per second from one connection in the long run; a faster one is read from more slowly. Default 100
	StanzaBurst int // stanzas that it may send at once, default 2000
	ByteRate    int // bytes per second, default 1 MiB
	ByteBurst   int // bytes at once, default 4 MiB

	AuthTimeout               time.Duration // from the first byte to the bound resource, default 60 s
	Connections               int           // in total, default 2000
	ConnectionsPerAddress     int           // from one IPv4 address or IPv6 /64, default 200
	UnauthenticatedPerAddress int           // of these not logged in yet, default 100
	ResourcesPerAccount       int           // default 50

	SendQueue    int           // bytes waiting for a client that does not read, default 1 MiB
	WriteTimeout time.Duration // a client that takes nothing for this long is gone, default 30 s

	// ResumeTimeout is how long a session may be without a connection (XEP-0198 §5), default 10 min; a client may ask for less.
	ResumeTimeout time.Duration
	ResumeQueue   int // bytes that wait for one that may be resumed, or that it did not acknowledge, default 2 MiB
	// ResumeTotal is how many bytes wait for all sessions without a connection together; past it those of the account with the most end, the longest
	// without one first. Default 32 MiB.
	ResumeTotal int

	// HoldQueue is how many bytes are held back from an inactive client (XEP-0352) before it is woken, with 512 for each stanza; default 256 KiB, and
	// at most half of what may wait.
	HoldQueue int

	// Keepalive: after this much silence the client is asked whether it is still there, if it is inactive after eight times as much. That wakes a
	// phone, which is why it is long: that a device is gone shows sooner, by the kernel's own probes (TCPKeepalive) and when something is sent to it.
	// Default 15 min.
	Keepalive time.Duration
	DeadAfter time.Duration // a client that does not answer that is gone, default 60 s
	// TCPKeepalive is the silence after which the kernels probe each other, without waking the application. Default 5 min.
	TCPKeepalive time.Duration
}

func (o Options) orDefault() Options {
	num := func(v *int, def int) {
		if *v <= 0 {
			*v = def
		}
	}
	span := func(v *time.Duration, def time.Duration) {
		if *v <= 0 {
			*v = def
		}
	}
	if o.Conflict == "" {
		o.Conflict = xmpp.ConflictReplace
	}
	num(&o.StanzaBeforeLogin, 10_000)
	num(&o.Stanza, 256<<10)
	num(&o.Depth, 64)
	num(&o.Attributes, 64)
	num(&o.Children, 4096)
	num(&o.StanzaRate, 100)
	num(&o.StanzaBurst, 2000)
	num(&o.ByteRate, 1<<20)
	num(&o.ByteBurst, 4<<20)
	span(&o.AuthTimeout, time.Minute)
	num(&o.Connections, 2000)
	num(&o.ConnectionsPerAddress, 200)
	num(&o.UnauthenticatedPerAddress, 100)
	num(&o.ResourcesPerAccount, 50)
	num(&o.SendQueue, 1<<20)
	span(&o.WriteTimeout, 30*time.Second)
	span(&o.ResumeTimeout, 10*time.Minute)
	num(&o.ResumeQueue, 2<<20)
	num(&o.ResumeTotal, 32<<20)
	num(&o.HoldQueue, 256<<10)
	o.HoldQueue = min(o.HoldQueue, o.SendQueue/2, o.ResumeQueue/2)
	span(&o.Keepalive, 15*time.Minute)
	span(&o.DeadAfter, time.Minute)
	span(&o.TCPKeepalive, 5*time.Minute)
	return o
}

func (o Options) limits(bytes int) frame.Limits {
	return frame.Limits{Bytes: bytes, Depth: o.Depth, Attrs: o.Attributes, Children: o.Children}
}
