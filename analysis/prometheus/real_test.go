// SPDX-License-Identifier: Apache-2.0

//go:build harness

package prometheus_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluice-mesh/sluice/analysis"
	"github.com/sluice-mesh/sluice/analysis/analysistest"
	"github.com/sluice-mesh/sluice/analysis/prometheus"
	judge "github.com/sluice-mesh/sluice/e2e/prometheus"
)

// bench is a workload that a real Prometheus scrapes once a second.
type bench struct {
	workload *analysistest.Workload
	server   *judge.Server
}

func newBench(t *testing.T, web any, secure *tls.Config) bench {
	t.Helper()
	exporter := &exporter{workloads: map[string]*analysistest.Workload{}}
	listening := httptest.NewServer(exporter)
	t.Cleanup(listening.Close)
	b := bench{workload: &analysistest.Workload{}}
	b.server = judge.Run(t, scrapes(strings.TrimPrefix(listening.URL, "http://"), exporter.add(b.workload)), web, secure)
	return b
}

func asked(since time.Time) analysis.Query {
	return analysis.Query{
		Namespace: analysistest.Namespace, Workload: analysistest.Name, CanaryHash: analysistest.CanaryHash,
		StableHash: analysistest.StableHash, Since: since, Now: time.Now(), LatencyLimit: analysistest.LatencyLimit,
	}
}

// known waits until something is known of both revisions, and returns the rounds.
func known(t *testing.T, source *prometheus.Source, since time.Time) []analysis.Round {
	t.Helper()
	var rounds []analysis.Round
	require.EventuallyWithT(t, func(c *assert.CollectT) {
		var err error
		rounds, err = source.Rounds(t.Context(), asked(since))
		require.NoError(c, err)
		require.NotEmpty(c, rounds)
	}, time.Minute, 200*time.Millisecond)
	return rounds
}

func newReal(t *testing.T, address string, access prometheus.Access, maximum int64) *prometheus.Source {
	t.Helper()
	source, err := prometheus.New(prometheus.Options{
		Address: address, MaximumBytes: maximum,
		Access: func(context.Context) (prometheus.Access, error) { return access, nil },
	})
	require.NoError(t, err)
	t.Cleanup(source.Close)
	return source
}

// serving writes a certificate for the loopback into files and returns them.
func serving(t *testing.T) (certificate, key string, trusted []byte) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
	}
	raw, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	require.NoError(t, err)
	encoded, err := x509.MarshalPKCS8PrivateKey(private)
	require.NoError(t, err)
	trusted = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: raw})
	directory := t.TempDir()
	certificate, key = filepath.Join(directory, "tls.crt"), filepath.Join(directory, "tls.key")
	require.NoError(t, os.WriteFile(certificate, trusted, 0o600))
	require.NoError(t, os.WriteFile(key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: encoded}), 0o600))
	return certificate, key, trusted
}

// A Prometheus that demands client certificates is read with one and is a hold without.
func TestRealClientCertificates(t *testing.T) {
	certificate, key, trusted := serving(t)
	shown, shownKey := leaf(t)
	clients := filepath.Join(t.TempDir(), "clients.crt")
	require.NoError(t, os.WriteFile(clients, []byte(shown), 0o600))
	pair, err := tls.X509KeyPair([]byte(shown), []byte(shownKey))
	require.NoError(t, err)
	pool := x509.NewCertPool()
	require.True(t, pool.AppendCertsFromPEM(trusted))
	b := newBench(t, map[string]any{"tls_server_config": map[string]string{
		"cert_file": certificate, "key_file": key, "client_ca_file": clients, "client_auth_type": "RequireAndVerifyClientCert",
	}}, &tls.Config{RootCAs: pool, Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12})
	since := time.Now()
	b.workload.Start(analysistest.Stable1, analysistest.Canary1)
	known(t, newReal(t, b.server.Address, prometheus.Access{CA: string(trusted), Certificate: shown, Key: shownKey}, 0), since)
	_, err = newReal(t, b.server.Address, prometheus.Access{CA: string(trusted)}, 0).Rounds(t.Context(), asked(since))
	requireNoEntry(t, err)
}

// A gate before Prometheus that tells tenants apart by a header, as Mimir and Thanos do.
func TestRealTenants(t *testing.T) {
	b := newBench(t, nil, nil)
	address, err := url.Parse(b.server.Address)
	require.NoError(t, err)
	forward := httputil.NewSingleHostReverseProxy(address)
	tenants := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("X-Scope-OrgID") != "shop" {
			http.Error(w, "no org id", http.StatusUnauthorized)
			return
		}
		forward.ServeHTTP(w, r)
	}))
	t.Cleanup(tenants.Close)
	since := time.Now()
	b.workload.Start(analysistest.Stable1, analysistest.Canary1)
	known(t, newReal(t, tenants.URL, prometheus.Access{Headers: map[string]string{"X-Scope-OrgID": "shop"}}, 0), since)
	_, err = newReal(t, tenants.URL, prometheus.Access{}, 0).Rounds(t.Context(), asked(since))
	require.ErrorContains(t, err, "client error: 401")
}

