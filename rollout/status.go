// SPDX-License-Identifier: Apache-2.0

package rollout

import (
	"context"
	"fmt"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/sluice-mesh/sluice/api/v1alpha1"
	"github.com/sluice-mesh/sluice/internal/fluxkit"
)

// countsEvery is how often a status is written in which nothing has changed but what the gate counts.
const countsEvery = 5 * time.Second

// writeStatus is the one place that writes a Canary's status, once per reconcile and only when it
// differs. It fails when the Canary changed meanwhile: what was decided was decided on the old one.
func writeStatus(ctx context.Context, writer client.Client, canary *v1alpha1.Canary, decision Decision, now time.Time) error {
	before := canary.DeepCopy()
	canary.Status = decision.Status
	canary.Status.Conditions = fluxkit.Apply(canary, before.Status.Conditions, decision.Standing)
	if at, asked := fluxkit.RequestedAt(canary); asked {
		canary.Status.LastHandledReconcileAt = at
	}
	if equality.Semantic.DeepEqual(before.Status, canary.Status) {
		return nil
	}
	if !acts(&before.Status, &decision) && decision.Next == NextInterval && canWait(&before.Status, &canary.Status, now) {
		canary.Status = before.Status
		return nil
	}
	patch := client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{})
	if err := writer.Status().Patch(ctx, canary, patch); client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("write the status of canary %s: %w", canary.Name, err)
	}
	return nil
}

// canWait: a held step's status differs from the written one in nothing but what a newer judgement has
// counted, and that one is young. A step's clock that is stopped reckons from the written verdict's time: it
// stands longer by countsEvery at most. In any other phase a text may say what people wait for.
func canWait(written, decided *v1alpha1.CanaryStatus, now time.Time) bool {
	return decided.Phase == v1alpha1.PhaseHolding && sameButCounts(written, decided) && // both have a verdict or none has
		written.Verdict != nil && now.Sub(written.Verdict.Time.Time) < countsEvery && decided.Verdict.Time.After(written.Verdict.Time.Time) &&
		slices.EqualFunc(written.Conditions, decided.Conditions, func(a, b metav1.Condition) bool {
			a.Message, a.LastTransitionTime = b.Message, b.LastTransitionTime // The text has the counts; a new text is a new time.
			return a == b
		})
}

// sameButCounts: two statuses are the same but for their conditions and the numbers of the same verdict.
func sameButCounts(a, b *v1alpha1.CanaryStatus) bool {
	if (a.Verdict == nil) != (b.Verdict == nil) || a.Verdict != nil && a.Verdict.Verdict != b.Verdict.Verdict {
		return false
	}
	one, other := *a, *b
	one.Verdict, other.Verdict, one.Conditions, other.Conditions = nil, nil, nil, nil
	return equality.Semantic.DeepEqual(one, other)
}

// withFailure is the status when an effect failed: the old one, because the next look decides anew,
// with what went wrong.
func withFailure(canary *v1alpha1.Canary, failed error) Decision {
	return Decision{
		Status: *canary.Status.DeepCopy(),
		Standing: fluxkit.Standing{
			Ready: metav1.ConditionUnknown, Reconciling: true,
			Reason: v1alpha1.ReasonWriteFailed, Message: failed.Error(),
		},
	}
}
