// SPDX-License-Identifier: Apache-2.0

//go:build linux && netns

package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/sluice-mesh/sluice/mesh"
	"github.com/sluice-mesh/sluice/mesh/identity/identitytest"
	"github.com/sluice-mesh/sluice/mesh/meshpb"
	"github.com/sluice-mesh/sluice/mesh/redirect"
	"github.com/sluice-mesh/sluice/proxy/proxytest"
)

// Addresses of the two pods, joined by one veth pair, and of a Service that exists nowhere but in the
// proxies' configuration.
const (
	callerIPv4, calleeIPv4, serviceIPv4 = "198.18.1.2", "198.18.1.3", "10.96.0.1"
	callerIPv6, calleeIPv6, serviceIPv6 = "fd53:6c76::2", "fd53:6c76::3", "fd53:6c77::1"
	appPort                             = 8080
	controlPort                         = 8443
)

// pod is a network namespace, the thread that lives in it, and the address by which it is known.
type pod struct {
	name, ip string
	work     chan func()
}

func newPod(t *testing.T, name, ip string) *pod {
	t.Helper()
	p := &pod{name: fmt.Sprintf("sluice-%s-%d", name, os.Getpid()), ip: ip, work: make(chan func())}
	command(t, "ip", "netns", "add", p.name)
	t.Cleanup(func() { command(t, "ip", "netns", "del", p.name) })
	entered := make(chan error)
	go func() {
		// Never unlocked: the thread is not fit for anything else and ends with the goroutine.
		runtime.LockOSThread()
		handle, err := os.Open("/run/netns/" + p.name)
		if err == nil {
			err = unix.Setns(int(handle.Fd()), unix.CLONE_NEWNET)
			_ = handle.Close()
		}
		entered <- err
		for work := range p.work {
			work()
		}
	}()
	require.NoError(t, <-entered)
	t.Cleanup(func() { close(p.work) })
	return p
}

// do runs work on the pod's thread.
func (p *pod) do(work func()) {
	done := make(chan struct{})
	p.work <- func() { defer close(done); work() }
	<-done
}

func (p *pod) command(t *testing.T, words ...string) {
	t.Helper()
	command(t, append([]string{"ip", "-n", p.name}, words...)...)
}

func command(t *testing.T, words ...string) {
	t.Helper()
	output, err := exec.Command(words[0], words[1:]...).CombinedOutput()
	require.NoError(t, err, "%s: %s", strings.Join(words, " "), output)
}

func (p *pod) listen(t *testing.T, address string) net.Listener {
	t.Helper()
	var listener net.Listener
	var err error
	p.do(func() { listener, err = net.Listen("tcp", address) })
	require.NoError(t, err)
	return listener
}

// client is an HTTP client in the pod that runs as the given user. The kernel's rule sees the
// file-system user of the thread that made the socket.
func (p *pod) client(t *testing.T, uid int) *http.Client {
	transport := &http.Transport{DialContext: func(_ context.Context, _, address string) (conn net.Conn, err error) {
		p.do(func() {
			previous, _ := unix.SetfsuidRetUid(uid)
			defer func() { _, _ = unix.SetfsuidRetUid(previous) }()
			conn, err = net.DialTimeout("tcp", address, 2*time.Second)
		})
		return conn, err
	}}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: 10 * time.Second}
}

// world is a caller's and a callee's pod with the shipped rules, the shipped binary, and a control
// plane in the caller's pod.
type world struct {
	ca             *identitytest.CA
	discovery      *proxytest.Discovery
	binary         string
	directory      string
	caller, callee *pod
}

func newWorld(t *testing.T) *world {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("network namespaces need root")
	}
	w := &world{ca: identitytest.New(t), discovery: proxytest.NewDiscovery(), caller: newPod(t, "caller", callerIPv4), callee: newPod(t, "callee", calleeIPv4)}
	command(t, "ip", "link", "add", "eth0", "netns", w.caller.name, "type", "veth", "peer", "name", "eth0", "netns", w.callee.name)
	for p, addresses := range map[*pod][2]string{w.caller: {callerIPv4, callerIPv6}, w.callee: {calleeIPv4, calleeIPv6}} {
		p.command(t, "link", "set", "lo", "up")
		p.command(t, "link", "set", "eth0", "up")
		p.command(t, "addr", "add", addresses[0]+"/24", "dev", "eth0")
		p.command(t, "addr", "add", addresses[1]+"/64", "dev", "eth0", "nodad")
		p.command(t, "route", "add", "10.96.0.0/16", "dev", "eth0")
		p.command(t, "-6", "route", "add", "fd53:6c77::/64", "dev", "eth0")
		config := redirect.DefaultConfig()
		config.SkipInboundPorts = redirect.Ports(controlPort)
		var err error
		p.do(func() { _, err = redirect.Apply(config) })
		require.NoError(t, err)
	}
	// The proxies' user must be able to read this.
	w.directory = t.TempDir()
	require.NoError(t, os.Chmod(filepath.Dir(w.directory), 0o755))
	require.NoError(t, os.Chmod(w.directory, 0o755))
	w.binary = filepath.Join(w.directory, "sluice-proxy")
	build := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", w.binary, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	output, err := build.CombinedOutput()
	require.NoError(t, err, "%s", output)
	mux := http.NewServeMux()
	mux.Handle(meshpb.NewDiscoveryHandler(w.discovery))
	address, _ := w.ca.ServeControlPlane(t, mux)
	relay(t, w.caller.listen(t, callerIPv4+fmt.Sprintf(":%d", controlPort)), address)
	return w
}

