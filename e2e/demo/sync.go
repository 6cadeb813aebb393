// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/sluice-mesh/sluice/e2e/demosync"
	"github.com/sluice-mesh/sluice/e2e/flux"
	"github.com/sluice-mesh/sluice/e2e/gitserver"
	"github.com/sluice-mesh/sluice/e2e/stage"
)

const (
	syncDemo = "demo"
	syncFlux = "flux"
)

// syncer brings what is in Git into the cluster, by itself.
type syncer interface {
	// look hints that there is a new commit; a syncer that looks often enough ignores it.
	look(ctx context.Context, commit string) error
	stop() error
}

// builtIn is the demo's own sync.
type builtIn struct {
	cancel context.CancelFunc
	ended  chan error
}

// startBuiltIn syncs until stopped.
func startBuiltIn(ctx context.Context, s *stage.Stage, url, directory string, screen *screen) (*builtIn, error) {
	sync, err := demosync.New(s.Config, demosync.Options{
		URL: url, Branch: gitserver.Branch, Path: appPath, Interval: time.Second, Directory: directory,
		Name: "demo-sync", Namespace: "sluice-demo-sync",
		Report: func(result demosync.Result, err error) {
			if err != nil {
				screen.say("%s  sync: %v", time.Now().Format(time.TimeOnly), err)
				return
			}
			screen.say("%s  sync at %.7s: %s", time.Now().Format(time.TimeOnly), result.Revision, strings.Join(result.Changes, ", "))
		},
	})
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	b := &builtIn{cancel: cancel, ended: make(chan error, 1)}
	go func() {
		err := sync.Run(ctx)
		if err != nil {
			screen.say("the demo's sync has ended: %v", err)
		}
		b.ended <- err
	}()
	return b, nil
}

func (*builtIn) look(context.Context, string) error { return nil }

func (b *builtIn) stop() error {
	b.cancel()
	return <-b.ended
}

// realFlux is Flux.
type realFlux struct{ flux *flux.Flux }

func startFlux(ctx context.Context, s *stage.Stage, url, directory string) (*realFlux, error) {
	f, err := flux.Start(ctx, flux.Options{Programs: s.Flux, Kubeconfig: s.Cluster.Kubeconfig, Directory: filepath.Join(directory, "flux")})
	if err != nil {
		return nil, fmt.Errorf("start Flux: %w", err)
	}
	return &realFlux{flux: f}, f.Sync(ctx, flux.Source{Name: appName, URL: url, Branch: gitserver.Branch, Path: appPath})
}

func (r *realFlux) look(ctx context.Context, _ string) error { return r.flux.Poke(ctx, appName) }

func (r *realFlux) stop() error { return r.flux.Stop() }
