// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/sluice-mesh/sluice/e2e/binaries"
	"github.com/sluice-mesh/sluice/e2e/filelock"
)

// Up brings the cluster up, or what is missing of it, and returns when both nodes are ready and DNS
// answers. metrics-server is deployed but not waited for: its first numbers take half a minute.
func Up(ctx context.Context, options Options) (*Cluster, error) {
	if options.Log == nil {
		options.Log = os.Stderr
	}
	if os.Getenv(EnvExisting) == "yes" {
		return Open()
	}
	l := newLayout()
	seen, err := inspect(l.dir)
	if err != nil {
		return nil, err
	}
	if err := seen.refuse(); err != nil {
		return nil, err
	}
	unlock, err := l.lock(ctx, options.Log)
	if err != nil {
		return nil, err
	}
	defer unlock()
	if err := l.afterReboot(ctx, options.Log); err != nil {
		return nil, err
	}
	builder, err := binaries.New(options.Log)
	if err != nil {
		return nil, err
	}
	building, cancel := context.WithCancel(ctx)
	defer cancel()
	u := &bringUp{
		layout:  l,
		cluster: &Cluster{Kubeconfig: l.path(kubeconfigName), layout: l},
		builder: builder,
		// In the order of need: compiling goes on while the first programs start.
		programs: builder.Start(building, "etcd", "kube-apiserver", "kube-controller-manager", "kubelet",
			"kube-scheduler", "kube-proxy", "coredns", "metrics-server"),
		log:     options.Log,
		started: time.Now(),
	}
	if err := u.run(ctx); err != nil {
		return nil, err
	}
	return u.cluster, nil
}

// lock keeps Up and Down of one state directory apart. The file lies beside it, for Down removes it.
func (l layout) lock(ctx context.Context, log io.Writer) (func(), error) {
	if err := os.MkdirAll(filepath.Dir(l.dir), 0o755); err != nil {
		return nil, fmt.Errorf("create the parent of the state directory: %w", err)
	}
	return filelock.Lock(ctx, l.lockFile(), func() {
		_, _ = fmt.Fprintln(log, "waiting for another cluster-up or cluster-down")
	})
}

func (l layout) lockFile() string { return l.dir + ".lock" }

// bringUp is one Up on its way.
type bringUp struct {
	layout   layout
	cluster  *Cluster
	builder  *binaries.Builder
	programs *binaries.Batch
	client   kubernetes.Interface
	log      io.Writer
	started  time.Time
}

type step struct {
	what string
	do   func(context.Context) error
}

// steps start first and wait later, so that programs come up side by side.
func (u *bringUp) steps() []step {
	return []step{
		{"packages: containerd, runc, CNI plugins, nftables, iproute2", u.packages},
		{"certificates, configuration and control groups", u.configure},
		{"network: namespace " + namespaceName + ", routes, address translation", func(ctx context.Context) error { return createNetwork(ctx) }},
		{"containerd on both nodes", u.containerds},
		{"etcd and kube-apiserver", u.controlPlane},
		{"image " + pauseImage, u.pause},
		{"kube-apiserver answers", u.apiReady},
		{"kube-controller-manager", u.controllerManager},
		{"kubelet on both nodes", u.kubelets},
		{"kube-scheduler", u.scheduler},
		{"kube-proxy on both nodes", u.proxies},
		{"DNS", u.dns},
		{"metrics", u.metrics},
		{"both nodes ready", u.nodesReady},
		{"DNS available", u.dnsReady},
	}
}

func (u *bringUp) run(ctx context.Context) error {
	steps := u.steps()
	for i, step := range steps {
		u.say("[%2d/%d] %6.1f s  %s", i+1, len(steps), time.Since(u.started).Seconds(), step.what)
		if err := step.do(ctx); err != nil {
			return fmt.Errorf("bring up the cluster: %s: %w", step.what, err)
		}
	}
	u.say("cluster is up after %.1f s; KUBECONFIG=%s", time.Since(u.started).Seconds(), u.cluster.Kubeconfig)
	return nil
}

func (u *bringUp) say(format string, values ...any) {
	// Progress that cannot be shown is no reason to fail.
	_, _ = fmt.Fprintf(u.log, format+"\n", values...)
}

func (u *bringUp) packages(ctx context.Context) error {
	return installPackages(ctx, func(what string) { u.say("%s", what) })
}

func (u *bringUp) configure(context.Context) error {
	if err := os.MkdirAll(u.layout.dir, 0o755); err != nil {
		return fmt.Errorf("create the state directory: %w", err)
	}
	if err := u.layout.rememberBoot(); err != nil {
		return err
	}
	if err := u.layout.setSysctls(); err != nil {
		return err
	}
	if err := u.layout.writeCertificates(time.Now()); err != nil {
		return err
	}
	machine, err := os.ReadFile("/etc/resolv.conf")
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("read the machine's name servers: %w", err)
	}
	servers, _ := resolvConf(string(machine))
	if err := os.WriteFile(u.layout.path("resolv.conf"), []byte(servers), 0o644); err != nil {
		return fmt.Errorf("write the pods' name servers: %w", err)
	}
	plugins, err := pluginDirectory()
	if err != nil {
		return err
	}
	for _, n := range nodes() {
		if err := createCgroup(n); err != nil {
			return err
		}
		rendered, err := u.layout.nodeFiles(n, plugins)
		if err != nil {
			return err
		}
		if err := writeFiles(rendered); err != nil {
			return err
		}
	}
	return nil
}