// relay joins connections of a namespace with an address of the test's own.
func relay(t *testing.T, listener net.Listener, address string) {
	t.Helper()
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			near, err := listener.Accept()
			if err != nil {
				return
			}
			far, err := net.Dial("tcp", address)
			if err != nil {
				_ = near.Close()
				continue
			}
			go func() { _, _ = io.Copy(far, near); _ = far.Close() }()
			go func() { _, _ = io.Copy(near, far); _ = near.Close() }()
		}
	}()
}

// startProxy runs the binary in a pod as the proxy's user, with the environment of the injector.
func (w *world) startProxy(t *testing.T, p *pod, account string) {
	t.Helper()
	token := filepath.Join(w.directory, account+".token")
	require.NoError(t, os.WriteFile(token, []byte("shop/"+account), 0o644))
	process := exec.Command(w.binary)
	process.Env = []string{
		"SLUICE_POD_NAMESPACE=shop", "SLUICE_POD_NAME=" + account, "SLUICE_POD_IP=" + p.ip, "SLUICE_SERVICE_ACCOUNT=" + account,
		"SLUICE_TRUST_DOMAIN=cluster.local", "SLUICE_TRUST_ANCHORS=" + w.ca.AnchorsPEM(),
		fmt.Sprintf("SLUICE_CONTROL_PLANE=%s:%d", callerIPv4, controlPort),
		"SLUICE_CONTROL_PLANE_IDENTITY=" + w.ca.ControlPlaneID().String(), "SLUICE_TOKEN_FILE=" + token,
	}
	process.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: mesh.ProxyUID, Gid: mesh.ProxyUID}, Pdeathsig: syscall.SIGKILL}
	var output strings.Builder
	process.Stderr = &output
	var err error
	p.do(func() { err = process.Start() }) // A child is born in the namespace of the thread.
	require.NoError(t, err)
	t.Cleanup(func() {
		_ = process.Process.Kill()
		_ = process.Wait()
		if t.Failed() {
			t.Logf("proxy %s:\n%s", account, output.String())
		}
	})
	client := p.client(t, mesh.ProxyUID)
	require.Eventually(t, func() bool {
		response, err := client.Get(fmt.Sprintf("http://127.0.0.1:%d/ready", mesh.PortAdmin))
		if err != nil {
			return false
		}
		_ = response.Body.Close()
		return response.StatusCode == http.StatusOK
	}, 20*time.Second, 20*time.Millisecond)
}

func TestNetnsPair(t *testing.T) {
	w := newWorld(t)
	app := &http.Server{Handler: http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		_, _ = fmt.Fprintf(rw, "%s from %q", r.Host, r.Header.Get("Sluice-Client-Id"))
	})}
	listener := w.callee.listen(t, fmt.Sprintf(":%d", appPort))
	go func() { _ = app.Serve(listener) }()
	t.Cleanup(func() { _ = app.Close() })
	w.discovery.SetInbound("caller", mesh.Inbound{Workload: "shop/caller", PodTemplateHash: "c1"})
	w.discovery.SetInbound("callee", mesh.Inbound{Workload: "shop/callee", PodTemplateHash: "s1"})
	for service, callee := range map[string]string{serviceIPv4: calleeIPv4, serviceIPv6: calleeIPv6} {
		w.discovery.SetDestination(mesh.Destination{
			Address: net.JoinHostPort(service, "80"),
			Service: mesh.Service{Namespace: "shop", Name: "callee", Port: 80},
			Endpoints: []mesh.Endpoint{{
				Address: net.JoinHostPort(callee, fmt.Sprint(appPort)), Identity: w.ca.ID("shop", "callee").String(),
				Namespace: "shop", Pod: "callee", Workload: "shop/callee", PodTemplateHash: "s1", Ready: true,
			}},
		})
	}
	w.startProxy(t, w.caller, "caller")
	w.startProxy(t, w.callee, "callee")
	caller := w.ca.ID("shop", "caller").String()
	for name, test := range map[string]struct {
		uid  int
		url  string
		want string
	}{
		"meshed, IPv4":           {1000, "http://" + serviceIPv4 + "/", fmt.Sprintf("%s from %q", serviceIPv4, caller)},
		"meshed, IPv6":           {1000, "http://[" + serviceIPv6 + "]/", fmt.Sprintf("[%s] from %q", serviceIPv6, caller)},
		"without a proxy, IPv4":  {mesh.ProxyUID, fmt.Sprintf("http://%s:%d/", calleeIPv4, appPort), fmt.Sprintf("%s:%d from \"\"", calleeIPv4, appPort)},
		"without a proxy, IPv6":  {mesh.ProxyUID, fmt.Sprintf("http://[%s]:%d/", calleeIPv6, appPort), fmt.Sprintf("[%s]:%d from \"\"", calleeIPv6, appPort)},
		"an address of no pod's": {1000, fmt.Sprintf("http://%s:%d/", calleeIPv4, appPort), fmt.Sprintf("%s:%d from \"\"", calleeIPv4, appPort)},
	} {
		t.Run(name, func(t *testing.T) {
			client := w.caller.client(t, test.uid)
			for range 20 {
				status, body := proxytest.Get(t, client, test.url)
				require.Equal(t, 200, status)
				require.Equal(t, test.want, body)
			}
		})
	}
}
