// SPDX-License-Identifier: Apache-2.0

package ca

import (
	"context"
	"crypto/x509"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/go-logr/logr"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/sluice-mesh/sluice/mesh/identity"
)

// SecretName is the name of the Secret with the authority's key, in the namespace of the system.
const SecretName = "sluice-trust"

// +kubebuilder:rbac:groups="",namespace=sluice-system,resources=secrets,verbs=create
// +kubebuilder:rbac:groups="",namespace=sluice-system,resources=secrets,resourceNames=sluice-trust,verbs=get

// IssuerOptions says where the authority's key is kept.
type IssuerOptions struct {
	// Client reads and creates the Secret. It must not cache: a cache would need to list Secrets.
	Client client.Client
	// Namespace is that of the system.
	Namespace string
	// SecretName is the Secret's; SecretName when empty.
	SecretName  string
	TrustDomain spiffeid.TrustDomain
	Logger      logr.Logger
	// Now is the clock, time.Now when nil.
	Now func() time.Time
}

// Issuer signs certificates with the key in the trust Secret.
type Issuer struct {
	options IssuerOptions
	current atomic.Pointer[authority]
}

// NewIssuer reads the trust Secret, or makes it with a new root. Replicas that start together agree
// on the one that the API server took first.
func NewIssuer(ctx context.Context, options IssuerOptions) (*Issuer, error) {
	if options.Now == nil {
		options.Now = time.Now
	}
	if options.SecretName == "" {
		options.SecretName = SecretName
	}
	issuer := &Issuer{options: options}
	loaded, err := issuer.load(ctx)
	if apierrors.IsNotFound(err) {
		loaded, err = issuer.create(ctx)
	}
	if err != nil {
		return nil, err
	}
	issuer.current.Store(loaded)
	return issuer, nil
}

// TrustDomain returns the trust domain that the issuer signs for.
func (i *Issuer) TrustDomain() spiffeid.TrustDomain { return i.options.TrustDomain }

// Anchors returns the trust anchors in force, as PEM: what the injector bakes into proxies and what
// webhooks are trusted by.
func (i *Issuer) Anchors() []byte { return identity.EncodeAnchors(i.current.Load().anchors) }

// Bundle returns the trust anchors in force.
func (i *Issuer) Bundle() (*x509.CertPool, error) { return i.current.Load().pool, nil }

// NotAfter is when the signing certificate ends.
func (i *Issuer) NotAfter() time.Time { return i.current.Load().certificate.NotAfter }

func (i *Issuer) load(ctx context.Context) (*authority, error) {
	var secret corev1.Secret
	key := client.ObjectKey{Namespace: i.options.Namespace, Name: i.options.SecretName}
	if err := i.options.Client.Get(ctx, key, &secret); err != nil {
		return nil, fmt.Errorf("read the Secret %s: %w", key, err)
	}
	loaded, err := parseAuthority(secret.Data, i.options.Now())
	if err != nil {
		return nil, fmt.Errorf("read the Secret %s: %w", key, err)
	}
	return loaded, nil
}

func (i *Issuer) create(ctx context.Context) (*authority, error) {
	data, err := newRoot(i.options.TrustDomain.Name(), i.options.Now())
	if err != nil {
		return nil, err
	}
	secret := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: i.options.Namespace,
			Name:      i.options.SecretName,
			Labels:    map[string]string{"app.kubernetes.io/part-of": "sluice"},
		},
		Type: corev1.SecretTypeTLS,
		Data: data,
	}
	err = i.options.Client.Create(ctx, secret)
	if apierrors.IsAlreadyExists(err) {
		// Another replica was first: its root is the one.
		return i.load(ctx)
	}
	if err != nil {
		return nil, fmt.Errorf("create the Secret %s/%s: %w", i.options.Namespace, i.options.SecretName, err)
	}
	return parseAuthority(data, i.options.Now())
}
