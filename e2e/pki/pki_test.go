// SPDX-License-Identifier: Apache-2.0

package pki

import (
	"crypto/tls"
	"crypto/x509"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"k8s.io/client-go/tools/clientcmd"
)

func TestLeafSurvivesDiskAndVerifies(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	dir := t.TempDir()
	authority, err := NewAuthority("test", now)
	require.NoError(t, err)
	require.NoError(t, authority.Write(dir, "ca"))
	authority, err = LoadAuthority(dir, "ca")
	require.NoError(t, err)

	pair, err := authority.Issue(Subject{
		User: "kube-apiserver", Groups: []string{"g"}, Names: []string{"kubernetes"}, IPs: []string{"10.96.0.1"},
	}, now)
	require.NoError(t, err)
	loaded, err := tls.X509KeyPair(pair.Certificate, pair.Key)
	require.NoError(t, err)
	roots := x509.NewCertPool()
	require.True(t, roots.AppendCertsFromPEM(authority.Certificate))
	for _, name := range []string{"kubernetes", "10.96.0.1"} {
		_, err = loaded.Leaf.Verify(x509.VerifyOptions{Roots: roots, DNSName: name, CurrentTime: now})
		require.NoError(t, err, name)
	}

	content, err := authority.Kubeconfig("https://127.0.0.1:1", "sluice", pair)
	require.NoError(t, err)
	config, err := clientcmd.RESTConfigFromKubeConfig(content)
	require.NoError(t, err)
	require.Equal(t, "https://127.0.0.1:1", config.Host)
}

func TestIssueRefusesWhatIsNoAddress(t *testing.T) {
	authority, err := NewAuthority("test", time.Unix(1e9, 0))
	require.NoError(t, err)
	_, err = authority.Issue(Subject{User: "u", IPs: []string{"nowhere"}}, time.Unix(1e9, 0))
	require.ErrorContains(t, err, `"nowhere" is not an IP address`)
}
