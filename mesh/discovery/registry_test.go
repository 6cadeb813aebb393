// SPDX-License-Identifier: Apache-2.0

package discovery

import (
	"os"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/sluice-mesh/sluice/api/v1alpha1"
	"github.com/sluice-mesh/sluice/mesh"
	"github.com/sluice-mesh/sluice/mesh/meshpb"
)

const (
	checkoutService = "10.96.0.7:80"
	checkoutPod     = "10.244.0.1:8080"
	unknownAddress  = "192.0.2.9:443"
)

// scene is the cluster of testdata/canary.in.yaml with a client beside it, and its registry.
type scene struct {
	t        *testing.T
	registry *registry
	inputs   Inputs
	now      time.Time
}

func newScene(t *testing.T) *scene {
	t.Helper()
	text, err := os.ReadFile("testdata/canary.in.yaml")
	require.NoError(t, err)
	s := &scene{t: t, inputs: readInputs(t, text), now: time.Date(2026, 1, 2, 3, 0, 0, 0, time.UTC)}
	s.addPod("client-1", "10.244.2.1")
	s.addPod("client-2", "10.244.2.2")
	s.registry = newRegistry(func() time.Time { return s.now }, true)
	s.publish()
	return s
}

func (s *scene) addPod(name, ip string) {
	s.inputs.add(s.t, []byte(`{apiVersion: v1, kind: Pod, metadata: {namespace: shop, name: `+name+`},
spec: {serviceAccountName: client, containers: [{name: app}], initContainers: [{name: sluice-proxy}]},
status: {phase: Running, podIPs: [{ip: `+ip+`}]}}`))
}

func (s *scene) publish() { s.registry.publish(Build(testDomain, s.inputs)) }

// setSplit replaces the split by one with a canary weight; a generation of 0 removes it.
func (s *scene) setSplit(generation int64, weight int32) {
	s.inputs.TrafficSplits = nil
	if generation > 0 {
		s.inputs.TrafficSplits = []*v1alpha1.TrafficSplit{{
			ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "checkout", Generation: generation},
			Spec: v1alpha1.TrafficSplitSpec{
				WorkloadRef: v1alpha1.TargetReference{APIVersion: "apps/v1", Kind: "Deployment", Name: "checkout"},
				Revisions: []v1alpha1.RevisionWeight{
					{Name: "stable", PodTemplateHash: "aaa", Weight: 100 - weight},
					{Name: "canary", PodTemplateHash: "bbb", Weight: weight},
				},
			},
		}}
	}
	s.publish()
}

func (s *scene) counts(settled bool) v1alpha1.ProxyCounts {
	split := s.registry.splitsInForce()["shop/checkout"]
	require.NotNil(s.t, split)
	return acknowledge(s.registry.carriers(split.Split), settled)
}

func (s *scene) requireCounts(carrying, acknowledged int32, laggards ...string) {
	s.t.Helper()
	got := s.counts(false)
	require.Equal(s.t, []int32{carrying, acknowledged}, []int32{got.Carrying, got.Acknowledged}, "carrying, acknowledged")
	require.ElementsMatch(s.t, laggards, got.Laggards)
}

// proxy is a stream without a wire.
type proxy struct {
	scene  *scene
	stream *stream
}

func (s *scene) connect(pod string, addresses ...string) proxy {
	p := proxy{s, s.registry.join("shop/" + pod)}
	s.registry.subscribe(p.stream, addresses)
	return p
}

func (p proxy) receive() *meshpb.WatchResponse { return p.scene.registry.next(p.stream) }

func (p proxy) report(version uint64, open ...*meshpb.OpenCount) {
	p.scene.registry.report(p.stream, &meshpb.Report{Version: version, Open: open})
}

