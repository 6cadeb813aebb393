// SPDX-License-Identifier: Apache-2.0

package rollout

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/sluice-mesh/sluice/api/v1alpha1"
)

// policies reads the RolloutPolicies that select the Canary's namespace, and where it stands in the
// queues of their budgets. Policies and Canaries come from the cache; the namespace's labels cost a
// read only where there is a policy.
func (o *observer) policies(ctx context.Context, s *scene) error {
	list := &v1alpha1.RolloutPolicyList{}
	if err := o.cached.List(ctx, list); err != nil {
		return fmt.Errorf("list rolloutpolicies: %w", err)
	}
	if len(list.Items) == 0 {
		return nil
	}
	namespace := &metav1.PartialObjectMetadata{}
	namespace.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("Namespace"))
	if err := o.reader.Get(ctx, types.NamespacedName{Name: s.canary.Namespace}, namespace); err != nil {
		return client.IgnoreNotFound(err)
	}
	for i := range list.Items {
		policy := &list.Items[i]
		selector := labels.Everything()
		if policy.Spec.NamespaceSelector != nil {
			var err error
			if selector, err = metav1.LabelSelectorAsSelector(policy.Spec.NamespaceSelector); err != nil {
				// Whom it selects is not known: it brakes everybody, and no rollback.
				s.PolicyFault = fmt.Sprintf("RolloutPolicy %s: spec.namespaceSelector: %v", policy.Name, err)
				continue
			}
		}
		if selector.Matches(labels.Set(namespace.Labels)) {
			s.Policies = append(s.Policies, *policy)
		}
	}
	slices.SortFunc(s.Policies, func(a, b v1alpha1.RolloutPolicy) int { return cmp.Compare(a.Name, b.Name) })
	return o.slots(ctx, s)
}

// slots stands the Canary to each budget. The queue is looked at only by who is in it.
func (o *observer) slots(ctx context.Context, s *scene) error {
	var queue v1alpha1.CanaryList
	if s.canary.Status.Phase == v1alpha1.PhaseHeld && slices.ContainsFunc(s.Policies, func(p v1alpha1.RolloutPolicy) bool { return budgeted(&p) }) {
		if err := o.cached.List(ctx, &queue); err != nil {
			return fmt.Errorf("list canaries in queues: %w", err)
		}
	}
	for i := range s.Policies {
		if policy := &s.Policies[i]; budgeted(policy) {
			s.Slots = append(s.Slots, slotOf(policy, queue.Items, s.canary))
		}
	}
	return nil
}

// emergency is the brake of the first policy that stops everything.
func (p *planner) emergency() *brake {
	for _, policy := range p.seen.Policies {
		if stop := policy.Spec.EmergencyStop; stop != nil && !p.returning() {
			return &brake{reason: v1alpha1.ReasonEmergencyStop, message: fmt.Sprintf(
				"RolloutPolicy %s: emergency stop (%s): %s", policy.Name, stop.Mode, stop.Reason)}
		}
	}
	return nil
}

// evacuated: an emergency stop takes the traffic of this run back. What has not begun has none.
func (p *planner) evacuated() bool {
	return p.status.Phase != v1alpha1.PhaseHeld && !p.returning() &&
		slices.ContainsFunc(p.seen.Policies, func(policy v1alpha1.RolloutPolicy) bool {
			return policy.Spec.EmergencyStop != nil && policy.Spec.EmergencyStop.Mode == v1alpha1.EmergencyRollBack
		})
}

// frozenByPolicy is the brake of the policies' windows.
func (p *planner) frozenByPolicy() *brake {
	if p.seen.PolicyFault != "" {
		return &brake{reason: v1alpha1.ReasonInvalidSpec, stalled: true, message: p.seen.PolicyFault}
	}
	for _, policy := range p.seen.Policies {
		if stop := frozen("RolloutPolicy "+policy.Name+": spec.freezes", policy.Spec.Freezes, p.now); stop != nil {
			return stop
		}
	}
	return nil
}
