// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"cmp"
	"errors"
	"net/http"
	"time"

	h2 "golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/sluice-mesh/sluice/proxy/http1"
	"github.com/sluice-mesh/sluice/proxy/http2"
)

// attempt is a stream on its way to one endpoint. It is told what comes back from there.
type attempt struct {
	stream *stream
	to     *hop
	load   *load
	// up is the endpoint's stream.
	up upward
	// sent is how much content was written.
	sent int

	// What is known of the answer, under the stream's mutex.
	answered, complete bool
	// told says that the client was told the head.
	told       bool
	status     int
	latency    time.Duration
	grpcStatus string
	// refused is why the endpoint's proxy did not let the request in.
	refused string
}

// current says whether the client is still joined with this attempt.
func (a *attempt) current() bool {
	x := a.stream
	x.mutex.Lock()
	defer x.mutex.Unlock()
	return x.at == a && !x.over
}

// Head is the head of an answer, or its trailers.
func (a *attempt) Head(h *http2.Head, end bool) {
	if !a.current() {
		return
	}
	x := a.stream
	skip := http1.Kinds(0)
	if a.to.identity == "" {
		skip = http1.Owned // An application does not speak for the mesh.
	}
	fields := appendUnowned(make([]hpack.HeaderField, 0, len(h.Fields)+1), h.Fields, skip)
	if h.Status == 0 {
		if a.end(h.Value("grpc-status")) {
			x.down.SendTrailers(fields)
		}
		return
	}
	if h.Interim() {
		a.tellInterim(&http2.Head{Status: h.Status, Fields: fields})
		return
	}
	if a.sendAgain(h, end) || !a.answer(h) {
		return
	}
	if x.choose.cookie != "" {
		fields = append(fields, hpack.HeaderField{Name: "set-cookie", Value: x.choose.cookie})
	}
	x.leaveIfTold()
	if end && !a.end(h.Value("grpc-status")) {
		return
	}
	a.tellHead(&http2.Head{Status: h.Status, Fields: fields}, end)
}

// tellHead sends the head on, unless an answer in the proxy's own name has been sent in its place.
func (a *attempt) tellHead(h *http2.Head, end bool) {
	x := a.stream
	x.mutex.Lock()
	defer x.mutex.Unlock()
	if x.at == a && !x.over {
		a.told = true
		x.down.SendHead(h, end)
	}
}

// tellInterim sends an interim answer on, which must not follow an answer in the proxy's own name.
func (a *attempt) tellInterim(h *http2.Head) {
	x := a.stream
	x.mutex.Lock()
	defer x.mutex.Unlock()
	x.noteMoved()
	if x.at == a && !x.over {
		x.down.SendHead(h, false)
	}
}

// answer notes that the endpoint has decided: nothing is sent elsewhere any more. It returns false when
// somebody else has answered.
func (a *attempt) answer(h *http2.Head) bool {
	x := a.stream
	x.mutex.Lock()
	if x.at != a || x.over {
		x.mutex.Unlock()
		return false
	}
	x.noteHead(h)
	now := time.Now()
	a.answered, a.status, a.latency = true, h.Status, now.Sub(x.received)
	a.refused = refusalOf(a.to, h.Value(headerError))
	a.to.answered(now, h.Status >= http.StatusInternalServerError || a.refused != "") // Nobody has released it yet.
	x.kept, x.gone = nil, true
	x.mutex.Unlock()
	a.load.trust()
	countLeft(x.proxy.metrics, &x.choose, a.to)
	x.proxy.metrics.request(a.to.labels)
	if x.choose.mirror != nil {
		x.proxy.metrics.mirror(mirrorDropped) // Only requests of HTTP/1.1 are copied.
	}
	return true
}

// Data is content of the answer. Who has its end finds it counted.
func (a *attempt) Data(data []byte, end bool) {
	x := a.stream
	x.record.went(len(data))
	x.noteMoved()
	if end {
		if a.end("") {
			x.down.SendData(data, true)
		}
		return
	}
	x.mutex.Lock()
	defer x.mutex.Unlock()
	if x.at == a && !x.over {
		x.down.SendData(data, false)
	}
}

