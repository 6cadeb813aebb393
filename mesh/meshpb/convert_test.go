// SPDX-License-Identifier: Apache-2.0

package meshpb

import (
	"math"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	"github.com/sluice-mesh/sluice/mesh"
)

func TestDestinationRoundTrip(t *testing.T) {
	split := mesh.Split{
		Workload: "shop/checkout", Generation: 7,
		Revisions: []mesh.RevisionWeight{
			{Name: "stable", PodTemplateHash: "aaa", Weight: 75},
			{Name: "canary", PodTemplateHash: "bbb", Weight: 25},
		},
		Matches: []mesh.RequestMatch{
			{
				Headers: []mesh.ValueMatch{
					mesh.NewValueMatch("x-team", mesh.MatchExact, "beta"),
					mesh.NewValueMatch("x-build", mesh.MatchPrefix, "2026-"),
					mesh.NewValueMatch("user-agent", mesh.MatchRegex, "curl/.*"),
					mesh.NewValueMatch("x-bot", mesh.MatchAbsent, ""),
				},
				Method: "GET", Path: mesh.NewValueMatch("", mesh.MatchPrefix, "/api"),
			},
			{
				Cookies:     []mesh.ValueMatch{mesh.NewValueMatch("beta", mesh.MatchPresent, "")},
				QueryParams: []mesh.ValueMatch{mesh.NewValueMatch("preview", mesh.MatchExact, "1")},
			},
		},
		Mirror:     &mesh.Mirror{Percent: 10, AllowUnsafe: true},
		Stickiness: &mesh.Stickiness{Cookie: "sluice-revision", CookieMaxAge: 86400},
	}
	cases := map[string]*mesh.Destination{
		"nil":     nil,
		"unknown": {Address: "1.2.3.4:443", Unknown: true, Protocol: mesh.ProtocolDetect},
		"service": {
			Address:  "10.96.0.7:80",
			Service:  mesh.Service{Namespace: "shop", Name: "checkout", Port: 80},
			Protocol: mesh.ProtocolHTTP1,
			HTTP2:    true,
			Endpoints: []mesh.Endpoint{
				{
					Address: "10.244.0.5:8080", Identity: "spiffe://cluster.local/ns/shop/sa/checkout",
					Namespace: "shop", Pod: "checkout-aaa-1", Workload: "shop/checkout",
					PodTemplateHash: "aaa", Ready: true,
				},
				{Address: "10.244.0.6:8080", Namespace: "shop", Pod: "checkout-bbb-1", Hints: mesh.Hints{Nodes: "n1", Zones: "a,b"}},
			},
			Splits:   []mesh.Split{split},
			Timeouts: mesh.Timeouts{Request: 10_000, Try: 500, Idle: 60_000},

			MaxParallelRequests: 7,
			OutlierEjection: &mesh.OutlierEjection{
				ConsecutiveFailures: 5, Interval: 10_000, MinRequests: 100, MinEndpoints: 6, BaseTime: 30_000, MaxTime: 300_000, MaxPercent: 50,
			},
			Retries: &mesh.Retries{
				Attempts: 2, Codes: []uint32{503}, Methods: []string{"GET"}, GRPCCodes: []uint32{14},
				Percent: 20, Interval: 10_000, MinCount: 10, MinInterval: 1000,
			},
		},
		"pod": {Address: "10.244.0.5:8080", PodAddress: true, Protocol: mesh.ProtocolTCP},
	}
	for name, destination := range cases {
		t.Run(name, func(t *testing.T) {
			require.Equal(t, destination, overTheWire(t, FromDestination(destination), &Destination{}).ToMesh())
		})
	}
}

