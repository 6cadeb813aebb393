// SPDX-License-Identifier: Apache-2.0

package rollout

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"github.com/sluice-mesh/sluice/api/v1alpha1"
	"github.com/sluice-mesh/sluice/internal/fluxkit"
	"github.com/sluice-mesh/sluice/rollout/hook"
	"github.com/sluice-mesh/sluice/rollout/notify"
)

// register adds what brings messages to Notifiers, and what says in their conditions whether it can.
func (c *courier) register(mgr manager.Manager) error {
	err := builder.ControllerManagedBy(mgr).Named("courier").
		For(&v1alpha1.Canary{}, builder.WithPredicates(predicate.NewPredicateFuncs(hasMessages))).
		WatchesRawSource(source.Channel(c.settledNews, &handler.EnqueueRequestForObject{})).
		Complete(c)
	if err != nil {
		return fmt.Errorf("register the courier: %w", err)
	}
	err = builder.ControllerManagedBy(mgr).Named("notifier").
		For(&v1alpha1.Notifier{}, builder.WithPredicates(predicate.GenerationChangedPredicate{})).
		WatchesRawSource(source.Channel(c.resultNews, &handler.EnqueueRequestForObject{})).
		Complete(&notifierReconciler{c})
	if err != nil {
		return fmt.Errorf("register the notifier controller: %w", err)
	}
	return nil
}

func hasMessages(object client.Object) bool {
	canary, ok := object.(*v1alpha1.Canary)
	return ok && len(canary.Status.Messages) > 0
}

// call is a request to a Notifier's address, without what it says. A *hook.RefusedError says what
// somebody must mend.
func (c *courier) call(ctx context.Context, notifier *v1alpha1.Notifier) (hook.Call, error) {
	call := hook.Call{
		Request: hook.Request{URL: notifier.Spec.Address, Timeout: notifyTimeout},
		Owner:   client.ObjectKeyFromObject(notifier), Retries: notifyRetries,
	}
	reference := notifier.Spec.AddressSecretRef
	if reference == nil {
		return call, nil
	}
	secret, err := readSecret(ctx, c.reader, client.ObjectKey{Namespace: notifier.Namespace, Name: reference.Name})
	if err != nil {
		return call, err
	}
	call.URL = string(secret.Data[v1alpha1.SecretKeyAddress])
	if call.URL == "" {
		return call, &hook.RefusedError{Why: fmt.Sprintf("Secret %s has no key %s", reference.Name, v1alpha1.SecretKeyAddress)}
	}
	call.CA = secret.Data[v1alpha1.SecretKeyCA]
	if notifier.Spec.Type == v1alpha1.NotifierGeneric {
		call.HMAC = secret.Data[v1alpha1.SecretKeyHMAC]
	}
	return call, nil
}

// notifierReconciler brings the conditions of Notifiers up to date.
type notifierReconciler struct{ *courier }

// Reconcile looks whether a Notifier can be told. Its Secret is not watched, so one that cannot be read
// is looked at again.
func (r *notifierReconciler) Reconcile(ctx context.Context, request ctrl.Request) (ctrl.Result, error) {
	notifier := &v1alpha1.Notifier{}
	if err := r.reader.Get(ctx, request.NamespacedName, notifier); err != nil {
		if apierrors.IsNotFound(err) {
			r.lock.Lock()
			delete(r.results, request.NamespacedName)
			r.lock.Unlock()
			r.metrics.forgetNotifier(request.NamespacedName)
		}
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	standing, again, err := r.stand(ctx, notifier)
	if err != nil {
		return ctrl.Result{}, err
	}
	before := notifier.DeepCopy()
	notifier.Status.Conditions = fluxkit.Apply(notifier, before.Status.Conditions, standing)
	notifier.Status.ObservedGeneration = notifier.Generation
	if equality.Semantic.DeepEqual(before.Status, notifier.Status) {
		return ctrl.Result{RequeueAfter: again}, nil
	}
	patch := client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{})
	if err := r.client.Status().Patch(ctx, notifier, patch); client.IgnoreNotFound(err) != nil {
		return ctrl.Result{}, fmt.Errorf("write the status of notifier %s: %w", notifier.Name, err)
	}
	return ctrl.Result{RequeueAfter: again}, nil
}

func (r *notifierReconciler) stand(ctx context.Context, notifier *v1alpha1.Notifier) (fluxkit.Standing, time.Duration, error) {
	if fault := faultOf(&notifier.Spec); fault != "" {
		return fluxkit.Standing{Ready: metav1.ConditionFalse, Stalled: true, Reason: v1alpha1.ReasonInvalidSpec, Message: fault}, 0, nil
	}
	refused := (*hook.RefusedError)(nil)
	_, err := r.call(ctx, notifier)
	switch {
	case errors.As(err, &refused):
		return fluxkit.Standing{Ready: metav1.ConditionFalse, Stalled: true, Reason: v1alpha1.ReasonAddressRefused, Message: refused.Why}, mendInterval, nil
	case err != nil:
		return fluxkit.Standing{}, 0, err
	}
	r.lock.Lock()
	result, known := r.results[client.ObjectKeyFromObject(notifier)]
	r.lock.Unlock()
	return standingOf(notifier, result, known), 0, nil
}

// faultOf says what of a Notifier cannot be obeyed; empty when all can.
func faultOf(spec *v1alpha1.NotifierSpec) string {
	if _, err := notify.Wants(spec, nil, "", ""); err != nil {
		return err.Error()
	}
	for i, reason := range spec.Events {
		if !slices.Contains(toldReasons(), reason) {
			return fmt.Sprintf("spec.events[%d]: %q is the reason of no event; docs/conditions.md lists them", i, reason)
		}
	}
	return ""
}

// standingOf is how a Notifier stands that can be told. A controller that has told it nothing yet keeps
// what the one before it knew.
func standingOf(notifier *v1alpha1.Notifier, result string, known bool) fluxkit.Standing {
	for _, condition := range notifier.Status.Conditions {
		if !known && condition.Type == v1alpha1.ConditionReady && condition.Reason == v1alpha1.ReasonDeliveryFailed && condition.ObservedGeneration == notifier.Generation {
			return fluxkit.Standing{Ready: condition.Status, Reason: condition.Reason, Message: condition.Message}
		}
	}
	if result != "" {
		return fluxkit.Standing{Ready: metav1.ConditionFalse, Reason: v1alpha1.ReasonDeliveryFailed, Message: "the last message was given up: " + result}
	}
	return fluxkit.Standing{Ready: metav1.ConditionTrue, Reason: v1alpha1.ReasonDelivering, Message: "what is to be told is delivered"}
}
