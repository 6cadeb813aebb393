// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/go-logr/logr"
)

// grpcServer serves proxies: HTTP/2 over TLS, with streams that last as long as both sides live.
type grpcServer struct {
	address string
	handler http.Handler
	tls     *tls.Config
	logger  logr.Logger
}

// NeedLeaderElection is false: proxies connect to whichever replica their Service gives them.
func (s *grpcServer) NeedLeaderElection() bool { return false }

// Start serves until the context ends, then ends the streams and waits for them.
func (s *grpcServer) Start(ctx context.Context) error {
	var listening net.ListenConfig
	listener, err := listening.Listen(ctx, "tcp", s.address)
	if err != nil {
		return fmt.Errorf("serve proxies at %s: %w", s.address, err)
	}
	var protocols http.Protocols
	protocols.SetHTTP2(true)
	server := &http.Server{
		Handler:           s.handler,
		TLSConfig:         s.tls,
		Protocols:         &protocols,
		ReadHeaderTimeout: 10 * time.Second,
		ErrorLog:          slog.NewLogLogger(logr.ToSlogHandler(s.logger), slog.LevelInfo),
		// A node that is cut off closes no connection: its proxies must not count as connected.
		HTTP2:       &http.HTTP2Config{SendPingTimeout: 10 * time.Second, PingTimeout: 5 * time.Second},
		BaseContext: func(net.Listener) context.Context { return ctx },
	}
	served := make(chan error, 1)
	go func() { served <- server.ServeTLS(listener, "", "") }()
	s.logger.Info("serving proxies", "address", listener.Addr().String())
	select {
	case err := <-served:
		return fmt.Errorf("serve proxies: %w", err)
	case <-ctx.Done():
	}
	// The streams have ended with the context; this waits for their last words only.
	stopping, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTimeout)
	defer cancel()
	if err := server.Shutdown(stopping); err != nil {
		_ = server.Close()
	}
	if err := <-served; !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve proxies: %w", err)
	}
	return nil
}
