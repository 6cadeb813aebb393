// SPDX-License-Identifier: Apache-2.0

package proxy_test

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"net/netip"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sluice-mesh/sluice/mesh"
	"github.com/sluice-mesh/sluice/mesh/meshpb"
	"github.com/sluice-mesh/sluice/proxy/proxytest"
)

// guarded is a workload with an identity of its own and two callers, of which policies name one.
type guarded struct {
	*proxytest.Mesh
	friend, stranger *proxytest.Pod
	pods             []*proxytest.Pod
	destination      mesh.Destination
}

func newGuarded(t *testing.T, hashes ...string) *guarded {
	t.Helper()
	m := proxytest.New(t)
	g := &guarded{
		Mesh:        m,
		friend:      m.Start(proxytest.PodSpec{Name: "friend", ServiceAccount: "friend", Workload: "shop/friend", Hash: "f1"}),
		stranger:    m.Start(proxytest.PodSpec{Name: "stranger", ServiceAccount: "stranger", Workload: "shop/stranger", Hash: "x1"}),
		destination: mesh.Destination{Address: shopVIP, Service: mesh.Service{Namespace: "shop", Name: "shop", Port: 80}},
	}
	for _, hash := range hashes {
		pod := m.Start(proxytest.PodSpec{Name: "shop-" + hash, ServiceAccount: "shop", Workload: "shop/shop", Hash: hash})
		g.destination.Endpoints = append(g.destination.Endpoints, pod.Endpoint())
		g.pods = append(g.pods, pod)
	}
	m.Discovery.SetDestination(mesh.Destination{Address: shopVIP, Service: g.destination.Service})
	for _, caller := range []*proxytest.Pod{g.friend, g.stranger} {
		g.know(t, caller)
	}
	m.Discovery.SetDestination(g.destination)
	for _, caller := range []*proxytest.Pod{g.friend, g.stranger} {
		m.Discovery.AwaitAcknowledged(t, caller.Spec.Name)
	}
	return g
}

// know has a pod's proxy ask where the workload is, while it is nowhere: the connection by which it does so
// ends before a test begins. A first answer that is late would send what is asked past the workload.
func (g *guarded) know(t *testing.T, caller *proxytest.Pod) {
	t.Helper()
	conn, err := caller.DialApp(t.Context(), shopVIP)
	require.NoError(t, err)
	defer conn.Close()
	_, err = conn.Write([]byte{0})
	require.NoError(t, err)
	_, _ = conn.Read(make([]byte, 1)) // Whatever comes: by then it has gone somewhere else.
	require.Eventually(t, func() bool { return g.Discovery.Subscribed(caller.Spec.Name, shopVIP) }, time.Minute, time.Millisecond)
}

// guard puts inbound in force in a pod, with its peers.
func (g *guarded) guard(t *testing.T, pod *proxytest.Pod, inbound mesh.Inbound) {
	t.Helper()
	inbound.Workload, inbound.PodTemplateHash = pod.Spec.Workload, pod.Spec.Hash
	for _, peer := range g.pods {
		if peer != pod {
			inbound.Peers = append(inbound.Peers, peer.Peer())
		}
	}
	g.Discovery.SetInbound(pod.Spec.Name, inbound)
	g.Discovery.AwaitAcknowledged(t, pod.Spec.Name)
}

func (g *guarded) identity(account string) string { return g.CA.ID("shop", account).String() }

// lettingIn enforces one rule.
func lettingIn(rules ...mesh.AccessRule) *mesh.Access {
	return &mesh.Access{Default: mesh.AccessAllow, Policies: []mesh.AccessPolicy{{Name: "callers", Mode: mesh.AccessEnforce, Rules: rules}}}
}

// anyLoopback is where all connections of tests come from.
func anyLoopback() mesh.AccessRule {
	return mesh.AccessRule{Networks: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}
}

