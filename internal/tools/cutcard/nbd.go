package cutcard

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
)

// The parts of NBD's protocol that QEMU's client uses (doc/proto.md of the NBD project): fixed newstyle negotiation, one export without a name,
// simple replies.
const (
	magicServer  = 0x4e42444d41474943 // "NBDMAGIC"
	magicOption  = 0x49484156454f5054 // "IHAVEOPT"
	magicReply   = 0x0003e889045565a9
	magicRequest = 0x25609513
	magicAnswer  = 0x67446698

	handshakeFixed, handshakeNoZeroes = 1, 2

	optExportName, optAbort, optInfo, optGo = 1, 2, 6, 7
	repAck, repInfo, repUnsupported         = 1, 3, 1<<31 | 1
	infoExport, infoBlockSize               = 0, 3

	flagHasFlags, flagFlush, flagFUA = 1, 1 << 2, 1 << 3

	cmdRead, cmdWrite, cmdDisconnect, cmdFlush = 0, 1, 2, 3
	cmdFlagFUA                                 = 1
	errInput, errShutdown                      = 22, 108

	most = 32 << 20 // bytes of one request
)

var errOff = errors.New("the power is cut")

// serve is one connection, until it ends.
func (c *Card) serve(conn net.Conn) error {
	rw := bufio.NewReadWriter(bufio.NewReader(conn), bufio.NewWriter(conn))
	if err := c.negotiate(rw); err != nil {
		return err
	}
	for {
		var rq struct {
			Magic          uint32
			Flags, Command uint16
			Handle, At     uint64
			Length         uint32
		}
		if err := binary.Read(rw, binary.BigEndian, &rq); err != nil {
			return err
		}
		if rq.Magic != magicRequest || rq.Length > most {
			return fmt.Errorf("not a request: %+v", rq)
		}
		data := make([]byte, rq.Length)
		if rq.Command == cmdWrite {
			if _, err := io.ReadFull(rw, data); err != nil {
				return err
			}
		}
		if rq.Command == cmdDisconnect {
			return nil
		}
		code := c.do(rq.Command, rq.Flags&cmdFlagFUA != 0, data, int64(rq.At))
		if code == errShutdown {
			return errOff // without an answer
		}
		if err := put(rw, uint32(magicAnswer), code, rq.Handle); err != nil {
			return err
		}
		if rq.Command == cmdRead && code == 0 {
			_, _ = rw.Write(data)
		}
		if err := rw.Flush(); err != nil {
			return err
		}
	}
}

// do is one command. Reads go to data.
func (c *Card) do(command uint16, durable bool, data []byte, at int64) (code uint32) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.off {
		return errShutdown
	}
	length := int64(len(data))
	if at < 0 || at > c.size-length || (command != cmdFlush && (at%Sector != 0 || length%Sector != 0)) {
		return errInput
	}
	var err error
	switch command {
	case cmdRead:
		err = c.read(data, at)
	case cmdWrite:
		err = c.write(data, at, durable)
	case cmdFlush:
		err = c.flush()
	default:
		return errInput
	}
	switch {
	case c.off:
		return errShutdown
	case err != nil:
		return 5 // EIO
	}
	return 0
}

func (c *Card) negotiate(rw *bufio.ReadWriter) error {
	if err := put(rw, uint64(magicServer), uint64(magicOption), uint16(handshakeFixed|handshakeNoZeroes)); err != nil {
		return err
	}
	if err := rw.Flush(); err != nil {
		return err
	}
	var client uint32
	if err := binary.Read(rw, binary.BigEndian, &client); err != nil {
		return err
	}
	for {
		var opt struct {
			Magic          uint64
			Option, Length uint32
		}
		if err := binary.Read(rw, binary.BigEndian, &opt); err != nil {
			return err
		}
		if opt.Magic != magicOption || opt.Length > 1<<16 {
			return fmt.Errorf("not an option: %+v", opt)
		}
		if _, err := io.CopyN(io.Discard, rw, int64(opt.Length)); err != nil {
			return err
		}
		ready, err := c.option(rw, opt.Option, client)
		if err == nil {
			err = rw.Flush()
		}
		if err != nil || ready {
			return err
		}
	}
}

// option answers one. There is one export, so the names that are asked for do not matter.
func (c *Card) option(rw *bufio.ReadWriter, option, client uint32) (ready bool, err error) {
	const flags = uint16(flagHasFlags | flagFlush | flagFUA)
	reply := func(kind uint32, length int) error { return put(rw, uint64(magicReply), option, kind, uint32(length)) }
	switch option {
	case optExportName:
		err = put(rw, uint64(c.size), flags)
		if err == nil && client&handshakeNoZeroes == 0 {
			_, err = rw.Write(make([]byte, 124))
		}
		return true, err
	case optInfo, optGo:
		err = errors.Join(
			reply(repInfo, 12), put(rw, uint16(infoExport), uint64(c.size), flags),
			reply(repInfo, 14), put(rw, uint16(infoBlockSize), uint32(Sector), uint32(4096), uint32(most)),
			reply(repAck, 0))
		return option == optGo, err
	case optAbort:
		return false, errors.Join(reply(repAck, 0), rw.Flush(), io.EOF)
	}
	return false, reply(repUnsupported, 0)
}

func put(w io.Writer, values ...any) error {
	for _, v := range values {
		if err := binary.Write(w, binary.BigEndian, v); err != nil {
			return err
		}
	}
	return nil
}
