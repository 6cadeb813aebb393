// SPDX-License-Identifier: Apache-2.0

// Package proxytest is a small mesh in one process for tests: real proxies, real TLS, real HTTP, a
// control plane that says what a test tells it to. Pods have addresses of the loopback network; in
// place of the redirect, connections are brought to the proxies by their dialers.
//
// It is for tests only and must not be imported by the proxy.
package proxytest

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sluice-mesh/sluice/mesh"
	"github.com/sluice-mesh/sluice/mesh/identity/identitytest"
	"github.com/sluice-mesh/sluice/mesh/meshpb"
	"github.com/sluice-mesh/sluice/proxy"
)

// hangTime is when something that does not happen is given up. It says nothing of how long it takes:
// whoever tests may have few processors.
const hangTime = time.Minute

// Mesh is a control plane and pods.
type Mesh struct {
	t         testing.TB
	CA        *identitytest.CA
	Discovery *Discovery
	// ControlPlane is the host:port of the control plane; StopControlPlane ends it.
	ControlPlane     string
	StopControlPlane func()

	mutex     sync.Mutex
	changed   *sync.Cond
	originals map[string]netip.AddrPort // By the client's side of a connection.
	pods      map[netip.Addr]*Pod
	addresses map[string]string // What stands for kube-proxy.
	lastPod   byte
}

// New returns a mesh without pods. It ends with the test.
func New(t testing.TB) *Mesh {
	m := &Mesh{
		t:         t,
		CA:        identitytest.New(t),
		Discovery: NewDiscovery(),
		originals: map[string]netip.AddrPort{},
		pods:      map[netip.Addr]*Pod{},
		addresses: map[string]string{},
	}
	m.changed = sync.NewCond(&m.mutex)
	mux := http.NewServeMux()
	mux.Handle(meshpb.NewDiscoveryHandler(m.Discovery))
	m.ControlPlane, m.StopControlPlane = m.CA.ServeControlPlane(t, mux)
	return m
}

// PodSpec says what a pod is.
type PodSpec struct {
	Name, Namespace, ServiceAccount string
	// Workload is "namespace/name".
	Workload, Hash string
	Inbound        mesh.Inbound
	// Linger and Deadline of the drain.
	Linger, Deadline time.Duration
	// StateFile is where the proxy keeps its configuration.
	StateFile string
	// HeadTime is how long a request's head may take, a minute by default.
	HeadTime time.Duration
	// AccessLog is what is written to AccessLogTo.
	AccessLog   mesh.AccessLog
	AccessLogTo io.Writer
	// Tracing is where spans of which requests are sent.
	Tracing mesh.Tracing
}

// Pod is a proxy and the address of its application.
type Pod struct {
	mesh  *Mesh
	Spec  PodSpec
	IP    netip.Addr
	Proxy *proxy.Proxy
	// Admin is the address of the admin port.
	Admin   string
	inbound string
	out     string
	cancel  context.CancelFunc
	ended   chan struct{}
	dials   atomic.Int64
}

// Start starts a pod's proxy and waits until it is ready.
func (m *Mesh) Start(spec PodSpec) *Pod {
	m.t.Helper()
	pod := &Pod{mesh: m, Spec: withDefaults(spec), ended: make(chan struct{})}
	m.mutex.Lock()
	m.lastPod++
	// Processes that test at the same time must not meet.
	process := os.Getpid()
	pod.IP = netip.AddrFrom4([4]byte{127, byte(1 + process>>8%254), byte(process), m.lastPod})
	m.pods[pod.IP] = pod
	m.mutex.Unlock()
	spec = pod.Spec
	inbound := spec.Inbound
	inbound.Workload, inbound.PodTemplateHash = spec.Workload, spec.Hash
	m.Discovery.SetInbound(spec.Name, inbound)
	listeners := proxy.Listeners{Outbound: m.listen(pod.IP), Inbound: m.listen(pod.IP), Admin: m.listen(pod.IP)}
	pod.out, pod.inbound = listeners.Outbound.Addr().String(), listeners.Inbound.Addr().String()
	pod.Admin = listeners.Admin.Addr().String()
	log := slog.New(slog.DiscardHandler)
	if os.Getenv("SLUICE_TEST_LOG") != "" {
		log = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug})).With("pod", spec.Name)
	}
	pod.Proxy = proxy.New(proxy.Options{
		Listeners:    listeners,
		PodIP:        pod.IP,
		ID:           m.CA.ID(spec.Namespace, spec.ServiceAccount),
		Certificates: m.CA.Source(m.t, spec.Namespace, spec.ServiceAccount),
		Bundles:      m.CA,
		Discovery: &proxy.DiscoveryOptions{
			ControlPlane:   m.ControlPlane,
			ControlPlaneID: m.CA.ControlPlaneID(),
			Namespace:      spec.Namespace,
			Pod:            spec.Name,
			Version:        "test",
		},
		AccessLog:           spec.AccessLog,
		AccessLogTo:         spec.AccessLogTo,
		Tracing:             spec.Tracing,
		StateFile:           spec.StateFile,
		Version:             "test",
		Log:                 log,
		OriginalDestination: m.original,
		Dial:                pod.dial,
		ConnectTime:         hangTime,
		HeadTime:            spec.HeadTime,
		DrainLinger:         spec.Linger,
		DrainDeadline:       spec.Deadline,
	})
	ctx, cancel := context.WithCancel(context.Background())
	pod.cancel = cancel
	go func() {
		defer close(pod.ended)
		if err := pod.Proxy.Run(ctx); err != nil {
			m.t.Errorf("proxy of %s: %v", spec.Name, err)
		}
	}()
	m.t.Cleanup(pod.Stop)
	pod.awaitReady()
	return pod
}