func TestFirstResponseIsWholeAndLaterOnesAreWhatChanged(t *testing.T) {
	s := newScene(t)
	client := s.connect("client-1", checkoutService, unknownAddress)
	first := client.receive()
	require.Equal(t, uint64(1), first.GetVersion())
	require.Len(t, first.GetDestinations(), 2)
	require.NotNil(t, first.GetInbound())
	require.Nil(t, client.receive(), "nothing has changed")

	s.publish()
	require.Nil(t, client.receive(), "an Index that says the same changes nothing")

	s.setSplit(4, 50)
	second := client.receive()
	require.Equal(t, uint64(2), second.GetVersion())
	require.Len(t, second.GetDestinations(), 1)
	require.Equal(t, checkoutService, second.GetDestinations()[0].GetAddress())
	require.Equal(t, int64(4), second.GetDestinations()[0].GetSplits()[0].GetGeneration())
	require.Nil(t, second.GetInbound())

	s.registry.unsubscribe(client.stream, []string{checkoutService})
	s.setSplit(5, 60)
	require.Nil(t, client.receive())
	s.registry.subscribe(client.stream, []string{checkoutService})
	require.Len(t, client.receive().GetDestinations(), 1, "who subscribes again is answered again")
}

func TestUpdatesCoalesce(t *testing.T) {
	s := newScene(t)
	client := s.connect("client-1", checkoutService)
	client.receive()
	<-client.stream.wake
	for weight := range int32(100) {
		s.setSplit(int64(10+weight), weight)
	}
	require.Len(t, client.stream.wake, 1)
	response := client.receive()
	require.Equal(t, uint64(2), response.GetVersion())
	require.Equal(t, int64(109), response.GetDestinations()[0].GetSplits()[0].GetGeneration())
	require.Nil(t, client.receive())
}

func TestOnlyConcernedStreamsAreWoken(t *testing.T) {
	s := newScene(t)
	concerned, other := s.connect("client-1", checkoutService), s.connect("client-2", unknownAddress)
	for _, p := range []proxy{concerned, other} {
		p.receive()
		<-p.stream.wake
	}
	s.setSplit(4, 50)
	require.Len(t, concerned.stream.wake, 1)
	require.Empty(t, other.stream.wake)
}

func TestUnknownDestinationsBecomeKnown(t *testing.T) {
	s := newScene(t)
	client := s.connect("client-1", "10.96.0.50:80", "not an address")
	for _, destination := range client.receive().GetDestinations() {
		require.True(t, destination.GetUnknown(), destination.GetAddress())
	}
	s.inputs.add(t, []byte(`{apiVersion: v1, kind: Service, metadata: {namespace: shop, name: late},
spec: {clusterIPs: [10.96.0.50], ports: [{name: http, port: 80}]}}`))
	s.publish()
	destinations := client.receive().GetDestinations()
	require.Len(t, destinations, 1)
	require.False(t, destinations[0].GetUnknown())
	require.Equal(t, "late", destinations[0].GetServiceName())
}

func TestProxyMayComeBeforeItsPodIsReady(t *testing.T) {
	s := newScene(t)
	inbound := s.connect("checkout-bbb-3").receive().GetInbound()
	require.Equal(t, "shop/checkout", inbound.GetWorkload())
	require.Equal(t, "bbb", inbound.GetPodTemplateHash())
	require.Equal(t, int64(3), inbound.GetSplit().GetGeneration())
}

func TestAcknowledgement(t *testing.T) {
	s := newScene(t)
	s.setSplit(0, 0)
	client := s.connect("client-1", checkoutService, checkoutPod, unknownAddress)
	server := s.connect("checkout-aaa-1")
	stranger := s.connect("client-2", unknownAddress)
	for _, p := range []proxy{client, server, stranger} {
		p.report(p.receive().GetVersion())
	}

	s.setSplit(1, 0)
	s.requireCounts(2, 0, "shop/client-1", "shop/checkout-aaa-1") // Nobody has even been told.
	require.Equal(t, uint64(2), client.receive().GetVersion())
	require.Equal(t, uint64(2), server.receive().GetVersion())
	s.requireCounts(2, 0, "shop/client-1", "shop/checkout-aaa-1") // Told is not run.
	client.report(1)
	server.report(2)
	s.requireCounts(2, 1, "shop/client-1")
	client.report(2)
	s.requireCounts(2, 2)
	client.report(2)
	s.requireCounts(2, 2)

	s.setSplit(2, 25)
	s.requireCounts(2, 0, "shop/client-1", "shop/checkout-aaa-1")
	client.receive()
	client.report(3)
	server.receive()
	server.report(3)
	s.requireCounts(2, 2)

	s.inputs.EndpointSlices[0].Endpoints = s.inputs.EndpointSlices[0].Endpoints[:2]
	s.publish()
	require.NotNil(t, client.receive())
	s.requireCounts(2, 2) // Endpoints come and go: the split in force is the same.
}