// askFor sends a request and returns its status and code.
func askFor(t *testing.T, client *http.Client, method, path, body string) (int, string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, shop+path, strings.NewReader(body))
	require.NoError(t, err)
	response, err := client.Do(request)
	require.NoError(t, err)
	defer response.Body.Close()
	_, err = io.Copy(io.Discard, response.Body)
	require.NoError(t, err)
	return response.StatusCode, response.Header.Get("Sluice-Error")
}

func TestAccessOfRequests(t *testing.T) {
	g := newGuarded(t, "s1")
	pod := g.pods[0]
	var served atomic.Int64
	pod.Serve(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		served.Add(1)
		_, _ = io.Copy(io.Discard, r.Body)
		w.WriteHeader(http.StatusOK)
	}))
	access := lettingIn(mesh.AccessRule{
		Identities: []string{g.identity("friend")},
		Routes:     []mesh.AccessRoute{{Path: mesh.NewValueMatch("", mesh.MatchPrefix, "/api")}},
	})
	access.Probes = []mesh.Probe{{Port: proxytest.AppPort, Method: "GET", Path: "/healthz"}}
	g.guard(t, pod, mesh.Inbound{Access: access})
	for name, clients := range map[string][3]*http.Client{
		"HTTP/1.1": {g.friend.Client(), g.stranger.Client(), pod.OutsideClient()},
		"HTTP/2":   {g.friend.HTTP2Client(), g.stranger.HTTP2Client(), pod.OutsideHTTP2Client()},
	} {
		t.Run(name, func(t *testing.T) {
			friend, stranger, outside := clients[0], clients[1], clients[2]
			requests := 0
			for range 3 { // The connections go on.
				for _, test := range []struct {
					client             *http.Client
					method, path, body string
					served             bool
				}{
					{friend, "POST", "/api/orders", "hello", true},
					{friend, "POST", "/admin", "hello", false},
					{friend, "GET", "/api/../admin", "", false},
					{stranger, "GET", "/api/orders", "", false},
					{stranger, "POST", "/api/orders", strings.Repeat("much", 64<<10), false},
					{outside, "GET", "/api/orders", "", false},
					{outside, "GET", "/healthz", "", true},
					{outside, "POST", "/healthz", "", false},
				} {
					before := served.Load()
					status, code := askFor(t, test.client, test.method, test.path, test.body)
					if test.served {
						require.Equal(t, http.StatusOK, status, "%s %s", test.method, test.path)
						require.Equal(t, before+1, served.Load())
						continue
					}
					requests++
					require.Equal(t, http.StatusForbidden, status, "%s %s", test.method, test.path)
					require.Equal(t, "denied", code)
					require.Equal(t, before, served.Load(), "the application saw nothing of it")
				}
			}
			require.Positive(t, requests)
		})
	}
	require.InDelta(t, 6, pod.Metric("inbound_http_authz_allow_total", `client_id="`+g.identity("friend")+`"`, `tls="true"`,
		`authz_group="sluice.dev"`, `authz_kind="AccessPolicy"`, `authz_name="callers"`), 0)
	require.InDelta(t, 12, pod.Metric("inbound_http_authz_deny_total", `client_id="`+g.identity("stranger")+`"`, `authz_name="callers"`), 0)
	require.InDelta(t, 12, pod.Metric("inbound_http_authz_deny_total", `tls="no_identity"`, `authz_name="callers"`), 0)
	require.InDelta(t, 6, pod.Metric("inbound_http_authz_allow_total", `authz_kind="default"`, `authz_name="probe"`), 0)
	// No gate holds it against a revision: not where it was refused, and not where it was asked for.
	for _, from := range []*proxytest.Pod{g.friend, g.stranger, pod} {
		require.Empty(t, refusedOf(from), from.Spec.Name)
	}
	require.InDelta(t, 12, g.stranger.Metric("response_total", `direction="outbound"`, `status_code="403"`, `classification="success"`), 0)
	require.Zero(t, pod.Metric("response_total", `direction="inbound"`, `status_code="403"`))
}

