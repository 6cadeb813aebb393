// SPDX-License-Identifier: Apache-2.0

//go:build harness

package mesh_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/sluice-mesh/sluice/api/v1alpha1"
	"github.com/sluice-mesh/sluice/config"
	"github.com/sluice-mesh/sluice/e2e/harness"
	"github.com/sluice-mesh/sluice/mesh"
	"github.com/sluice-mesh/sluice/mesh/ca"
	"github.com/sluice-mesh/sluice/mesh/discovery"
	"github.com/sluice-mesh/sluice/mesh/identity"
)

const (
	system   = "sluice-system"
	patience = 30 * time.Second
	tick     = 10 * time.Millisecond
)

var control *harness.Harness

func TestMain(m *testing.M) { os.Exit(harness.Main(m, harness.Options{}, &control)) }

// controlPlane is the mesh's control plane on a real API server, with the rights of its own service
// account and no others.
type controlPlane struct {
	admin   client.Client
	address string
	issuer  *ca.Issuer
	domain  spiffeid.TrustDomain
}

func startControlPlane(t *testing.T) *controlPlane {
	t.Helper()
	scheme := runtime.NewScheme()
	require.NoError(t, clientgoscheme.AddToScheme(scheme))
	require.NoError(t, v1alpha1.AddToScheme(scheme))
	definitions, err := fs.Sub(config.FS, "crd")
	require.NoError(t, err)
	require.NoError(t, harness.InstallCRDs(t.Context(), control.Config, definitions))
	admin, err := client.New(control.Config, client.Options{Scheme: scheme})
	require.NoError(t, err)
	p := &controlPlane{admin: admin, domain: spiffeid.RequireTrustDomainFromString("cluster.local")}
	p.ensure(t, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: system}})
	own := p.ownRights(t)
	writer, err := client.New(own, client.Options{Scheme: scheme})
	require.NoError(t, err)

	// Three replicas that start together.
	issuers := make([]*ca.Issuer, 3)
	var group errgroup.Group
	for at := range issuers {
		group.Go(func() (err error) {
			issuers[at], err = ca.NewIssuer(t.Context(), ca.IssuerOptions{Client: writer, Namespace: system, TrustDomain: p.domain, Logger: logr.Discard()})
			return err
		})
	}
	require.NoError(t, group.Wait())
	for _, issuer := range issuers {
		require.Equal(t, string(issuers[0].Anchors()), string(issuer.Anchors()))
	}
	p.issuer = issuers[0]

	reads, err := cache.New(own, cache.Options{Scheme: scheme, ByObject: discovery.CacheByObject()})
	require.NoError(t, err)
	server := discovery.NewServer(discovery.Options{
		Cache: reads, Client: writer, TrustDomain: p.domain, Logger: logr.Discard(), Settle: -1,
	})
	p.runUntilEnd(t, reads.Start)
	p.runUntilEnd(t, server.Start)
	mux := http.NewServeMux()
	mux.Handle(ca.NewServer(p.issuer, ca.NewTokenReviewer(writer), logr.Discard()).Handler())
	mux.Handle(server.Handler())
	p.serve(t, mux)
	return p
}

// ownRights returns a configuration that acts as the mesh's service account, bound to the roles
// that are installed.
func (p *controlPlane) ownRights(t *testing.T) *rest.Config {
	t.Helper()
	text, err := fs.ReadFile(config.FS, "rbac/sluice-mesh.yaml")
	require.NoError(t, err)
	subjects := []rbacv1.Subject{{Kind: "ServiceAccount", Namespace: system, Name: "sluice-mesh"}}
	documents := utilyaml.NewYAMLOrJSONDecoder(bytes.NewReader(text), 4096)
	for {
		object := &unstructured.Unstructured{}
		err := documents.Decode(object)
		if errors.Is(err, io.EOF) {
			break
		}
		require.NoError(t, err)
		if object.Object == nil {
			continue
		}
		p.ensure(t, object)
		role := rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: object.GetKind(), Name: object.GetName()}
		meta := metav1.ObjectMeta{Name: "sluice-mesh", Namespace: object.GetNamespace()}
		if object.GetKind() == "ClusterRole" {
			p.ensure(t, &rbacv1.ClusterRoleBinding{ObjectMeta: meta, RoleRef: role, Subjects: subjects})
		} else {
			p.ensure(t, &rbacv1.RoleBinding{ObjectMeta: meta, RoleRef: role, Subjects: subjects})
		}
	}
	own := rest.CopyConfig(control.Config)
	own.Impersonate.UserName = "system:serviceaccount:" + system + ":sluice-mesh"
	return own
}

