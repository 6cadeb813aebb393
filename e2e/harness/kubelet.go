// SPDX-License-Identifier: Apache-2.0

package harness

import (
	"context"
	"fmt"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/util/workqueue"
)

// NodeName is the node that all pods are bound to.
const NodeName = "harness-node"

// Kubelet stands in for scheduler and kubelet: it binds every pod, reports it running and ready, and
// removes it as soon as it is asked to go. Tests change that by functions over pods, which hold for
// pods there are and pods to come. Functions must not block; nil restores the default.
type Kubelet struct {
	client kubernetes.Interface
	pods   cache.SharedIndexInformer
	queue  workqueue.TypedRateLimitingInterface[cache.ObjectName]
	cancel context.CancelFunc
	ended  sync.WaitGroup

	lock      sync.Mutex
	behaviour behaviour
	addresses map[types.UID]string
}

// behaviour holds what tests have set.
type behaviour struct {
	schedulable, ready, failed, gone func(*corev1.Pod) bool
}

// SetSchedulable decides which pods find room; default all. A bound pod stays bound.
func (k *Kubelet) SetSchedulable(decide func(*corev1.Pod) bool) {
	k.set(func(b *behaviour) { b.schedulable = decide })
}

// SetReady decides which running pods are ready; default all.
func (k *Kubelet) SetReady(decide func(*corev1.Pod) bool) {
	k.set(func(b *behaviour) { b.ready = decide })
}

// SetFailed decides which pods end in phase Failed; default none. They do not come back from there.
func (k *Kubelet) SetFailed(decide func(*corev1.Pod) bool) {
	k.set(func(b *behaviour) { b.failed = decide })
}

// SetGone decides which terminating pods have ended; default all. The others stay terminating.
func (k *Kubelet) SetGone(decide func(*corev1.Pod) bool) {
	k.set(func(b *behaviour) { b.gone = decide })
}

// Reset restores the defaults.
func (k *Kubelet) Reset() {
	k.set(func(b *behaviour) { *b = behaviour{} })
}

// set changes the behaviour and looks at every pod again.
func (k *Kubelet) set(change func(*behaviour)) {
	k.lock.Lock()
	change(&k.behaviour)
	k.lock.Unlock()
	for _, object := range k.pods.GetStore().List() {
		k.enqueue(object)
	}
}

func startKubelet(ctx context.Context, client kubernetes.Interface) (*Kubelet, error) {
	if err := createNode(ctx, client); err != nil {
		return nil, err
	}
	running, cancel := context.WithCancel(context.WithoutCancel(ctx))
	k := &Kubelet{
		client: client,
		pods:   informers.NewSharedInformerFactory(client, 0).Core().V1().Pods().Informer(),
		queue: workqueue.NewTypedRateLimitingQueue(
			workqueue.NewTypedItemExponentialFailureRateLimiter[cache.ObjectName](5*time.Millisecond, time.Second)),
		cancel:    cancel,
		addresses: map[types.UID]string{},
	}
	if _, err := k.pods.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    k.enqueue,
		UpdateFunc: func(_, pod any) { k.enqueue(pod) },
		DeleteFunc: k.forget,
	}); err != nil {
		cancel()
		return nil, fmt.Errorf("watch pods: %w", err)
	}
	k.ended.Go(func() { k.pods.RunWithContext(running) })
	const workers = 4
	for range workers {
		k.ended.Go(func() {
			for k.work(running) {
			}
		})
	}
	if !cache.WaitForCacheSync(ctx.Done(), k.pods.HasSynced) {
		k.stop()
		return nil, fmt.Errorf("watch pods: %w", context.Cause(ctx))
	}
	return k, nil
}

func (k *Kubelet) stop() {
	if k == nil {
		return
	}
	k.cancel()
	k.queue.ShutDown()
	k.ended.Wait()
}

func (k *Kubelet) enqueue(object any) {
	if pod, ok := object.(*corev1.Pod); ok {
		k.queue.Add(cache.NewObjectName(pod.Namespace, pod.Name))
	}
}

