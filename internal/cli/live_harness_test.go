// SPDX-License-Identifier: Apache-2.0

//go:build harness

package cli

import (
	"context"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	grpc "connectrpc.com/connect"
	"github.com/go-logr/logr"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/sluice-mesh/sluice/analysis/analysistest"
	"github.com/sluice-mesh/sluice/analysis/live"
	"github.com/sluice-mesh/sluice/api/v1alpha1"
	"github.com/sluice-mesh/sluice/mesh/discovery"
	"github.com/sluice-mesh/sluice/mesh/identity"
	"github.com/sluice-mesh/sluice/mesh/identity/identitytest"
	"github.com/sluice-mesh/sluice/mesh/meshpb"
)

// standstill is a cluster in which nothing changes.
type standstill struct {
	cache.Cache
	objects []client.Object
}

func (s standstill) GetInformer(_ context.Context, kind client.Object, _ ...cache.InformerGetOption) (cache.Informer, error) {
	return still{kind: kind, objects: s.objects}, nil
}

type still struct {
	cache.Informer
	kind    client.Object
	objects []client.Object
}

func (s still) AddEventHandler(handler toolscache.ResourceEventHandler) (toolscache.ResourceEventHandlerRegistration, error) {
	for _, object := range s.objects {
		handler.OnAdd(object, true) // It takes what is of its kind.
	}
	return s, nil
}

func (still) RemoveEventHandler(toolscache.ResourceEventHandlerRegistration) error { return nil }
func (still) HasSynced() bool                                                      { return true }
func (still) HasSyncedChecker() toolscache.DoneChecker                             { return nil }

const liveService = "10.96.0.7:80"

// liveCluster has the pods of the suite's workload in a run, and their caller.
func liveCluster() []client.Object {
	inShop := func(name string, labels map[string]string) metav1.ObjectMeta {
		return metav1.ObjectMeta{Namespace: analysistest.Namespace, Name: name, Labels: labels}
	}
	slice := &discoveryv1.EndpointSlice{
		ObjectMeta: inShop("checkout-x", map[string]string{discoveryv1.LabelServiceName: analysistest.Name}), AddressType: discoveryv1.AddressTypeIPv4,
	}
	name, port, protocol, yes := "http", int32(8080), corev1.ProtocolTCP, true
	slice.Ports = []discoveryv1.EndpointPort{{Name: &name, Port: &port, Protocol: &protocol}}
	service := &corev1.Service{ObjectMeta: inShop(analysistest.Name, nil), Spec: corev1.ServiceSpec{
		ClusterIP: "10.96.0.7", ClusterIPs: []string{"10.96.0.7"}, Ports: []corev1.ServicePort{{Name: name, Port: 80}},
	}}
	split := &v1alpha1.TrafficSplit{ObjectMeta: inShop(analysistest.Name, nil), Spec: v1alpha1.TrafficSplitSpec{
		WorkloadRef: v1alpha1.TargetReference{APIVersion: "apps/v1", Kind: "Deployment", Name: analysistest.Name},
		Revisions: []v1alpha1.RevisionWeight{
			{Name: "stable", PodTemplateHash: analysistest.StableHash, Weight: 50}, {Name: "canary", PodTemplateHash: analysistest.CanaryHash, Weight: 50},
		},
	}}
	split.Generation = 1
	objects := []client.Object{service, slice, split}
	for _, hash := range []string{analysistest.StableHash, analysistest.CanaryHash} {
		set := &metav1.PartialObjectMetadata{ObjectMeta: inShop("checkout-"+hash, nil)}
		set.OwnerReferences = []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: "Deployment", Name: analysistest.Name}}
		objects = append(objects, set)
	}
	for i, pod := range livePods() {
		made := &corev1.Pod{ObjectMeta: inShop(pod, map[string]string{"pod-template-hash": analysistest.PodHash(pod)})}
		made.Spec.ServiceAccountName = "app"
		made.Spec.InitContainers = []corev1.Container{{Name: "sluice-proxy"}}
		address := net.IPv4(10, 244, 0, byte(1+i)).String()
		made.Status = corev1.PodStatus{Phase: corev1.PodRunning, PodIPs: []corev1.PodIP{{IP: address}}}
		if hash := analysistest.PodHash(pod); hash != "" {
			controls := true
			made.OwnerReferences = []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: "ReplicaSet", Name: "checkout-" + hash, Controller: &controls}}
			slice.Endpoints = append(slice.Endpoints, discoveryv1.Endpoint{
				Addresses: []string{address}, Conditions: discoveryv1.EndpointConditions{Ready: &yes}, TargetRef: &corev1.ObjectReference{Kind: "Pod", Name: pod},
			})
		}
		objects = append(objects, made)
	}
	return objects
}

func livePods() []string {
	return []string{analysistest.Stable1, analysistest.Stable2, analysistest.Canary1, analysistest.Canary2, analysistest.Caller}
}

// trusting is an API server that knows the mesh's anchors.
type trusting struct {
	client.Reader
	anchors string
}

func (s trusting) Get(_ context.Context, _ client.ObjectKey, into client.Object, _ ...client.GetOption) error {
	configuration := into.(*admissionregistrationv1.MutatingWebhookConfiguration)
	configuration.Webhooks = []admissionregistrationv1.MutatingWebhook{{ClientConfig: admissionregistrationv1.WebhookClientConfig{CABundle: []byte(s.anchors)}}}
	return nil
}

// liveMesh is the mesh's control plane with proxies that count as a workload's pods do.
type liveMesh struct {
	t         *testing.T
	authority *identitytest.CA
	address   string
	workload  *analysistest.Workload
}

