// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"testing"

	"github.com/go-logr/logr"
	"github.com/stretchr/testify/require"

	"github.com/sluice-mesh/sluice/analysis/live"
)

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

	source, err := aloneFor(naming(""), &live.Feed{})
	require.NoError(t, err)
	require.NotNil(t, source)
	_, err = aloneFor(naming("http://prometheus:9090"), &live.Feed{})
	require.ErrorContains(t, err, "spec.gate.prometheus")
}