func TestAccessOfGRPC(t *testing.T) {
	g := newGuarded(t, "s1")
	g.pods[0].Serve(http.NotFoundHandler())
	g.guard(t, g.pods[0], mesh.Inbound{Access: lettingIn()})
	response, err := g.stranger.HTTP2Client().Post(shop+"/orders.Orders/Place", "application/grpc", strings.NewReader("\x00\x00\x00\x00\x00"))
	require.NoError(t, err)
	defer response.Body.Close()
	require.Equal(t, http.StatusOK, response.StatusCode)
	require.Equal(t, "7", response.Header.Get("Grpc-Status"))
	require.Equal(t, "denied", response.Header.Get("Sluice-Error"))
	_, err = io.Copy(io.Discard, response.Body)
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		return g.stranger.Metric("response_total", `grpc_status="7"`, `classification="success"`) == 1
	}, time.Minute, time.Millisecond)
}

func TestAuditRefusesNothing(t *testing.T) {
	g := newGuarded(t, "s1")
	pod := g.pods[0]
	pod.Serve(named("s1"))
	access := lettingIn(mesh.AccessRule{Identities: []string{g.identity("friend")}})
	access.Policies[0].Mode = mesh.AccessAudit
	g.guard(t, pod, mesh.Inbound{Access: access, Protocols: map[uint16]mesh.Protocol{proxytest.AppPort: mesh.ProtocolHTTP1}})
	require.Contains(t, metricLines(pod, "sluice_access_audited_total"), `authz_name="callers"} 0`, "there from the start")
	for _, caller := range []*proxytest.Pod{g.friend, g.stranger} {
		status, _ := askFor(t, caller.Client(), http.MethodGet, "/", "")
		require.Equal(t, http.StatusOK, status)
	}
	require.InDelta(t, 1, pod.Metric("sluice_access_audited_total", `client_id="`+g.identity("stranger")+`"`, `authz_name="callers"`), 0)
	require.InDelta(t, 1, pod.Metric("sluice_access_audited_total"), 0)
	require.InDelta(t, 2, pod.Metric("inbound_http_authz_allow_total", `authz_name="default"`), 0)
}

func metricLines(pod *proxytest.Pod, name string) string {
	_, text := pod.AdminGet("/metrics")
	var lines strings.Builder
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, name) {
			lines.WriteString(line)
		}
	}
	return lines.String()
}

// answered says whether a connection is answered by name; one that is refused or reset is not.
func answered(t *testing.T, conn net.Conn, err error) string {
	t.Helper()
	require.NoError(t, err)
	defer conn.Close()
	require.NoError(t, conn.SetDeadline(time.Now().Add(time.Minute)))
	_, _ = conn.Write([]byte{1})
	answer, _ := io.ReadAll(conn)
	return string(answer)
}