func (p *controlPlane) ensure(t *testing.T, object client.Object) {
	t.Helper()
	if err := p.admin.Create(t.Context(), object); !apierrors.IsAlreadyExists(err) {
		require.NoError(t, err)
	}
}

func (p *controlPlane) runUntilEnd(t *testing.T, run func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan error, 1)
	go func() { done <- run(ctx) }()
	t.Cleanup(func() {
		cancel()
		require.NoError(t, <-done)
	})
}

func (p *controlPlane) serve(t *testing.T, handler http.Handler) {
	t.Helper()
	serving, err := p.issuer.Serving(system, "sluice-mesh")
	require.NoError(t, err)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	p.address = listener.Addr().String()
	server := &http.Server{Handler: handler, TLSConfig: identity.BootstrapServerConfig(serving, p.issuer, p.domain)}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.ServeTLS(listener, "", "") // Ends with ErrServerClosed.
	}()
	t.Cleanup(func() {
		require.NoError(t, server.Close())
		<-done
	})
}

func (p *controlPlane) id(t *testing.T, namespace, account string) spiffeid.ID {
	t.Helper()
	id, err := identity.ForServiceAccount(p.domain, namespace, account)
	require.NoError(t, err)
	return id
}

// namespace makes a namespace with service accounts.
func (p *controlPlane) namespace(t *testing.T, prefix string, accounts ...string) string {
	t.Helper()
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: prefix + "-"}}
	require.NoError(t, p.admin.Create(t.Context(), namespace))
	for _, account := range accounts {
		p.ensure(t, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: namespace.Name, Name: account}})
	}
	return namespace.Name
}

// token asks the API server for a token of a service account.
func (p *controlPlane) token(t *testing.T, namespace, account, audience string) string {
	t.Helper()
	request := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{Audiences: []string{audience}}}
	owner := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: account}}
	require.NoError(t, p.admin.SubResource("token").Create(t.Context(), owner, request))
	return request.Status.Token
}

// identityClient returns the proxy's own client with a token in a file.
func (p *controlPlane) identityClient(t *testing.T, namespace, account, token string) *identity.Client {
	t.Helper()
	file := filepath.Join(t.TempDir(), "token")
	require.NoError(t, os.WriteFile(file, []byte(token), 0o600))
	anchors, err := identity.ParseAnchors(p.issuer.Anchors())
	require.NoError(t, err)
	certified, err := identity.NewClient(identity.ClientOptions{
		ID: p.id(t, namespace, account), ControlPlane: p.address, ControlPlaneID: p.id(t, system, "sluice-mesh"),
		Anchors: anchors, TokenFile: file,
	})
	require.NoError(t, err)
	p.runUntilEnd(t, certified.Run)
	return certified
}

func awaitCertificate(t *testing.T, certified *identity.Client) {
	t.Helper()
	select {
	case <-certified.Ready():
	case <-time.After(patience):
		require.Fail(t, "no certificate")
	}
}

func TestIdentityByRealTokens(t *testing.T) {
	p := startControlPlane(t)
	namespace := p.namespace(t, "identity", "checkout", "cart")
	p.token(t, namespace, "checkout", mesh.TokenAudience)

	good := p.identityClient(t, namespace, "checkout", p.token(t, namespace, "checkout", mesh.TokenAudience))
	awaitCertificate(t, good)
	certificate, err := good.Certificate()
	require.NoError(t, err)
	id, err := identity.FromCertificate(certificate.Leaf)
	require.NoError(t, err)
	require.Equal(t, p.id(t, namespace, "checkout"), id)
	require.WithinDuration(t, time.Now().Add(24*time.Hour), good.NotAfter(), time.Minute)

	for name, token := range map[string]string{
		"token for the API server":   p.token(t, namespace, "checkout", "https://kubernetes.default.svc"),
		"token of another account":   p.token(t, namespace, "cart", mesh.TokenAudience),
		"not a token":                "nonsense",
		"token with a spoiled end":   p.token(t, namespace, "checkout", mesh.TokenAudience) + "x",
		"token for somebody else":    p.token(t, namespace, "checkout", "vault"),
		"token of a deleted account": p.tokenOfDeletedAccount(t, namespace),
	} {
		bad := p.identityClient(t, namespace, "checkout", token)
		require.Never(t, func() bool { return !bad.NotAfter().IsZero() }, 300*time.Millisecond, 50*time.Millisecond, name)
	}
}

func (p *controlPlane) tokenOfDeletedAccount(t *testing.T, namespace string) string {
	t.Helper()
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "short-lived"}}
	require.NoError(t, p.admin.Create(t.Context(), account))
	token := p.token(t, namespace, "short-lived", mesh.TokenAudience)
	require.NoError(t, p.admin.Delete(t.Context(), account))
	return token
}
