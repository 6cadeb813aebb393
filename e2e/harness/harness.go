// SPDX-License-Identifier: Apache-2.0

// Package harness is a Kubernetes without nodes for reconcile tests: a real etcd, kube-apiserver and
// kube-controller-manager as child processes on free loopback ports, and in this process a stand-in
// for scheduler and kubelet that tests can steer. It is up in a few seconds, needs no root, and
// leaves nothing behind: the processes die with the test process even if it is killed.
//
// A package's tests share one:
//
//	var cluster *harness.Harness
//
//	func TestMain(m *testing.M) { os.Exit(harness.Main(m, harness.Options{}, &cluster)) }
//
// It must not be used for what needs traffic, a scheduler or containers: that is e2e/cluster.
package harness

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/sluice-mesh/sluice/e2e/binaries"
)

// Options of a Harness; the zero value is good.
type Options struct {
	// Progress receives what takes long, builds above all; default is standard error.
	Progress io.Writer
	// StartTimeout bounds the start without the builds; default 60 s.
	StartTimeout time.Duration
}

// Harness is a running control plane.
type Harness struct {
	// Config calls the API server as a cluster administrator, without a rate limit.
	Config *rest.Config
	// Kubeconfig is the path of a file that says the same, for programs.
	Kubeconfig string
	// Kubelet runs the pods.
	Kubelet *Kubelet

	dir     string
	plane   *controlPlane
	etcd    *process
	api     *process
	manager *process
}

// Start builds what is missing and returns when the API server is ready. Ports are free when they
// are chosen; should another process take one meanwhile, the start is tried again.
func Start(ctx context.Context, options Options) (*Harness, error) {
	if options.Progress == nil {
		options.Progress = os.Stderr
	}
	if options.StartTimeout == 0 {
		options.StartTimeout = time.Minute
	}
	builder, err := binaries.New(options.Progress)
	if err != nil {
		return nil, err
	}
	var programs programs
	for name, path := range map[string]*string{
		"etcd": &programs.etcd, "kube-apiserver": &programs.api, "kube-controller-manager": &programs.manager,
	} {
		if *path, err = builder.Tool(ctx, name); err != nil {
			return nil, err
		}
	}
	sweep(os.TempDir())
	const attempts = 3
	for attempt := 1; ; attempt++ {
		h, err := startOnce(ctx, programs, options.StartTimeout)
		if err == nil {
			return h, nil
		}
		if attempt == attempts || ctx.Err() != nil || !errors.Is(err, errExited) {
			return nil, err
		}
	}
}

func startOnce(ctx context.Context, programs programs, timeout time.Duration) (*Harness, error) {
	dir, err := os.MkdirTemp("", directoryPrefix()+"*")
	if err != nil {
		return nil, fmt.Errorf("create the harness directory: %w", err)
	}
	h := &Harness{dir: dir}
	if err := h.start(ctx, programs, timeout); err != nil {
		return nil, errors.Join(err, h.Stop())
	}
	return h, nil
}

func (h *Harness) start(ctx context.Context, programs programs, timeout time.Duration) error {
	ctx, cancel := context.WithTimeoutCause(ctx, timeout, fmt.Errorf("the harness was not ready within %s", timeout))
	defer cancel()
	plane, err := newControlPlane(h.dir, programs, time.Now())
	if err != nil {
		return err
	}
	h.plane = plane
	h.Kubeconfig = filepath.Join(h.dir, "admin.kubeconfig")
	if h.Config, err = clientcmd.BuildConfigFromFlags("", h.Kubeconfig); err != nil {
		return fmt.Errorf("read the harness kubeconfig: %w", err)
	}
	h.Config.QPS = -1
	if h.etcd, err = startProcess(plane.etcdCommand()); err != nil {
		return err
	}
	if h.api, err = startProcess(plane.apiCommand()); err != nil {
		return err
	}
	client, err := kubernetes.NewForConfig(h.Config)
	if err != nil {
		return fmt.Errorf("make a client for the harness: %w", err)
	}
	if err := h.awaitReady(ctx, client); err != nil {
		return err
	}
	if err := h.StartControllerManager(); err != nil {
		return err
	}
	h.Kubelet, err = startKubelet(ctx, client)
	return err
}

// awaitReady polls /readyz, and gives up at once when a process has ended.
func (h *Harness) awaitReady(ctx context.Context, client kubernetes.Interface) error {
	poll := time.NewTicker(50 * time.Millisecond)
	defer poll.Stop()
	for {
		if _, err := client.Discovery().RESTClient().Get().AbsPath("/readyz").DoRaw(ctx); err == nil {
			return nil
		}
		select {
		case <-poll.C:
		case <-h.etcd.done:
			return h.etcd.failure()
		case <-h.api.done:
			return h.api.failure()
		case <-ctx.Done():
			return fmt.Errorf("wait for the API server: %w\n%s", context.Cause(ctx), h.api.tail())
		}
	}
}

// StartControllerManager starts it again after StopControllerManager.
func (h *Harness) StartControllerManager() error {
	if h.manager != nil {
		return errors.New("start the controller manager: it is running")
	}
	manager, err := startProcess(h.plane.managerCommand())
	if err != nil {
		return err
	}
	h.manager = manager
	return nil
}

// StopControllerManager kills it, as a crash would: what Deployments and ReplicaSets need then stays
// undone until it is started again.
func (h *Harness) StopControllerManager() {
	h.manager.stop()
	h.manager = nil
}

// Stop ends everything and removes every file.
func (h *Harness) Stop() error {
	h.Kubelet.stop()
	for _, child := range []*process{h.manager, h.api, h.etcd} {
		child.stop()
	}
	if err := os.RemoveAll(h.dir); err != nil {
		return fmt.Errorf("remove the harness directory: %w", err)
	}
	return nil
}
