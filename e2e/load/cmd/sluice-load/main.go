// SPDX-License-Identifier: Apache-2.0

// sluice-load sends a steady stream of requests to an application and counts every failure; see
// package load. On SIGTERM it finishes what is under way and prints a summary.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/sluice-mesh/sluice/e2e/load"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "sluice-load:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	config := load.Default("")
	flags := flag.NewFlagSet("sluice-load", flag.ContinueOnError)
	flags.StringVar(&config.URL, "url", "", "application, as http://host:port/path")
	flags.StringVar(&config.PostPath, "post-path", config.PostPath, "path that echoes what is posted")
	flags.Float64Var(&config.Rate, "rate", config.Rate, "requests per second")
	flags.IntVar(&config.Connections, "connections", config.Connections, "connections kept alive")
	flags.IntVar(&config.FreshPercent, "fresh", config.FreshPercent, "percent of requests over fresh connections")
	flags.IntVar(&config.PostPercent, "post", config.PostPercent, "percent of requests that are POST")
	flags.IntVar(&config.StreamPercent, "stream", config.StreamPercent, "percent of requests whose answer takes two seconds")
	flags.IntVar(&config.SocketPercent, "socket", config.SocketPercent, "percent of requests that are WebSocket sessions")
	flags.StringVar(&config.GRPCAddress, "grpc", "", "where the application speaks gRPC, as host:port")
	flags.IntVar(&config.CallPercent, "call", config.CallPercent, "percent of requests that are gRPC calls")
	flags.IntVar(&config.WatchPercent, "watch", config.WatchPercent, "percent of requests that are gRPC streams of two seconds")
	flags.IntVar(&config.BodySize, "body", config.BodySize, "bytes in the body of a POST")
	listen := flags.String("listen", ":8080", "address of /counts, /metrics and /reset")
	if err := flags.Parse(args); err != nil {
		return err
	}
	client, err := load.New(config)
	if err != nil {
		return err
	}
	server := &http.Server{Addr: *listen, Handler: client.Handler(), ReadHeaderTimeout: 5 * time.Second}
	failed := make(chan error, 1)
	go func() { failed <- server.ListenAndServe() }()

	if err := client.WaitForTarget(ctx); err != nil {
		return errors.Join(err, server.Close())
	}
	finished := make(chan error, 1)
	go func() { finished <- client.Run(ctx) }()
	select {
	case err := <-failed:
		return fmt.Errorf("serve counters: %w", err)
	case err := <-finished:
		if err != nil {
			return err
		}
	}
	encoder := json.NewEncoder(os.Stdout)
	if err := encoder.Encode(client.Counts()); err != nil {
		return fmt.Errorf("print the summary: %w", err)
	}
	return server.Close()
}
