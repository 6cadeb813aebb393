// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/stretchr/testify/require"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/sluice-mesh/sluice/analysis/live"
)

// spoiled is an API server in which somebody has spoiled the mesh's anchors.
type spoiled struct{ client.Reader }

func (spoiled) Get(_ context.Context, _ client.ObjectKey, into client.Object, _ ...client.GetOption) error {
	configuration := into.(*admissionregistrationv1.MutatingWebhookConfiguration)
	configuration.Webhooks = []admissionregistrationv1.MutatingWebhook{{ClientConfig: admissionregistrationv1.WebhookClientConfig{CABundle: []byte("?")}}}
	return nil
}

func TestLiveOptions(t *testing.T) {
	options := liveOptions{mode: liveOff}
	link, err := options.link(nil, "sluice-system", logr.Discard())
	require.NoError(t, err)
	require.Nil(t, link)
	options = liveOptions{mode: liveAlone, trustDomain: "cluster.local"}
	link, err = options.link(nil, "sluice-system", logr.Discard())
	require.NoError(t, err)
	require.Equal(t, "sluice-mesh.sluice-system.svc:8443", link.address)
	require.Equal(t, "spiffe://cluster.local/ns/sluice-system/sa/sluice-controller", link.own.String())
	_, err = link.read(t.Context(), []string{"a/b"})
	require.EqualError(t, err, "there is no mesh yet")
	for want, options := range map[string]liveOptions{
		"--live never: write beside, alone or off": {mode: "never"},
		"--live-trust-domain UPPER":                {mode: liveAlone, trustDomain: "UPPER"},
	} {
		_, err := options.link(nil, "sluice-system", logr.Discard())
		require.ErrorContains(t, err, want)
	}

	link.reader = spoiled{}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	require.NoError(t, link.Start(ctx), "anchors that cannot be read are waited for: an error would end the controller")
	_, err = link.anchors(t.Context())
	require.ErrorContains(t, err, "read the mesh's trust anchors")

	source, err := aloneFor(naming(""), &live.Feed{})
	require.NoError(t, err)
	require.NotNil(t, source)
	_, err = aloneFor(naming("http://prometheus:9090"), &live.Feed{})
	require.ErrorContains(t, err, "spec.gate.prometheus")
}
