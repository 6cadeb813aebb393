// SPDX-License-Identifier: Apache-2.0

//go:build harness

package mesh_test

import (
	"fmt"
	"net"
	"net/http"
	"slices"
	"sync"
	"testing"

	"connectrpc.com/connect"
	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/sluice-mesh/sluice/api/v1alpha1"
	"github.com/sluice-mesh/sluice/mesh"
	"github.com/sluice-mesh/sluice/mesh/identity"
	"github.com/sluice-mesh/sluice/mesh/meshpb"
)

// TestDiscoveryOfARun follows a run's objects, made as the rollout controller makes them, through
// real controllers to a proxy, and its acknowledgement back to the status.
func TestDiscoveryOfARun(t *testing.T) {
	p := startControlPlane(t)
	namespace := p.namespace(t, "run", "checkout", "client")
	labels := map[string]string{"app": "checkout"}
	deployment := &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "checkout"},
		Spec: appsv1.DeploymentSpec{
			Replicas: new(int32),
			Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: podTemplate("checkout", labels),
		},
	}
	*deployment.Spec.Replicas = 2
	require.NoError(t, p.admin.Create(t.Context(), deployment))
	service := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "checkout"},
		Spec:       corev1.ServiceSpec{Selector: labels, Ports: []corev1.ServicePort{{Name: "http", Port: 80}}},
	}
	require.NoError(t, p.admin.Create(t.Context(), service))
	caller := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "client"}, Spec: podTemplate("client", nil).Spec}
	require.NoError(t, p.admin.Create(t.Context(), caller))

	address := net.JoinHostPort(service.Spec.ClusterIP, "80")
	proxy := p.proxy(t, namespace, "client", "client")
	proxy.subscribe(address)
	proxy.await(address, func(d *mesh.Destination) bool { return len(d.Endpoints) == 2 })
	stable := proxy.destination(address).Endpoints[0]
	require.Equal(t, namespace+"/checkout", stable.Workload)
	require.Equal(t, p.id(t, namespace, "checkout").String(), stable.Identity)
	require.True(t, stable.Ready)

	split := p.writeSplit(t, namespace, labels, stable.PodTemplateHash, 0)
	proxy.await(address, func(d *mesh.Destination) bool { return len(d.Splits) == 1 })
	p.awaitStatus(t, split, metav1.ConditionTrue, v1alpha1.ProxyCounts{Carrying: 1, Acknowledged: 1})
	requireOwner(t, p.read(t, split))

	p.createCanary(t, deployment)
	proxy.await(address, func(d *mesh.Destination) bool {
		return slices.ContainsFunc(d.Endpoints, func(e mesh.Endpoint) bool {
			return e.PodTemplateHash == "canary1" && e.Workload == namespace+"/checkout" && e.Ready
		})
	})

	proxy.setAcknowledging(false)
	split = p.writeSplit(t, namespace, labels, stable.PodTemplateHash, 25)
	require.Equal(t, int64(2), split.Generation)
	p.awaitStatus(t, split, metav1.ConditionFalse, v1alpha1.ProxyCounts{Carrying: 1, Laggards: []string{namespace + "/client"}})
	proxy.setAcknowledging(true)
	p.awaitStatus(t, split, metav1.ConditionTrue, v1alpha1.ProxyCounts{Carrying: 1, Acknowledged: 1})
	require.Equal(t, uint32(25), proxy.destination(address).Splits[0].Revisions[1].Weight)

	proxy.report(&meshpb.OpenCount{Workload: namespace + "/checkout", PodTemplateHash: "canary1", Requests: 2})
	split = p.writeSplit(t, namespace, labels, stable.PodTemplateHash, 0)
	p.awaitStatus(t, split, metav1.ConditionTrue, v1alpha1.ProxyCounts{Carrying: 1, Acknowledged: 1})
	awaitOpen(t, p, split, "canary1", 2)
	proxy.report()
	awaitOpen(t, p, split, "canary1", 0)

	require.NoError(t, p.admin.Delete(t.Context(), split))
	proxy.await(address, func(d *mesh.Destination) bool { return len(d.Splits) == 0 })
}

func podTemplate(account string, labels map[string]string) corev1.PodTemplateSpec {
	always := corev1.ContainerRestartPolicyAlways
	return corev1.PodTemplateSpec{
		ObjectMeta: metav1.ObjectMeta{Labels: labels},
		Spec: corev1.PodSpec{
			ServiceAccountName: account,
			InitContainers:     []corev1.Container{{Name: "sluice-proxy", Image: "proxy", RestartPolicy: &always}},
			Containers:         []corev1.Container{{Name: "app", Image: "app"}},
		},
	}
}

// createCanary makes the ReplicaSet of a canary as the rollout controller does: it refers to the
// Deployment, which does not control it.
func (p *controlPlane) createCanary(t *testing.T, deployment *appsv1.Deployment) {
	t.Helper()
	one := int32(1)
	labels := map[string]string{"app": "checkout", appsv1.DefaultDeploymentUniqueLabelKey: "canary1"}
	require.NoError(t, p.admin.Create(t.Context(), &appsv1.ReplicaSet{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: deployment.Namespace, Name: "checkout-canary1",
			OwnerReferences: []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: "Deployment", Name: deployment.Name, UID: deployment.UID}},
		},
		Spec: appsv1.ReplicaSetSpec{
			Replicas: &one,
			Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: podTemplate("checkout", labels),
		},
	}))
}

