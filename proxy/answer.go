// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"cmp"
	"errors"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/sluice-mesh/sluice/proxy/http1"
)

// readAnswer reads heads until one that is not interim.
func (x *exchange) readAnswer(l *link) error {
	for {
		if err := l.reader.ReadResponse(&l.response, x.request.Asked()); err != nil {
			return err
		}
		if !l.response.Interim() {
			return nil
		}
		if err := x.passInterim(l); err != nil {
			return err
		}
	}
}

// passInterim sends 1xx answers on to clients that know them.
func (x *exchange) passInterim(l *link) error {
	unasked := l.response.Status() == http.StatusContinue && !x.request.ExpectsContinue()
	if unasked || !x.request.Version1() {
		return nil
	}
	x.client.writer.Response(&l.response, http1.Sending{Framing: http1.NoContent})
	x.client.writer.EndHead()
	if x.client.writer.Flush() != nil {
		x.lose(errClientLeft)
		return errClientLeft
	}
	return nil
}

// answer brings the response to the client and says whether its connection can be used again.
func (x *exchange) answer(to *hop, l *link) bool {
	defer to.release()
	now, status := time.Now(), l.response.Status()
	latency, refused := now.Sub(x.received), ""
	if status == http.StatusTooManyRequests || status == http.StatusForbidden {
		refused = refusalOf(to, string(l.response.Value(headerError)))
	}
	to.answered(now, status >= http.StatusInternalServerError || refused != "")
	countLeft(x.proxy.metrics, &x.choose, to)
	x.proxy.metrics.request(to.labels)
	x.record.hop(to, status, latency)
	if l.response.Framing() == http1.Tunnel {
		to.slot.leave() // What follows is no request any more.
		x.proxy.metrics.response(to.labels, status, latency, "")
		x.tunnel(l)
		return false
	}
	failure, complete := x.copyAnswer(to, l)
	x.record.failed(failure)
	to.ended(now, failure != "" || status >= http.StatusInternalServerError)
	// Whoever has the whole answer finds it counted.
	x.proxy.metrics.response(to.labels, status, latency, cmp.Or(failure, refused))
	return x.finish(x.client.writer.Flush() == nil && complete)
}

// countLeft counts a request that had to leave the revision that was drawn for it as a failure of
// that revision: users were served by another, but this one would not have served them. That its pods
// were all told to go, by a drain or a person, is not its doing.
func countLeft(metrics *metrics, choose *chooser, to *hop) {
	if !choose.split || choose.drawn == to.revision || choose.drawnGoing {
		return
	}
	failure := errorConnect
	if choose.drawnEmpty {
		failure = errorNoEndpoint
	}
	metrics.failure(labelsForRevision(to.labels, choose.drawn), failure)
}

// copyAnswer copies the answer as it comes. What is in the reader's buffer leaves in one piece.
func (x *exchange) copyAnswer(to *hop, l *link) (failure string, complete bool) {
	response, w := &l.response, x.client.writer
	framing := response.FramingTo(x.request.Version1())
	x.closes = framing == http1.UntilClose || x.willClose()
	how := http1.Sending{Framing: framing, Close: x.closes, KeepAlive: !x.closes && !x.request.Version1()}
	if to.identity == "" {
		how.Skip = http1.Owned // An application does not speak for the mesh.
	}
	w.Response(response, how)
	if x.choose.cookie != "" {
		w.Field("Set-Cookie", x.choose.cookie)
	}
	w.EndHead()
	l.reader.FlushBeforeRead(w)
	for {
		data, err := l.reader.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return x.breakOff(err, framing)
		}
		x.record.went(len(data))
		if to.slot.pace != nil && !x.holdBack(to.slot.pace, len(data)) {
			return x.cutShort(framing), false
		}
		if w.Content(data) != nil {
			return x.cutShort(framing), false
		}
	}
	x.settle()
	w.EndContent(l.reader)
	return "", true
}

// breakOff is for answers that end too early: what the client has got so far must not look whole.
func (x *exchange) breakOff(err error, framing http1.Framing) (failure string, complete bool) {
	// The client gets what there is: it shall see an answer that breaks off, not none.
	if framing == http1.UntilClose && x.client.writer.Flush() == nil {
		reset(x.client.conn) // An end in good order would look like that of the content.
	}
	var write *http1.WriteError
	if code := x.cutShort(framing); code != "" {
		return code, false
	}
	if x.gone() || errors.As(err, &write) {
		return "", false
	}
	return errorTruncated, false
}

// cutShort is the code with which an answer has ended whose time is up; empty for another. Nothing can be
// written to its client any more, who shall not see an end in good order.
func (x *exchange) cutShort(framing http1.Framing) string {
	code := x.timeUp()
	if code != "" && framing == http1.UntilClose {
		reset(x.client.conn)
	}
	return code
}

// problem answers in the proxy's own name, with a code that does not change.
func (x *exchange) problem(status int, code, text string) { x.problemLater(status, code, text, 0) }

// problemLater says as well in how many seconds the client may ask again, unless it is 0.
func (x *exchange) problemLater(status int, code, text string, seconds int64) {
	x.closes = x.willClose()
	x.record.answer(status, code)
	w := x.client.writer
	w.Discard()
	w.Status(status, http.StatusText(status), http1.ByLength)
	w.Field("Content-Type", "text/plain; charset=utf-8")
	w.Field("Content-Length", strconv.Itoa(len(text)+1))
	w.Field("Sluice-Error", code)
	if seconds > 0 {
		w.Field("Retry-After", strconv.FormatInt(seconds, 10))
	}
	if x.closes {
		w.Field("Connection", "close")
	}
	w.EndHead()
	if !x.head {
		x.record.went(len(text) + 1)
		_ = w.Content([]byte(text + "\n")) // Flushing will tell.
	}
	if w.Flush() != nil {
		x.closes = true // The client has gone.
	}
}
