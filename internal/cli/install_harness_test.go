// SPDX-License-Identifier: Apache-2.0

//go:build harness

package cli

import (
	"os"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/stretchr/testify/require"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/sluice-mesh/sluice/api/v1alpha1"
	"github.com/sluice-mesh/sluice/e2e/harness"
	"github.com/sluice-mesh/sluice/internal/webhooktrust"
)

var control *harness.Harness

func TestMain(m *testing.M) { os.Exit(harness.Main(m, harness.Options{}, &control)) }

// patience of install and uninstall. The API server cannot take a definition away while its cache of the
// kind comes up ("storage is (re)initializing"), and tries again at growing intervals: right after an
// install an uninstall may take more than a minute.
const patience = "3m"

// TestInstallApplies: a real API server takes every object, strictly validated, twice; its Pod
// Security admission takes the pods under the standard restricted; and uninstall leaves nothing.
func TestInstallApplies(t *testing.T) {
	for _, mode := range []string{"auto", "webhook"} {
		t.Run(mode, func(t *testing.T) {
			arguments := []string{"--kubeconfig", control.Kubeconfig, "--timeout", patience, "--set", "hold.mode=" + mode}
			for range 2 {
				code, out, complaint := run(t, append([]string{"install", "--apply"}, arguments...)...)
				require.Equal(t, exitOK, code, complaint)
				require.Contains(t, out, "applied MutatingWebhookConfiguration sluice-injector\n")
				require.Contains(t, out, "Sluice is ready.\n")
			}
			connected, err := connectTo(control.Config)
			require.NoError(t, err)
			keepsBundle(t, connected.client, arguments)
			uninstalls(t, connected.client, arguments)
		})
	}
}

// TestInstallChangesTheHold: whatever held Deployments before, exactly one thing holds them after.
func TestInstallChangesTheHold(t *testing.T) {
	connected, err := connectTo(control.Config)
	require.NoError(t, err)
	present := func(object client.Object) bool {
		err := connected.client.Get(t.Context(), client.ObjectKey{Name: holdConfiguration}, object)
		require.NoError(t, client.IgnoreNotFound(err))
		return err == nil
	}
	arguments := []string{"--kubeconfig", control.Kubeconfig, "--timeout", patience}
	for _, mode := range []string{"webhook", "policy", "webhook"} {
		code, _, complaint := run(t, append([]string{"install", "--apply", "--set", "hold.mode=" + mode}, arguments...)...)
		require.Equal(t, exitOK, code, complaint)
		require.Equal(t, mode == "webhook", present(&admissionregistrationv1.MutatingWebhookConfiguration{}))
		require.Equal(t, mode == "policy", present(&admissionregistrationv1.MutatingAdmissionPolicy{}))
	}
	lists(t, connected.client)
	code, _, complaint := run(t, append([]string{"uninstall"}, arguments...)...)
	require.Equal(t, exitOK, code, complaint)
}

// lists waits until every kind can be listed, which a definition must be before it can go: nobody has
// looked at any so soon after an install.
func lists(t *testing.T, cluster client.Client) {
	t.Helper()
	definitions := &apiextensionsv1.CustomResourceDefinitionList{}
	require.NoError(t, cluster.List(t.Context(), definitions))
	for _, definition := range definitions.Items {
		kind := &unstructured.UnstructuredList{}
		kind.SetGroupVersionKind(v1alpha1.GroupVersion.WithKind(definition.Spec.Names.ListKind))
		require.Eventually(t, func() bool { return cluster.List(t.Context(), kind) == nil }, time.Minute, 100*time.Millisecond, definition.Name)
	}
}

// keepsBundle: the bundle that the webhook's server writes survives the next install.
func keepsBundle(t *testing.T, cluster client.Client, arguments []string) {
	t.Helper()
	keeper := webhooktrust.New(webhooktrust.Options{
		Client: cluster, Configuration: "sluice-injector", Manager: "sluice-mesh", Logger: logr.Discard(),
		Anchors: func() []byte { return []byte(bundle) },
	})
	require.Error(t, keeper.Ready(nil))
	require.NoError(t, keeper.Once(t.Context()))
	require.NoError(t, keeper.Ready(nil))
	code, _, complaint := run(t, append([]string{"install", "--apply"}, arguments...)...)
	require.Equal(t, exitOK, code, complaint)
	var configuration admissionregistrationv1.MutatingWebhookConfiguration
	require.NoError(t, cluster.Get(t.Context(), client.ObjectKey{Name: "sluice-injector"}, &configuration))
	require.Len(t, configuration.Webhooks, 2)
	for _, webhook := range configuration.Webhooks {
		require.Equal(t, bundle, string(webhook.ClientConfig.CABundle))
		require.NotEmpty(t, webhook.Rules)
	}
}

func uninstalls(t *testing.T, cluster client.Client, arguments []string) {
	t.Helper()
	canary := &unstructured.Unstructured{Object: map[string]any{"spec": map[string]any{"targetRef": map[string]any{"name": "web"}}}}
	canary.SetGroupVersionKind(v1alpha1.GroupVersion.WithKind("Canary"))
	canary.SetNamespace("default")
	canary.SetName("web")
	require.NoError(t, cluster.Create(t.Context(), canary))
	lists(t, cluster)
	code, out, complaint := run(t, append([]string{"uninstall"}, arguments...)...)
	require.Equal(t, exitOK, code, complaint)
	require.Contains(t, out, "deleted Canary default/web\n")
	require.Contains(t, out, "deleted CustomResourceDefinition canaries.sluice.dev\n")
	err := cluster.Get(t.Context(), client.ObjectKey{Name: defaultNamespace}, &corev1.Namespace{})
	require.True(t, apierrors.IsNotFound(err), err)
	code, out, complaint = run(t, append([]string{"uninstall"}, arguments...)...)
	require.Equal(t, exitOK, code, complaint)
	require.Empty(t, out, "nothing was left")
}

// bundle is a certificate that nobody has the key of.
const bundle = `-----BEGIN CERTIFICATE-----
MIIBeTCCAR+gAwIBAgIUPvJRq7u16SsNu7X63KNoXxOaMV4wCgYIKoZIzj0EAwIw
ETEPMA0GA1UEAwwGbm9ib2R5MCAXDTI2MTEyMjAzMTMxOVoYDzIxMjYxMDI5MDMx
MzE5WjARMQ8wDQYDVQQDDAZub2JvZHkwWTATBgcqhkjOPQIBBggqhkjOPQMBBwNC
AARFmwKpgVpZ8UAWS/4udeqzNLXrRZmpS6d94N5nBT48ZrEGt8hpPwgnGM95xy0a
imxPJTQx/QSMdNq1KeUTKqC2o1MwUTAdBgNVHQ4EFgQUxkOpgfgM3ONvffNZiEPL
9XpQcDswHwYDVR0jBBgwFoAUxkOpgfgM3ONvffNZiEPL9XpQcDswDwYDVR0TAQH/
BAUwAwEB/zAKBggqhkjOPQQDAgNIADBFAiA0mCQu/nyZkHpEW1qj1R++2oLhdOyM
4+Q0bIF5FbUQogIhAJ8+ojv6BQMZ4O+06140bIEeCkd98/scIg7qlK39hqc4
-----END CERTIFICATE-----
`
