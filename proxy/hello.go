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
func readHello(conn net.Conn, first []byte, wait time.Duration) (offered []string, read []byte, _ error) {
	if err := conn.SetReadDeadline(time.Now().Add(wait)); err != nil {
		return nil, nil, err
	}
	var seen bytes.Buffer
	source := io.TeeReader(io.MultiReader(bytes.NewReader(first), conn), &seen)
	// crypto/tls parses the hello; it is stopped before it answers.
	config := &tls.Config{
		MinVersion: tls.VersionTLS12,
		GetConfigForClient: func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
			offered = hello.SupportedProtos
			return nil, errHelloRead
		},
	}
	//nolint:noctx // It reads what is there, within the connection's deadline, and fails as told above.
	_ = tls.Server(helloConn{Conn: conn, source: source}, config).Handshake()
	read = seen.Bytes()
	if len(read) < len(first) {
		read = first
	}
	return offered, read, conn.SetReadDeadline(time.Time{})
}

// helloConn is a connection on which nothing can be written.
type helloConn struct {
	net.Conn
	source io.Reader
}

func (c helloConn) Read(p []byte) (int, error)  { return c.source.Read(p) }
func (c helloConn) Write(p []byte) (int, error) { return len(p), nil }
func (c helloConn) Close() error                { return nil }
