// SPDX-License-Identifier: Apache-2.0

package ca

import (
	"testing"

	"github.com/stretchr/testify/require"
	authenticationv1 "k8s.io/api/authentication/v1"

	"github.com/sluice-mesh/sluice/mesh"
)

func TestReadReview(t *testing.T) {
	status := func(username string, audiences ...string) *authenticationv1.TokenReviewStatus {
		return &authenticationv1.TokenReviewStatus{
			Authenticated: true, Audiences: audiences,
			User: authenticationv1.UserInfo{Username: username},
		}
	}
	own := mesh.TokenAudience
	bound := status("system:serviceaccount:shop:checkout", own)
	bound.User.Extra = map[string]authenticationv1.ExtraValue{podNameKey: {"checkout-1"}}
	refusedButNamed := status("system:serviceaccount:shop:checkout", own)
	refusedButNamed.Authenticated, refusedButNamed.Error = false, "token has expired"

	cases := map[string]struct {
		status *authenticationv1.TokenReviewStatus
		want   Claims
		err    string
	}{
		"service account":       {status: status("system:serviceaccount:shop:checkout", own), want: Claims{Namespace: "shop", ServiceAccount: "checkout"}},
		"bound to a pod":        {status: bound, want: Claims{Namespace: "shop", ServiceAccount: "checkout", Pod: "checkout-1"}},
		"account with dots":     {status: status("system:serviceaccount:shop:a.b-c", "x", own), want: Claims{Namespace: "shop", ServiceAccount: "a.b-c"}},
		"not authenticated":     {status: refusedButNamed, err: "token has expired"},
		"audience of others":    {status: status("system:serviceaccount:shop:checkout", "https://kubernetes.default.svc"), err: "audiences"},
		"no audience":           {status: status("system:serviceaccount:shop:checkout"), err: "audiences"},
		"a person":              {status: status("jane", own), err: "not a service account"},
		"a node":                {status: status("system:node:node-1", own), err: "not a service account"},
		"group":                 {status: status("system:serviceaccounts:shop:checkout", own), err: "not a service account"},
		"too many parts":        {status: status("system:serviceaccount:shop:checkout:x", own), err: "not a service account"},
		"empty namespace":       {status: status("system:serviceaccount::checkout", own), err: "not a service account"},
		"empty name":            {status: status("system:serviceaccount:shop:", own), err: "not a service account"},
		"path in the namespace": {status: status("system:serviceaccount:shop/sa/x:checkout", own), err: "not a service account"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			got, err := readReview(c.status)
			if c.err != "" {
				require.ErrorIs(t, err, ErrToken)
				require.ErrorContains(t, err, c.err)
				return
			}
			require.NoError(t, err)
			require.Equal(t, c.want, got)
		})
	}
}
