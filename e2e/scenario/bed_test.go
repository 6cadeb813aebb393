// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package scenario

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/sluice-mesh/sluice/e2e/binaries"
	"github.com/sluice-mesh/sluice/e2e/cluster"
	"github.com/sluice-mesh/sluice/e2e/flux"
	"github.com/sluice-mesh/sluice/e2e/gitserver"
	"github.com/sluice-mesh/sluice/e2e/stage"
)

// bed is what all scenarios share.
type bed struct {
	*stage.Stage
	flux       *flux.Flux
	server     *gitserver.Server
	repository *gitserver.Repository
	git        sync.Mutex // one commit at a time
	// results is where a failed scenario leaves what it saw.
	results string
}

// shared is set by TestMain before any test runs, and not changed after.
var shared *bed

func TestMain(m *testing.M) { os.Exit(runAll(m)) }

func runAll(m *testing.M) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	log.SetLogger(logr.Discard())
	wasUp := cluster.Exists()
	code, err := play(ctx, m)
	if !wasUp && os.Getenv("SLUICE_KEEP_CLUSTER") == "" {
		tidy, cancel := context.WithTimeout(context.WithoutCancel(ctx), 3*time.Minute)
		defer cancel()
		err = errors.Join(err, cluster.Down(tidy, os.Stderr))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "scenario:", err)
		return 1
	}
	return code
}

func play(ctx context.Context, m *testing.M) (code int, err error) {
	s, err := stage.Up(ctx, stage.Options{Progress: os.Stderr, Flux: true, Set: []string{
		"analysis.interval=1s", "prometheus.allowed[0].address=" + passageAddress,
	}})
	if err != nil {
		return 1, err
	}
	defer s.Close()
	root, err := binaries.Root()
	if err != nil {
		return 1, err
	}
	directory, err := os.MkdirTemp("", "sluice-e2e-")
	if err != nil {
		return 1, fmt.Errorf("make a directory: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(directory)) }()
	b := &bed{Stage: s, results: filepath.Join(root, "build", "e2e")}
	b.server, err = gitserver.Start(gitserver.Options{Directory: filepath.Join(directory, "git"), Address: s.Address + ":0"})
	if err != nil {
		return 1, err
	}
	defer func() { err = errors.Join(err, b.server.Stop(context.WithoutCancel(ctx))) }()
	if b.repository, err = b.server.Init(ctx, "fleet"); err != nil {
		return 1, err
	}
	b.flux, err = flux.Start(ctx, flux.Options{Programs: s.Flux, Kubeconfig: s.Cluster.Kubeconfig, Directory: filepath.Join(directory, "flux")})
	if err != nil {
		return 1, err
	}
	defer func() { err = errors.Join(err, b.flux.Stop()) }()
	shared = b
	finished := make(chan int, 1)
	go func() { finished <- m.Run() }()
	select {
	case code := <-finished:
		return code, nil
	case <-ctx.Done():
		return 1, context.Cause(ctx)
	}
}
