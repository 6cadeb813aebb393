// SPDX-License-Identifier: Apache-2.0

// demo is the program behind `make demo`: it brings up a cluster, Sluice and a sample application
// under steady load from a meshed and an unmeshed client, then plays a team that releases through
// Git. v2 is good and is seen to walk through its steps to promoted; v3 answers 20 % of its requests
// with errors and is seen to be caught and rolled back.
//
//	DEMO_SYNC=flux  sync with the real Flux instead of the demo's own small sync
//	DEMO_ONCE=1     remove the cluster at the end; the exit code tells whether all went as it should
//
// It must not know how Sluice works: it commits to Git, counts what users see and reads the objects
// that everybody can read.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/go-logr/logr"
	"golang.org/x/sys/unix"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/sluice-mesh/sluice/e2e/cluster"
	"github.com/sluice-mesh/sluice/e2e/gitserver"
	"github.com/sluice-mesh/sluice/e2e/stage"
	"github.com/sluice-mesh/sluice/e2e/timeline"
)

// demo is one performance.
type demo struct {
	screen     *screen
	began      time.Time
	client     client.Client
	repository *gitserver.Repository
	sync       syncer
	timeline   *timeline.Timeline
	meter      *meter

	mu       sync.Mutex
	from, to string // the versions that the table shows
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// controller-runtime complains on standard error when nobody sets a logger.
	log.SetLogger(logr.Discard())
	err := run(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	kind, once := os.Getenv("DEMO_SYNC"), os.Getenv("DEMO_ONCE") != ""
	switch kind {
	case "":
		kind = syncDemo
	case syncDemo, syncFlux:
	default:
		return fmt.Errorf("DEMO_SYNC=%s: write %s or %s", kind, syncDemo, syncFlux)
	}
	screen := newScreen(os.Stdout)
	err := perform(ctx, screen, kind, once)
	if !once {
		return err
	}
	// An interrupt ends the performance, not the tidying up.
	tidy, cancel := context.WithTimeout(context.WithoutCancel(ctx), 3*time.Minute)
	defer cancel()
	return errors.Join(err, cluster.Down(tidy, screen))
}

func newScreen(out *os.File) *screen {
	s := &screen{out: out}
	if size, err := unix.IoctlGetWinsize(int(out.Fd()), unix.TIOCGWINSZ); err == nil {
		s.terminal, s.width = true, int(size.Col)
	}
	return s
}

// perform sets the stage, plays and tells.
func perform(ctx context.Context, screen *screen, kind string, once bool) error {
	began := time.Now()
	s, err := stage.Up(ctx, stage.Options{
		Progress: screen, Flux: kind == syncFlux,
		Set: []string{"analysis.interval=1s"},
	})
	if err != nil {
		return err
	}
	defer s.Close()
	screen.say("KUBECONFIG=%s", s.Cluster.Kubeconfig)
	directory, err := os.MkdirTemp("", "sluice-demo-")
	if err != nil {
		return fmt.Errorf("make a directory: %w", err)
	}
	defer func() { _ = os.RemoveAll(directory) }()
	d := &demo{screen: screen, client: s.Client, began: began}
	tale, err := d.play(ctx, s, kind, directory)
	if err != nil {
		return err
	}
	tale.took = time.Since(began)
	screen.say("%s", tale)
	if !once {
		screen.say("The cluster is up:  export KUBECONFIG=%s\nRemove it with:     make demo-down\n", s.Cluster.Kubeconfig)
	}
	return tale.failure()
}

func (d *demo) play(ctx context.Context, s *stage.Stage, kind, directory string) (tale summary, err error) {
	if err := d.clear(ctx, s); err != nil {
		return tale, err
	}
	server, err := gitserver.Start(gitserver.Options{Directory: directory + "/git", Address: s.Address + ":0"})
	if err != nil {
		return tale, err
	}
	defer func() { err = errors.Join(err, server.Stop(context.WithoutCancel(ctx))) }()
	if d.repository, err = server.Init(ctx, "fleet"); err != nil {
		return tale, err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if d.timeline, err = timeline.Watch(ctx, s.Config, namespace, appName); err != nil {
		return tale, err
	}
	if kind == syncFlux {
		d.sync, err = startFlux(ctx, s, server.URL("fleet"), directory)
	} else {
		d.sync, err = startBuiltIn(ctx, s, server.URL("fleet"), directory, d.screen)
	}
	if err != nil {
		return tale, err
	}
	defer func() { err = errors.Join(err, d.sync.stop()) }()
	return d.acts(ctx, s)
}

// acts are what the audience came for.
func (d *demo) acts(ctx context.Context, s *stage.Stage) (tale summary, err error) {
	if err := d.first(ctx); err != nil {
		return tale, err
	}
	if err := d.startLoad(ctx, s); err != nil {
		return tale, err
	}
	tale.prepared = time.Since(d.began)
	stopTable := d.startTable(ctx)
	defer stopTable()
	if tale.good, err = d.try(ctx, "v1", app("v2"), "Release podinfo v2"); err != nil {
		return tale, err
	}
	tale.samePods = d.samePods(ctx, tale.good)
	d.showing("v2", "")
	if err := d.linger(ctx); err != nil {
		return tale, err
	}
	if tale.bad, err = d.try(ctx, "v2", faulty("v3"), "Release podinfo v3"); err != nil {
		return tale, err
	}
	if err := d.linger(ctx); err != nil {
		return tale, err
	}
	stopTable()
	if err := d.meter.read(ctx, time.Now()); err != nil {
		return tale, err
	}
	tale.counts, tale.kubeconfig = d.meter.total(), s.Cluster.Kubeconfig
	return tale, nil
}
