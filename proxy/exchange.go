// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"errors"
	"io"
	"maps"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"net/url"
	"strings"
	"sync"
	"time"
)

// resendsMost bounds how often one request is sent again to one endpoint. Each time may meet another
// idle connection that has just ended.
const resendsMost = 16

// exchange carries one HTTP request to where its chooser says and the answer back.
type exchange struct {
	proxy   *Proxy
	writer  http.ResponseWriter
	request *http.Request
	choose  *chooser
	// prepare finishes the header for a hop.
	prepare func(http.Header, *hop)
	// closeAfter says that the client should not use its connection again.
	closeAfter func() bool

	header   http.Header
	trailer  http.Header
	body     *replayBody
	received time.Time
	resends  int
	// lost says that a safe request got no answer and was sent to another hop.
	lost bool

	interim     sync.Mutex
	interimDone bool
}

// carry runs the exchange to its end.
func (x *exchange) carry() {
	x.received = time.Now()
	// Clients may send and receive at once.
	_ = http.NewResponseController(x.writer).EnableFullDuplex() // HTTP/1 supports it.
	x.header = forwardHeader(x.request.Header)
	x.trailer = http.Header{}
	for name := range x.request.Trailer {
		x.trailer[name] = nil
	}
	x.body = newReplayBody(x.request, x.copyTrailer)
	var last *hop
	for {
		to, ok := x.choose.next()
		if !ok {
			x.refuse(last)
			return
		}
		if x.request.Method == http.MethodConnect {
			if x.tunnel(to) {
				return
			}
			last = to
			continue
		}
		response, err := x.send(to)
		if err == nil {
			x.answer(to, response)
			x.mirror()
			return
		}
		if x.giveUp(to, err) {
			return
		}
		last = to
	}
}

// copyTrailer hands the client's trailers to the attempt that is being sent.
func (x *exchange) copyTrailer() {
	for name, values := range x.request.Trailer {
		x.trailer[name] = values
	}
}

// send makes one attempt, and again while it is certain that nothing was seen of it.
func (x *exchange) send(to *hop) (*http.Response, error) {
	for {
		// The transport may try several connections; the last one is on which it failed.
		var used *watched
		out, err := x.outgoing(to, func(info httptrace.GotConnInfo) {
			if conn, ok := info.Conn.(*upstreamConn); ok {
				used = watch(conn)
			}
		})
		if err != nil {
			return nil, err
		}
		response, err := x.proxy.upstreams.transport(to, x.request.Method).RoundTrip(out)
		if err == nil || x.request.Context().Err() != nil {
			return response, err
		}
		if !used.sentAgainSafely() || !x.body.replayable() || x.resends == resendsMost {
			return nil, err
		}
		x.resends++
	}
}

// giveUp decides what follows an attempt without an answer; it returns true when nothing does.
func (x *exchange) giveUp(to *hop, err error) bool {
	if x.request.Context().Err() != nil {
		// The client left. What it may have waited for too long is for the gate to see.
		x.proxy.metrics.failure(x.choose.labelsOfFailure(to), errorCanceled)
		to.release()
		return true
	}
	var connect *connectError
	if errors.As(err, &connect) {
		x.proxy.log.Debug("connect failed", "to", to.address, "error", err)
		x.choose.failed(to, connect)
		return !x.body.replayable() && x.refuse(to)
	}
	if safeMethod(x.request.Method) && !x.lost && x.body.replayable() {
		x.lost = true
		x.proxy.metrics.failure(x.choose.labelsOfFailure(to), errorReset) // This attempt counts, too.
		x.choose.failed(to, &connectError{to.address, err})
		return false
	}
	to.release()
	x.proxy.log.Info("no answer", "to", to.address, "method", x.request.Method, "error", err)
	x.proxy.metrics.failure(x.choose.labelsOfFailure(to), errorReset)
	x.problem(http.StatusBadGateway, "no answer from "+to.address)
	return true
}

