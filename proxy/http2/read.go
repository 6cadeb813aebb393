// SPDX-License-Identifier: Apache-2.0

package http2

import (
	"errors"
	"io"
	"time"

	h2 "golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// read reads frames until the connection ends.
func (c *Conn) read() error {
	if err := c.readPreface(); err != nil {
		return err
	}
	for {
		frame, err := c.reader.ReadFrame()
		c.lastRead.Store(time.Now().UnixNano())
		if err == nil {
			err = c.handle(frame)
		}
		var wrong h2.StreamError
		if errors.As(err, &wrong) {
			err = c.breakOff(wrong.StreamID, wrong.Code)
		}
		if err != nil {
			return err
		}
	}
}

// readPreface reads what a client says before its first frame. The first frame is due with it.
func (c *Conn) readPreface() error {
	if err := c.conn.SetReadDeadline(time.Now().Add(c.limits.HeadTime)); err != nil {
		return err
	}
	if !c.isServer() {
		return nil
	}
	preface := make([]byte, len(h2.ClientPreface))
	if _, err := io.ReadFull(c.conn, preface); err != nil {
		return err
	}
	if string(preface) != h2.ClientPreface {
		return errors.Join(errPreface, protocolError("no connection preface"))
	}
	return nil
}

// asConnError says with which code an error ends the connection; ok is false for the end of it.
func asConnError(err error) (told connError, ok bool) {
	var code h2.ConnectionError
	switch {
	case errors.As(err, &told):
		return told, true
	case errors.As(err, &code):
		return connError{h2.ErrCode(code), "not as RFC 9113 has it"}, true
	case errors.Is(err, h2.ErrFrameTooLarge):
		return connError{h2.ErrCodeFrameSize, "frame too large"}, true
	}
	return connError{}, false
}

// handle acts upon a frame.
func (c *Conn) handle(frame h2.Frame) error {
	if !c.settled {
		settings, ok := frame.(*h2.SettingsFrame)
		if !ok || settings.IsAck() {
			return protocolError("the first frame is not SETTINGS")
		}
		c.settled = true
		if err := c.conn.SetReadDeadline(time.Time{}); err != nil {
			return err
		}
	}
	switch frame := frame.(type) {
	case *h2.DataFrame:
		return c.handleData(frame)
	case *h2.HeadersFrame:
		return c.handleHeaders(frame)
	case *h2.RSTStreamFrame:
		return c.handleReset(frame)
	case *h2.WindowUpdateFrame:
		return c.handleWindow(frame)
	case *h2.GoAwayFrame:
		return c.handleGoAway(frame)
	case *h2.PushPromiseFrame:
		return protocolError("push is not allowed")
	}
	return c.handleIdle(frame)
}

// handleIdle acts upon frames that carry nothing.
func (c *Conn) handleIdle(frame h2.Frame) error {
	if !c.idle.spend(time.Now()) {
		return errFlood
	}
	switch frame := frame.(type) {
	case *h2.SettingsFrame:
		return c.handleSettings(frame)
	case *h2.PingFrame:
		return c.handlePing(frame)
	case *h2.PriorityFrame:
		if frame.StreamDep == frame.StreamID {
			return h2.StreamError{StreamID: frame.StreamID, Code: h2.ErrCodeProtocol}
		}
	}
	return nil
}

func (c *Conn) handlePing(frame *h2.PingFrame) error {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	if !frame.IsAck() {
		c.control(c.writer.WritePing(true, frame.Data))
		c.work.Signal()
		return c.pending()
	}
	if c.leaving && frame.Data == shutdownPing() {
		c.leave()
	}
	return nil
}

// pending refuses to gather more for a peer that asks and does not read.
func (c *Conn) pending() error {
	if c.out.Len() > pendingMost {
		return errFlood
	}
	return nil
}

func (c *Conn) handleSettings(frame *h2.SettingsFrame) error {
	if frame.IsAck() {
		return nil
	}
	c.mutex.Lock()
	defer c.mutex.Unlock()
	if err := frame.ForeachSetting(c.apply); err != nil {
		return err
	}
	c.control(c.writer.WriteSettingsAck())
	c.work.Signal()
	return c.pending()
}

// apply puts one of the peer's settings in force.
func (c *Conn) apply(setting h2.Setting) error {
	if err := setting.Valid(); err != nil {
		return err
	}
	switch setting.ID {
	case h2.SettingHeaderTableSize:
		c.encoder.SetMaxDynamicTableSizeLimit(min(setting.Val, tableSize))
		c.encoder.SetMaxDynamicTableSize(min(setting.Val, tableSize))
	case h2.SettingEnablePush:
		if setting.Val != 0 && !c.isServer() {
			return protocolError("a server does not enable push")
		}
	case h2.SettingMaxConcurrentStreams:
		c.peerStreams = setting.Val
	case h2.SettingMaxFrameSize:
		c.frames = int(min(setting.Val, frameMost))
	case h2.SettingInitialWindowSize:
		by := int64(setting.Val) - c.initial
		c.initial = int64(setting.Val)
		for _, s := range c.streams {
			if s.window += by; s.window > idMost {
				return connError{h2.ErrCodeFlowControl, "a window is too large"}
			}
			c.makeReady(s)
		}
	}
	return nil
}

func (c *Conn) handleWindow(frame *h2.WindowUpdateFrame) error {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	if frame.StreamID == 0 {
		if c.window += int64(frame.Increment); c.window > idMost {
			return connError{h2.ErrCodeFlowControl, "the window is too large"}
		}
		for _, s := range c.streams {
			c.makeReady(s)
		}
		return nil
	}
	s, err := c.known(frame.StreamID)
	if s == nil {
		return err
	}
	if s.window += int64(frame.Increment); s.window > idMost {
		return h2.StreamError{StreamID: s.id, Code: h2.ErrCodeFlowControl}
	}
	c.makeReady(s)
	return nil
}

// known returns the stream of a frame, nil when it is over. One that was never opened is an error.
func (c *Conn) known(id uint32) (*Stream, error) {
	if s := c.streams[id]; s != nil {
		return s, nil
	}
	own := id%2 == 1 != c.isServer()
	if own && id >= c.nextID || !own && id > c.lastID && !c.left {
		return nil, protocolError("a frame of a stream that is idle")
	}
	return nil, nil
}

// isUnseen says that a stream was opened by a client that had not heard yet that no more are taken. It
// is told with that which streams were not seen.
func (c *Conn) isUnseen(id uint32) bool {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	return c.left && id > c.lastID
}

func (c *Conn) stream(id uint32) (*Stream, error) {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	return c.known(id)
}

func (c *Conn) handleReset(frame *h2.RSTStreamFrame) error {
	s, err := c.stream(frame.StreamID)
	if s == nil {
		return err
	}
	c.mutex.Lock()
	c.remove(s)
	c.mutex.Unlock()
	if frame.ErrCode == h2.ErrCodeRefusedStream {
		s.tellEnd(ErrUnprocessed)
	} else {
		s.tellEnd(ResetError{frame.ErrCode})
	}
	return c.spendReset()
}

// spendReset counts a stream that a client has had opened for nothing.
func (c *Conn) spendReset() error {
	if c.isServer() && !c.resets.spend(time.Now()) {
		return errFlood
	}
	return nil
}

func (c *Conn) handleGoAway(frame *h2.GoAwayFrame) error {
	c.mutex.Lock()
	c.goneAway = true
	var unseen []*Stream
	for id, s := range c.streams {
		if !c.isServer() && id > frame.LastStreamID {
			unseen = append(unseen, s)
		}
	}
	for _, s := range unseen {
		c.remove(s)
	}
	c.endIfUnused()
	c.mutex.Unlock()
	for _, s := range unseen {
		s.tellEnd(ErrUnprocessed)
	}
	return nil
}

// breakOff resets a stream on which something was wrong.
func (c *Conn) breakOff(id uint32, code h2.ErrCode) error {
	c.mutex.Lock()
	s := c.streams[id]
	if s != nil {
		c.reset(s, code)
	} else {
		c.control(c.writer.WriteRSTStream(id, code))
		c.work.Signal()
	}
	err := c.pending()
	c.mutex.Unlock()
	if s != nil {
		s.tellEnd(ResetError{code})
	}
	return errors.Join(err, c.spendReset())
}

// refuse resets a stream whose message is malformed.
func (c *Conn) refuse(s *Stream, why MalformedError) error {
	if c.options.Refused != nil {
		c.options.Refused(why)
	}
	c.mutex.Lock()
	if c.isServer() && !s.headed && (why == ErrHeadLarge || why == ErrFieldsMany) && !s.closed {
		c.encode(hpack.HeaderField{Name: ":status", Value: "431"})
		c.encode(hpack.HeaderField{Name: "sluice-error", Value: string(why)})
		c.writeBlock(s, true)
	}
	if !s.closed {
		code := h2.ErrCodeProtocol
		if s.sentEnd {
			code = h2.ErrCodeNo
		}
		c.reset(s, code)
	}
	c.mutex.Unlock()
	s.tellEnd(why)
	return c.spendReset()
}

func (c *Conn) handleData(frame *h2.DataFrame) error {
	length := int64(frame.Length)
	s, err := c.stream(frame.StreamID)
	if err != nil {
		return err
	}
	if err := c.receiveOnConn(length); err != nil {
		return err
	}
	data, end := frame.Data(), frame.StreamEnded()
	if len(data) > 0 || end {
		c.idle.earn()
	} else if !c.idle.spend(time.Now()) {
		return errFlood
	}
	if s == nil && c.isUnseen(frame.StreamID) {
		return nil
	}
	if s == nil || s.cameEnd {
		return h2.StreamError{StreamID: frame.StreamID, Code: h2.ErrCodeStreamClosed}
	}
	if err := c.receive(s, length, length-int64(len(data))); err != nil {
		return err
	}
	if why := s.account(len(data), end); why != "" {
		return c.refuse(s, why)
	}
	if end {
		c.endCame(s)
	}
	s.receiver.Data(data, end)
	return nil
}

// receiveOnConn takes from what may come on all streams. It is given back at once: what waits is
// bounded by the windows of the streams, and one that waits must not hold up the others.
func (c *Conn) receiveOnConn(n int64) error {
	if c.received -= n; c.received < 0 {
		return connError{h2.ErrCodeFlowControl, "more data than the window allows"}
	}
	if used := connWindow - c.received; used >= connWindow/2 {
		c.received = connWindow
		c.mutex.Lock()
		defer c.mutex.Unlock()
		c.control(c.writer.WriteWindowUpdate(0, uint32(used)))
		c.work.Signal()
	}
	return nil
}

// receive takes from what may come on a stream; what of it is padding is given back.
func (c *Conn) receive(s *Stream, n, padding int64) error {
	c.mutex.Lock()
	s.received -= n
	over := s.received < 0
	c.mutex.Unlock()
	if over {
		return h2.StreamError{StreamID: s.id, Code: h2.ErrCodeFlowControl}
	}
	if padding > 0 {
		s.Consumed(int(padding))
	}
	return nil
}

// account compares content with what the head says of it.
func (s *Stream) account(n int, end bool) MalformedError {
	switch {
	case !s.headed:
		return ErrContent
	case s.headless && n > 0:
		return ErrContent
	case s.headless || s.left < 0:
		return ""
	}
	if s.left -= int64(n); s.left < 0 || end && s.left > 0 {
		return ErrLength
	}
	return ""
}
