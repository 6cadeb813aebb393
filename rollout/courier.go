// SPDX-License-Identifier: Apache-2.0

package rollout

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/sluice-mesh/sluice/api/v1alpha1"
	"github.com/sluice-mesh/sluice/rollout/hook"
	"github.com/sluice-mesh/sluice/rollout/notify"
)

const (
	notifyTimeout = 10 * time.Second
	// notifyRetries after a failed attempt, with pauses of 1 s to 32 s: a message is given up after
	// between one and somewhat more than two minutes.
	notifyRetries = 6
	// courierCheck is how often messages are looked at again that a full queue refused.
	courierCheck = 30 * time.Second
	// maxNews bounds what wakes a reconciliation; what does not fit is found by courierCheck.
	maxNews = 1024
)

// +kubebuilder:rbac:groups=sluice.dev,resources=notifiers,verbs=get;list;watch
// +kubebuilder:rbac:groups=sluice.dev,resources=notifiers/status,verbs=patch

// courier brings the messages in the status of Canaries to the Notifiers of their namespace, outside of
// the Canaries' reconciliation and with a queue of its own: no chat server holds a run or a webhook.
type courier struct {
	client client.Client
	// reader reads past the cache: a message that was taken must not be seen once more.
	reader client.Reader
	hooks  *hook.Runner
	clock  clock.PassiveClock
	// metrics count when there are some.
	metrics *Metrics
	// settledNews wakes the reconciliation of a Canary, resultNews that of a Notifier.
	settledNews, resultNews chan event.GenericEvent

	lock sync.Mutex
	// sent has the deliveries that are on their way (false) or done with (true), by Canary.
	sent map[types.NamespacedName]map[delivery]bool
	// standing are the standings told in a phase and step of a run: what flaps is told once.
	standing map[types.NamespacedName]situation
	// results are how the last deliveries of Notifiers ended; "" is well.
	results map[types.NamespacedName]string
}

// situation of a run, and what was told in it.
type situation struct {
	run   string
	phase v1alpha1.Phase
	step  int32
	told  map[string]bool
}

func newCourier(writer client.Client, reader client.Reader, hooks *hook.Runner, now clock.PassiveClock, metrics *Metrics) *courier {
	return &courier{
		client: client.WithFieldOwner(writer, v1alpha1.FieldManager), reader: reader, hooks: hooks, clock: now, metrics: metrics,
		settledNews: make(chan event.GenericEvent, maxNews), resultNews: make(chan event.GenericEvent, maxNews),
		sent: map[types.NamespacedName]map[delivery]bool{}, standing: map[types.NamespacedName]situation{}, results: map[types.NamespacedName]string{},
	}
}

// post puts messages of events into a status that is about to be written. It returns the Notifiers that
// will miss older ones for that, once for each.
func (c *courier) post(ctx context.Context, canary *v1alpha1.Canary, status *v1alpha1.CanaryStatus, told []Event) ([]types.NamespacedName, error) {
	if c == nil || len(told) == 0 {
		return nil, nil
	}
	notifiers, err := c.notifiers(ctx, canary.Namespace)
	if err != nil {
		return nil, err
	}
	name := client.ObjectKeyFromObject(canary)
	kept := unsettled(canary, notifiers, c.settled(name))
	told = slices.DeleteFunc(slices.Clone(told), func(one Event) bool { return c.stood(name, status, one) })
	fresh := newMessages(canary, status, told, metav1.NewTime(c.clock.Now()), notifiers)
	messages, dropped := newest(append(kept, fresh...))
	status.Messages = messages
	return missed(canary, dropped, notifiers, c.begun(name)), nil
}

// stood: an event is a standing that was told in the same phase and step of the run already.
func (c *courier) stood(name types.NamespacedName, status *v1alpha1.CanaryStatus, told Event) bool {
	c.lock.Lock()
	defer c.lock.Unlock()
	return c.standing[name].in(status) && c.standing[name].told[told.Reason]
}

