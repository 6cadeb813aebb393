// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sluice-mesh/sluice/analysis"
	"github.com/sluice-mesh/sluice/api/v1alpha1"
)

// listening is a server of metrics without any, which keeps what it is sent.
func listening(t *testing.T) (address string, seen func() []http.Header) {
	t.Helper()
	headers := make(chan http.Header, 100)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		headers <- r.Header.Clone()
		_, _ = w.Write([]byte(`{"status":"success","data":{"resultType":"matrix","result":[]}}`))
	}))
	t.Cleanup(server.Close)
	return server.URL, func() (all []http.Header) {
		for len(headers) > 0 {
			all = append(all, <-headers)
		}
		return all
	}
}

func naming(address string) *v1alpha1.Canary {
	canary := &v1alpha1.Canary{}
	if address != "" {
		canary.Spec.Gate.Prometheus = &v1alpha1.PrometheusReference{Address: address}
	}
	return canary
}

// A Canary is read from the server that it names, as whom the operator has written for that very one.
func TestFeedsPerAddress(t *testing.T) {
	directory := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(directory, "token"), []byte("own"), 0o600))
	own, atOwn := listening(t)
	tenant, atTenant := listening(t)
	plain, atPlain := listening(t)
	allowed, err := parseAllowed([]string{`{"address": "` + tenant + `/", "headers": {"X-Scope-OrgID": "till"}}`, `{"address": "` + plain + `"}`})
	require.NoError(t, err)
	made, closing, err := newFeeds(t.Context(), prometheusOptions{address: own, credentials: directory, headers: map[string]string{"X-Secret": "own"}}, allowed, nil)
	require.NoError(t, err)
	t.Cleanup(closing)
	now := time.Now()
	query := analysis.Query{Namespace: "shop", Workload: "web", CanaryHash: "aa", StableHash: "bb", Since: now.Add(-time.Minute), Now: now}
	read := func(address string) {
		source, err := made.of(naming(address))
		require.NoError(t, err)
		query.Since = query.Since.Add(time.Second) // of which nothing was read yet
		_, err = source.Rounds(t.Context(), query)
		require.NoError(t, err)
	}

	for _, address := range []string{"", own, own + "/"} {
		read(address)
		seen := atOwn()
		require.NotEmpty(t, seen)
		require.Equal(t, "Bearer own", seen[0].Get("Authorization"))
	}
	for _, address := range []string{tenant, tenant + "/"} {
		read(address)
		for _, header := range atTenant() {
			require.Equal(t, "till", header.Get("X-Scope-OrgID"))
			require.Empty(t, header.Get("Authorization"))
			require.Empty(t, header.Get("X-Secret"))
		}
	}
	read(plain)
	for _, header := range atPlain() {
		require.Empty(t, header.Get("Authorization")+header.Get("X-Secret")+header.Get("X-Scope-OrgID"))
	}
	require.Empty(t, atOwn())
}

// Nothing but what the operator wrote is asked, however like it is.
func TestFeedsRefuse(t *testing.T) {
	own, atOwn := listening(t)
	allowed, err := parseAllowed([]string{`{"address": "https://mimir.example.com/prometheus"}`})
	require.NoError(t, err)
	made, closing, err := newFeeds(t.Context(), prometheusOptions{address: own}, allowed, nil)
	require.NoError(t, err)
	t.Cleanup(closing)
	for _, address := range []string{
		"http://169.254.169.254/latest", "https://mimir.example.com", "http://mimir.example.com/prometheus", "https://mimir.example.com/prometheus/../admin",
		"https://mimir.example.com/prometheus//", "https://mimir.example.com:443/prometheus", "https://MIMIR.example.com/prometheus", own + "/other", "/",
	} {
		_, err := made.of(naming(address))
		require.ErrorContains(t, err, "spec.gate.prometheus.address: "+address+" is none of the addresses that this installation allows", address)
	}
	require.Empty(t, atOwn())
}

func TestAllowedProblems(t *testing.T) {
	for want, values := range map[string][]string{
		"write one object of JSON":                   {"https://mimir.example.com"},
		`unknown field "token"`:                      {`{"address": "https://a", "token": "secret"}`},
		"more follows":                               {`{"address": "https://a"} {"address": "https://b"}`},
		`"" is no http or https URL`:                 {`{}`},
		`"file:///etc" is no http or https URL`:      {`{"address": "file:///etc"}`},
		"must hold no credentials":                   {`{"address": "https://me:secret@a"}`},
		"https://a/ is there twice":                  {`{"address": "https://a"}`, `{"address": "https://a/"}`},
		"http://own is there twice, or is the":       {`{"address": "http://own"}`},
		"look for the credentials' directory":        {`{"address": "https://a", "credentials": "/nowhere/to/be/found"}`},
		"the header Authorization is not to be set":  {`{"address": "https://a", "headers": {"Authorization": "Bearer x"}}`},
		"OAuth2 needs a client's ID and its secret":  {`{"address": "https://a", "tokenURL": "https://tokens"}`},
		`the header "X" is none that HTTP allows`:    {`{"address": "https://a", "headers": {"X": "a\nb"}}`},
		"the token server's address: \"ftp://x\" is": {`{"address": "https://a", "tokenURL": "ftp://x"}`},
	} {
		options := &controllerOptions{prometheus: prometheusOptions{address: "http://own"}, allowed: values}
		_, _, err := options.feeds(t.Context(), nil)
		require.ErrorContains(t, err, want)
		require.ErrorContains(t, err, "--prometheus-allow", want)
		require.NotContains(t, err.Error(), "me:secret", want)
	}
}