// A restart of Prometheus is a hold and loses nothing; after its data was wiped, nothing that was known
// is counted again.
func TestRealRestartAndWipe(t *testing.T) {
	b := newBench(t, nil, nil)
	source := newReal(t, b.server.Address, prometheus.Access{}, 0)
	since := time.Now()
	b.workload.Start(analysistest.Stable1, analysistest.Canary1)
	known(t, source, since)
	var sum analysis.Counts
	var after time.Time
	read := func(c require.TestingT, want uint64) {
		query := asked(since)
		query.After, query.RoundLength = after, time.Second
		rounds, err := source.Rounds(t.Context(), query)
		require.NoError(c, err)
		for _, round := range rounds {
			if !round.Open {
				sum.Requests += round.Canary.Requests
				after = round.End
			}
		}
		require.Equal(c, want, sum.Requests)
	}
	eventually := func(want uint64) {
		require.EventuallyWithT(t, func(c *assert.CollectT) { read(c, want) }, time.Minute, 200*time.Millisecond)
	}
	serve := func(n uint64) {
		b.workload.Serve(analysistest.Canary1, analysis.Counts{Requests: n})
		b.workload.Serve(analysistest.Stable1, analysis.Counts{Requests: n})
	}
	serve(100)
	eventually(100)
	b.server.Stop()
	serve(10)
	_, err := source.Rounds(t.Context(), asked(since))
	require.ErrorIs(t, err, prometheus.ErrUnavailable)
	b.server.Start(t)
	eventually(110)

	b.workload.Age(2 * time.Minute) // a process that is younger than two rounds counts from zero
	b.server.Stop()
	b.server.Wipe(t)
	serve(1000) // nobody saw these
	b.server.Start(t)
	require.EventuallyWithT(t, func(c *assert.CollectT) {
		before := after
		read(c, 110)
		require.True(c, after.After(before))
	}, time.Minute, 200*time.Millisecond)
	serve(5)
	eventually(115)
}

// An answer of 10 MB is refused whole where less is allowed, and read where more is.
func TestRealLargeAnswers(t *testing.T) {
	large := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		for i := range 40_000 {
			_, _ = fmt.Fprintf(w, "response_total{direction=\"inbound\",classification=\"success\",status_code=\"200\",dst=\"%s%06d\"} 1\n", strings.Repeat("x", 200), i)
		}
	}))
	t.Cleanup(large.Close)
	since := time.Now()
	address := judge.Start(t, map[string]any{
		"global": map[string]any{"scrape_interval": "2s", "scrape_timeout": "2s"},
		"scrape_configs": []any{map[string]any{"job_name": "pods", "static_configs": []any{map[string]any{
			"targets": []string{strings.TrimPrefix(large.URL, "http://")},
			"labels":  map[string]string{"namespace": analysistest.Namespace, "pod": analysistest.Stable1, "pod_template_hash": analysistest.StableHash},
		}}}},
	})
	small, enough := newReal(t, address, prometheus.Access{}, 10<<20), newReal(t, address, prometheus.Access{}, 256<<20)
	query := func() analysis.Query {
		query := asked(since)
		query.LatencyLimit = 0
		return query
	}
	require.EventuallyWithT(t, func(c *assert.CollectT) {
		_, err := small.Rounds(t.Context(), query())
		require.ErrorContains(c, err, "the answer is larger than allowed")
	}, time.Minute, 500*time.Millisecond)
	_, err := enough.Rounds(t.Context(), query())
	require.NoError(t, err)
}

// The parser of Prometheus, which promtool is another door to, accepts every query, whatever the names
// of namespaces and revisions are.
func TestRealPrometheusAcceptsQueries(t *testing.T) {
	address := judge.Start(t, map[string]any{})
	for _, name := range []string{"shop", `a"b\c`, "{}[]()|.*+?^$", "`'", "über\n", "{{ .x }}", `"} or vector(1)`} {
		query := asked(time.Now().Add(-time.Minute))
		query.Namespace, query.Workload, query.CanaryHash, query.StableHash = name, name, name+"1", name+"2"
		query.Before = 10 * time.Minute
		issued, err := prometheus.Issued(query)
		require.NoError(t, err)
		require.Len(t, issued, 11)
		for _, text := range issued {
			response, err := http.PostForm(address+"/api/v1/parse_query", url.Values{"query": {text}})
			require.NoError(t, err)
			var answer struct {
				Status, Error string
				Data          struct{ Type string }
			}
			require.NoError(t, json.NewDecoder(response.Body).Decode(&answer))
			require.NoError(t, response.Body.Close())
			require.Equal(t, "success", answer.Status, "%s: %s", text, answer.Error)
			require.Contains(t, []string{"matrixSelector", "aggregation", "binaryExpr", "call"}, answer.Data.Type, text)
		}
	}
}
