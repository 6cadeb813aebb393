// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"time"
)

var errHelloRead = errors.New("hello read")

// readHello reads a TLS ClientHello, whose first bytes are given, and returns the protocols that it
// offers together with all that was read. A client that speaks bad TLS offers none.
func readHello(conn net.Conn, first []byte) (offered []string, read []byte, _ error) {
	if err := conn.SetReadDeadline(time.Now().Add(detectTime)); err != nil {
		return nil, nil, err
	}
	var seen bytes.Buffer
	source := io.TeeReader(io.MultiReader(bytes.NewReader(first), conn), &seen)
	if hello := parseHello(source); hello != nil {
		offered = hello.SupportedProtos
	}
	read = seen.Bytes()
	if len(read) < len(first) {
		read = first
	}
	return offered, read, conn.SetReadDeadline(time.Time{})
}

// parseHello has crypto/tls read a ClientHello, and stops it before it answers. It is nil when that was
// none.
func parseHello(source io.Reader) (parsed *tls.ClientHelloInfo) {
	config := &tls.Config{
		MinVersion: tls.VersionTLS12,
		GetConfigForClient: func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
			parsed = hello
			return nil, errHelloRead
		},
	}
	//nolint:noctx // Its source decides how long it takes, and it fails as told above.
	_ = tls.Server(helloConn{source: source}, config).Handshake()
	return parsed
}

// helloConn is a connection of which there is no more than what is read.
type helloConn struct {
	net.Conn
	source io.Reader
}

func (c helloConn) Read(p []byte) (int, error)  { return c.source.Read(p) }
func (c helloConn) Write(p []byte) (int, error) { return len(p), nil }
func (c helloConn) Close() error                { return nil }
