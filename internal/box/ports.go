package box

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"syscall"
)

// portError tells of one address that could not be listened on.
type portError struct {
	address string
	text    string // for the person, with the next step
	err     error
}

func (e *portError) Error() string { return e.text }
func (e *portError) Unwrap() error { return e.err }

// endpoint is one kind of listener, with the key that configures it.
type endpoint struct {
	name, who, key string
	addresses      []string
	direct, s2s    bool
}

func (e endpoint) listen(address string) (net.Listener, error) {
	config := net.ListenConfig{KeepAlive: -1} // who takes the connection sets that
	ln, err := config.Listen(context.Background(), "tcp", address)
	if err == nil {
		return ln, nil
	}
	port := address
	if host, p, splitErr := net.SplitHostPort(address); splitErr == nil && host == "" {
		port = p
	}
	text := ""
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		text = fmt.Sprintf("port %s (%s) is taken by another program: 'ss -ltnp' shows which; stop it or set %s", port, e.who, e.key)
	case errors.Is(err, fs.ErrPermission):
		text = fmt.Sprintf("port %s (%s) may not be opened by this user: ports below 1024 are root's; set %s to another", port, e.who, e.key)
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		text = fmt.Sprintf("port %s (%s): this machine does not have that address; set %s", port, e.who, e.key)
	default:
		text = fmt.Sprintf("port %s (%s) can not be opened: %v", port, e.who, err)
	}
	return nil, &portError{address, text, err}
}

// portErrors are those that err joins; nil where it is of another kind.
func portErrors(err error) (list []*portError) {
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		if e, ok := err.(*portError); ok {
			return []*portError{e}
		}
		return nil
	}
	for _, e := range joined.Unwrap() {
		list = append(list, portErrors(e)...)
	}
	return list
}