// writeSplit creates or changes the split.
func (p *controlPlane) writeSplit(t *testing.T, namespace string, labels map[string]string, stable string, weight int32) *v1alpha1.TrafficSplit {
	t.Helper()
	split := &v1alpha1.TrafficSplit{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "checkout"}}
	err := p.admin.Get(t.Context(), client.ObjectKeyFromObject(split), split)
	split.Spec = v1alpha1.TrafficSplitSpec{
		WorkloadRef: v1alpha1.TargetReference{Kind: "Deployment", Name: "checkout"},
		Selector:    metav1.LabelSelector{MatchLabels: labels},
		Revisions: []v1alpha1.RevisionWeight{
			{Name: "stable", PodTemplateHash: stable, Weight: 100 - weight},
			{Name: "canary", PodTemplateHash: "canary1", Weight: weight},
		},
	}
	if client.IgnoreNotFound(err) == nil && err != nil {
		require.NoError(t, p.admin.Create(t.Context(), split))
		return split
	}
	require.NoError(t, err)
	require.NoError(t, p.admin.Update(t.Context(), split))
	return split
}

func (p *controlPlane) read(t *testing.T, split *v1alpha1.TrafficSplit) *v1alpha1.TrafficSplit {
	t.Helper()
	var now v1alpha1.TrafficSplit
	require.NoError(t, p.admin.Get(t.Context(), client.ObjectKeyFromObject(split), &now))
	return &now
}

func (p *controlPlane) awaitStatus(t *testing.T, split *v1alpha1.TrafficSplit, status metav1.ConditionStatus, counts v1alpha1.ProxyCounts) {
	t.Helper()
	var now *v1alpha1.TrafficSplit
	require.Eventually(t, func() bool {
		now = p.read(t, split)
		condition := apimeta.FindStatusCondition(now.Status.Conditions, v1alpha1.ConditionAcknowledged)
		return now.Status.ObservedGeneration == split.Generation && condition != nil && condition.Status == status
	}, patience, tick)
	require.Equal(t, counts, now.Status.Proxies)
}

func awaitOpen(t *testing.T, p *controlPlane, split *v1alpha1.TrafficSplit, hash string, requests int64) {
	t.Helper()
	require.Eventually(t, func() bool {
		return slices.Contains(p.read(t, split).Status.Revisions, v1alpha1.RevisionOpen{PodTemplateHash: hash, Requests: requests})
	}, patience, tick)
}

// requireOwner: the status is one manager's, the specification another's.
func requireOwner(t *testing.T, split *v1alpha1.TrafficSplit) {
	t.Helper()
	for _, entry := range split.ManagedFields {
		require.Equal(t, entry.Subresource == "status", entry.Manager == "sluice-mesh", "%s %s", entry.Manager, entry.FieldsV1)
	}
}

// proxy is a proxy's side of a stream, with a certificate got by a real token.
type proxy struct {
	t      *testing.T
	stream *connect.BidiStreamForClientSimple[meshpb.WatchRequest, meshpb.WatchResponse]

	mu      sync.Mutex
	known   map[string]*mesh.Destination
	version uint64
	silent  bool
	open    []*meshpb.OpenCount
}

func (p *controlPlane) proxy(t *testing.T, namespace, pod, account string) *proxy {
	t.Helper()
	certified := p.identityClient(t, namespace, account, p.token(t, namespace, account, mesh.TokenAudience))
	awaitCertificate(t, certified)
	tls := identity.ClientConfig(certified, certified, p.id(t, system, "sluice-mesh"))
	tls.NextProtos = []string{"h2"}
	transport := &http.Transport{TLSClientConfig: tls, ForceAttemptHTTP2: true}
	t.Cleanup(transport.CloseIdleConnections)
	watcher := meshpb.NewDiscoveryClient(&http.Client{Transport: transport}, "https://"+p.address, connect.WithGRPC())
	stream, err := watcher.Watch(t.Context())
	require.NoError(t, err)
	made := &proxy{t: t, stream: stream, known: map[string]*mesh.Destination{}}
	made.send(&meshpb.WatchRequest{Message: &meshpb.WatchRequest_Hello{Hello: &meshpb.Hello{Namespace: namespace, Pod: pod}}})
	done := make(chan struct{})
	go func() {
		defer close(done)
		made.receive()
	}()
	t.Cleanup(func() {
		_ = stream.CloseRequest()
		_ = stream.CloseResponse()
		<-done
	})
	return made
}

func (p *proxy) receive() {
	for {
		response, err := p.stream.Receive()
		if err != nil {
			return
		}
		p.mu.Lock()
		p.version = response.GetVersion()
		for _, destination := range response.GetDestinations() {
			p.known[destination.GetAddress()] = destination.ToMesh()
		}
		p.reportLocked()
		p.mu.Unlock()
	}
}

func (p *proxy) send(request *meshpb.WatchRequest) {
	_ = p.stream.Send(request) // A stream that is over shows in what is awaited.
}

func (p *proxy) reportLocked() {
	if !p.silent {
		p.send(&meshpb.WatchRequest{Message: &meshpb.WatchRequest_Report{Report: &meshpb.Report{Version: p.version, Open: p.open}}})
	}
}

func (p *proxy) subscribe(address string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.send(&meshpb.WatchRequest{Message: &meshpb.WatchRequest_Subscribe{Subscribe: &meshpb.Subscribe{Destinations: []string{address}}}})
}

func (p *proxy) setAcknowledging(acknowledging bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.silent = !acknowledging
	p.reportLocked()
}

func (p *proxy) report(open ...*meshpb.OpenCount) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.open = open
	p.reportLocked()
}

func (p *proxy) destination(address string) *mesh.Destination {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.known[address]
}

func (p *proxy) await(address string, holds func(*mesh.Destination) bool) {
	p.t.Helper()
	require.Eventually(p.t, func() bool {
		destination := p.destination(address)
		return destination != nil && holds(destination)
	}, patience, tick, fmt.Sprint(address))
}