func TestInboundRoundTrip(t *testing.T) {
	cases := map[string]*mesh.Inbound{
		"nil":   nil,
		"empty": {},
		"whole": {
			Workload: "shop/checkout", PodTemplateHash: "aaa", Location: mesh.Location{Node: "n1", Zone: "a"}, HTTP2Ports: []uint16{8080, 9000},
			Split: &mesh.Split{
				Workload: "shop/checkout", Generation: 2,
				Revisions: []mesh.RevisionWeight{{Name: "stable", PodTemplateHash: "aaa", Weight: 100}},
			},
			Peers:     []mesh.Endpoint{{Address: "10.244.0.6:0", Identity: "spiffe://cluster.local/ns/shop/sa/checkout", Ready: true}},
			Protocols: map[uint16]mesh.Protocol{8080: mesh.ProtocolHTTP1, 5432: mesh.ProtocolTCP, 9000: mesh.ProtocolDetect},
			Access: &mesh.Access{
				Default: mesh.AccessMeshed,
				Policies: []mesh.AccessPolicy{
					{Name: "a", Mode: mesh.AccessEnforce, Rules: []mesh.AccessRule{{
						Identities: []string{"spiffe://cluster.local/ns/web/sa/frontend"},
						Namespaces: []string{"spiffe://cluster.local/ns/web/sa/"},
						Networks:   []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("::/0")},
						Ports:      []uint16{8080},
						Routes: []mesh.AccessRoute{
							{Methods: []string{"GET"}, Path: mesh.NewValueMatch("", mesh.MatchPrefix, "/api")}, {Methods: []string{"HEAD"}},
						},
					}}},
					{Name: "b", Mode: mesh.AccessAudit},
				},
				Probes: []mesh.Probe{{Port: 8080, Method: "GET", Path: "/healthz"}},
				Limits: []mesh.RateLimit{
					{Name: "a", Mode: mesh.AccessEnforce, Interval: 10 * time.Millisecond, Burst: 100},
					{
						Name: "b", Mode: mesh.AccessAudit, Ports: []uint16{8080}, Interval: time.Second, Burst: 1,
						Routes: []mesh.AccessRoute{{Methods: []string{"POST"}}, {Path: mesh.NewValueMatch("", mesh.MatchExact, "/a")}},
					},
				},
			},
		},
		"overload": {Overloads: []mesh.Overload{
			{
				Service: "checkout", Ports: []uint16{8080}, MaxParallelRequests: 100, Probes: []mesh.Probe{{Port: 8080, Method: "GET", Path: "/healthz"}},
				Classes: []mesh.TrafficClass{
					{Priority: mesh.PriorityCritical, Routes: []mesh.AccessRoute{{Methods: []string{"POST"}}}},
					{Priority: mesh.PriorityLow, Callers: &mesh.AccessRule{Identities: []string{"spiffe://a/b"}}, BytesPerSecond: 1 << 40},
					{Priority: mesh.PriorityDefault, Callers: &mesh.AccessRule{}},
				},
			},
			{Service: "other"},
		}},
		"nobody":   {Access: &mesh.Access{Default: mesh.AccessDeny}},
		"everyone": {Access: &mesh.Access{Default: mesh.AccessAllow}},
	}
	for name, inbound := range cases {
		t.Run(name, func(t *testing.T) {
			require.Equal(t, inbound, overTheWire(t, FromInbound(inbound), &Inbound{}).ToMesh())
		})
	}
}

func TestToMeshOfWhatANewerOrBrokenPeerSends(t *testing.T) {
	destination := (&Destination{ServicePort: 70000, Protocol: Protocol(99)}).ToMesh()
	require.Equal(t, &mesh.Destination{Protocol: mesh.ProtocolDetect}, destination)

	inbound := (&Inbound{Protocols: map[uint32]Protocol{70000: Protocol_PROTOCOL_TCP, 80: Protocol(99)}}).ToMesh()
	require.Equal(t, map[uint16]mesh.Protocol{80: mesh.ProtocolDetect}, inbound.Protocols)

	require.Equal(t, mesh.PriorityDefault, toClass(&TrafficClass{Priority: Priority(99)}).Priority)

	match := toMatch(&RequestMatch{
		Headers: []*ValueMatch{{Name: "x", Kind: MatchKind(99)}, {Name: "y", Kind: MatchKind_MATCH_KIND_REGEX, Value: "("}},
		Path:    &ValueMatch{Kind: MatchKind(99), Value: "/"},
	})
	require.False(t, match.Headers[0].Holds("anything"), "a kind that is not known matches nothing")
	require.False(t, match.Headers[1].Holds("("), "nor does an expression that is none")
	require.False(t, match.Path.HoldsPath("/"))
}

// What cannot be read keeps callers out: it must not leave a rule that lets in more.
func TestAccessOfANewerOrBrokenPeer(t *testing.T) {
	access := toAccess(&Access{
		Default: AccessDefault(99),
		Policies: []*AccessPolicy{{Mode: AccessMode(99), Rules: []*AccessRule{
			{Networks: []string{"everywhere"}, Ports: []uint32{70000}, Routes: []*AccessRoute{{Path: &ValueMatch{Kind: MatchKind(99), Value: "/"}}}},
		}}},
	})
	require.Equal(t, mesh.AccessDeny, access.Default)
	require.Equal(t, mesh.RateLimit{Mode: mesh.AccessEnforce, Interval: 1, Burst: 1}, toLimit(&RateLimit{}))
	require.Equal(t, mesh.RateLimit{Mode: mesh.AccessEnforce, Interval: time.Hour, Burst: mesh.MostBurst}, toLimit(&RateLimit{IntervalNanoseconds: math.MaxUint64, Burst: math.MaxUint32}))
	require.Equal(t, mesh.AccessEnforce, access.Policies[0].Mode)
	rule := access.Policies[0].Rules[0]
	require.Equal(t, []netip.Prefix{{}}, rule.Networks)
	require.Equal(t, []uint16{0}, rule.Ports)
	require.False(t, rule.Routes[0].Path.HoldsPath("/"))
}

// overTheWire encodes and decodes a message; a nil message stays nil.
func overTheWire[M interface {
	proto.Message
	comparable
}](t *testing.T, message, into M) M {
	t.Helper()
	var none M
	if message == none {
		return none
	}
	encoded, err := proto.Marshal(message)
	require.NoError(t, err)
	require.NoError(t, proto.Unmarshal(encoded, into))
	return into
}
