// SPDX-License-Identifier: Apache-2.0

package load

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"syscall"
	"time"
)

// Headers by which the sample application says who answered; without the first, the "version" of a
// JSON answer counts.
const (
	HeaderVersion = "X-App-Version"
	HeaderPod     = "X-App-Pod"
)

// maxBody bounds what is read of an answer.
const maxBody = 8 << 20

// request is one request as it goes on the wire.
type request struct {
	method string
	path   string
	host   string
	body   []byte
	fresh  bool // on a connection of its own
	kind   kind
}

// result is what is known of the request before its answer.
func (q request) result() result {
	return result{method: q.method, fresh: q.fresh, kind: q.kind}
}

func (q request) wire() []byte {
	var b bytes.Buffer
	b.Grow(256 + len(q.body))
	fmt.Fprintf(&b, "%s %s HTTP/1.1\r\nHost: %s\r\nUser-Agent: sluice-load\r\nAccept: */*\r\n", q.method, q.path, q.host)
	if q.fresh {
		b.WriteString("Connection: close\r\n")
	}
	if q.body != nil {
		b.WriteString("Content-Type: application/octet-stream\r\nContent-Length: " + strconv.Itoa(len(q.body)) + "\r\n")
	}
	b.WriteString("\r\n")
	b.Write(q.body)
	return b.Bytes()
}

// connection carries one request at a time.
type connection struct {
	net    net.Conn
	reader *bufio.Reader
}

func dial(ctx context.Context, address string, deadline time.Time) (*connection, error) {
	dialer := net.Dialer{Deadline: deadline}
	c, err := dialer.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", address, err)
	}
	return &connection{net: c, reader: bufio.NewReader(c)}, nil
}

func (c *connection) close() { _ = c.net.Close() }

// alive is false when the server has closed the idle connection, or has said something unasked.
func (c *connection) alive() bool {
	if c.reader.Buffered() > 0 {
		return false
	}
	tcp, ok := c.net.(*net.TCPConn)
	if !ok {
		return true
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return false
	}
	alive := false
	err = raw.Control(func(fd uintptr) {
		var one [1]byte
		_, _, err := syscall.Recvfrom(int(fd), one[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		alive = errors.Is(err, syscall.EAGAIN)
	})
	return err == nil && alive
}

// exchange sends one request and reads its answer whole. reusable says whether another may follow.
func (c *connection) exchange(q request, deadline time.Time) (res result, reusable bool) {
	res = q.result()
	if err := c.net.SetDeadline(deadline); err != nil {
		return res.failed(ClassReset, fmt.Errorf("set deadline: %w", err)), false
	}
	// A server may answer and close before it has read everything: the answer counts, so a failed
	// write is only the cause given when there is none.
	_, writeErr := c.net.Write(q.wire())
	if _, err := c.reader.Peek(1); err != nil {
		return res.failed(endClass(err, ClassReset), errors.Join(writeErr, fmt.Errorf("wait for the answer: %w", err))), false
	}
	resp, err := c.readHead(q.method) //nolint:bodyclose // The body has no connection of its own: it is read whole below.
	if err != nil {
		return res.failed(endClass(err, ClassTruncated), fmt.Errorf("read the head: %w", err)), false
	}
	res.version, res.pod = resp.Header.Get(HeaderVersion), resp.Header.Get(HeaderPod)
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxBody))
	if err != nil {
		return res.failed(endClass(err, ClassTruncated), fmt.Errorf("read the body after %d bytes: %w", len(body), err)), false
	}
	reusable = !resp.Close && !q.fresh && writeErr == nil
	return judge(q, resp, body, res), reusable
}

// readHead skips interim answers.
func (c *connection) readHead(method string) (*http.Response, error) {
	for {
		resp, err := http.ReadResponse(c.reader, &http.Request{Method: method})
		if err != nil || resp.StatusCode >= 200 || resp.StatusCode == http.StatusSwitchingProtocols {
			return resp, err
		}
	}
}

// judge says whether a complete answer is the one that was asked for.
func judge(q request, resp *http.Response, body []byte, res result) result {
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		return res.failed(ClassStatus, fmt.Errorf("%s from version %q pod %q: %.120q", resp.Status, res.version, res.pod, body))
	}
	if q.body != nil {
		if !bytes.Equal(body, q.body) {
			return res.failed(ClassCorrupt, fmt.Errorf("sent %d bytes to be echoed, got %d others", len(q.body), len(body)))
		}
		return res
	}
	var answer struct {
		Version  string `json:"version"`
		Hostname string `json:"hostname"`
	}
	isJSON := len(body) > 0 && (body[0] == '{' || body[0] == '[')
	if isJSON && !json.Valid(body) {
		return res.failed(ClassCorrupt, fmt.Errorf("%d bytes of broken JSON", len(body)))
	}
	if isJSON && res.version == "" && json.Unmarshal(body, &answer) == nil {
		res.version, res.pod = answer.Version, answer.Hostname
	}
	return res
}

func (r result) failed(class Class, err error) result {
	r.class, r.detail = class, err.Error()
	return r
}

// endClass tells a timeout and a malformed answer from an end of the connection.
func endClass(err error, ended Class) Class {
	switch {
	case timedOut(err):
		return ClassTimeout
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return ended
	}
	return ClassCorrupt
}

func timedOut(err error) bool {
	return errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, context.DeadlineExceeded)
}
