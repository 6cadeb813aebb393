// SPDX-License-Identifier: Apache-2.0

package discovery

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/go-logr/logr"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/sluice-mesh/sluice/api/v1alpha1"
)

// fieldManager owns the status of TrafficSplits.
const fieldManager = "sluice-mesh"

// expiryInterval is how often statuses are looked at though no proxy has said anything: proxies
// that have left stop counting by time alone.
const expiryInterval = time.Second

// +kubebuilder:rbac:groups=sluice.dev,resources=trafficsplits/status,verbs=patch

// statusWriter keeps the status of TrafficSplits what the registry says. It must run once for all
// streams: with several replicas of discovery each would know only its own.
type statusWriter struct {
	registry *registry
	client   client.Client
	logger   logr.Logger
	now      func() time.Time
	// records by UID of the TrafficSplit.
	records map[types.UID]*record
}

// record is what is known of one split's status.
type record struct {
	// written is what was written last.
	written   v1alpha1.TrafficSplitStatus
	writtenAt time.Time
	// differsSince is when what ought to be written began to differ; zero while it does not.
	differsSince time.Time
	// settled is the generation that all carriers have run.
	settled int64
	// retryAt holds writes back after one has failed.
	retryAt time.Time
}

func newStatusWriter(registry *registry, writes client.Client, logger logr.Logger) *statusWriter {
	return &statusWriter{
		registry: registry, client: writes, logger: logger, now: registry.now,
		records: map[types.UID]*record{},
	}
}

// run writes until the context ends.
func (w *statusWriter) run(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-w.registry.changed:
		case <-timer.C:
		}
		// When the process ends, streams end before it does: that must not be written down.
		if ctx.Err() != nil {
			return
		}
		timer.Reset(w.writeAll(ctx))
	}
}

// writeAll brings all statuses up to date and returns when to look again.
func (w *statusWriter) writeAll(ctx context.Context) time.Duration {
	splits := w.registry.splitsInForce()
	alive := make(map[types.UID]bool, len(splits))
	next := expiryInterval
	for _, split := range splits {
		alive[split.object.UID] = true
		next = min(next, w.writeOne(ctx, split))
	}
	for uid := range w.records {
		if !alive[uid] {
			delete(w.records, uid)
		}
	}
	return next
}

func (w *statusWriter) writeOne(ctx context.Context, split *split) time.Duration {
	known := w.records[split.object.UID]
	if known == nil {
		known = &record{written: *split.object.Status.DeepCopy()}
		if isAcknowledged(&known.written) {
			known.settled = known.written.ObservedGeneration
		}
		w.records[split.object.UID] = known
	}
	carriers := w.registry.carriers(split.Split)
	counts := acknowledge(carriers, known.settled == split.Generation)
	now := w.now()
	desired := desiredStatus(known.written, split.Generation, counts, now)
	desired.Revisions = openOn(split.Split, carriers)
	// A control plane that has begun anew does not know what the pods that are gone had reported.
	desired.Unsplit = max(desired.Unsplit, w.registry.unsplitRequests(split.Workload))
	if isAcknowledged(&desired) {
		known.settled = split.Generation
	}
	wait, due := known.due(&desired, split.Split, now)
	if !due {
		return wait
	}
	if err := w.apply(ctx, split.object, &desired); err != nil {
		known.retryAt = now.Add(time.Second)
		// Not found and conflict: the split is gone or is another of the same name by now.
		if ctx.Err() == nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
			w.logger.Error(err, "cannot write the status of a TrafficSplit", "trafficSplit", keyOf(split.object))
		}
		return time.Second
	}
	known.written, known.writtenAt, known.differsSince = desired, now, time.Time{}
	return expiryInterval
}

// desiredStatus is the status of a generation, but for what is open. It is pure.
func desiredStatus(written v1alpha1.TrafficSplitStatus, generation int64, counts v1alpha1.ProxyCounts, now time.Time) v1alpha1.TrafficSplitStatus {
	desired := *written.DeepCopy()
	desired.ObservedGeneration = generation
	desired.Proxies = counts
	condition := metav1.Condition{
		Type:               v1alpha1.ConditionAcknowledged,
		Status:             metav1.ConditionTrue,
		Reason:             v1alpha1.ReasonAcknowledged,
		ObservedGeneration: generation,
		LastTransitionTime: metav1.NewTime(now),
		Message:            fmt.Sprintf("all %d proxies that carry the workload's traffic run generation %d", counts.Carrying, generation),
	}
	switch {
	case counts.Carrying == 0:
		condition.Message = "no connected proxy carries the workload's traffic"
	case counts.Acknowledged < counts.Carrying:
		condition.Status = metav1.ConditionFalse
		condition.Reason = v1alpha1.ReasonWaitingForProxies
		condition.Message = fmt.Sprintf("%d of %d proxies run generation %d; waiting for %s",
			counts.Acknowledged, counts.Carrying, generation, strings.Join(counts.Laggards, ", "))
	}
	meta.SetStatusCondition(&desired.Conditions, condition)
	return desired
}

func isAcknowledged(status *v1alpha1.TrafficSplitStatus) bool {
	condition := meta.FindStatusCondition(status.Conditions, v1alpha1.ConditionAcknowledged)
	return condition != nil && condition.Status == metav1.ConditionTrue &&
		condition.ObservedGeneration == status.ObservedGeneration
}

// apply writes a status by server-side apply. The UID makes the API server refuse it if the split
// has been deleted and made anew: its generations would mean something else.
func (w *statusWriter) apply(ctx context.Context, split *v1alpha1.TrafficSplit, status *v1alpha1.TrafficSplitStatus) error {
	fields, err := runtime.DefaultUnstructuredConverter.ToUnstructured(status)
	if err != nil {
		return fmt.Errorf("encode a status: %w", err)
	}
	object := &unstructured.Unstructured{Object: map[string]any{"status": fields}}
	object.SetGroupVersionKind(v1alpha1.GroupVersion.WithKind("TrafficSplit"))
	object.SetNamespace(split.Namespace)
	object.SetName(split.Name)
	object.SetUID(split.UID)
	err = w.client.Status().Apply(ctx, client.ApplyConfigurationFromUnstructured(object),
		client.FieldOwner(fieldManager), client.ForceOwnership)
	if err != nil {
		return fmt.Errorf("apply the status of TrafficSplit %s: %w", keyOf(split), err)
	}
	return nil
}
