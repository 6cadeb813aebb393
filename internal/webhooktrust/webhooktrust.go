// SPDX-License-Identifier: Apache-2.0

// Package webhooktrust makes the API server trust a webhook server that makes its own certificates:
// it keeps the caBundle of a webhook configuration equal to the anchors that the server's
// certificate leads to.
//
// It must not make certificates, and must not write any other field of the configuration.
package webhooktrust

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/go-logr/logr"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	applyadmission "k8s.io/client-go/applyconfigurations/admissionregistration/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// interval is how soon a configuration that was made anew, or anchors that were replaced, are seen.
const interval = 5 * time.Second

// Options of a Keeper.
type Options struct {
	// Client must not cache: a cache would need to list all configurations.
	Client client.Client
	// Configuration is the name of the MutatingWebhookConfiguration.
	Configuration string
	// Manager is the field manager that owns the bundles.
	Manager string
	// Anchors returns the bundle in force, as PEM.
	Anchors func() []byte
	Logger  logr.Logger
}

// Keeper keeps the bundles of one configuration. It is a controller-runtime Runnable.
type Keeper struct {
	options Options
	trusted atomic.Bool
}

// New returns a Keeper.
func New(options Options) *Keeper { return &Keeper{options: options} }

// Start keeps the bundles until the context ends.
func (k *Keeper) Start(ctx context.Context) error {
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		err := k.Once(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			k.options.Logger.Error(err, "the API server may not trust the webhook", "configuration", k.options.Configuration)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}

// NeedLeaderElection is false: each replica serves, so each makes sure that it can be called.
func (k *Keeper) NeedLeaderElection() bool { return false }

// Ready fails until the API server can call the webhook: a Deployment that is ready is one that works.
func (k *Keeper) Ready(*http.Request) error {
	if !k.trusted.Load() {
		return errors.New("the webhook configuration has no caBundle yet")
	}
	return nil
}

// Once looks at the configuration and writes the bundles that differ.
func (k *Keeper) Once(ctx context.Context) error {
	var current admissionregistrationv1.MutatingWebhookConfiguration
	key := client.ObjectKey{Name: k.options.Configuration}
	if err := k.options.Client.Get(ctx, key, &current); err != nil {
		return fmt.Errorf("read the webhook configuration %s: %w", key.Name, err)
	}
	anchors := k.options.Anchors()
	wanted := applyadmission.MutatingWebhookConfiguration(current.Name)
	stale := false
	for i := range current.Webhooks {
		webhook := &current.Webhooks[i]
		stale = stale || !bytes.Equal(webhook.ClientConfig.CABundle, anchors)
		wanted.WithWebhooks(applyadmission.MutatingWebhook().WithName(webhook.Name).
			WithClientConfig(applyadmission.WebhookClientConfig().WithCABundle(anchors...)))
	}
	if stale {
		// The uid keeps a configuration from being made by this write, when it was deleted meanwhile.
		wanted.WithUID(current.UID)
		err := k.options.Client.Apply(ctx, wanted, client.FieldOwner(k.options.Manager), client.ForceOwnership)
		if err != nil {
			return fmt.Errorf("write the caBundle of %s: %w", key.Name, err)
		}
		k.options.Logger.Info("caBundle written", "configuration", current.Name, "webhooks", len(current.Webhooks))
	}
	k.trusted.Store(true)
	return nil
}