// posted notes the standings that a written status tells of and the messages that it has no room for, and
// sends at once what a Canary that is about to go has to tell.
func (c *courier) posted(ctx context.Context, canary *v1alpha1.Canary, told []Event, missed []types.NamespacedName) {
	if c == nil || len(told) == 0 {
		return
	}
	for _, notifier := range missed {
		log.FromContext(ctx).Info("a message that a Notifier did not take in time is dropped", "notifier", notifier)
		c.metrics.notified(notifier, resultDropped)
	}
	name := client.ObjectKeyFromObject(canary)
	c.note(name, &canary.Status, told)
	if canary.DeletionTimestamp.IsZero() || len(canary.Status.Messages) == 0 {
		return
	}
	if _, err := c.Reconcile(ctx, ctrl.Request{NamespacedName: name}); err != nil {
		log.FromContext(ctx).Error(err, "tell of a Canary that goes")
	}
}

func (c *courier) note(name types.NamespacedName, status *v1alpha1.CanaryStatus, told []Event) {
	c.lock.Lock()
	defer c.lock.Unlock()
	if !c.standing[name].in(status) {
		c.standing[name] = situation{run: status.Run, phase: status.Phase, step: status.Step, told: map[string]bool{}}
	}
	for _, one := range told {
		if _, stands := standings()[one.Reason]; stands {
			c.standing[name].told[one.Reason] = true
		}
	}
}

func (m situation) in(status *v1alpha1.CanaryStatus) bool {
	return m.told != nil && m.run == status.Run && m.phase == status.Phase && m.step == status.Step
}

func (c *courier) notifiers(ctx context.Context, namespace string) ([]v1alpha1.Notifier, error) {
	list := &v1alpha1.NotifierList{}
	if err := c.client.List(ctx, list, client.InNamespace(namespace)); err != nil {
		return nil, fmt.Errorf("list notifiers: %w", err)
	}
	return list.Items, nil
}

// settled says of a Canary's deliveries whether they are done with.
func (c *courier) settled(canary types.NamespacedName) func(delivery) bool {
	c.lock.Lock()
	defer c.lock.Unlock()
	sent := maps.Clone(c.sent[canary])
	return func(one delivery) bool { return sent[one] }
}

// begun says of a Canary's deliveries whether they are on their way or done with.
func (c *courier) begun(canary types.NamespacedName) func(delivery) bool {
	c.lock.Lock()
	defer c.lock.Unlock()
	sent := maps.Clone(c.sent[canary])
	return func(one delivery) bool {
		_, known := sent[one]
		return known
	}
}

func (c *courier) forget(canary types.NamespacedName) {
	if c == nil {
		return
	}
	c.lock.Lock()
	defer c.lock.Unlock()
	delete(c.sent, canary)
	delete(c.standing, canary)
}

// Reconcile sends what of a Canary's messages is next, and takes those out of its status that are done
// with.
func (c *courier) Reconcile(ctx context.Context, request ctrl.Request) (ctrl.Result, error) {
	canary := &v1alpha1.Canary{}
	if err := c.reader.Get(ctx, request.NamespacedName, canary); err != nil {
		if apierrors.IsNotFound(err) {
			c.forget(request.NamespacedName)
		}
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	if len(canary.Status.Messages) == 0 {
		return ctrl.Result{}, nil
	}
	notifiers, err := c.notifiers(ctx, canary.Namespace)
	if err != nil {
		return ctrl.Result{}, err
	}
	if len(unsettled(canary, notifiers, c.settled(request.NamespacedName))) == 0 {
		return ctrl.Result{}, c.clear(ctx, canary)
	}
	var failed error
	for i := range notifiers {
		message := nextFor(&notifiers[i], canary, c.settled(request.NamespacedName))
		if message != nil {
			failed = errors.Join(failed, c.send(ctx, canary, &notifiers[i], message))
		}
	}
	if failed != nil {
		return ctrl.Result{}, failed
	}
	return ctrl.Result{RequeueAfter: courierCheck}, nil
}

// clear takes all messages out of a status. What was written meanwhile is not lost: the patch fails.
func (c *courier) clear(ctx context.Context, canary *v1alpha1.Canary) error {
	before := canary.DeepCopy()
	canary.Status.Messages = nil
	patch := client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{})
	if err := c.client.Status().Patch(ctx, canary, patch); client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("take the messages out of the status of canary %s: %w", canary.Name, err)
	}
	c.lock.Lock()
	defer c.lock.Unlock()
	delete(c.sent, client.ObjectKeyFromObject(canary))
	return nil
}

