// SPDX-License-Identifier: Apache-2.0

package identity

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/stretchr/testify/require"

	"github.com/sluice-mesh/sluice/mesh/meshpb"
)

func TestUntilRenewal(t *testing.T) {
	from := time.Date(2026, 1, 2, 3, 0, 0, 0, time.UTC)
	leaf := &x509.Certificate{NotBefore: from, NotAfter: from.Add(10 * time.Hour)}
	cases := map[string]struct {
		received, now time.Time
		want          time.Duration
	}{
		"just come":                       {from, from, 7 * time.Hour},
		"back-dated":                      {from.Add(5 * time.Minute), from.Add(5 * time.Minute), 7*time.Hour - 5*time.Minute},
		"halfway":                         {from, from.Add(5 * time.Hour), 2 * time.Hour},
		"due":                             {from, from.Add(7 * time.Hour), 0},
		"over":                            {from, from.Add(11 * time.Hour), -4 * time.Hour},
		"wall clock a day behind, fresh":  {from.Add(-24 * time.Hour), from.Add(-24 * time.Hour), 7 * time.Hour},
		"wall clock a day behind, 7 h on": {from.Add(-24 * time.Hour), from.Add(-17 * time.Hour), 0},
		"wall clock set back after":       {from.Add(time.Hour), from.Add(-time.Hour), 8 * time.Hour},
		"no renewal more than one a second": {
			from.Add(9 * time.Hour), from.Add(9*time.Hour + 400*time.Millisecond), 600 * time.Millisecond,
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			require.Equal(t, c.want, untilRenewal(leaf, c.received, c.now, 0.7))
		})
	}
}

func TestRenewalFractionAndBackoffStayInBounds(t *testing.T) {
	for range 1000 {
		require.InDelta(t, 0.7, renewalFraction(), 0.05)
	}
	backoff := newBackoff()
	for range 20 {
		wait := backoff.next()
		require.GreaterOrEqual(t, wait, 50*time.Millisecond)
		require.LessOrEqual(t, wait, 15*time.Second)
	}
	require.Equal(t, 15*time.Second, backoff.limit)
}

func TestReadAnswerRefuses(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	id := spiffeid.RequireFromString("spiffe://cluster.local/ns/shop/sa/checkout")
	for name, response := range map[string]*meshpb.CertifyResponse{
		"nothing":     {},
		"not DER":     {Certificates: [][]byte{{1, 2, 3}}},
		"bad anchors": {TrustAnchors: [][]byte{{1, 2, 3}}},
	} {
		_, err := readAnswer(response, id, key)
		require.ErrorIs(t, err, ErrBadAnswer, name)
	}
}
