// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"
	"sigs.k8s.io/yaml"

	"github.com/sluice-mesh/sluice/api/v1alpha1"
	"github.com/sluice-mesh/sluice/e2e/binaries"
	"github.com/sluice-mesh/sluice/e2e/harness"
)

const (
	system = "sluice-system"
	// gitManager is what Flux calls itself.
	gitManager = "kustomize-controller"
)

// bed is the cluster, with the controller under test and all that is played around it.
type bed struct {
	plan
	cluster *harness.Harness
	// client writes and reads past the cache, cached reads from it.
	client   client.Client
	cached   client.Client
	mesh     *mesh
	exporter *exporter
	server   *http.Server
	dir      string
	// prometheus and metrics are addresses: Prometheus's and that of the controller's metrics.
	prometheus, metrics string
	children            []*child
	process             *child
	ended               chan error
	cancel              context.CancelFunc
	// workloads in the order in which they were made.
	workloads []client.ObjectKey
}

func newBed(ctx context.Context, p plan) (*bed, error) {
	b := &bed{plan: p}
	if err := b.build(ctx); err != nil {
		return nil, errors.Join(err, b.close())
	}
	return b, nil
}

func (b *bed) build(ctx context.Context) error {
	var err error
	if b.dir, err = os.MkdirTemp("", "benchrollout-"); err != nil {
		return fmt.Errorf("make a directory: %w", err)
	}
	if b.cluster, err = harness.Start(ctx, harness.Options{}); err != nil {
		return err
	}
	b.cluster.StopControllerManager() // play.go is quicker, and leaves the processors to what is measured.
	if err := harness.InstallCRDs(ctx, b.cluster.Config, os.DirFS("config/crd")); err != nil {
		return err
	}
	if err := b.play(ctx); err != nil {
		return err
	}
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: system}}
	if err := b.client.Create(ctx, namespace); err != nil {
		return fmt.Errorf("create namespace %s: %w", system, err)
	}
	if err := b.install(ctx, "config/webhook/hold-policy.yaml"); err != nil {
		return err
	}
	if err := b.export(ctx); err != nil {
		return err
	}
	return b.makeWorkloads(ctx)
}

func newScheme() (*runtime.Scheme, error) {
	scheme := runtime.NewScheme()
	return scheme, errors.Join(clientgoscheme.AddToScheme(scheme), v1alpha1.AddToScheme(scheme))
}

// play starts what is played.
func (b *bed) play(ctx context.Context) error {
	scheme, err := newScheme()
	if err != nil {
		return fmt.Errorf("register kinds: %w", err)
	}
	ctrl.SetLogger(logr.Discard()) // Conflicts of what is played are tried again.
	if b.client, err = client.New(b.cluster.Config, client.Options{Scheme: scheme}); err != nil {
		return fmt.Errorf("make a client: %w", err)
	}
	made, err := manager.New(b.cluster.Config, manager.Options{Scheme: scheme, Metrics: metricsserver.Options{BindAddress: "0"}})
	if err != nil {
		return fmt.Errorf("make a manager: %w", err)
	}
	b.cached, b.exporter = made.GetClient(), newExporter(time.Now())
	b.mesh = newMesh(made.GetClient(), b.exporter)
	if err := registerPlayers(made, b.mesh); err != nil {
		return err
	}
	ctx, b.cancel = context.WithCancel(ctx)
	b.ended = make(chan error, 1)
	go func() { b.ended <- made.Start(ctx) }()
	if !made.GetCache().WaitForCacheSync(ctx) {
		return errors.New("the cache of what is played did not fill")
	}
	return nil
}

// install applies the objects of a file.
func (b *bed) install(ctx context.Context, path string) error {
	content, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("read %s: %w", path, err)
	}
	for _, document := range strings.Split(string(content), "\n---\n") {
		object := &unstructured.Unstructured{}
		if err := yaml.Unmarshal([]byte(document), object); err != nil {
			return fmt.Errorf("parse %s: %w", path, err)
		}
		if err := b.client.Apply(ctx, client.ApplyConfigurationFromUnstructured(object), client.FieldOwner("benchrollout")); err != nil {
			return fmt.Errorf("install %s: %w", path, err)
		}
	}
	return nil
}