func (k *Kubelet) work(ctx context.Context) bool {
	name, shutdown := k.queue.Get()
	if shutdown {
		return false
	}
	defer k.queue.Done(name)
	// Every error is transient here: a conflict, a pod just gone, the server stopping.
	if err := k.sync(ctx, name); err != nil && !apierrors.IsNotFound(err) {
		k.queue.AddRateLimited(name)
		return true
	}
	k.queue.Forget(name)
	return true
}

// sync brings one pod a step further; its own write brings the pod back for the next.
func (k *Kubelet) sync(ctx context.Context, name cache.ObjectName) error {
	object, exists, err := k.pods.GetStore().GetByKey(name.String())
	if err != nil || !exists {
		return err
	}
	pod, ok := object.(*corev1.Pod)
	if !ok {
		return fmt.Errorf("pod %s is a %T in the cache", name, object)
	}
	k.lock.Lock()
	does := k.behaviour
	k.lock.Unlock()
	pods := k.client.CoreV1().Pods(name.Namespace)
	switch {
	case pod.DeletionTimestamp != nil:
		if !ask(does.gone, pod, true) {
			return nil
		}
		now := int64(0)
		return pods.Delete(ctx, name.Name, metav1.DeleteOptions{
			GracePeriodSeconds: &now, Preconditions: metav1.NewUIDPreconditions(string(pod.UID)),
		})
	case pod.Spec.NodeName == "" && ask(does.schedulable, pod, true):
		return pods.Bind(ctx, &corev1.Binding{
			ObjectMeta: metav1.ObjectMeta{Namespace: name.Namespace, Name: name.Name, UID: pod.UID},
			Target:     corev1.ObjectReference{Kind: "Node", Name: NodeName},
		}, metav1.CreateOptions{})
	}
	status := statusOf(pod, observed{
		bound:   pod.Spec.NodeName != "",
		failed:  ask(does.failed, pod, false),
		ready:   ask(does.ready, pod, true),
		address: k.address(pod.UID),
		now:     metav1.Now().Rfc3339Copy(),
	})
	if status == nil {
		return nil
	}
	updated := pod.DeepCopy()
	updated.Status = *status
	_, err = pods.UpdateStatus(ctx, updated, metav1.UpdateOptions{})
	return err
}

// address hands out pod addresses in order.
func (k *Kubelet) address(pod types.UID) string {
	k.lock.Lock()
	defer k.lock.Unlock()
	if _, ok := k.addresses[pod]; !ok {
		used := make(map[string]bool, len(k.addresses))
		for _, address := range k.addresses {
			used[address] = true
		}
		for i := 0; ; i++ {
			address := fmt.Sprintf("10.244.%d.%d", i/250%250, i%250+1)
			if !used[address] {
				k.addresses[pod] = address
				break
			}
		}
	}
	return k.addresses[pod]
}

// forget frees the address of a pod that is gone.
func (k *Kubelet) forget(object any) {
	if unknown, ok := object.(cache.DeletedFinalStateUnknown); ok {
		object = unknown.Obj
	}
	if pod, ok := object.(*corev1.Pod); ok {
		k.lock.Lock()
		delete(k.addresses, pod.UID)
		k.lock.Unlock()
	}
}

func ask(decide func(*corev1.Pod) bool, pod *corev1.Pod, otherwise bool) bool {
	if decide == nil {
		return otherwise
	}
	return decide(pod.DeepCopy())
}

func createNode(ctx context.Context, client kubernetes.Interface) error {
	capacity := corev1.ResourceList{
		corev1.ResourceCPU:    resource.MustParse("1000"),
		corev1.ResourceMemory: resource.MustParse("1Ti"),
		corev1.ResourcePods:   resource.MustParse("10000"),
	}
	node := &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: NodeName},
		Status: corev1.NodeStatus{
			Capacity: capacity, Allocatable: capacity,
			Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue, Reason: "Harness"}},
		},
	}
	created, err := client.CoreV1().Nodes().Create(ctx, node, metav1.CreateOptions{})
	if err != nil {
		return fmt.Errorf("create the node: %w", err)
	}
	created.Status = node.Status
	if _, err := client.CoreV1().Nodes().UpdateStatus(ctx, created, metav1.UpdateOptions{}); err != nil {
		return fmt.Errorf("report the node ready: %w", err)
	}
	return nil
}
