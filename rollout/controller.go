// SPDX-License-Identifier: Apache-2.0

package rollout

import (
	"context"
	"errors"
	"fmt"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/manager"

	"github.com/sluice-mesh/sluice/analysis"
	"github.com/sluice-mesh/sluice/api/v1alpha1"
	"github.com/sluice-mesh/sluice/rollout/hook"
)

// Options of the controller.
type Options struct {
	// Interval between two looks at a run in which time matters; default 5s.
	Interval time.Duration
	// SourceTimeout bounds one read of the metrics; default 3s.
	SourceTimeout time.Duration
	// Source of the metrics for a Canary. An error says what is missing: the gate then holds.
	Source func(*v1alpha1.Canary) (analysis.Source, error)
	// Live is what proxies report within a second: beside the gate it takes a bad canary back sooner.
	// Nil is none.
	Live LiveSource
	// News of a workload's metrics: its Canary is looked at at once. Without it they are looked at every
	// Interval.
	News <-chan event.GenericEvent
	// Alarms are news that may fail a canary at once: they are looked at before other news.
	Alarms <-chan event.GenericEvent
	// Clock is the system's by default.
	Clock clock.PassiveClock
	// Recorder of events; default is the manager's, named after the field manager.
	Recorder events.EventRecorder
	// Concurrency is how many Canaries are looked at at once; default 10. A look waits for the API server most of the time.
	Concurrency int
	// Seal signs the heads of runs' records; without one they are chained and not signed.
	Seal *Seal
	// Metrics are counted when there are some.
	Metrics *Metrics
	// Hooks calls webhooks; Canaries that have some stand still without it.
	Hooks *hook.Runner
	// Notifications brings messages to Notifiers; none is told without it. It is not Hooks, so that a
	// slow chat server takes no webhook's place.
	Notifications *hook.Runner
	// HoldWebhook serves the hold at HoldPath, for clusters without MutatingAdmissionPolicy.
	HoldWebhook bool
}

// +kubebuilder:rbac:groups=sluice.dev,resources=canaries,verbs=get;list;watch;patch
// +kubebuilder:rbac:groups=sluice.dev,resources=canaries/status,verbs=patch
// +kubebuilder:rbac:groups=sluice.dev,resources=canaries/finalizers,verbs=update
// +kubebuilder:rbac:groups=sluice.dev,resources=canaryruns,verbs=get;list;create;patch;delete
// +kubebuilder:rbac:groups=sluice.dev,resources=trafficsplits,verbs=get;list;watch;create;patch;delete
// +kubebuilder:rbac:groups=sluice.dev,resources=rolloutpolicies,verbs=get;list;watch
// +kubebuilder:rbac:groups=sluice.dev,resources=rolloutpolicies/status,verbs=patch
// +kubebuilder:rbac:groups=sluice.dev,resources=approvals,verbs=get;list;watch
// +kubebuilder:rbac:groups=admissionregistration.k8s.io,resources=mutatingadmissionpolicies;mutatingadmissionpolicybindings;mutatingwebhookconfigurations,resourceNames=sluice-approval,verbs=get
// +kubebuilder:rbac:groups=admissionregistration.k8s.io,resources=mutatingwebhookconfigurations,resourceNames=sluice-injector,verbs=get
// +kubebuilder:rbac:groups=apps,resources=deployments,verbs=get;list;watch;patch
// +kubebuilder:rbac:groups=apps,resources=deployments/finalizers,verbs=update
// +kubebuilder:rbac:groups=apps,resources=replicasets,verbs=get;list;watch;create;patch;delete
// +kubebuilder:rbac:groups="",resources=pods,verbs=list
// +kubebuilder:rbac:groups="",resources=pods/eviction,verbs=create
// +kubebuilder:rbac:groups="",resources=namespaces,verbs=get
// +kubebuilder:rbac:groups=events.k8s.io,resources=events,verbs=create;patch
// +kubebuilder:rbac:groups="",resources=events,verbs=create;patch