// send hands a message to the runner, unless it is on its way.
func (c *courier) send(ctx context.Context, canary *v1alpha1.Canary, notifier *v1alpha1.Notifier, message *v1alpha1.Message) error {
	name, this := client.ObjectKeyFromObject(canary), delivery{message.ID, notifier.UID}
	if !c.begin(name, this) {
		return nil
	}
	call, err := c.compose(ctx, canary, notifier, message)
	refused := (*hook.RefusedError)(nil)
	switch {
	case errors.As(err, &refused):
		c.settle(ctx, canary, notifier, message, err)
		return nil
	case err == nil:
		call.Done = func(failed error) { c.settle(context.WithoutCancel(ctx), canary, notifier, message, failed) }
		err = c.hooks.Tell(call)
	}
	if err != nil {
		c.unbegin(name, this)
	}
	if errors.Is(err, hook.ErrFull) {
		return nil // courierCheck tries again
	}
	return err
}

// compose makes the request that tells a Notifier a message.
func (c *courier) compose(ctx context.Context, canary *v1alpha1.Canary, notifier *v1alpha1.Notifier, message *v1alpha1.Message) (hook.Call, error) {
	call, err := c.call(ctx, notifier)
	if err != nil {
		return call, err
	}
	run := &v1alpha1.CanaryRun{}
	err = c.reader.Get(ctx, client.ObjectKey{Namespace: canary.Namespace, Name: message.Run}, run)
	switch {
	case apierrors.IsNotFound(err) || message.Run == "":
		run = nil
	case err != nil:
		return call, fmt.Errorf("read canaryrun %s: %w", message.Run, err)
	}
	if call.Body, err = notify.Render(notifier.Spec.Type, notifier.Spec.Channel, rendered(canary, run, message)); err != nil {
		return call, &hook.RefusedError{Why: err.Error()}
	}
	call.Key = message.ID + "/" + string(notifier.UID)
	return call, nil
}

// begin notes that a delivery is on its way; false when it was before.
func (c *courier) begin(canary types.NamespacedName, one delivery) bool {
	c.lock.Lock()
	defer c.lock.Unlock()
	if _, known := c.sent[canary][one]; known {
		return false
	}
	if c.sent[canary] == nil {
		c.sent[canary] = map[delivery]bool{}
	}
	c.sent[canary][one] = false
	return true
}

func (c *courier) unbegin(canary types.NamespacedName, one delivery) {
	c.lock.Lock()
	defer c.lock.Unlock()
	delete(c.sent[canary], one)
}

// settle notes how a delivery ended, and wakes who goes on from there.
func (c *courier) settle(ctx context.Context, canary *v1alpha1.Canary, notifier *v1alpha1.Notifier, message *v1alpha1.Message, failed error) {
	name, result := client.ObjectKeyFromObject(notifier), ""
	if failed == nil {
		c.metrics.notified(name, resultSent)
	} else {
		result = failed.Error()
		c.metrics.notified(name, resultFailed)
		log.FromContext(ctx).Info("a Notifier was not told", "notifier", name, "canary", canary.Name, "reason", message.Reason, "why", result)
	}
	c.lock.Lock()
	if sent := c.sent[client.ObjectKeyFromObject(canary)]; sent != nil {
		sent[delivery{message.ID, notifier.UID}] = true
	}
	before, known := c.results[name]
	c.results[name] = result
	c.lock.Unlock()
	wake(c.settledNews, &v1alpha1.Canary{ObjectMeta: metav1.ObjectMeta{Namespace: canary.Namespace, Name: canary.Name}})
	if !known || before != result {
		wake(c.resultNews, &v1alpha1.Notifier{ObjectMeta: metav1.ObjectMeta{Namespace: name.Namespace, Name: name.Name}})
	}
}

func wake(news chan<- event.GenericEvent, object client.Object) {
	select {
	case news <- event.GenericEvent{Object: object}:
	default: // courierCheck finds it
	}
}