func TestLateSubscriberGetsTheSplitInItsFirstAnswer(t *testing.T) {
	s := newScene(t)
	client := s.connect("client-1", unknownAddress)
	client.report(client.receive().GetVersion())
	s.requireCounts(0, 0)

	s.registry.subscribe(client.stream, []string{checkoutService})
	s.requireCounts(1, 0, "shop/client-1")
	require.Zero(t, s.counts(true).Carrying, "once all had acknowledged, a newcomer undoes nothing")
	answer := client.receive()
	require.Equal(t, int64(3), answer.GetDestinations()[0].GetSplits()[0].GetGeneration())
	client.report(answer.GetVersion())
	s.requireCounts(1, 1)
	require.Equal(t, int32(1), s.counts(true).Carrying)

	s.registry.subscribe(client.stream, []string{checkoutPod})
	s.requireCounts(1, 0, "shop/client-1") // All of its destinations must have it.
	client.report(client.receive().GetVersion())
	s.requireCounts(1, 1)

	s.registry.unsubscribe(client.stream, []string{checkoutService, checkoutPod})
	s.requireCounts(0, 0)
}

func TestSplitMadeAnewIsNotAcknowledgedByTheOldOne(t *testing.T) {
	s := newScene(t)
	s.setSplit(1, 0)
	client := s.connect("client-1", checkoutService)
	client.report(client.receive().GetVersion())
	s.requireCounts(1, 1)
	s.setSplit(1, 40) // Deleted and made anew between two Indexes: the generation is 1 again.
	s.requireCounts(1, 0, "shop/client-1")
	client.receive()
	s.requireCounts(1, 0, "shop/client-1")
	client.report(2)
	s.requireCounts(1, 1)
}

func TestVersionNeverSentAcknowledgesNothing(t *testing.T) {
	s := newScene(t)
	client := s.connect("client-1", checkoutService)
	client.report(99)
	s.requireCounts(1, 0, "shop/client-1")
	client.receive()
	s.requireCounts(1, 0, "shop/client-1")
}

func TestProxyThatLeaves(t *testing.T) {
	leave := func(t *testing.T) (*scene, proxy) {
		s := newScene(t)
		client := s.connect("client-1", checkoutService)
		client.report(client.receive().GetVersion())
		s.requireCounts(1, 1)
		s.registry.leave(client.stream)
		s.requireCounts(1, 1) // Its stream broke; what it was told is in force there.
		return s, client
	}
	t.Run("counts no more after a while", func(t *testing.T) {
		s, _ := leave(t)
		s.setSplit(4, 0)
		s.requireCounts(1, 0, "shop/client-1")
		s.now = s.now.Add(departedGrace)
		s.requireCounts(0, 0)
	})
	t.Run("counts no more when its pod goes", func(t *testing.T) {
		s, _ := leave(t)
		s.setSplit(4, 0)
		gone := s.inputs.Pods[len(s.inputs.Pods)-2]
		require.Equal(t, "client-1", gone.Name)
		gone = gone.DeepCopy()
		gone.DeletionTimestamp = &metav1.Time{Time: s.now}
		s.inputs.Pods[len(s.inputs.Pods)-2] = gone
		s.publish()
		s.requireCounts(0, 0)
	})
	t.Run("counts for itself when it comes back", func(t *testing.T) {
		s, _ := leave(t)
		s.setSplit(4, 0)
		again := s.connect("client-1")
		s.requireCounts(1, 0, "shop/client-1") // It has subscribed to nothing yet, but runs the old weights.
		s.registry.subscribe(again.stream, []string{checkoutService})
		again.report(again.receive().GetVersion())
		s.requireCounts(1, 1)
	})
	t.Run("is superseded by its next stream", func(t *testing.T) {
		s := newScene(t)
		older := s.connect("client-1", checkoutService)
		newer := s.connect("client-1", checkoutService)
		<-older.stream.superseded
		s.registry.subscribe(older.stream, []string{checkoutPod})
		s.registry.leave(older.stream)
		s.requireCounts(1, 0, "shop/client-1")
		newer.report(newer.receive().GetVersion())
		s.requireCounts(1, 1)
		require.Len(t, s.registry.destinations, 1, "a dead stream leaves nothing behind")
	})
}