func withDefaults(spec PodSpec) PodSpec {
	if spec.Namespace == "" {
		spec.Namespace = "shop"
	}
	if spec.ServiceAccount == "" {
		spec.ServiceAccount = "default"
	}
	if spec.HeadTime == 0 {
		spec.HeadTime = hangTime
	}
	if spec.Linger == 0 {
		spec.Linger = 10 * time.Millisecond
	}
	if spec.Deadline == 0 {
		spec.Deadline = time.Second
	}
	return spec
}

func (m *Mesh) listen(ip netip.Addr) net.Listener {
	m.t.Helper()
	listener, err := net.Listen("tcp", netip.AddrPortFrom(ip, 0).String())
	require.NoError(m.t, err)
	return listener
}

func (p *Pod) awaitReady() {
	p.mesh.t.Helper()
	require.Eventually(p.mesh.t, func() bool {
		status, _ := p.AdminGet("/ready")
		return status == http.StatusOK
	}, hangTime, 5*time.Millisecond, "proxy of %s is not ready", p.Spec.Name)
}

// Drain tells the proxy to stop, as SIGTERM does. Ended is closed when it has.
func (p *Pod) Drain() { p.cancel() }

// Ended is closed when the proxy has ended.
func (p *Pod) Ended() <-chan struct{} { return p.ended }

// Stop ends the pod and waits for it.
func (p *Pod) Stop() {
	p.cancel()
	<-p.ended
	p.mesh.mutex.Lock()
	defer p.mesh.mutex.Unlock()
	delete(p.mesh.pods, p.IP)
}

// Dials is how many connections the proxy has opened.
func (p *Pod) Dials() int64 { return p.dials.Load() }

// Address is the pod's address with a port.
func (p *Pod) Address(port uint16) string { return netip.AddrPortFrom(p.IP, port).String() }

// Peer is the pod as pods of its workload see it.
func (p *Pod) Peer() mesh.Endpoint {
	peer := p.Endpoint()
	peer.Address = p.Address(0)
	return peer
}

// Endpoint is the pod as others see it.
func (p *Pod) Endpoint() mesh.Endpoint {
	return mesh.Endpoint{
		Address:         p.Address(AppPort),
		Identity:        p.mesh.CA.ID(p.Spec.Namespace, p.Spec.ServiceAccount).String(),
		Namespace:       p.Spec.Namespace,
		Pod:             p.Spec.Name,
		Workload:        p.Spec.Workload,
		PodTemplateHash: p.Spec.Hash,
		Ready:           true,
	}
}

// AppPort is the port of applications, the same in every pod.
const AppPort = 27080

// Listen opens the application's port of the pod.
func (p *Pod) Listen() net.Listener {
	p.mesh.t.Helper()
	listener, err := net.Listen("tcp", p.Address(AppPort))
	require.NoError(p.mesh.t, err)
	return listener
}

// Serve runs an HTTP application in the pod until the test ends or stop is called.
func (p *Pod) Serve(handler http.Handler) (stop func()) {
	return p.mesh.ServeOn(p.Listen(), handler)
}

// ServeOn runs an application of HTTP/1.1 and HTTP/2 until the test ends or stop is called, which lets
// it answer what it has.
func (m *Mesh) ServeOn(listener net.Listener, handler http.Handler) (stop func()) {
	return m.serveOn(listener, &http.Server{Handler: handler, Protocols: protocolsOf(true, true)})
}

// ServeHTTP1 runs an application in the pod that speaks only HTTP/1.1, until the test ends.
func (p *Pod) ServeHTTP1(handler http.Handler) { p.mesh.ServeHTTP1On(p.Listen(), handler) }

