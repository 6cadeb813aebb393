// SPDX-License-Identifier: Apache-2.0

// Command sluice-proxy is the sidecar of a meshed pod. It is configured by its environment, which
// the injector writes, and by the mesh control plane.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"syscall"

	"github.com/sluice-mesh/sluice/mesh/identity"
	"github.com/sluice-mesh/sluice/proxy"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	err := run(ctx, os.Args[1:], os.Getenv)
	stop()
	if err != nil {
		slog.New(slog.NewJSONHandler(os.Stderr, nil)).Error("sluice-proxy failed", "error", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, arguments []string, getenv func(string) string) error {
	flags := flag.NewFlagSet("sluice-proxy", flag.ContinueOnError)
	snapshotFile := flags.String("snapshot", "", "a mesh snapshot (JSON) to use instead of a control plane; for developers")
	if err := flags.Parse(arguments); err != nil {
		return err
	}
	settings, err := readSettings(getenv)
	if err != nil {
		return err
	}
	runtime.GOMAXPROCS(settings.processors)
	limitMemory(getenv, memoryFile)
	level := &slog.LevelVar{}
	level.Set(settings.logLevel)
	log := slog.New(newBounded(slog.NewJSONHandler(os.Stderr, &slog.HandlerOptions{Level: level})))
	options := proxy.Options{PodIP: settings.podIP, Version: version(), Log: log, LogLevel: level}
	options.AccessLog, options.Tracing = settings.accessLog, settings.tracing
	if *snapshotFile != "" {
		if err := useSnapshot(&options, *snapshotFile); err != nil {
			return err
		}
	}
	var client *identity.Client
	if options.Snapshot == nil {
		if client, err = useControlPlane(&options, settings); err != nil {
			return err
		}
	}
	if options.Listeners, err = proxy.Listen(ctx); err != nil {
		return err
	}
	return serve(ctx, options, client)
}

// serve runs the proxy and, with a control plane, keeps its certificate fresh until the proxy has
// drained.
func serve(ctx context.Context, options proxy.Options, client *identity.Client) error {
	identityContext, stop := context.WithCancel(context.WithoutCancel(ctx))
	ended := make(chan error, 1)
	if client == nil {
		ended <- nil
	} else {
		go func() { ended <- client.Run(identityContext) }()
	}
	err := proxy.New(options).Run(ctx)
	stop()
	return errors.Join(err, <-ended)
}

func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	for _, setting := range info.Settings {
		if setting.Key == "vcs.revision" {
			return fmt.Sprintf("%.12s", setting.Value)
		}
	}
	return info.Main.Version
}
