// SPDX-License-Identifier: Apache-2.0

// podinfo runs the HTTP and gRPC applications of github.com/stefanprodan/podinfo, unchanged, as the
// sample application of Sluice's demo and tests. Around them are three things that podinfo's own program
// lacks: a version given by flag, so that revisions differ by arguments only; faults at a steady
// share of requests (podinfo seeds its random errors with the second, so that whole seconds fail or
// pass), also of one pod's alone; and a shutdown that loses no request (podinfo closes idle kept-alive connections at a moment
// when callers may be sending on them).
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	podinfogrpc "github.com/stefanprodan/podinfo/pkg/api/grpc"
	podinfo "github.com/stefanprodan/podinfo/pkg/api/http"
	"github.com/stefanprodan/podinfo/pkg/version"
	"go.uber.org/zap"
	"google.golang.org/grpc"
)

// serverTimeout is podinfo's default.
const serverTimeout = 30 * time.Second

type options struct {
	listen     string
	grpcPort   int
	appVersion string
	message    string
	grace      time.Duration
	faults     faults
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "podinfo:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, arguments []string) error {
	var o options
	flags := flag.NewFlagSet("podinfo", flag.ContinueOnError)
	flags.StringVar(&o.listen, "listen", ":9898", "address of the application")
	flags.IntVar(&o.grpcPort, "grpc-port", 9999, "port of gRPC")
	flags.StringVar(&o.appVersion, "app-version", version.VERSION, "version that the application says it has")
	flags.StringVar(&o.message, "message", "", "message in the answers")
	flags.DurationVar(&o.grace, "shutdown-grace", 3*time.Second, "time after SIGTERM in which requests are still accepted")
	flags.Float64Var(&o.faults.errorPercent, "fault-error-percent", 0, "share of requests answered by 500")
	flags.Float64Var(&o.faults.delayPercent, "fault-delay-percent", 0, "share of requests that are delayed")
	flags.DurationVar(&o.faults.delay, "fault-delay", 0, "delay of those requests")
	flags.Float64Var(&o.faults.delaySpread, "fault-delay-spread", 0, "share of itself by which a delay is longer or shorter at most")
	flags.DurationVar(&o.faults.work, "work", 0, "processor time burnt per request")
	if err := flags.Parse(arguments); err != nil {
		return err
	}
	hostname, err := os.Hostname()
	if err != nil {
		return fmt.Errorf("find the host's name: %w", err)
	}
	logger, err := zap.NewProduction()
	if err != nil {
		return fmt.Errorf("make the logger: %w", err)
	}
	application, err := newApplication(o, hostname, logger)
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", o.listen)
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	called, err := podinfogrpc.NewServer(&podinfogrpc.Config{Port: o.grpcPort}, logger)
	if err != nil {
		return fmt.Errorf("make the gRPC server: %w", err)
	}
	return serve(ctx, listener, o.grace, named(o.appVersion, hostname, o.faults.inject(hostname, application)), called.ListenAndServe())
}

// newApplication returns podinfo's handler.
func newApplication(o options, hostname string, logger *zap.Logger) (http.Handler, error) {
	version.VERSION = o.appVersion
	server, err := podinfo.NewServer(&podinfo.Config{
		Hostname:          hostname,
		UIMessage:         o.message,
		UIColor:           "#34577c",
		HttpClientTimeout: time.Minute,
		HttpServerTimeout: serverTimeout,
		// podinfo only hands its handler out inside a server that listens already. That one gets
		// any free port of the loopback interface ("0" would mean none) and is closed at once.
		Host: "127.0.0.1", Port: "00", SecurePort: "0",
	}, logger)
	if err != nil {
		return nil, fmt.Errorf("make podinfo: %w", err)
	}
	inner, _, _, _ := server.ListenAndServe()
	if err := inner.Close(); err != nil {
		return nil, fmt.Errorf("close podinfo's own listener: %w", err)
	}
	return inner.Handler, nil
}

// named says in each answer who gave it.
func named(appVersion, pod string, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-App-Version", appVersion)
		w.Header().Set("X-App-Pod", pod)
		next.ServeHTTP(w, r)
	})
}

// serve serves until ctx ends and then loses nothing: for the grace period, in which callers learn
// that the pod goes, requests are answered and each answer asks the caller to close its connection.
// What is idle after that has not been used for as long as the grace period.
func serve(ctx context.Context, listener net.Listener, grace time.Duration, handler http.Handler, calls *grpc.Server) error {
	defer calls.Stop()
	server := &http.Server{
		ReadTimeout: serverTimeout, WriteTimeout: serverTimeout, IdleTimeout: 2 * serverTimeout,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if ctx.Err() != nil {
				w.Header().Set("Connection", "close")
			}
			handler.ServeHTTP(w, r)
		}),
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	select {
	case err := <-served:
		return fmt.Errorf("serve: %w", err)
	case <-ctx.Done():
	}
	timer := time.NewTimer(grace)
	defer timer.Stop()
	select {
	case err := <-served:
		return fmt.Errorf("serve: %w", err)
	case <-timer.C:
	}
	called := make(chan struct{})
	go func() {
		calls.GracefulStop()
		close(called)
	}()
	finish, cancel := context.WithTimeout(context.WithoutCancel(ctx), serverTimeout)
	defer cancel()
	if err := server.Shutdown(finish); err != nil {
		return fmt.Errorf("finish what is under way: %w", err)
	}
	if err := <-served; !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve: %w", err)
	}
	select {
	case <-called:
		return nil
	case <-finish.Done():
		return fmt.Errorf("finish gRPC calls that are under way: %w", finish.Err())
	}
}
