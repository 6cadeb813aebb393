// SPDX-License-Identifier: Apache-2.0

package rollout

import (
	"context"
	"errors"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/sluice-mesh/sluice/api/v1alpha1"
	"github.com/sluice-mesh/sluice/rollout/hook"
)

// askHook hands a question to the runner; the answer is observed by a later look.
func (h *hands) askHook(ctx context.Context, e AskHook) error {
	call, err := e.Message.call(&e.Webhook, e.Key, e.Run)
	if err != nil {
		return err
	}
	if h.hooks == nil {
		return errors.New("ask a webhook: this controller was made without")
	}
	refused := (*hook.RefusedError)(nil)
	err = h.sign(ctx, &call, e.Webhook.SecretRef)
	switch {
	case errors.As(err, &refused):
		h.hooks.Refuse(call, refused.Why)
		return nil
	case err != nil:
		return err
	}
	if err := h.hooks.Ask(call, e.Attempt); err != nil {
		return fmt.Errorf("ask webhook %s: %w", e.Webhook.Name, err)
	}
	return nil
}

// tellHook hands a message to the runner. Nobody waits for it, so what goes wrong is an event and
// stops nothing.
func (h *hands) tellHook(ctx context.Context, e TellHook) error {
	call, err := e.Message.call(&e.Webhook, e.Key, e.Run)
	if err != nil {
		return err
	}
	log := ctrl.LoggerFrom(ctx)
	call.Done = func(failed error) {
		if failed != nil {
			log.Info("a webhook was not told", "webhook", e.Webhook.Name, "type", e.Webhook.Type, "run", e.Run, "why", failed.Error())
		}
	}
	err = errors.New("this controller was made without webhooks")
	if h.hooks != nil {
		if err = h.sign(ctx, &call, e.Webhook.SecretRef); err == nil {
			err = h.hooks.Tell(call)
		}
	}
	if err != nil {
		h.events = append(h.events, Event{Warning: true, Reason: v1alpha1.ReasonWebhookRefused,
			Message: fmt.Sprintf("webhook %s (%s) is not told: %v", e.Webhook.Name, e.Webhook.Type, err)})
	}
	return nil
}

// sign adds what the Secret holds. The controller may read Secrets only where a tenant has bound the
// role for it.
func (h *hands) sign(ctx context.Context, call *hook.Call, reference *v1alpha1.SecretReference) error {
	if reference == nil {
		return nil
	}
	secret, err := readSecret(ctx, h.reader, client.ObjectKey{Namespace: h.canary.Namespace, Name: reference.Name})
	if err != nil {
		return err
	}
	call.HMAC, call.CA = secret.Data[v1alpha1.SecretKeyHMAC], secret.Data[v1alpha1.SecretKeyCA]
	return nil
}

// readSecret reads a tenant's Secret. A *hook.RefusedError says what somebody must mend.
func readSecret(ctx context.Context, reader client.Reader, name client.ObjectKey) (*corev1.Secret, error) {
	secret := &corev1.Secret{}
	err := reader.Get(ctx, name, secret)
	switch {
	case apierrors.IsForbidden(err):
		return nil, &hook.RefusedError{Why: fmt.Sprintf(
			"Secret %s must not be read: bind a Role for it to sluice-controller, as config/samples/secret-role.yaml does", name.Name)}
	case apierrors.IsNotFound(err):
		return nil, &hook.RefusedError{Why: fmt.Sprintf("there is no Secret %s in namespace %s", name.Name, name.Namespace)}
	case err != nil:
		return nil, fmt.Errorf("read Secret %s: %w", name, err)
	}
	return secret, nil
}