// startLive starts one; what runs ends with the group's context.
func startLive(ctx context.Context, t *testing.T, group *errgroup.Group) *liveMesh {
	t.Helper()
	m := &liveMesh{t: t, authority: identitytest.New(t), workload: &analysistest.Workload{}}
	server := discovery.NewServer(discovery.Options{
		Cache: standstill{objects: liveCluster()}, TrustDomain: m.authority.TrustDomain, Settle: time.Hour,
		Reader: m.authority.ID("sluice-system", controllerName), Logger: logr.Discard(),
	})
	group.Go(func() error { return server.Start(ctx) })
	mux := http.NewServeMux()
	mux.Handle(server.Handler())
	mux.Handle(server.LiveHandler())
	m.address, _ = m.authority.ServeControlPlane(t, mux)
	for _, pod := range livePods() {
		source := m.authority.Source(t, analysistest.Namespace, "app")
		group.Go(func() error { return m.report(ctx, pod, source) })
	}
	return m
}

// report as a proxy does, whenever the pod may be asked.
func (m *liveMesh) report(ctx context.Context, pod string, source identity.CertificateSource) error {
	config := identity.ClientConfig(source, m.authority, m.authority.ControlPlaneID())
	config.NextProtos = []string{"h2"}
	transport := &http.Transport{TLSClientConfig: config, ForceAttemptHTTP2: true, DialContext: (&net.Dialer{}).DialContext}
	defer transport.CloseIdleConnections()
	stream, err := meshpb.NewDiscoveryClient(&http.Client{Transport: transport}, "https://"+m.address, grpc.WithGRPC()).Watch(ctx)
	if err != nil {
		return err
	}
	defer func() { _, _ = stream.CloseRequest(), stream.CloseResponse() }()
	hello := &meshpb.Hello{Namespace: analysistest.Namespace, Pod: pod}
	if err := stream.Send(&meshpb.WatchRequest{Message: &meshpb.WatchRequest_Hello{Hello: hello}}); err != nil {
		return err
	}
	subscribed := &meshpb.Subscribe{Destinations: []string{liveService}}
	if err := stream.Send(&meshpb.WatchRequest{Message: &meshpb.WatchRequest_Subscribe{Subscribe: subscribed}}); err != nil {
		return err
	}
	ticker := time.NewTicker(300 * time.Millisecond) // sooner than proxies, so that the suite is
	defer ticker.Stop()
	for sequence := uint64(1); ; sequence++ {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		if counters, ok := m.workload.Counters(pod); ok {
			tally := m.tally(pod, counters, sequence)
			if err := stream.Send(&meshpb.WatchRequest{Message: &meshpb.WatchRequest_Tally{Tally: tally}}); err != nil && ctx.Err() == nil {
				return err
			}
		}
	}
}

func (m *liveMesh) tally(pod string, counters analysistest.Counters, sequence uint64) *meshpb.Tally {
	tally := &meshpb.Tally{
		Session: uint64(counters.Began.UnixNano()), AgeMilliseconds: uint64(time.Since(counters.Began).Milliseconds()), Sequence: sequence,
		Served: &meshpb.Served{Succeeded: counters.Requests - counters.Errors, Failed: counters.Errors, Latencies: make([]uint64, live.BucketCount)},
	}
	tally.Served.Latencies[0], tally.Served.Latencies[14] = counters.Requests-counters.Slow, counters.Slow
	if pod != analysistest.Caller {
		return tally
	}
	// It alone calls the workload, so that it got what the pods answered.
	answered := map[string]uint64{analysistest.CanaryHash: 0, analysistest.StableHash: 0}
	for _, pod := range livePods() {
		served, _ := m.workload.Counters(pod)
		if hash := analysistest.PodHash(pod); hash != "" {
			answered[hash] += served.Requests
		}
	}
	for hash, count := range answered {
		tally.Called = append(tally.Called, &meshpb.Called{
			Workload: analysistest.Namespace + "/" + analysistest.Name, PodTemplateHash: hash, Answered: count, Lost: counters.Lost[hash],
		})
	}
	return tally
}

// feed reads them as the controller does.
func (m *liveMesh) feed(ctx context.Context, group *errgroup.Group, token string) *live.Feed {
	m.t.Helper()
	file := filepath.Join(m.t.TempDir(), "token")
	require.NoError(m.t, os.WriteFile(file, []byte(token), 0o600))
	options := liveOptions{mode: liveBeside, controlPlane: m.address, trustDomain: m.authority.TrustDomain.Name(), tokenFile: file}
	link, err := options.link(trusting{anchors: m.authority.AnchorsPEM()}, "sluice-system", logr.Discard())
	require.NoError(m.t, err)
	feed := live.NewFeed(link.read, live.SystemClock(), func(string, string, bool) {})
	group.Go(func() error { return link.Start(ctx) })
	// About nothing, so that what the feed reads is whole.
	require.Eventually(m.t, func() bool {
		_, err := link.read(ctx, []string{"nobody/nothing"})
		return err == nil
	}, time.Minute, 10*time.Millisecond, "the mesh answers its reader")
	group.Go(func() error { return feed.Start(ctx) })
	return feed
}

// TestLiveConformance: the suite of all sources over the control plane's own service, mTLS and identities.
func TestLiveConformance(t *testing.T) {
	analysistest.TestSource(t, func(t *testing.T) analysistest.Bench {
		ctx, cancel := context.WithCancel(context.Background())
		group := &errgroup.Group{}
		m := startLive(ctx, t, group)
		feed := m.feed(ctx, group, "sluice-system/"+controllerName)
		t.Cleanup(func() {
			cancel()
			assert.NoError(t, group.Wait())
		})
		return analysistest.Bench{Workload: m.workload, Source: feed}
	})
}
