// SPDX-License-Identifier: Apache-2.0

package http2

import (
	"bytes"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	h2 "golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

const (
	// streamWindow is how much of one stream may come before it was passed on: what one stream of a
	// slow recipient may hold.
	streamWindow = 256 << 10
	// connWindow is how much may be on its way on all streams of a connection.
	connWindow = 4 << 20
	// firstWindow is what both are before anything was said.
	firstWindow = 65535
	// frameMost is the largest frame that is read or written.
	frameMost = 16 << 10
	// tableSize is how much HPACK remembers in each direction.
	tableSize = 4096
	// firstStreams is how many streams a server is taken to allow before it has said so.
	firstStreams = 100
	// writeMost is about how much is written at once.
	writeMost = 64 << 10
	// lastWriteTime bounds what is written to a peer when the connection ends.
	lastWriteTime = time.Second
	// farewellTime is how long a peer has to read what it was told last, and to close the connection.
	farewellTime = 5 * time.Second
	idMost       = 1<<31 - 1
)

// Preface is what a client says first.
const Preface = h2.ClientPreface

// Receiver is told what comes on a stream. It is called by the connection's own goroutines, without
// locks, and must not wait.
type Receiver interface {
	// Head is the head of an answer, or the trailers, which have no status.
	Head(h *Head, end bool)
	// Data is content, valid until it returns. Stream.Consumed allows as much more of it.
	Data(data []byte, end bool)
	// Sent says that as much of what SendData was given has been written.
	Sent(n int)
	// Ended says that the peer has broken off, or has had to be: with ResetError, MalformedError,
	// ErrUnprocessed or ErrGone. Nothing follows.
	Ended(err error)
}

// Options are what a connection is made of.
type Options struct {
	Limits Limits
	// Request is told of a client's requests; nil on the side that makes them. It must first of all
	// say who is told what follows, with Stream.Receive.
	Request func(s *Stream, h *Head, end bool)
	// Refused is told of messages that were refused.
	Refused func(why MalformedError)
}

// Conn is one side of a connection.
type Conn struct {
	conn    net.Conn
	options Options
	limits  Limits

	// The reader's.
	reader       *h2.Framer
	decoder      *hpack.Decoder
	resets, idle budget
	settled      bool
	// received is what may still come on all streams.
	received int64
	lastRead atomic.Int64 // Unix nanoseconds.

	mutex   sync.Mutex
	work    *sync.Cond
	out     bytes.Buffer
	writer  *h2.Framer
	encoded bytes.Buffer
	encoder *hpack.Encoder
	streams map[uint32]*Stream
	// ready are the streams with something to write.
	ready []*Stream
	// window is what may be sent on all streams, initial on each, frames how large frames may be.
	window, initial int64
	frames          int
	peerStreams     uint32
	// nextID is that of the next stream that is opened here, lastID of the last that the peer opened.
	nextID, lastID uint32
	// goneAway says that the peer takes no more streams, leaving that it was told so; left that it
	// was told which stream was the last.
	goneAway, leaving, left bool
	idleSince               time.Time
	// written is the id before which the heads of all streams opened here were given to the connection.
	written uint32
	// closed is why no stream begins any more; the writer ends when it has written what is left. lingers
	// says that the connection is then left to the peer to close, for a while; readEnds ends it.
	closed   error
	lingers  bool
	readEnds chan struct{}
}

// NewServer is a client's connection; its preface has not been read.
func NewServer(conn net.Conn, options Options) *Conn {
	c := newConn(conn, options)
	c.begin(h2.Setting{ID: h2.SettingMaxConcurrentStreams, Val: uint32(c.limits.MaxStreams)})
	return c
}

// NewClient is a connection to a server.
func NewClient(conn net.Conn, options Options) *Conn {
	options.Request = nil
	c := newConn(conn, options)
	c.nextID = 1
	c.out.WriteString(h2.ClientPreface)
	c.begin(h2.Setting{ID: h2.SettingEnablePush, Val: 0})
	return c
}

func newConn(conn net.Conn, options Options) *Conn {
	limits := options.Limits.withDefaults()
	c := &Conn{
		conn: conn, options: options, limits: limits,
		decoder: hpack.NewDecoder(tableSize, nil),
		resets:  newBudget(limits.Resets), idle: newBudget(limits.IdleFrames),
		received: connWindow,
		streams:  map[uint32]*Stream{},
		window:   firstWindow, initial: firstWindow, frames: frameMost, peerStreams: firstStreams,
		idleSince: time.Now(), readEnds: make(chan struct{}),
	}
	c.decoder.SetMaxStringLength(limits.MaxHead)
	c.work = sync.NewCond(&c.mutex)
	c.reader = h2.NewFramer(nil, conn)
	c.reader.SetReuseFrames()
	c.reader.SetMaxReadFrameSize(frameMost)
	c.writer = h2.NewFramer(&c.out, nil)
	c.encoder = hpack.NewEncoder(&c.encoded)
	c.lastRead.Store(time.Now().UnixNano())
	return c
}

// begin writes what each side says first.
func (c *Conn) begin(own h2.Setting) {
	c.control(c.writer.WriteSettings(own,
		h2.Setting{ID: h2.SettingInitialWindowSize, Val: streamWindow},
		h2.Setting{ID: h2.SettingMaxHeaderListSize, Val: uint32(c.limits.MaxHead)}))
	c.control(c.writer.WriteWindowUpdate(0, connWindow-firstWindow))
}

// control is told what the framer says of a frame that was put into the buffer, which cannot fail.
func (c *Conn) control(err error) {
	if err != nil && c.closed == nil {
		c.closed = err
	}
}

func (c *Conn) isServer() bool { return c.options.Request != nil }

// Serve reads until the connection ends, and returns when nothing is written any more either. What is
// open then has been told so.
func (c *Conn) Serve() {
	var writing sync.WaitGroup
	writing.Go(c.write)
	c.fail(c.read())
	_, _ = io.Copy(io.Discard, c.conn) // For as long as the writer leaves it open.
	close(c.readEnds)
	writing.Wait()
	c.mutex.Lock()
	streams, written := c.streams, c.written
	c.streams = map[uint32]*Stream{}
	for _, s := range streams {
		s.closed = true
	}
	c.mutex.Unlock()
	for _, s := range streams {
		if !c.isServer() && s.id >= written {
			s.tellEnd(ErrUnprocessed)
		} else {
			s.tellEnd(ErrGone)
		}
	}
}

// fail ends the connection because of an error.
func (c *Conn) fail(err error) {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	if c.closed != nil {
		return
	}
	if !c.isServer() {
		c.out.Reset() // No request begins on a connection that ends.
	}
	if told, ok := asConnError(err); ok {
		c.control(c.writer.WriteGoAway(c.lastID, told.code, []byte(told.reason)))
		c.lingers = true
	}
	c.end(err, lastWriteTime)
}

// end has the writer write what is left, within a time, and close the connection.
func (c *Conn) end(err error, within time.Duration) {
	if c.closed == nil {
		c.closed = err
		_ = c.conn.SetWriteDeadline(time.Now().Add(within)) // Writing will tell.
	}
	c.work.Signal()
}

// Close ends the connection with all that is open on it.
func (c *Conn) Close() {
	c.fail(ErrGone)
	c.mutex.Lock()
	defer c.mutex.Unlock()
	if c.lingers {
		_ = c.conn.Close() // Nobody is waited for any more.
	}
}

// Shutdown tells the peer to open no more streams, and closes the connection when none is left. What
// the peer has sent before it heard of that is carried.
func (c *Conn) Shutdown() {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	if c.leaving || c.closed != nil {
		return
	}
	c.leaving = true
	if !c.isServer() {
		c.endIfUnused()
		return
	}
	c.control(c.writer.WriteGoAway(idMost, h2.ErrCodeNo, nil))
	// Its answer says that nothing is on its way that was sent before.
	c.control(c.writer.WritePing(false, shutdownPing()))
	c.work.Signal()
}

func shutdownPing() [8]byte { return [8]byte{'s', 'l', 'u', 'i', 'c', 'e'} }

// Leave is Shutdown without waiting for what is on its way: the peer may send that elsewhere.
func (c *Conn) Leave() {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	c.leave()
}

func (c *Conn) leave() {
	if c.left || c.closed != nil {
		return
	}
	c.leaving, c.left = true, true
	c.control(c.writer.WriteGoAway(c.lastID, h2.ErrCodeNo, nil))
	c.work.Signal()
	c.endIfUnused()
}

// endIfUnused ends a connection that takes no more streams and has none. The client is the one that
// closes it: it may not have read all answers, nor what it was told of requests that it sends now.
func (c *Conn) endIfUnused() {
	switch {
	case len(c.streams) > 0:
	case c.isServer() && (c.goneAway || c.left):
		c.lingers = true
		c.end(ErrGone, farewellTime)
	case !c.isServer() && (c.goneAway || c.leaving):
		c.end(ErrGone, lastWriteTime)
	}
}

// Idle says since when no stream has been open; it is zero while one is.
func (c *Conn) Idle() time.Time {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	return c.idleSince
}

// LastRead is when something was last read.
func (c *Conn) LastRead() time.Time { return time.Unix(0, c.lastRead.Load()) }

// Ping asks the peer for a sign of life.
func (c *Conn) Ping() {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	c.control(c.writer.WritePing(false, [8]byte{}))
	c.work.Signal()
}

// Room says whether another stream may be opened.
func (c *Conn) Room() bool {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	return c.room()
}

func (c *Conn) room() bool {
	return c.closed == nil && !c.goneAway && !c.leaving && c.nextID < idMost-1 &&
		len(c.streams) < int(min(c.peerStreams, uint32(c.limits.MaxStreams)))
}

// Open opens a stream for a request. It returns nil when the connection has no room for it.
func (c *Conn) Open(h *Head, end bool, receiver Receiver) *Stream {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	if !c.room() {
		return nil
	}
	s := c.add(c.nextID)
	s.receiver, s.headless = receiver, h.Method == http.MethodHead
	c.nextID += 2
	c.encodeRequest(h)
	c.writeBlock(s, end)
	return s
}

func (c *Conn) add(id uint32) *Stream {
	s := &Stream{conn: c, id: id, window: c.initial, received: streamWindow, left: -1}
	c.streams[id] = s
	c.idleSince = time.Time{}
	return s
}

// remove forgets a stream.
func (c *Conn) remove(s *Stream) {
	if s.closed {
		return
	}
	s.closed, s.queue = true, nil
	delete(c.streams, s.id)
	if len(c.streams) == 0 {
		c.idleSince = time.Now()
		c.endIfUnused()
	}
}
