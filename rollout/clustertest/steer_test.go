// SPDX-License-Identifier: Apache-2.0

//go:build harness

package clustertest

import (
	"bytes"
	"context"
	"encoding/json"
	"sync"

	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
)

// kubelets is what the tests, which run side by side, ask of the one kubelet, by namespace.
type kubelets struct {
	lock          sync.Mutex
	unready       map[string]func(*corev1.Pod) bool
	unschedulable map[string]bool
}

var steering = &kubelets{unready: map[string]func(*corev1.Pod) bool{}, unschedulable: map[string]bool{}}

func (k *kubelets) change(change func()) {
	k.lock.Lock()
	change()
	k.lock.Unlock()
	cluster.Kubelet.SetReady(func(pod *corev1.Pod) bool {
		k.lock.Lock()
		defer k.lock.Unlock()
		unready := k.unready[pod.Namespace]
		return unready == nil || !unready(pod)
	})
	cluster.Kubelet.SetSchedulable(func(pod *corev1.Pod) bool {
		k.lock.Lock()
		defer k.lock.Unlock()
		return !k.unschedulable[pod.Namespace]
	})
}

// steerReady decides whether pods of app:v2 become ready.
func (b *bed) steerReady(ready bool) {
	steering.change(func() {
		steering.unready[b.namespace] = func(pod *corev1.Pod) bool { return !ready && pod.Spec.Containers[0].Image == "app:v2" }
	})
}

// steerReadyCount lets only so many pods of an image be ready.
func (b *bed) steerReadyCount(image string, count int) {
	ready := map[types.UID]bool{}
	steering.change(func() {
		steering.unready[b.namespace] = func(pod *corev1.Pod) bool {
			if pod.Spec.Containers[0].Image != image || ready[pod.UID] {
				return false
			}
			if len(ready) < count {
				ready[pod.UID] = true
				return false
			}
			return true
		}
	})
}

func (b *bed) steerSchedulable(schedulable bool) {
	steering.change(func() { steering.unschedulable[b.namespace] = !schedulable })
}

func shortDeadline(d *appsv1.Deployment) {
	seconds := int32(2)
	d.Spec.ProgressDeadlineSeconds = &seconds
	d.Spec.MinReadySeconds = 0
}

// setRollbackWindow returns when the controller has seen it: nothing orders what it hears of a Canary
// and of a Deployment.
func (b *bed) setRollbackWindow(window string) {
	b.Helper()
	b.patchCanary(`{"spec":{"rollbackWindow":"` + window + `"}}`)
	b.eventually("the rollback window is seen", func() bool {
		canary := b.canary()
		return canary.Status.ObservedGeneration == canary.Generation
	})
}

func (b *bed) lengthenDrain() {
	b.Helper()
	b.patchCanary(`{"spec":{"drain":"5m"}}`)
}

func (b *bed) patchCanary(patch string) {
	b.Helper()
	require.NoError(b, b.client.Patch(b.Context(), b.canary(), client.RawPatch(types.MergePatchType, []byte(patch))))
}

func (b *bed) patch(object client.Object, patch string) {
	b.Helper()
	require.NoError(b, b.client.Patch(b.Context(), object, client.RawPatch(types.MergePatchType, []byte(patch))))
}

// before calls something right before the controller's first write of a kind: "release" of
// stable, "handover" of the canary, or "unpause".
func before(matches func(kind string) bool, act func()) func(client.WithWatch) client.Client {
	return func(inner client.WithWatch) client.Client {
		return interceptor.NewClient(inner, interceptor.Funcs{
			Patch: func(ctx context.Context, c client.WithWatch, object client.Object, patch client.Patch, options ...client.PatchOption) error {
				if rs, ok := object.(*appsv1.ReplicaSet); ok {
					_, handedOver := rs.Annotations["deployment.kubernetes.io/max-replicas"]
					released := rs.Labels["sluice.dev/revision"] != ""
					if released && handedOver && matches("release") || !released && handedOver && matches("handover") {
						act()
					}
				}
				return c.Patch(ctx, object, patch, options...)
			},
			Apply: func(ctx context.Context, c client.WithWatch, object runtime.ApplyConfiguration, options ...client.ApplyOption) error {
				raw, err := json.Marshal(object)
				if err != nil {
					return err
				}
				if bytes.Contains(raw, []byte(`"paused":false`)) && matches("unpause") {
					act()
				}
				return c.Apply(ctx, object, options...)
			},
		})
	}
}