func TestOpenCounts(t *testing.T) {
	s := newScene(t)
	client, server := s.connect("client-1", checkoutService), s.connect("checkout-bbb-1")
	stranger := s.connect("client-2", unknownAddress)
	count := func(hash string, requests, connections uint64) *meshpb.OpenCount {
		return &meshpb.OpenCount{Workload: "shop/checkout", PodTemplateHash: hash, Requests: requests, Connections: connections}
	}
	client.report(0, count("aaa", 3, 1), count("bbb", 2, 0), count("old", 0, 4))
	server.report(0, count("bbb", 2, 5), count("gone", 0, 0))
	stranger.report(0, count("bbb", 1000, 1000))

	split := s.registry.splitsInForce()["shop/checkout"].Split
	require.Equal(t, []v1alpha1.RevisionOpen{
		{PodTemplateHash: "aaa", Requests: 3, Connections: 1},
		{PodTemplateHash: "bbb", Requests: 4, Connections: 5},
		{PodTemplateHash: "old", Connections: 4},
	}, openOn(split, s.registry.carriers(split)), "a proxy that does not carry the workload has no say")

	s.registry.leave(client.stream)
	require.Equal(t, []v1alpha1.RevisionOpen{
		{PodTemplateHash: "aaa"}, {PodTemplateHash: "bbb", Requests: 2, Connections: 5},
	}, openOn(split, s.registry.carriers(split)))
}

// What came unsplit is the sum over the pods, also of those that are gone, from each split's beginning.
func TestUnsplitRequestsAreSummedUp(t *testing.T) {
	s := newScene(t)
	s.setSplit(1, 25)
	report := func(p proxy, unsplit uint64) {
		p.receive()
		p.scene.registry.report(p.stream, &meshpb.Report{Version: 1, Unsplit: unsplit})
	}
	stable, canary, client := s.connect("checkout-aaa-1"), s.connect("checkout-bbb-1"), s.connect("client-1", checkoutService)
	report(stable, 3)
	report(canary, 4)
	report(client, 100)
	require.EqualValues(t, 7, s.registry.unsplitRequests("shop/checkout"), "a caller has no pod of the workload")
	report(stable, 5)
	s.registry.leave(canary.stream)
	require.EqualValues(t, 9, s.registry.unsplitRequests("shop/checkout"), "what a pod has reported stays")
	report(s.connect("checkout-bbb-1"), 1)
	require.EqualValues(t, 9, s.registry.unsplitRequests("shop/checkout"), "its proxy began anew")
	s.setSplit(0, 0)
	require.Zero(t, s.registry.unsplitRequests("shop/checkout"))
	report(stable, 5)
	require.Zero(t, s.registry.unsplitRequests("shop/checkout"), "a report that crossed with the split's end")
}

func TestLaggardsAreNamedUpToTen(t *testing.T) {
	carriers := make([]carrier, 0, 15)
	for _, name := range "onmlkjihgfedcba" {
		carriers = append(carriers, carrier{pod: string(name)})
	}
	counts := acknowledge(carriers, false)
	require.Equal(t, int32(15), counts.Carrying)
	require.Equal(t, []string{"a", "b", "c", "d", "e", "f", "g", "h", "i", "j"}, counts.Laggards)
}

