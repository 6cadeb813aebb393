// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sluice-mesh/sluice/mesh"
	"github.com/sluice-mesh/sluice/proxy/http1"
)

const (
	// patience is how long an answer is waited for before somebody looks whether the client is still
	// there, at least half of it.
	patience = 50 * time.Millisecond
	// pumpPatience is the same while content still comes, which somebody looks after already.
	pumpPatience = time.Second
	// endTime is how long a failed write waits for how the connection ended.
	endTime = 100 * time.Millisecond
	// freshTime is how long an unused connection to another proxy is trusted without a look.
	freshTime = 2 * time.Millisecond
	// linkAge is when a connection is no longer used again, give or take linkAgeSpread, so that those
	// that were opened together do not all end together.
	linkAge       = 5 * time.Minute
	linkAgeSpread = time.Minute
)

// askedMost is how much is read of an answer that is thrown away, so that its link can be used again.
const askedMost = 256 << 10

// errIdleEnded is for links that have ended, or were sent something, while they were idle.
var errIdleEnded = errors.New("the idle connection has ended")

var errAnswerLong = errors.New("an answer that is thrown away is too long or broke off")

// link is a connection to an application or another proxy that carries requests, one at a time.
type link struct {
	conn *upstreamConn
	raw  syscall.RawConn
	look func(uintptr)
	// readable is what look has seen.
	readable bool
	// first sends what is pending; see askAtOnce.
	first   func(uintptr) bool
	pending []byte
	written int
	failed  error
	// idle says that the link was idle and nothing was written to it since, unseen that nobody has
	// looked whether it has ended meanwhile, whole that what is written next is all of the request.
	idle, unseen, whole bool
	key                 linkKey
	reader              *http1.Reader
	writer              *http1.Writer
	response            http1.Response
	// single says that it carries one request only.
	single bool
	// raised is what carries it over HTTP/2; nil when nothing does.
	raised  *raised
	expires time.Time
	// idleSince is when it was last put back; zero for a connection that was never used.
	idleSince time.Time

	// deadline is when the exchange at hand is told that its answer is long in coming.
	deadline time.Time
	exchange *exchange
	// What had passed before the request at hand.
	readBefore, writtenBefore uint64
}

// open makes a link to a hop.
func (u *upstreams) open(ctx context.Context, to *hop) (*link, error) {
	return u.openInTurn(ctx, ctx, to)
}

// openInTurn is open for who may no longer be waiting when it would begin.
func (u *upstreams) openInTurn(ctx, waits context.Context, to *hop) (*link, error) {
	leave, err := u.turn(waits, to)
	if err != nil {
		return nil, err
	}
	defer leave()
	conn, err := u.connectNow(ctx, *to, mesh.ALPNHTTP1)
	if err != nil {
		return nil, err
	}
	l := linkOver(conn, linkKey{to.address, to.identity})
	l.reader = http1.NewReader(l, &u.messages, u.rules)
	l.writer = http1.NewWriter(l, &u.messages)
	l.expires = time.Now().Add(linkAge - linkAgeSpread + rand.N(2*linkAgeSpread))
	return l, nil
}

func linkOver(conn *upstreamConn, key linkKey) *link {
	l := &link{conn: conn, key: key, raw: rawConn(conn.underneath())}
	l.look = func(descriptor uintptr) { l.readable = l.hasNews(descriptor) }
	l.first = l.sendFirst
	return l
}

// alive says whether a link can be used again. Something to read is its end, or an answer that nobody
// has asked for, which would be taken for that of the next request: an application may have seen two
// requests where there was one. Another proxy has not, and says how it ends.
func (l *link) alive(now time.Time) bool {
	if now.After(l.expires) {
		return false
	}
	if l.raw == nil || l.key.identity != "" && now.Sub(l.idleSince) < freshTime {
		return true
	}
	return !l.ended()
}

// hasNews says whether the other side has ended the link or has sent something. What another proxy sends
// before the first answer is its ticket, which is no news (see sessions.go).
func (l *link) hasNews(descriptor uintptr) bool {
	if l.key.identity != "" && l.conn.bytesRead == 0 {
		return isReady(descriptor, unix.POLLRDHUP)
	}
	return isReady(descriptor, unix.POLLIN|unix.POLLRDHUP)
}

func (l *link) ended() bool {
	l.readable = true
	return l.raw.Control(l.look) != nil || l.readable
}

// Write writes the request. If the link was idle, it is looked at first.
func (l *link) Write(p []byte) (int, error) {
	idle := l.idle
	l.idle = false
	switch {
	case idle && l.whole:
		return l.askAtOnce(p)
	case idle && l.unseen && l.ended():
		return 0, errIdleEnded
	}
	return l.conn.Write(p)
}