func TestAccessOfConnections(t *testing.T) {
	g := newGuarded(t, "s1")
	pod := g.pods[0]
	serveTCP(t, pod.Listen(), func(conn net.Conn) {
		reader := bufio.NewReader(conn)
		for {
			if _, err := reader.ReadByte(); err != nil {
				return
			}
			_, _ = io.WriteString(conn, "s")
		}
	})
	inbound := mesh.Inbound{
		Protocols: map[uint16]mesh.Protocol{proxytest.AppPort: mesh.ProtocolTCP},
		Access:    lettingIn(mesh.AccessRule{Identities: []string{g.identity("friend")}}),
	}
	g.guard(t, pod, inbound)
	friend, err := g.friend.DialApp(t.Context(), shopVIP)
	require.NoError(t, err)
	defer friend.Close()
	require.NoError(t, friend.SetDeadline(time.Now().Add(time.Minute)))
	talk := func() error {
		if _, err := friend.Write([]byte{1}); err != nil {
			return err
		}
		_, err := io.ReadFull(friend, make([]byte, 1))
		return err
	}
	require.NoError(t, talk())
	stranger, err := g.stranger.DialApp(t.Context(), shopVIP)
	require.Empty(t, answered(t, stranger, err))
	outside, err := pod.DialOutside(t.Context())
	require.Empty(t, answered(t, outside, err))
	require.InDelta(t, 1, pod.Metric("inbound_tcp_authz_deny_total", `client_id="`+g.identity("stranger")+`"`), 0)
	require.InDelta(t, 1, pod.Metric("inbound_tcp_authz_deny_total", `tls="no_identity"`, `authz_name="callers"`), 0)
	require.InDelta(t, 1, pod.Metric("inbound_tcp_authz_allow_total", `client_id="`+g.identity("friend")+`"`), 0)

	// A policy that no longer lets it in ends what is open; one that does leaves it alone.
	inbound.Access = lettingIn(anyLoopback())
	g.guard(t, pod, inbound)
	require.NoError(t, talk())
	inbound.Access = lettingIn(mesh.AccessRule{Identities: []string{g.identity("stranger")}})
	g.guard(t, pod, inbound)
	require.Error(t, talk())
	require.InDelta(t, 1, pod.Metric("inbound_tcp_authz_terminate_total", `client_id="`+g.identity("friend")+`"`), 0)
}

// A caller whom a peer passes on is judged as itself, by both: the peer's identity neither lets it in nor
// keeps it out.
func TestHandedOffCallersAreJudgedAsThemselves(t *testing.T) {
	g := newGuarded(t, "s1", "k1")
	for _, pod := range g.pods {
		pod.Serve(named(pod.Spec.Hash))
	}
	canary := split(0, 100)
	own := lettingIn(mesh.AccessRule{Identities: []string{g.identity("shop")}})
	elsewhere := lettingIn(mesh.AccessRule{Networks: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}})
	for name, test := range map[string]struct {
		first, second *mesh.Access
		want          int
	}{
		"by its network":                 {lettingIn(anyLoopback()), lettingIn(anyLoopback()), http.StatusOK},
		"not as the peer":                {own, own, http.StatusForbidden},
		"not as the peer, by the second": {nil, own, http.StatusForbidden},
		"another network, by the second": {nil, elsewhere, http.StatusForbidden},
	} {
		t.Run(name, func(t *testing.T) {
			g.guard(t, g.pods[0], mesh.Inbound{Split: &canary, Access: test.first})
			g.guard(t, g.pods[1], mesh.Inbound{Split: &canary, Access: test.second})
			for _, client := range []*http.Client{g.pods[0].OutsideClient(), g.pods[0].OutsideHTTP2Client()} {
				status, _ := askFor(t, client, http.MethodGet, "/", "")
				require.Equal(t, test.want, status)
			}
		})
	}
}

// The same for connections, whose caller the second proxy is not told: it believes its peer, which has
// judged, and that only where it says so.
func TestHandedOffConnections(t *testing.T) {
	g := newGuarded(t, "s1", "k1")
	for _, pod := range g.pods {
		sayName(t, pod)
	}
	canary := split(0, 100)
	for name, test := range map[string]struct {
		access *mesh.Access
		want   string
	}{
		"let in":          {lettingIn(anyLoopback()), "k1"},
		"not as the peer": {lettingIn(mesh.AccessRule{Identities: []string{g.identity("shop")}}), ""},
	} {
		t.Run(name, func(t *testing.T) {
			for _, pod := range g.pods {
				g.guard(t, pod, mesh.Inbound{Split: &canary, Access: test.access})
			}
			conn, err := g.pods[0].DialOutside(t.Context())
			require.Equal(t, test.want, answered(t, conn, err))
		})
	}
	// Who only shares the identity is not a peer.
	for _, pod := range g.pods {
		g.guard(t, pod, mesh.Inbound{Access: lettingIn(mesh.AccessRule{Identities: []string{g.identity("friend")}})})
	}
	sharing := g.Start(proxytest.PodSpec{Name: "sharing", ServiceAccount: "shop", Workload: "shop/other", Hash: "o1"})
	g.know(t, sharing)
	conn, err := sharing.DialApp(t.Context(), shopVIP)
	require.Empty(t, answered(t, conn, err))
}