// ServeHTTP1On is ServeOn for an application that speaks only HTTP/1.1.
func (m *Mesh) ServeHTTP1On(listener net.Listener, handler http.Handler) {
	m.serveOn(listener, &http.Server{Handler: handler, Protocols: protocolsOf(true, false)})
}

// ServeHTTP2 runs an application in the pod that speaks only HTTP/2, without TLS, until the test ends.
func (p *Pod) ServeHTTP2(handler http.Handler) { p.mesh.ServeHTTP2On(p.Listen(), handler) }

// ServeHTTP2On is ServeOn for an application that speaks only HTTP/2.
func (m *Mesh) ServeHTTP2On(listener net.Listener, handler http.Handler) {
	m.serveOn(listener, &http.Server{Handler: handler, Protocols: protocolsOf(false, true)})
}

func protocolsOf(http1, http2 bool) *http.Protocols {
	protocols := &http.Protocols{}
	protocols.SetHTTP1(http1)
	protocols.SetUnencryptedHTTP2(http2)
	return protocols
}

func (m *Mesh) serveOn(listener net.Listener, server *http.Server) (stop func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.Serve(listener)
	}()
	m.t.Cleanup(func() {
		_ = server.Close()
		<-done
	})
	return func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if err := server.Shutdown(ctx); err != nil {
			m.t.Errorf("application does not stop: %v", err)
		}
	}
}

// dial is how the pod's proxy reaches the network: its own application directly, other pods through
// their inbound listeners.
func (p *Pod) dial(ctx context.Context, address string) (net.Conn, error) {
	p.dials.Add(1)
	to, err := netip.ParseAddrPort(address)
	if err != nil {
		return nil, err
	}
	p.mesh.mutex.Lock()
	peer, forwarded := p.mesh.pods[to.Addr()], p.mesh.addresses[address]
	p.mesh.mutex.Unlock()
	switch {
	case forwarded != "":
		return p.dial(ctx, forwarded)
	case peer == nil, peer == p:
		return (&net.Dialer{}).DialContext(ctx, "tcp", address)
	}
	return p.mesh.dialRedirected(ctx, peer.inbound, to)
}

// Forward makes connections to an address that no proxy maps go elsewhere, as kube-proxy does.
func (m *Mesh) Forward(address, to string) {
	m.mutex.Lock()
	defer m.mutex.Unlock()
	m.addresses[address] = to
}

// AdminGet asks the admin port.
func (p *Pod) AdminGet(path string) (int, string) {
	client := p.mesh.client(func(ctx context.Context, address string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "tcp", address)
	})
	defer client.CloseIdleConnections()
	return Get(p.mesh.t, client, "http://"+p.Admin+path)
}

// Metric returns the sum of a metric's samples whose line contains all the given parts.
func (p *Pod) Metric(name string, parts ...string) float64 {
	_, text := p.AdminGet("/metrics")
	sum := 0.0
	for line := range strings.Lines(text) {
		if !strings.HasPrefix(line, name+"{") && !strings.HasPrefix(line, name+" ") || !containsAll(line, parts) {
			continue
		}
		var value float64
		_, err := fmt.Sscan(line[strings.LastIndexByte(line, ' ')+1:], &value)
		require.NoError(p.mesh.t, err, line)
		sum += value
	}
	return sum
}

func containsAll(line string, parts []string) bool {
	for _, part := range parts {
		if !strings.Contains(line, part) {
			return false
		}
	}
	return true
}

// dialRedirected connects to a proxy's listener as if the redirect had brought it there.
func (m *Mesh) dialRedirected(ctx context.Context, listener string, original netip.AddrPort) (net.Conn, error) {
	// A dial that is given up may have been accepted all the same, and its other end would wait for ever
	// to hear where it was going. On loopback it does not take long.
	conn, err := (&net.Dialer{Timeout: hangTime}).DialContext(context.WithoutCancel(ctx), "tcp", listener)
	if err != nil {
		return nil, err
	}
	m.mutex.Lock()
	defer m.mutex.Unlock()
	m.originals[conn.LocalAddr().String()] = original
	m.changed.Broadcast()
	if err := ctx.Err(); err != nil {
		_ = conn.Close() // Nobody uses it.
		return nil, err
	}
	return conn, nil
}

// original is what stands for SO_ORIGINAL_DST. A connection may be accepted before its dialer has
// said where it goes.
func (m *Mesh) original(conn net.Conn) (netip.AddrPort, error) {
	m.mutex.Lock()
	defer m.mutex.Unlock()
	client := conn.RemoteAddr().String()
	for {
		if original, ok := m.originals[client]; ok {
			delete(m.originals, client)
			return original, nil
		}
		m.changed.Wait()
	}
}