// export serves the played metrics and starts the Prometheus that scrapes them.
func (b *bed) export(ctx context.Context) error {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("serve metrics: %w", err)
	}
	b.server = &http.Server{Handler: b.exporter, ReadHeaderTimeout: time.Second}
	go func() { _ = b.server.Serve(listener) }()
	builder, err := binaries.New(os.Stderr)
	if err != nil {
		return err
	}
	program, err := builder.Tool(ctx, "prometheus")
	if err != nil {
		return err
	}
	every := b.scrape.String()
	configuration, err := json.Marshal(map[string]any{
		"global": map[string]any{"scrape_interval": every, "scrape_timeout": every},
		"scrape_configs": []any{map[string]any{
			"job_name": "pods", "honor_labels": true,
			"static_configs": []any{map[string]any{"targets": []string{listener.Addr().String()}}},
		}},
	})
	if err != nil {
		return fmt.Errorf("encode Prometheus's configuration: %w", err)
	}
	file := filepath.Join(b.dir, "prometheus.yml")
	if err := os.WriteFile(file, configuration, 0o600); err != nil {
		return fmt.Errorf("write Prometheus's configuration: %w", err)
	}
	address, err := freeAddress(ctx)
	if err != nil {
		return err
	}
	b.prometheus = "http://" + address
	_, err = b.start("prometheus", program, "--config.file="+file, "--storage.tsdb.path="+filepath.Join(b.dir, "prometheus"),
		"--web.listen-address="+address, "--log.level=warn")
	if err != nil {
		return err
	}
	return b.answers(ctx, b.prometheus+"/-/ready")
}

func freeAddress(ctx context.Context) (string, error) {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("find a free port: %w", err)
	}
	return listener.Addr().String(), listener.Close()
}

// child is a program that was started.
type child struct {
	*exec.Cmd
	// done is closed when it has ended, with failed.
	done   chan struct{}
	failed error
}

// start runs a program until the bed is closed.
func (b *bed) start(name, path string, arguments ...string) (*child, error) {
	log, err := os.OpenFile(filepath.Join(b.dir, name+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("create the log of %s: %w", name, err)
	}
	started := &child{Cmd: exec.Command(path, arguments...), done: make(chan struct{})}
	started.Stdout, started.Stderr = log, log
	if err := errors.Join(started.Start(), log.Close()); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	go func() {
		started.failed = started.Wait()
		close(started.done)
	}()
	b.children = append(b.children, started)
	return started, nil
}

// startController starts the program under test.
func (b *bed) startController(ctx context.Context) error {
	address, err := freeAddress(ctx)
	if err != nil {
		return err
	}
	b.metrics = "http://" + address + "/metrics"
	b.process, err = b.start("controller", b.binary, "controller", "--kubeconfig="+b.cluster.Kubeconfig, "--namespace="+system,
		"--prometheus-address="+b.prometheus, "--interval="+b.interval.String(), "--metrics-address="+address, "--probe-address=0")
	if err != nil {
		return err
	}
	return b.answers(ctx, b.metrics)
}

// stopController ends it as an upgrade does: it gives its lease back.
func (b *bed) stopController() error {
	if err := b.process.Process.Signal(os.Interrupt); err != nil {
		return fmt.Errorf("stop the controller: %w", err)
	}
	<-b.process.done
	if b.process.failed != nil {
		return fmt.Errorf("the controller ended badly: %w", b.process.failed)
	}
	return nil
}

// answers waits until an address does.
func (b *bed) answers(ctx context.Context, address string) error {
	return b.await(ctx, address+" answers", func() (bool, error) {
		_, err := get(ctx, address)
		return err == nil, nil
	})
}

func (b *bed) close() error {
	if b.cancel != nil {
		b.cancel()
		<-b.ended
	}
	for _, started := range b.children {
		_ = started.Process.Kill()
		<-started.done
	}
	if b.server != nil {
		_ = b.server.Close()
	}
	var err error
	if b.cluster != nil {
		err = b.cluster.Stop()
	}
	if b.profile != "" {
		return err
	}
	return errors.Join(err, os.RemoveAll(b.dir))
}