// refuse answers a request that could be sent nowhere.
func (x *exchange) refuse(last *hop) bool {
	x.proxy.metrics.failure(x.choose.labelsOfFailure(last), errorConnect)
	x.proxy.log.Info("nowhere to send", "host", x.request.Host, "last", last.name(), "attempts", x.choose.attempts)
	x.problem(http.StatusServiceUnavailable, "no endpoint could be connected to")
	return true
}

// problem answers in the proxy's own name.
func (x *exchange) problem(status int, text string) {
	x.endInterim()
	header := x.writer.Header()
	header.Set("Content-Type", "text/plain; charset=utf-8")
	header.Set("Sluice-Error", text)
	if x.closeAfter() {
		header.Set("Connection", "close")
	}
	x.writer.WriteHeader(status)
	_, _ = io.WriteString(x.writer, text+"\n") // The client may have gone.
}

// outgoing is the request as it is sent to a hop.
func (x *exchange) outgoing(to *hop, gotConn func(httptrace.GotConnInfo)) (*http.Request, error) {
	ctx := withLabels(x.request.Context(), to.labels)
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: gotConn, Got1xxResponse: x.passInterim})
	header := x.header.Clone()
	x.prepare(header, to)
	out := (&http.Request{
		Method:        x.request.Method,
		URL:           target(x.request, to.address),
		Host:          x.request.Host,
		Header:        header,
		ContentLength: x.request.ContentLength,
		Proto:         "HTTP/1.1",
		ProtoMajor:    1,
		ProtoMinor:    1,
	}).WithContext(ctx)
	if x.body == nil {
		return out, nil
	}
	out.Trailer = x.trailer
	out.GetBody = x.body.attempt
	var err error
	out.Body, err = x.body.attempt()
	return out, err
}

// target is the request's target, to the letter, at another address.
func target(request *http.Request, address string) *url.URL {
	to := &url.URL{Scheme: "http", Host: address, Opaque: request.RequestURI}
	if strings.HasPrefix(request.RequestURI, "//") {
		// URL would take what follows for a host.
		to.Opaque, to.Path, to.RawPath = "", request.URL.Path, request.URL.RawPath
		to.RawQuery, to.ForceQuery = request.URL.RawQuery, request.URL.ForceQuery
	}
	return to
}

// passInterim sends 1xx answers on. 100 is left out: the server sends it when the body is first
// read, which the transport does when 100 has come.
func (x *exchange) passInterim(code int, header textproto.MIMEHeader) error {
	if code == http.StatusContinue || code == http.StatusSwitchingProtocols {
		return nil
	}
	x.interim.Lock()
	defer x.interim.Unlock()
	if x.interimDone {
		return nil
	}
	to := x.writer.Header()
	for name, values := range header {
		to[name] = values
	}
	x.writer.WriteHeader(code)
	clear(to)
	return nil
}

// endInterim keeps late 1xx answers from the writer.
func (x *exchange) endInterim() {
	x.interim.Lock()
	defer x.interim.Unlock()
	x.interimDone = true
}

// answer brings the response to the client.
func (x *exchange) answer(to *hop, response *http.Response) {
	defer to.release()
	latency := time.Since(x.received)
	x.endInterim()
	x.countLeft(to)
	x.proxy.metrics.request(to.labels)
	if response.StatusCode == http.StatusSwitchingProtocols {
		x.proxy.metrics.response(to.labels, response.StatusCode, latency, "")
		x.upgrade(response)
		return
	}
	defer response.Body.Close() //nolint:errcheck // What was read is what counts.
	failure, complete := x.copyResponse(response)
	x.proxy.metrics.response(to.labels, response.StatusCode, latency, failure)
	if !complete {
		// What the client has got so far must not look whole.
		panic(http.ErrAbortHandler)
	}
}

