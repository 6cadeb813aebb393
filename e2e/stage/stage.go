// SPDX-License-Identifier: Apache-2.0

// Package stage sets up what the demo and the scenarios play on: the test cluster, images of our
// programs and of the sample application, Prometheus, and Sluice as a user would install it. All of
// it at once: what does not need the rest begins while the rest still compiles.
//
// It must not play: no application, no load, no expectation.
package stage

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/sluice-mesh/sluice/e2e/apply"
	"github.com/sluice-mesh/sluice/e2e/binaries"
	"github.com/sluice-mesh/sluice/e2e/cluster"
	"github.com/sluice-mesh/sluice/e2e/filelock"
	"github.com/sluice-mesh/sluice/e2e/flux"
	"github.com/sluice-mesh/sluice/e2e/monitoring"
	"github.com/sluice-mesh/sluice/e2e/timeline"
)

// FieldManager writes what the stage brings.
const FieldManager = "sluice-test-stage"

// readyTimeout is for what has to become ready once everything is built.
const readyTimeout = 3 * time.Minute

// Options of a Stage.
type Options struct {
	// Progress receives what happens, a line at a time.
	Progress io.Writer
	// Flux is built too when true.
	Flux bool
	// Set are values for Sluice's chart, as "analysis.interval=1s".
	Set []string
}

// Stage is set.
type Stage struct {
	Cluster *cluster.Cluster
	Config  *rest.Config
	Kube    kubernetes.Interface
	Client  client.Client
	Applier *apply.Applier
	// Sluice is the path of the program, for commands as users give them.
	Sluice string
	// Flux is empty unless it was asked for.
	Flux flux.Programs
	// Address of this machine that pods can reach.
	Address string

	values []string
	// tags of the images that the chart takes, by repository.
	tags   map[string]string
	unlock func()
}

// Up sets the stage, or what is missing of it. One play at a time, for each clears away what an
// earlier one left: a second process waits until the first has closed its stage or ended.
func Up(ctx context.Context, options Options) (*Stage, error) {
	path := filepath.Join(os.TempDir(), "sluice-stage.lock")
	unlock, err := filelock.Lock(ctx, path, func() {
		_, _ = fmt.Fprintln(options.Progress, "waiting for another demo or run of the scenarios to end")
	})
	if err != nil {
		return nil, fmt.Errorf("have the stage to ourselves: %w", err)
	}
	s := &Stage{values: options.Set, tags: map[string]string{}, unlock: func() {
		_ = os.Remove(path) // the next one makes it again
		unlock()
	}}
	if err := s.up(ctx, options); err != nil {
		s.Close()
		return nil, fmt.Errorf("set the stage: %w", err)
	}
	return s, nil
}

// Close leaves all as it is and lets another process play.
func (s *Stage) Close() { s.unlock() }

func (s *Stage) up(ctx context.Context, options Options) error {
	builder, err := binaries.New(options.Progress)
	if err != nil {
		return err
	}
	up := make(chan struct{})
	images := &images{builder: builder, up: up, stage: s}
	group, groupCtx := errgroup.WithContext(ctx)
	group.Go(func() error {
		if err := s.raise(groupCtx, options); err != nil {
			return err
		}
		close(up)
		return nil
	})
	group.Go(func() error {
		if err := images.load(groupCtx); err != nil {
			return err
		}
		if !options.Flux {
			return nil
		}
		programs, err := flux.Build(groupCtx, builder)
		s.Flux = programs
		return err
	})
	if err := group.Wait(); err != nil {
		return err
	}
	return s.install(ctx)
}

// raise brings up the cluster and connects to it.
func (s *Stage) raise(ctx context.Context, options Options) error {
	var err error
	if s.Cluster, err = cluster.Up(ctx, cluster.Options{Log: options.Progress}); err != nil {
		return err
	}
	if s.Config, err = s.Cluster.RestConfig(); err != nil {
		return err
	}
	if s.Kube, err = kubernetes.NewForConfig(s.Config); err != nil {
		return fmt.Errorf("make a client: %w", err)
	}
	if s.Applier, err = apply.New(s.Config, FieldManager); err != nil {
		return err
	}
	scheme, err := timeline.Scheme()
	if err != nil {
		return err
	}
	if s.Client, err = client.New(s.Config, client.Options{Scheme: scheme}); err != nil {
		return fmt.Errorf("make a client: %w", err)
	}
	s.Address, err = s.machineAddress(ctx)
	return err
}

// machineAddress is that of the node which is this machine. Of an existing cluster nothing is known:
// then only programs of this machine can be served.
func (s *Stage) machineAddress(ctx context.Context) (string, error) {
	if s.Cluster.Existing() {
		return "127.0.0.1", nil
	}
	node, err := s.Kube.CoreV1().Nodes().Get(ctx, cluster.Node1, metav1.GetOptions{})
	if err != nil {
		return "", fmt.Errorf("find this machine's address: %w", err)
	}
	for _, address := range node.Status.Addresses {
		if address.Type == corev1.NodeInternalIP {
			return address.Address, nil
		}
	}
	return "", fmt.Errorf("find this machine's address: node %s has none", cluster.Node1)
}

// install brings Prometheus and Sluice, and waits for both.
func (s *Stage) install(ctx context.Context) error {
	prometheus, err := monitoring.YAML(monitoring.Image, time.Second)
	if err != nil {
		return err
	}
	objects, err := s.Applier.Apply(ctx, prometheus)
	if err != nil {
		return fmt.Errorf("install Prometheus: %w", err)
	}
	if err := s.InstallSluice(ctx); err != nil {
		return err
	}
	if err := s.Applier.Wait(ctx, objects, readyTimeout); err != nil {
		return fmt.Errorf("install Prometheus: %w", err)
	}
	return nil
}

// InstallSluice does so as a user would, and waits for it.
func (s *Stage) InstallSluice(ctx context.Context) error {
	arguments := []string{
		"install", "--apply", "--timeout=" + readyTimeout.String(),
		"--set=prometheus.address=" + monitoring.Address,
	}
	if !s.Cluster.Existing() {
		arguments = append(arguments, "--set=image.tag="+s.tags[repositorySluice], "--set=proxy.image.tag="+s.tags[repositoryProxy])
	}
	for _, value := range s.values {
		arguments = append(arguments, "--set="+value)
	}
	if _, err := s.Run(ctx, arguments...); err != nil {
		return fmt.Errorf("install Sluice: %w", err)
	}
	return nil
}

// Run runs Sluice's program with the cluster's kubeconfig and returns what it said.
func (s *Stage) Run(ctx context.Context, arguments ...string) (string, error) {
	command := exec.CommandContext(ctx, s.Sluice, append(arguments, "--kubeconfig="+s.Cluster.Kubeconfig)...)
	output, err := command.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("sluice %s: %w\n%s", arguments[0], err, output)
	}
	return string(output), nil
}
