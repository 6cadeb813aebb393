// SPDX-License-Identifier: Apache-2.0

package rollout

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/sluice-mesh/sluice/api/v1alpha1"
	"github.com/sluice-mesh/sluice/rollout/chain"
)

// Names of what the heads of records are signed with, in the namespace of the controller: a Secret
// that only the controller reads, and a ConfigMap with the public half of every key there ever was.
const (
	SealSecret     = "sluice-record-key"
	SealConfigMap  = "sluice-record-keys"
	sealPrivateKey = "ed25519.pem"
)

// +kubebuilder:rbac:groups="",namespace=sluice-system,resources=secrets;configmaps,verbs=create
// +kubebuilder:rbac:groups="",namespace=sluice-system,resources=secrets,resourceNames=sluice-record-key,verbs=get
// +kubebuilder:rbac:groups="",namespace=sluice-system,resources=configmaps,resourceNames=sluice-record-keys,verbs=get;patch

// Seal signs the heads of records.
type Seal struct {
	key   ed25519.PrivateKey
	known chain.Keys
}

// LoadSeal reads the key, or makes it when there is none, and publishes its public half. The client
// must not cache: a cache would need to list Secrets.
func LoadSeal(ctx context.Context, writer client.Client, namespace string) (*Seal, error) {
	key, err := sealKey(ctx, writer, namespace)
	if err != nil {
		return nil, err
	}
	known, err := publish(ctx, writer, namespace, key)
	if err != nil {
		return nil, err
	}
	return &Seal{key: key, known: known}, nil
}

func sealKey(ctx context.Context, writer client.Client, namespace string) (ed25519.PrivateKey, error) {
	secret := &corev1.Secret{}
	name := client.ObjectKey{Namespace: namespace, Name: SealSecret}
	err := writer.Get(ctx, name, secret)
	if apierrors.IsNotFound(err) {
		if secret, err = newSealSecret(name); err != nil {
			return nil, err
		}
		if err = writer.Create(ctx, secret); apierrors.IsAlreadyExists(err) {
			// Another replica was first: its key is the one.
			err = writer.Get(ctx, name, secret)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("read or create the Secret %s: %w", name, err)
	}
	block, _ := pem.Decode(secret.Data[sealPrivateKey])
	if block == nil {
		return nil, fmt.Errorf("read the Secret %s: %s holds no PEM; delete the Secret to have a new key made", name, sealPrivateKey)
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("read %s in the Secret %s: %w", sealPrivateKey, name, err)
	}
	key, ok := parsed.(ed25519.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("read %s in the Secret %s: it is no Ed25519 key", sealPrivateKey, name)
	}
	return key, nil
}

func newSealSecret(name client.ObjectKey) (*corev1.Secret, error) {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make a key for the records: %w", err)
	}
	encoded, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("encode the key for the records: %w", err)
	}
	return &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: name.Namespace, Name: name.Name, Labels: map[string]string{"app.kubernetes.io/part-of": "sluice"}},
		Data:       map[string][]byte{sealPrivateKey: pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: encoded})},
	}, nil
}

// publish adds the public half to the ConfigMap and returns all that are in it: records that an older
// key signed stay verifiable.
func publish(ctx context.Context, writer client.Client, namespace string, key ed25519.PrivateKey) (chain.Keys, error) {
	public, ok := key.Public().(ed25519.PublicKey)
	if !ok {
		return nil, errors.New("publish the key for the records: it is no Ed25519 key")
	}
	encoded, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		return nil, fmt.Errorf("encode the public key for the records: %w", err)
	}
	text := string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: encoded}))
	published := &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: SealConfigMap, Labels: map[string]string{"app.kubernetes.io/part-of": "sluice"}},
		Data:       map[string]string{chain.KeyID(public): text},
	}
	err = writer.Create(ctx, published)
	if apierrors.IsAlreadyExists(err) {
		patch := fmt.Appendf(nil, `{"data":{%q:%q}}`, chain.KeyID(public), text)
		err = writer.Patch(ctx, published, client.RawPatch("application/merge-patch+json", patch))
	}
	if err != nil {
		return nil, fmt.Errorf("publish the public key in the ConfigMap %s/%s: %w", namespace, SealConfigMap, err)
	}
	return ParseKeys(published.Data)
}

// ParseKeys reads public keys in PEM, such as those in the ConfigMap. The identity of each is worked
// out, not believed.
func ParseKeys(data map[string]string) (chain.Keys, error) {
	keys := chain.Keys{}
	for name, text := range data {
		block, _ := pem.Decode([]byte(text))
		if block == nil {
			return nil, fmt.Errorf("read the public key %s: it is no PEM", name)
		}
		parsed, err := x509.ParsePKIXPublicKey(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("read the public key %s: %w", name, err)
		}
		public, ok := parsed.(ed25519.PublicKey)
		if !ok {
			return nil, fmt.Errorf("read the public key %s: it is no Ed25519 key", name)
		}
		keys[chain.KeyID(public)] = public
	}
	return keys, nil
}

// sign signs a record that was just extended, if it continues from a head that was signed here. What
// somebody else has changed in between is never vouched for: signed is then false.
func (s *Seal) sign(before, run *v1alpha1.CanaryRun) (signed bool, err error) {
	last := run.Record.Entries[len(run.Record.Entries)-1]
	run.Record.Head = &v1alpha1.RunHead{Number: last.Number, Hash: last.Hash, Summarised: chain.Summarised(&run.Record)}
	if s == nil {
		return true, nil
	}
	begins := len(before.Record.Entries) == 0 && before.Record.Head == nil
	if continues := begins || chain.CheckHead(before, s.known) == nil; continues {
		return true, chain.Sign(run, s.key)
	}
	return false, nil
}