// countLeft counts a request that had to leave the revision that was drawn for it as a failure of
// that revision: users were served by another, but this one would not have served them.
func (x *exchange) countLeft(to *hop) {
	if !x.choose.split || x.choose.drawn == to.revision {
		return
	}
	failure := errorConnect
	if x.choose.drawnEmpty {
		failure = errorNoEndpoint
	}
	x.proxy.metrics.failure(labelsForRevision(to.labels, x.choose.drawn), failure)
}

func (x *exchange) copyResponse(response *http.Response) (failure string, complete bool) {
	header := x.writer.Header()
	copyEndToEnd(header, response.Header)
	announced := maps.Clone(response.Trailer)
	for name := range announced {
		header.Add("Trailer", name)
	}
	if x.choose.cookie != "" {
		header.Add("Set-Cookie", x.choose.cookie)
	}
	if x.closeAfter() {
		header.Set("Connection", "close")
	}
	x.writer.WriteHeader(response.StatusCode)
	controller := http.NewResponseController(x.writer)
	if response.ContentLength < 0 {
		// A stream: its first byte may be long in coming.
		_ = controller.Flush() // The client may have gone; the copy finds out.
	}
	readError, writeError := x.copyBody(x.writer, controller, response.Body)
	switch {
	case readError != nil && x.request.Context().Err() == nil:
		_ = controller.Flush() // So that the client sees an answer that breaks off, not none.
		return errorTruncated, false
	case readError != nil, writeError != nil:
		return "", false
	}
	for name, values := range response.Trailer {
		if _, ok := announced[name]; !ok {
			name = http.TrailerPrefix + name
		}
		header[name] = values
	}
	return "", true
}

func (x *exchange) copyBody(writer io.Writer, controller *http.ResponseController, body io.Reader) (readError, writeError error) {
	buffer, put := x.proxy.buffers.get()
	defer put()
	for {
		n, err := body.Read(buffer)
		if n > 0 {
			if _, err := writer.Write(buffer[:n]); err != nil {
				return nil, err
			}
		}
		switch {
		case err == io.EOF: // Only bare EOF is the whole body.
			return nil, nil
		case err != nil:
			return err, nil
		}
		if err := controller.Flush(); err != nil {
			return nil, err
		}
	}
}

// forwardHeader is a client's header without what belongs to its connection. What a forward proxy
// would take for itself (Proxy-Authorization) stays: this proxy is not the one that is meant.
func forwardHeader(from http.Header) http.Header {
	header := make(http.Header, len(from)+1)
	copyEndToEnd(header, from)
	if containsToken(from["Connection"], "upgrade") && len(from["Upgrade"]) > 0 {
		header["Connection"] = []string{"Upgrade"}
		header["Upgrade"] = from["Upgrade"]
	}
	if containsToken(from["Te"], "trailers") {
		header["Te"] = []string{"trailers"}
	}
	if _, ok := header["User-Agent"]; !ok {
		header["User-Agent"] = nil // Keeps net/http from adding its own.
	}
	return header
}

// copyEndToEnd copies all fields but those that belong to one connection.
func copyEndToEnd(to, from http.Header) {
	for name, values := range from {
		switch name {
		case "Connection", "Keep-Alive", "Proxy-Connection", "Te", "Trailer", "Transfer-Encoding", "Upgrade":
		default:
			to[name] = values
		}
	}
	for _, value := range from["Connection"] {
		for name := range strings.SplitSeq(value, ",") {
			delete(to, textproto.CanonicalMIMEHeaderKey(textproto.TrimString(name)))
		}
	}
	if _, ok := from["Content-Type"]; !ok {
		to["Content-Type"] = nil // Keeps net/http from guessing.
	}
	if _, ok := from["Date"]; !ok {
		to["Date"] = nil // As above.
	}
}

func containsToken(values []string, token string) bool {
	for _, value := range values {
		for part := range strings.SplitSeq(value, ",") {
			if strings.EqualFold(textproto.TrimString(part), token) {
				return true
			}
		}
	}
	return false
}
