// SPDX-License-Identifier: Apache-2.0

package http2

import (
	"errors"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	h2 "golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// TestLeavingGoesOnWithWhatWasSeen: frames of requests that come too late do not harm those that did not.
func TestLeavingGoesOnWithWhatWasSeen(t *testing.T) {
	seen := make(chan *Stream, 1)
	p := newPeer(t, Options{Request: func(s *Stream, _ *Head, _ bool) {
		s.Receive(holder{})
		s.conn.Leave()
		seen <- s
	}})
	p.ask(1, true, get()...)
	frame, err := p.until(func(f h2.Frame) bool { _, ok := f.(*h2.GoAwayFrame); return ok })
	require.NoError(t, err)
	require.EqualValues(t, 1, frame.(*h2.GoAwayFrame).LastStreamID)
	p.ask(3, false, get()...)
	require.NoError(t, p.framer.WriteData(3, false, []byte("late")))
	require.NoError(t, p.framer.WriteWindowUpdate(3, 1))
	require.NoError(t, p.framer.WriteRSTStream(3, h2.ErrCodeCancel))
	require.NoError(t, p.framer.WritePing(false, [8]byte{1}))
	_, err = p.until(func(f h2.Frame) bool { ping, ok := f.(*h2.PingFrame); return ok && ping.IsAck() })
	require.NoError(t, err, "all of that was read")
	(<-seen).SendHead(&Head{Status: 200}, true)
	require.Equal(t, "200", p.awaitStatus(1))
	_, err = p.until(func(h2.Frame) bool { return false })
	require.ErrorIs(t, err, io.EOF)
}

// closing tells when its end was written.
type closing struct {
	*net.TCPConn
	once   sync.Once
	closed chan struct{}
}

func (c *closing) end() { c.once.Do(func() { close(c.closed) }) }

func (c *closing) Close() error {
	defer c.end()
	return c.TCPConn.Close()
}

func (c *closing) CloseWrite() error {
	defer c.end()
	return c.TCPConn.CloseWrite()
}

// TestLastAnswerArrives: a client that goes on talking when the server has said everything still gets
// all of it.
func TestLastAnswerArrives(t *testing.T) {
	client, accepted := tcpPair(t)
	require.NoError(t, client.SetReadBuffer(64<<10))
	require.NoError(t, accepted.SetWriteBuffer(1<<20))
	content := make([]byte, 300<<10)
	conn := &closing{TCPConn: accepted, closed: make(chan struct{})}
	served := make(chan struct{})
	go func() {
		defer close(served)
		NewServer(conn, Options{Request: func(s *Stream, _ *Head, _ bool) {
			s.Receive(holder{})
			s.SendHead(&Head{Status: 200}, false)
			s.SendData(content, true)
			s.conn.Leave()
		}}).Serve()
	}()
	framer := h2.NewFramer(client, client)
	p := &peer{t: t, conn: client, framer: framer}
	p.hpack = hpack.NewEncoder(&p.block)
	_, err := io.WriteString(client, Preface)
	require.NoError(t, err)
	require.NoError(t, framer.WriteSettings(h2.Setting{ID: h2.SettingInitialWindowSize, Val: 1 << 20}))
	require.NoError(t, framer.WriteWindowUpdate(0, 1<<20))
	p.ask(1, true, get()...)
	<-conn.closed
	require.NoError(t, framer.WritePing(false, [8]byte{1}))
	got := 0
	_, err = p.until(func(f h2.Frame) bool {
		if data, ok := f.(*h2.DataFrame); ok {
			got += len(data.Data())
		}
		return false
	})
	require.ErrorIs(t, err, io.EOF)
	require.Equal(t, len(content), got)
	require.NoError(t, client.Close())
	<-served
}

// gate is a client's connection on which writing can be held up, and then fails.
type gate struct {
	net.Conn
	mutex  sync.Mutex
	shut   bool
	meets  chan struct{}
	broken chan struct{}
}

var errBroken = errors.New("the peer reads no more")

func (g *gate) Write(p []byte) (int, error) {
	g.mutex.Lock()
	shut := g.shut
	g.mutex.Unlock()
	if !shut {
		return g.Conn.Write(p)
	}
	g.meets <- struct{}{}
	<-g.broken
	return 0, errBroken
}

func (g *gate) close() {
	g.mutex.Lock()
	defer g.mutex.Unlock()
	g.shut = true
}

// ending is told how its stream ends.
type ending struct {
	holder
	err chan error
}

func (e ending) Ended(err error) { e.err <- err }

// newGated is a client whose server is spoken for by frames, after both have said their settings.
func newGated(t *testing.T) (*Conn, *gate, *net.TCPConn, *h2.Framer) {
	t.Helper()
	client, server := tcpPair(t)
	g := &gate{Conn: client, meets: make(chan struct{}, 1), broken: make(chan struct{})}
	conn := NewClient(g, Options{})
	served := make(chan struct{})
	go func() {
		defer close(served)
		conn.Serve()
	}()
	t.Cleanup(func() {
		_ = server.Close()
		<-served
	})
	preface := make([]byte, len(Preface))
	_, err := io.ReadFull(server, preface)
	require.NoError(t, err)
	framer := h2.NewFramer(server, server)
	require.NoError(t, framer.WriteSettings())
	for acknowledged := false; !acknowledged; {
		frame, err := framer.ReadFrame()
		require.NoError(t, err)
		settings, ok := frame.(*h2.SettingsFrame)
		acknowledged = ok && settings.IsAck()
	}
	return conn, g, server, framer
}

func (e ending) await(t *testing.T) error {
	t.Helper()
	select {
	case err := <-e.err:
		return err
	case <-time.After(time.Minute):
		require.Fail(t, "the stream does not end")
		return nil
	}
}

// TestLastWordsAreHeard: a client that can write no more still reads which streams were not seen.
func TestLastWordsAreHeard(t *testing.T) {
	conn, g, server, framer := newGated(t)
	g.close()
	lost := ending{err: make(chan error, 1)}
	require.NotNil(t, conn.Open(&Head{Method: "POST", Scheme: "http", Path: "/", Authority: "shop"}, true, lost))
	<-g.meets
	close(g.broken)
	require.Eventually(t, func() bool { return !conn.Room() }, time.Minute, time.Millisecond)
	require.NoError(t, framer.WriteGoAway(0, h2.ErrCodeNo, nil))
	require.NoError(t, server.CloseWrite())
	require.ErrorIs(t, lost.await(t), ErrUnprocessed)
}

// TestUnwrittenStreamsAreUnprocessed: what was never given to the connection was not seen.
func TestUnwrittenStreamsAreUnprocessed(t *testing.T) {
	conn, g, server, _ := newGated(t)
	g.close()
	head := &Head{Method: "POST", Scheme: "http", Path: "/", Authority: "shop"}
	perhaps, never := ending{err: make(chan error, 1)}, ending{err: make(chan error, 1)}
	require.NotNil(t, conn.Open(head, true, perhaps))
	<-g.meets
	require.NotNil(t, conn.Open(head, true, never))
	require.NoError(t, server.Close())
	require.Eventually(t, func() bool { return !conn.Room() }, time.Minute, time.Millisecond)
	close(g.broken)
	require.ErrorIs(t, perhaps.await(t), ErrGone)
	require.ErrorIs(t, never.await(t), ErrUnprocessed)
}