func TestEqualDestinationsSeesEachField(t *testing.T) {
	base := func() *mesh.Destination {
		return &mesh.Destination{
			Address: "a", Service: mesh.Service{Name: "s"}, Protocol: mesh.ProtocolTCP,
			Endpoints: []mesh.Endpoint{{Address: "e"}},
			Splits:    []mesh.Split{{Workload: "w", Generation: 1, Revisions: []mesh.RevisionWeight{{Name: "stable"}}}},
		}
	}
	require.True(t, equalDestinations(base(), base()))
	for name, change := range map[string]func(*mesh.Destination){
		"address":    func(d *mesh.Destination) { d.Address = "b" },
		"unknown":    func(d *mesh.Destination) { d.Unknown = true },
		"pod":        func(d *mesh.Destination) { d.PodAddress = true },
		"service":    func(d *mesh.Destination) { d.Service.Port = 1 },
		"protocol":   func(d *mesh.Destination) { d.Protocol = mesh.ProtocolHTTP1 },
		"HTTP/2":     func(d *mesh.Destination) { d.HTTP2 = true },
		"endpoint":   func(d *mesh.Destination) { d.Endpoints[0].Ready = true },
		"hint":       func(d *mesh.Destination) { d.Endpoints[0].Hints.Zones = "a" },
		"ejection":   func(d *mesh.Destination) { d.OutlierEjection = &mesh.OutlierEjection{} },
		"generation": func(d *mesh.Destination) { d.Splits[0].Generation = 2 },
		"weight":     func(d *mesh.Destination) { d.Splits[0].Revisions[0].Weight = 1 },
	} {
		changed := base()
		change(changed)
		require.False(t, equalDestinations(base(), changed), name)
	}
}

// TestInboundsAreSkippedOnlyWhenEqual guards the short cut of publish.
func TestInboundsAreSkippedOnlyWhenEqual(t *testing.T) {
	podNamed := func(s *scene, name string) int {
		return slices.IndexFunc(s.inputs.Pods, func(p *corev1.Pod) bool { return p.Name == name })
	}
	changePod := func(name string, change func(*corev1.Pod)) func(*scene) {
		return func(s *scene) {
			at := podNamed(s, name)
			changed := s.inputs.Pods[at].DeepCopy()
			change(changed)
			s.inputs.Pods[at] = changed
		}
	}
	for name, c := range map[string]struct {
		change func(*scene)
		skips  bool // the pods of checkout
	}{
		"nothing":            {func(*scene) {}, true},
		"a stranger":         {changePod("client-1", func(p *corev1.Pod) { p.Spec.ServiceAccountName = "other" }), true},
		"a peer's readiness": {changePod("checkout-bbb-1", func(p *corev1.Pod) { p.Status.Conditions = nil }), false},
		"a peer's address":   {changePod("checkout-bbb-1", func(p *corev1.Pod) { p.Status.PodIPs[0].IP = "10.244.9.9" }), false},
		"a peer's proxy":     {changePod("checkout-bbb-1", func(p *corev1.Pod) { p.Spec.InitContainers = nil }), false},
		"a peer's end": {func(s *scene) {
			s.inputs.Pods = slices.Delete(s.inputs.Pods, podNamed(s, "checkout-bbb-1"), podNamed(s, "checkout-bbb-1")+1)
		}, false},
		"its node":             {changePod("checkout-aaa-1", func(p *corev1.Pod) { p.Spec.NodeName = "n1" }), false},
		"the split":            {func(s *scene) { s.inputs.TrafficSplits = nil }, false},
		"the ReplicaSet's end": {func(s *scene) { s.inputs.ReplicaSets[0] = s.inputs.ReplicaSets[1] }, false},
		"the port's protocol": {func(s *scene) {
			s.inputs.Services[0] = s.inputs.Services[0].DeepCopy()
			s.inputs.Services[0].Spec.Ports[0].AppProtocol = new(string)
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			s := newScene(t)
			before := Build(testDomain, s.inputs)
			c.change(s)
			after := Build(testDomain, s.inputs)
			same := sameWorkloads(before, after)
			require.Equal(t, c.skips, sameInbound(before, after, "shop/checkout-aaa-1", same))
			for key := range after.pods {
				if sameInbound(before, after, key, same) {
					require.True(t, equalInbounds(before.Inbound(key), after.Inbound(key)), key)
				}
			}
		})
	}
}

func TestPeersThatChangeAreTold(t *testing.T) {
	s := newScene(t)
	server := s.connect("checkout-aaa-1")
	require.Len(t, server.receive().GetInbound().GetPeers(), 2)
	<-server.stream.wake
	s.inputs.Pods = slices.DeleteFunc(s.inputs.Pods, func(p *corev1.Pod) bool { return p.Name == "checkout-bbb-1" })
	s.publish()
	require.Len(t, server.stream.wake, 1)
	require.Len(t, server.receive().GetInbound().GetPeers(), 1)
}
