// SPDX-License-Identifier: Apache-2.0

// Package fluxkit is the one place that uses github.com/fluxcd/pkg: kstatus conditions and the
// annotation by which people ask for a reconciliation. That library breaks between its minor
// versions; behind this package a bump is one change.
//
// It must not know any kind of Sluice, and must not talk to a cluster.
package fluxkit

import (
	"github.com/fluxcd/pkg/apis/meta"
	"github.com/fluxcd/pkg/runtime/conditions"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// Standing is what an object says about itself to kstatus, and so to Flux, Argo CD and kubectl wait.
// Reconciling and stalled objects never stand together.
type Standing struct {
	// Ready as the condition's status; Unknown while something moves.
	Ready metav1.ConditionStatus
	// Reconciling: something moves or is waited for. Stalled: nothing will move without a person.
	Reconciling, Stalled bool
	// Reason and Message go into each of the conditions.
	Reason, Message string
}

// Apply returns the conditions of an object, brought to a standing. Transition times move only when
// something changed; the object's generation is in every condition.
func Apply(object client.Object, current []metav1.Condition, standing Standing) []metav1.Condition {
	target := &conditioned{Object: object, list: append([]metav1.Condition(nil), current...)}
	switch {
	case standing.Stalled:
		conditions.MarkStalled(target, standing.Reason, "%s", standing.Message)
	case standing.Reconciling:
		conditions.MarkReconciling(target, standing.Reason, "%s", standing.Message)
	default:
		conditions.Delete(target, meta.StalledCondition)
		conditions.Delete(target, meta.ReconcilingCondition)
	}
	conditions.Set(target, &metav1.Condition{
		Type: meta.ReadyCondition, Status: standing.Ready, Reason: standing.Reason, Message: standing.Message,
	})
	return target.list
}

// RequestedAt is the value of the annotation reconcile.fluxcd.io/requestedAt, if there is one.
func RequestedAt(object client.Object) (string, bool) {
	return meta.ReconcileAnnotationValue(object.GetAnnotations())
}

// conditioned gives an object the methods that the library wants, which the API package must not have.
type conditioned struct {
	client.Object
	list []metav1.Condition
}

func (c *conditioned) GetConditions() []metav1.Condition     { return c.list }
func (c *conditioned) SetConditions(list []metav1.Condition) { c.list = list }