// The application of a pod that shares the workload's identity cannot say that it is somebody else: not in
// a request, and not in bytes that its proxy did not take for one.
func TestHandoffsCannotBeForged(t *testing.T) {
	g := newGuarded(t, "s1")
	pod := g.pods[0]
	pod.Serve(named("s1"))
	g.guard(t, pod, mesh.Inbound{
		Protocols: map[uint16]mesh.Protocol{proxytest.AppPort: mesh.ProtocolHTTP1},
		Access:    lettingIn(mesh.AccessRule{Identities: []string{g.identity("friend")}}),
	})
	sharing := g.Start(proxytest.PodSpec{Name: "sharing", ServiceAccount: "shop", Workload: "shop/other", Hash: "o1"})
	forged := "GET / HTTP/1.1\r\nHost: shop\r\nsluice-handoff: 127.0.0.1\r\nsluice-client-id: " + g.identity("friend") + "\r\nConnection: close\r\n\r\n"
	for _, protocol := range []mesh.Protocol{mesh.ProtocolHTTP1, mesh.ProtocolTCP} {
		t.Run(string(protocol), func(t *testing.T) {
			g.destination.Protocol = protocol
			g.Discovery.SetDestination(g.destination)
			g.know(t, sharing)
			conn, err := sharing.DialApp(t.Context(), shopVIP)
			require.NoError(t, err)
			defer conn.Close()
			require.NoError(t, conn.SetDeadline(time.Now().Add(time.Minute)))
			_, err = io.WriteString(conn, forged)
			require.NoError(t, err)
			answer, err := io.ReadAll(conn)
			require.NoError(t, err)
			require.Contains(t, string(answer), "HTTP/1.1 403 ")
			require.InDelta(t, 0, pod.Metric("inbound_http_authz_allow_total", `client_id="`+g.identity("friend")+`"`), 0)
		})
	}
	require.InDelta(t, 2, pod.Metric("inbound_http_authz_deny_total", `client_id="`+g.identity("shop")+`"`), 0)
}

// A proxy that restarts while the control plane is away keeps out whom it was told to.
func TestAccessOutlivesTheControlPlane(t *testing.T) {
	m := proxytest.New(t)
	file := filepath.Join(t.TempDir(), "configuration")
	spec := proxytest.PodSpec{Name: "restarted", Workload: "shop/shop", Hash: "s1", StateFile: file, Inbound: mesh.Inbound{
		Access: &mesh.Access{Default: mesh.AccessMeshed},
	}}
	before := m.Start(spec)
	awaitSaved(t, file, func(saved *meshpb.WatchResponse) bool { return saved.GetInbound().GetAccess() != nil })
	before.Stop()
	m.StopControlPlane()
	after := m.Start(spec)
	after.Serve(named("s1"))
	status, code := askFor(t, after.OutsideClient(), http.MethodGet, "/", "")
	require.Equal(t, http.StatusForbidden, status)
	require.Equal(t, "denied", code)
}

// refusedOf are the series of requests that count as failures, without those of connects: when know had the
// proxy look at a connection, no application listened yet.
func refusedOf(pod *proxytest.Pod) (lines []string) {
	_, text := pod.AdminGet("/metrics")
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, "response_total{") && strings.Contains(line, `classification="failure"`) &&
			!strings.Contains(line, `error="connect"`) && !strings.HasSuffix(line, " 0\n") {
			lines = append(lines, line)
		}
	}
	return lines
}
