// SPDX-License-Identifier: Apache-2.0

package load

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/coder/websocket"
)

// A session is so many messages, one after the other, with so much time between them.
const (
	sessionMessages = 4
	sessionPause    = 200 * time.Millisecond
)

// session is one WebSocket session: each message comes back, and it ends when the client ends it.
func (c *Client) session(ctx context.Context, q request, deadline time.Time) result {
	ctx, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()
	address, err := c.resolve.address(ctx)
	if err != nil {
		return q.result().failed(ClassConnect, err)
	}
	var dialer net.Dialer
	connected := false
	transport := &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			conn, err := dialer.DialContext(ctx, "tcp", address)
			connected = err == nil
			return conn, err
		},
	}
	socket, answer, err := websocket.Dial(ctx, "ws://"+q.host+q.path, &websocket.DialOptions{HTTPClient: &http.Client{Transport: transport}}) //nolint:bodyclose // The library has closed it.
	res := q.result()
	if answer != nil {
		res.version, res.pod = answer.Header.Get(HeaderVersion), answer.Header.Get(HeaderPod)
	}
	switch {
	case err == nil:
		return converse(ctx, socket, res)
	case timedOut(err):
		return res.failed(ClassTimeout, err)
	case answer != nil:
		return res.failed(ClassStatus, err)
	case connected:
		return res.failed(endClass(err, ClassReset), err)
	}
	return res.failed(ClassConnect, err)
}

// converse sends the messages and ends the session.
func converse(ctx context.Context, socket *websocket.Conn, res result) result {
	defer socket.CloseNow() //nolint:errcheck // It has ended, or it failed and that is told.
	pause := time.NewTimer(0)
	defer pause.Stop()
	for i := range sessionMessages {
		select {
		case <-pause.C:
		case <-ctx.Done():
			return res.failed(ClassTimeout, context.Cause(ctx))
		}
		message := fmt.Sprintf("message %d", i)
		if err := socket.Write(ctx, websocket.MessageText, []byte(message)); err != nil {
			return res.failed(sessionClass(err), fmt.Errorf("send message %d of a session: %w", i, err))
		}
		if err := awaitEcho(ctx, socket, message); err != nil {
			return res.failed(sessionClass(err), fmt.Errorf("wait for message %d of a session: %w", i, err))
		}
		pause.Reset(sessionPause)
	}
	// Who answers a farewell by ending the connection is understood.
	_ = socket.Close(websocket.StatusNormalClosure, "")
	return res
}

// sessionClass is endClass for who knows that a farewell before the end is one as well.
func sessionClass(err error) Class {
	if websocket.CloseStatus(err) >= 0 {
		return ClassTruncated
	}
	return endClass(err, ClassTruncated)
}

// awaitEcho reads until the message has come back: the application says other things, too.
func awaitEcho(ctx context.Context, socket *websocket.Conn, message string) error {
	for {
		_, content, err := socket.Read(ctx)
		if err != nil {
			return err
		}
		var echo struct {
			Message *string `json:"msg"`
		}
		if err := json.Unmarshal(content, &echo); err != nil {
			return fmt.Errorf("%.80q is no JSON: %w", content, err)
		}
		if echo.Message == nil {
			continue
		}
		if *echo.Message != message {
			return fmt.Errorf("got %.80q: %w", *echo.Message, errAltered)
		}
		return nil
	}
}

var errAltered = errors.New("not what was sent")