// end notes that all of the answer has come. It returns false when nobody waits for it any more.
func (a *attempt) end(grpcStatus string) bool {
	x := a.stream
	x.mutex.Lock()
	if x.at != a || x.over {
		x.mutex.Unlock()
		return false
	}
	a.complete, a.grpcStatus = true, grpcStatus
	x.mutex.Unlock()
	a.finish("", false)
	return true
}

// Sent says that as much of the request's content has been written. What is sent again was told to
// the client before.
func (a *attempt) Sent(n int) {
	x := a.stream
	x.noteMoved()
	x.mutex.Lock()
	a.sent += n
	more := a.sent - x.credited
	if x.at != a {
		more = 0
	}
	x.credited += max(more, 0)
	x.mutex.Unlock()
	if more > 0 {
		x.down.Consumed(more)
	}
}

// finish counts what came of the request and ends the claim on the endpoint.
func (a *attempt) finish(failure string, quietly bool) {
	x := a.stream
	x.mutex.Lock()
	answered, latency, refused := a.answered, a.latency, a.refused
	came := responseLabels{status: a.status, failure: failure, grpcStatus: a.grpcStatus}
	x.mutex.Unlock()
	x.count(func() {
		now := time.Now()
		switch {
		case quietly:
		case answered:
			if failure == errorCanceled {
				came.failure = "" // The client has seen enough.
			}
			came.failure = cmp.Or(came.failure, refused)
			a.to.ended(now, came.failed())
			x.proxy.metrics.responseOf(a.to.labels, came, latency)
		case failure == errorCanceled:
			a.to.left(now)
			x.proxy.metrics.failure(x.choose.labelsOfFailure(a.to), failure)
		default:
			a.to.lost(now)
			x.proxy.metrics.failure(x.choose.labelsOfFailure(a.to), failure)
		}
		a.to.release()
		x.record.finish(a, came, failure, latency)
	}, true)
}

// Ended says that the endpoint has broken off, or has had to be.
func (a *attempt) Ended(err error) {
	if !a.current() {
		return
	}
	x := a.stream
	code := h2.ErrCodeInternal
	var reset http2.ResetError
	isReset := errors.As(err, &reset)
	if isReset {
		code = reset.Code
	}
	switch {
	case a.complete:
		code = h2.ErrCodeNo // The rest of the request is of no interest.
	case !a.answered && a.again(err):
		return
	case !a.close():
		return // Its time was up just before.
	case a.answered:
		a.finish(errorTruncated, false)
	case isReset:
		a.finish(errorReset, false)
	default:
		a.refuse(err)
		return
	}
	x.down.Reset(code)
	x.record.end()
}

// close says that nothing of the answer is to be told any more. It returns false when somebody else has
// said so.
func (a *attempt) close() bool {
	x := a.stream
	x.mutex.Lock()
	defer x.mutex.Unlock()
	if x.at != a || x.over {
		return false
	}
	x.over = true
	return true
}

// again sends the request again if it is certain that nothing was done, or that it is asked for
// nothing to be changed.
func (a *attempt) again(err error) bool {
	x := a.stream
	unprocessed := errors.Is(err, http2.ErrUnprocessed)
	broken := errors.Is(err, http2.ErrGone) && safeMethod(x.head.Method)
	x.mutex.Lock()
	again := !x.over && !x.gone && (unprocessed && x.resends < resendsMost || broken && !x.lost)
	if again {
		x.at = nil
		x.resends++
		x.lost = x.lost || broken
	}
	x.mutex.Unlock()
	if !again {
		return false
	}
	if broken {
		x.proxy.metrics.failure(x.choose.labelsOfFailure(a.to), errorReset) // This attempt counts, too.
		x.choose.failed(a.to, &connectError{address: a.to.address, err: err})
	} else {
		a.to.release()
	}
	x.proxy.serving.Go(func() {
		to, ok := x.next()
		if !ok {
			x.refuse(a.to)
			return
		}
		x.carry(to)
	})
	return true
}

// refuse answers in place of an endpoint that did not.
func (a *attempt) refuse(err error) {
	x := a.stream
	failure := errorReset
	var malformed http2.MalformedError
	var malformed1 http1.Error
	if errors.As(err, &malformed) || errors.As(err, &malformed1) {
		failure = errorMalformed
	}
	x.proxy.log.Info("no answer", "to", a.to.address, "method", x.head.Method, "error", err)
	a.finish(failure, false)
	x.problem(http.StatusBadGateway, failure, "no answer from "+a.to.address)
}
