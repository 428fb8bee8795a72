package s2s

import (
	"context"

	"github.com/miekg/dns"
)

// slowDNS never answers.
func slowDNS(ctx context.Context, _ string, _ *dns.Msg) (*dns.Msg, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}