func writeFiles(contents map[string][]byte) error {
	for path, content := range contents {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return fmt.Errorf("create the directory of %s: %w", path, err)
		}
		if err := os.WriteFile(path, content, 0o644); err != nil {
			return fmt.Errorf("write %s: %w", path, err)
		}
	}
	return nil
}

func (u *bringUp) containerds(ctx context.Context) error {
	for _, n := range nodes() {
		if err := u.layout.ensure(ctx, u.layout.containerd(n)); err != nil {
			return err
		}
	}
	return nil
}

func (u *bringUp) controlPlane(ctx context.Context) error {
	if err := u.start(ctx, "etcd", u.layout.etcd); err != nil {
		return err
	}
	return u.start(ctx, "kube-apiserver", u.layout.apiserver)
}

// start waits until the program is built.
func (u *bringUp) start(ctx context.Context, name string, component func(program string) component) error {
	program, err := u.programs.Wait(ctx, name)
	if err != nil {
		return err
	}
	return u.layout.ensure(ctx, component(program))
}

func (u *bringUp) pause(ctx context.Context) error {
	for _, n := range nodes() {
		if err := u.layout.await(ctx, answers(u.layout.containerdSocket(n)), u.layout.containerd(n).name); err != nil {
			return fmt.Errorf("wait for containerd on %s: %w", n.name, err)
		}
	}
	program, err := u.builder.Own(ctx, "./e2e/cluster/cmd/pause", "pause")
	if err != nil {
		return err
	}
	return u.cluster.LoadImages(ctx, Image{
		Reference: pauseImage, Files: map[string]string{"/pause": program}, Entrypoint: []string{"/pause"},
	})
}

func (u *bringUp) apiReady(ctx context.Context) error {
	config, err := u.cluster.RestConfig()
	if err != nil {
		return err
	}
	if u.client, err = kubernetes.NewForConfig(config); err != nil {
		return fmt.Errorf("make a client: %w", err)
	}
	return u.layout.await(ctx, func(ctx context.Context) (bool, error) {
		_, err := u.client.Discovery().RESTClient().Get().AbsPath("/readyz").DoRaw(ctx)
		return err == nil, err
	}, "etcd", "kube-apiserver")
}

func (u *bringUp) controllerManager(ctx context.Context) error {
	return u.start(ctx, "kube-controller-manager", u.layout.controllerManager)
}

func (u *bringUp) scheduler(ctx context.Context) error {
	return u.start(ctx, "kube-scheduler", u.layout.scheduler)
}

// kubelets start one after the other. Both make the same socket for device plugins, whose place cannot be
// chosen: each removes what is there and listens, and when both do so at once one of them ends.
func (u *bringUp) kubelets(ctx context.Context) error {
	program, err := u.programs.Wait(ctx, "kubelet")
	if err != nil {
		return err
	}
	for _, n := range nodes() {
		kubelet := u.layout.kubelet(n, program)
		if err := u.layout.ensure(ctx, kubelet); err != nil {
			return err
		}
		if err := u.layout.await(ctx, listensForDevicePlugins, kubelet.name); err != nil {
			return err
		}
	}
	return nil
}

func listensForDevicePlugins(ctx context.Context) (bool, error) {
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "unix", "/var/lib/kubelet/device-plugins/kubelet.sock")
	if err != nil {
		return false, err
	}
	return true, conn.Close()
}

func (u *bringUp) proxies(ctx context.Context) error {
	return u.onBoth(ctx, "kube-proxy", u.layout.proxy)
}

func (u *bringUp) onBoth(ctx context.Context, name string, component func(node, string) component) error {
	program, err := u.programs.Wait(ctx, name)
	if err != nil {
		return err
	}
	for _, n := range nodes() {
		if err := u.layout.ensure(ctx, component(n, program)); err != nil {
			return err
		}
	}
	return nil
}

func (u *bringUp) nodesReady(ctx context.Context) error {
	return u.layout.await(ctx, func(ctx context.Context) (bool, error) {
		list, err := u.client.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
		if err != nil {
			return false, err
		}
		ready := 0
		for _, n := range list.Items {
			if nodeReady(n) {
				ready++
			}
		}
		return ready == len(nodes()), fmt.Errorf("%d of %d nodes are ready", ready, len(nodes()))
	}, Node1+"-kubelet", Node2+"-kubelet", Node1+"-containerd", Node2+"-containerd", Node1+"-kube-proxy", Node2+"-kube-proxy")
}

func nodeReady(n corev1.Node) bool {
	for _, condition := range n.Status.Conditions {
		if condition.Type == corev1.NodeReady {
			return condition.Status == corev1.ConditionTrue
		}
	}
	return false
}