// askAtOnce looks whether the link has ended, writes all of a request and waits until something
// comes or the time is up, which reading will tell. All of that is one use of the descriptor: what comes
// after the look is not missed, so that nobody has to try in vain to read an answer that cannot be
// there yet.
func (l *link) askAtOnce(p []byte) (int, error) {
	l.pending, l.written, l.failed = p, 0, nil
	err := l.raw.Read(l.first)
	if l.pending == nil { // What broke the wait breaks reading, too.
		return l.written, l.failed
	}
	l.pending = nil
	if isTimeout(err) && !l.ended() {
		return l.conn.Write(p) // The processor was away for so long that the time was up before.
	}
	return 0, errIdleEnded
}

// sendFirst sends the first time, and the second time is told that something has come.
func (l *link) sendFirst(descriptor uintptr) bool {
	if l.pending == nil {
		return true
	}
	if l.unseen && l.hasNews(descriptor) {
		return true // It is still pending.
	}
	l.written, l.failed = l.conn.Write(l.pending)
	l.pending = nil
	return l.failed != nil
}

// begin makes ready for an exchange.
func (l *link) begin(x *exchange, now time.Time) {
	l.exchange, l.conn.moved = x, x.movement()
	l.readBefore, l.writtenBefore = l.conn.bytesRead, l.conn.bytesWritten.Load()
	if l.deadline.Sub(now) < patience/2 {
		l.deadline = now.Add(patience)
		_ = l.conn.SetReadDeadline(l.deadline) // Reading will tell.
	}
}

// beginAlone makes ready for a request whose client somebody else looks after.
func (l *link) beginAlone() {
	l.exchange, l.conn.moved, l.deadline = nil, nil, time.Time{}
	l.readBefore, l.writtenBefore = l.conn.bytesRead, l.conn.bytesWritten.Load()
	_ = l.conn.SetDeadline(time.Time{}) // Reading will tell.
}

// Read reads the answer. When it is long in coming, somebody begins to look after the client.
func (l *link) Read(p []byte) (int, error) {
	for {
		n, err := l.conn.Read(p)
		if n > 0 || !isTimeout(err) || l.exchange == nil || !l.exchange.isSlow(l) {
			return n, err
		}
	}
}

// sentAgainSafely says whether a request that got no answer may be sent again whatever its method. It
// may when the application cannot have seen it: nothing of it was written, or another proxy ended
// the connection in good order. A proxy answers whatever it has begun to carry, so it has not begun
// with this.
func (l *link) sentAgainSafely(err error) bool {
	if l.conn.bytesRead != l.readBefore {
		return false
	}
	if l.conn.bytesWritten.Load() == l.writtenBefore || l.raised != nil && l.raised.unprocessed.Load() {
		return true
	}
	var write *http1.WriteError
	if errors.As(err, &write) {
		l.end()
	}
	return l.conn.endedCleanly
}

// end finds out how the connection has ended after a write has failed.
func (l *link) end() {
	l.exchange = nil
	if l.conn.SetReadDeadline(time.Now().Add(endTime)) == nil {
		_ = l.reader.Await() // The connection knows how it has ended.
	}
}

// ask sends a message and throws its answer away.
func (l *link) ask(message []byte, asked http1.Asked) error {
	l.beginAlone()
	if _, err := l.conn.Write(message); err != nil {
		return err
	}
	for {
		if err := l.reader.ReadResponse(&l.response, asked); err != nil {
			return err
		}
		if !l.response.Interim() {
			break
		}
	}
	for left := askedMost; !l.reader.Ended(); {
		data, err := l.reader.Next()
		if left -= len(data); err != nil && !errors.Is(err, io.EOF) || left < 0 {
			return errors.Join(errAnswerLong, err)
		}
	}
	return nil
}

// usable says whether another request may follow the answer that was read.
func (l *link) usable() bool {
	return !l.single && l.response.KeepsAlive() && l.reader.Ended() && l.reader.Buffered() == 0
}

// reused says that the link has carried something before.
func (l *link) reused() bool { return !l.idleSince.IsZero() }

// unheard says that nothing has come back.
func (l *link) unheard() bool { return l.conn.bytesRead == l.readBefore }

func (l *link) close() {
	l.exchange = nil
	l.reader.FlushBeforeRead(nil)
	l.reader.Release()
	_ = l.conn.Close() // There is nobody left to tell.
}

// underneath is the connection to look at for signs of an end: what lies under TLS, if there is any.
func (c *upstreamConn) underneath() net.Conn {
	if c.wire != nil {
		return c.wire.Conn
	}
	return c.Conn
}
