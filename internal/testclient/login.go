package testclient

import (
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"

	"pibox/internal/xmpp/frame"
)

const (
	nsTLS  = "urn:ietf:params:xml:ns:xmpp-tls"
	nsSASL = "urn:ietf:params:xml:ns:xmpp-sasl"
	nsBind = "urn:ietf:params:xml:ns:xmpp-bind"
)

func (c *Client) negotiate() error {
	if !c.cfg.Direct {
		c.rd = frame.NewReader(c.conn, frame.Limits{})
		if err := c.startTLS(); err != nil {
			return err
		}
	}
	if err := c.secure(); err != nil {
		return err
	}
	if err := c.authenticate(); err != nil {
		return err
	}
	c.rd.Restart(c.conn)
	features, err := c.open()
	if err != nil {
		return err
	}
	offered := features.HasChild(nsSM, "sm")
	if offered && c.cfg.Resume != nil {
		if resumed, err := c.resume(c.cfg.Resume); err != nil || resumed {
			return err
		}
	}
	if err := c.bind(); err != nil || !offered || !c.cfg.SM {
		return err
	}
	return c.enable()
}

// open sends a stream header and gives the features in the answer.
func (c *Client) open() (*frame.Element, error) {
	header := "<?xml version='1.0'?><stream:stream xmlns='jabber:client' xmlns:stream='" + frame.NSStreams + "' version='1.0' to='" + c.domain + "'>"
	if err := c.Send(header); err != nil {
		return nil, err
	}
	return c.element("features")
}

// element reads the next element, which has to have that name; "" is any.
func (c *Client) element(name string) (*frame.Element, error) {
	for {
		ev, err := c.rd.Next()
		switch {
		case err != nil:
			return nil, err
		case ev.Kind == frame.KindHeader, ev.Kind == frame.KindSpace:
			continue
		case ev.Kind == frame.KindEnd:
			return nil, errors.New("the server closed the stream")
		case name != "" && ev.Element.Name != name:
			return nil, fmt.Errorf("the server sent %s", ev.Element.Raw)
		}
		return ev.Element, nil
	}
}

func (c *Client) startTLS() error {
	if _, err := c.open(); err != nil {
		return err
	}
	if err := c.Send("<starttls xmlns='" + nsTLS + "'/>"); err != nil {
		return err
	}
	_, err := c.element("proceed")
	return err
}

func (c *Client) secure() error {
	cfg := c.cfg.TLS.Clone()
	cfg.ServerName = c.domain
	if c.cfg.Direct {
		cfg.NextProtos = []string{"xmpp-client"}
	}
	tc := tls.Client(c.conn, cfg)
	if err := tc.Handshake(); err != nil {
		return err
	}
	c.conn = tc
	c.rd = frame.NewReader(tc, frame.Limits{Bytes: 4 << 20})
	return nil
}

func (c *Client) authenticate() error {
	if _, err := c.open(); err != nil {
		return err
	}
	name := c.cfg.Mechanism
	if name == "" {
		name = "SCRAM-SHA-256"
	}
	user, _, _ := strings.Cut(c.cfg.Account, "@")
	s, err := newScram(name, user, c.cfg.Password, c.cfg.Salted)
	if err != nil {
		return err
	}
	el, err := c.sasl("<auth xmlns='"+nsSASL+"' mechanism='"+name+"'>", "</auth>", s.first(), "challenge")
	if err != nil {
		return err
	}
	challenge, err := base64.StdEncoding.DecodeString(el.Node().Text)
	if err != nil {
		return err
	}
	final, err := s.final(string(challenge))
	if err != nil {
		return err
	}
	if el, err = c.sasl("<response xmlns='"+nsSASL+"'>", "</response>", final, "success"); err != nil {
		return err
	}
	proof, err := base64.StdEncoding.DecodeString(el.Node().Text)
	if err != nil {
		return err
	}
	return s.verify(string(proof))
}

func (c *Client) sasl(start, end, message, expect string) (*frame.Element, error) {
	if err := c.Send(start + base64.StdEncoding.EncodeToString([]byte(message)) + end); err != nil {
		return nil, err
	}
	return c.element(expect)
}

func (c *Client) bind() error {
	resource := ""
	if c.cfg.Resource != "" {
		resource = "<resource>" + Escape(c.cfg.Resource) + "</resource>"
	}
	if err := c.Send("<iq type='set' id='bind'><bind xmlns='" + nsBind + "'>" + resource + "</bind></iq>"); err != nil {
		return err
	}
	el, err := c.element("iq")
	if err != nil {
		return err
	}
	if c.jid = el.Node().Child(nsBind, "bind").ChildText(nsBind, "jid"); c.jid == "" {
		return fmt.Errorf("no resource: %s", el.Raw)
	}
	return nil
}