// Reconciler moves Canaries.
type Reconciler struct {
	client   client.Client
	reader   client.Reader
	observer observer
	gateway  gateway
	clock    clock.PassiveClock
	recorder events.EventRecorder
	interval time.Duration
	seal     *Seal
	metrics  *Metrics
	hooks    *hook.Runner
	courier  *courier
	// watched is the watches' cache, and scenes what it is compared with; without it all is read anew.
	watched client.Reader
	scenes  scenes
}

// NewReconciler makes a Reconciler that writes through a client and reads, past any cache, through a
// reader: read-your-writes is what the phases rest on.
func NewReconciler(writer client.Client, reader client.Reader, options Options) (*Reconciler, error) {
	if options.Source == nil {
		return nil, errors.New("rollout: Options.Source is missing")
	}
	if options.Recorder == nil {
		return nil, errors.New("rollout: Options.Recorder is missing")
	}
	if options.Clock == nil {
		options.Clock = clock.RealClock{}
	}
	made := &Reconciler{
		client: client.WithFieldOwner(writer, v1alpha1.FieldManager), reader: reader,
		observer: observer{reader: reader, cached: writer},
		gateway:  gateway{source: options.Source, timeout: orDefault(options.SourceTimeout, 3*time.Second), memory: &memory{}},
		clock:    options.Clock, recorder: options.Recorder,
		interval: orDefault(options.Interval, 5*time.Second),
		seal:     options.Seal, metrics: options.Metrics, hooks: options.Hooks,
	}
	if options.Live != nil {
		made.gateway.watchman = &watchman{source: options.Live}
	}
	if options.Notifications != nil {
		made.courier = newCourier(writer, reader, options.Notifications, options.Clock, options.Metrics)
	}
	return made, nil
}

// Register adds the controller, and the hold's webhook if it is asked for, to a manager.
func Register(mgr manager.Manager, options Options) error {
	if options.Recorder == nil {
		options.Recorder = mgr.GetEventRecorder(v1alpha1.FieldManager)
	}
	reconciler, err := NewReconciler(mgr.GetClient(), mgr.GetAPIReader(), options)
	if err != nil {
		return err
	}
	if err := index(context.Background(), mgr.GetFieldIndexer()); err != nil {
		return err
	}
	reconciler.watched = mgr.GetClient()
	for name, runner := range map[string]*hook.Runner{"webhooks": options.Hooks, "notifications": options.Notifications} {
		if runner == nil {
			continue
		}
		if err := mgr.Add(runner); err != nil {
			return fmt.Errorf("add the runner of %s: %w", name, err)
		}
	}
	if reconciler.courier != nil {
		if err := reconciler.courier.register(mgr); err != nil {
			return err
		}
	}
	if options.HoldWebhook {
		mgr.GetWebhookServer().Register(HoldPath, HoldHandler(mgr.GetScheme()))
		mgr.GetWebhookServer().Register(StampPath, StampHandler())
	}
	return watch(mgr, reconciler, options)
}

// Reconcile looks at one Canary, decides, acts and writes its status.
func (r *Reconciler) Reconcile(ctx context.Context, request ctrl.Request) (ctrl.Result, error) {
	seen, decision, now, err := r.look(ctx, request.NamespacedName)
	if seen == nil || err != nil {
		return ctrl.Result{}, err
	}
	canary := seen.canary
	if decision.Standing.Reason == "" {
		return ctrl.Result{}, fmt.Errorf("plan phase %s: nothing was decided", canary.Status.Phase)
	}
	hands := &hands{client: r.client, reader: r.reader, seal: r.seal, hooks: r.hooks, scene: seen}
	if failed := hands.carryOut(ctx, decision.Effects); failed != nil {
		return r.afterFailure(ctx, canary, failed)
	}
	if err := hands.checkpoint(ctx); err != nil {
		return r.afterFailure(ctx, canary, err)
	}
	told := append(decision.Events, hands.events...)
	missed, err := r.courier.post(ctx, canary, &decision.Status, told)
	if err != nil {
		return r.afterFailure(ctx, nil, err)
	}
	if err := writeStatus(ctx, r.client, canary, decision, now); err != nil {
		return r.afterFailure(ctx, nil, err)
	}
	announce(r.recorder, canary, told)
	r.courier.posted(ctx, canary, told, missed)
	r.metrics.tell(told)
	r.metrics.ended(canary, decision.Effects, hands.run)
	r.metrics.observe(canary)
	if phase := decision.Status.Phase; phase == v1alpha1.PhaseStable || phase == v1alpha1.PhaseRejected {
		r.hooks.Forget(request.NamespacedName) // nobody waits for an answer any more
		r.gateway.forget(request.NamespacedName)
	} else if r.watched != nil {
		r.scenes.put(request.NamespacedName, seen)
	}
	return ctrl.Result{RequeueAfter: r.again(decision, now), Priority: new(priority(decision))}, nil
}

// priority of the next look, if it comes by itself: who holds a step looks after all who have something to do.
func priority(decision Decision) int {
	if decision.Next == NextInterval && decision.Status.Phase == v1alpha1.PhaseHolding {
		return handler.LowPriority
	}
	return 0
}

// look at a Canary and decide; nil when it is gone. By what is remembered alone only that is decided
// that nothing is to be done.
func (r *Reconciler) look(ctx context.Context, key types.NamespacedName) (*scene, Decision, time.Time, error) {
	seen, err := r.recalled(ctx, key)
	if seen != nil {
		decision, now := r.decide(ctx, seen)
		if !acts(&seen.canary.Status, &decision) {
			return seen, decision, now, nil
		}
	}
	if err == nil {
		seen, err = r.whole(ctx, key)
	}
	if err != nil {
		return nil, Decision{}, time.Time{}, err
	}
	if seen == nil {
		r.forget(key)
		return nil, Decision{}, time.Time{}, nil
	}
	decision, now := r.decide(ctx, seen)
	return seen, decision, now, nil
}

func (r *Reconciler) forget(key types.NamespacedName) {
	r.metrics.forget(key)
	r.hooks.Forget(key)
	r.gateway.forget(key)
	r.courier.forget(key)
}

func (r *Reconciler) decide(ctx context.Context, seen *scene) (Decision, time.Time) {
	now := r.clock.Now()
	seen.Gate = r.gateway.look(ctx, seen, now)
	r.metrics.looked(seen.Gate, r.clock.Since(now))
	seen.Hooks = r.hooks.Answers(client.ObjectKeyFromObject(seen.canary), seen.canary.Status.Run)
	return Plan(seen.canary, seen.Observed, now), now
}

// errMoved is a write that was not done because its object is no longer what was decided on.
const errMoved = movedError("the world moved on")

type movedError string

func (e movedError) Error() string { return string(e) }

// afterFailure looks again: at once when the world had moved on since it was observed, which is no
// error, else with growing pauses and with the failure in the status.
func (r *Reconciler) afterFailure(ctx context.Context, canary *v1alpha1.Canary, failed error) (ctrl.Result, error) {
	if apierrors.IsConflict(failed) || apierrors.IsAlreadyExists(failed) || errors.Is(failed, errMoved) {
		return ctrl.Result{RequeueAfter: r.delay(AtOnce)}, nil
	}
	if canary == nil {
		return ctrl.Result{}, failed
	}
	return ctrl.Result{}, errors.Join(failed, writeStatus(ctx, r.client, canary, withFailure(canary, failed), r.clock.Now()))
}

// again is when to look again after a decision; 0 when only a change can matter.
func (r *Reconciler) again(decision Decision, now time.Time) time.Duration {
	delay := r.delay(decision.Next)
	if decision.Wake.IsZero() {
		return delay
	}
	if left := max(decision.Wake.Sub(now), r.delay(AtOnce)); delay == 0 || left < delay {
		return left
	}
	return delay
}

func (r *Reconciler) delay(next Next) time.Duration {
	switch next {
	case AtOnce:
		return time.Millisecond
	case NextInterval:
		return r.interval
	case WhenChanged:
	}
	return 0
}

func orDefault[T comparable](value, fallback T) T {
	var zero T
	if value == zero {
		return fallback
	}
	return value
}
