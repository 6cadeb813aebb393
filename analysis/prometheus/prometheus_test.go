// SPDX-License-Identifier: Apache-2.0

package prometheus_test

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/sluice-mesh/sluice/analysis"
	"github.com/sluice-mesh/sluice/analysis/prometheus"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m)
}

var query = analysis.Query{
	Namespace: "shop", Workload: "checkout", CanaryHash: "new", StableHash: "old",
	Since: time.Unix(1_700_000_000, 0), Now: time.Unix(1_700_000_060, 0),
}

// newSource reads from a server that answers as told. The address that it returns ends with the test.
func newSource(t *testing.T, answer http.HandlerFunc) *prometheus.Source {
	t.Helper()
	server := httptest.NewServer(answer)
	t.Cleanup(server.Close)
	source, err := prometheus.New(prometheus.Options{Address: server.URL, Timeout: time.Minute, MaximumBytes: 4096})
	require.NoError(t, err)
	t.Cleanup(source.Close)
	return source
}

func text(code int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(code)
		_, _ = w.Write([]byte(body))
	}
}

func TestRoundsOfWhatIsNoRound(t *testing.T) {
	const series = `{"metric":{"__name__":"response_total","pod":"a","direction":"inbound","classification":"success","pod_template_hash":"old"},"values":[[1700000001,"1"]]}`
	cases := map[string]string{
		"empty":    `{"status":"success","data":{"resultType":"matrix","result":[]}}`,
		"NaN":      `{"status":"success","data":{"resultType":"matrix","result":[{"metric":{"pod_template_hash":"new"},"values":[[1700000001,"NaN"]]}]}}`,
		"one side": `{"status":"success","data":{"resultType":"matrix","result":[` + series + `]}}`,
	}
	for name, body := range cases {
		t.Run(name, func(t *testing.T) {
			rounds, err := newSource(t, text(http.StatusOK, body)).Rounds(t.Context(), query)
			require.NoError(t, err)
			require.Empty(t, rounds)
		})
	}
}

func TestRoundsUnavailable(t *testing.T) {
	const secret = "s3cret"
	cases := []struct {
		name   string
		answer http.HandlerFunc
		want   string
	}{
		{"server error", text(http.StatusServiceUnavailable, secret), "server error: 503"},
		{"unauthorized", text(http.StatusUnauthorized, secret), "client error: 401"},
		{"refused", text(http.StatusUnprocessableEntity, `{"status":"error","errorType":"execution","error":"`+secret+`"}`), `the query was refused: "execution"`},
		{"refused at length", text(http.StatusBadRequest, `{"status":"error","errorType":"`+strings.Repeat("x", 500)+`"}`), `the query was refused: "xxxxxxxxxxxxxxxxxxxx"`},
		{"no JSON", text(http.StatusOK, "<html>"+secret), "check the address"},
		{"other JSON", text(http.StatusOK, `{"`+secret+`":1}`), "check the address"},
		{"vector", text(http.StatusOK, `{"status":"success","data":{"resultType":"vector","result":[]}}`), "holds no series"},
		{"warnings", text(http.StatusOK, `{"status":"success","warnings":["`+secret+`"],"data":{"resultType":"matrix","result":[]}}`), "the answer is partial: it came with 1 warnings"},
		{"too large", text(http.StatusOK, strings.Repeat(" ", 5000)), "larger than allowed"},
		{"redirect", func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/elsewhere" {
				panic("followed the redirect")
			}
			http.Redirect(w, r, "/elsewhere?"+secret, http.StatusTemporaryRedirect)
		}, "check the address"},
		{"cut off", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, "does not answer as a server of HTTP should"},
		{"slow", func(_ http.ResponseWriter, r *http.Request) { untilGone(r) }, "deadline exceeded"},
		{"slow body", func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(http.StatusOK)
			w.(http.Flusher).Flush()
			untilGone(r)
		}, "deadline exceeded"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			ctx := t.Context()
			if strings.HasPrefix(c.name, "slow") {
				var cancel context.CancelFunc
				ctx, cancel = context.WithTimeout(ctx, 300*time.Millisecond)
				defer cancel()
			}
			rounds, err := newSource(t, c.answer).Rounds(ctx, query)
			require.ErrorIs(t, err, prometheus.ErrUnavailable)
			require.ErrorContains(t, err, "shop/checkout")
			require.ErrorContains(t, err, c.want)
			require.NotContains(t, err.Error(), secret)
			require.Less(t, len(err.Error()), 300)
			require.Empty(t, rounds)
		})
	}
}

// untilGone waits for the client to go. The server sees that only once the request's body is read.
func untilGone(r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body)
	<-r.Context().Done()
}

func TestRoundsWithoutServer(t *testing.T) {
	server := httptest.NewServer(http.NotFoundHandler())
	address := server.URL
	server.Close()
	source, err := prometheus.New(prometheus.Options{Address: address})
	require.NoError(t, err)
	_, err = source.Rounds(t.Context(), query)
	require.ErrorIs(t, err, prometheus.ErrUnavailable)
	require.ErrorContains(t, err, "connection refused")

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = source.Rounds(ctx, query)
	require.ErrorIs(t, err, context.Canceled)
}

func TestRoundsOfBadQuery(t *testing.T) {
	source := newSource(t, func(http.ResponseWriter, *http.Request) { panic("asked") })
	_, err := source.Rounds(t.Context(), analysis.Query{Namespace: "shop"})
	require.Error(t, err)
	require.NotErrorIs(t, err, prometheus.ErrUnavailable)
}

func TestNewRefusesAddress(t *testing.T) {
	for _, address := range []string{
		"", "prometheus:9090", "ftp://prometheus", "http://", "http://user:pass@prometheus:9090", "http://prometheus?a=b", "http://\x7f", "file:///etc/passwd",
	} {
		_, err := prometheus.New(prometheus.Options{Address: address})
		require.Error(t, err, address)
		require.NotContains(t, err.Error(), "pass@")
	}
}

// Any answer is rounds or an error.
func FuzzRounds(f *testing.F) {
	f.Add(`{"status":"success","data":{"resultType":"matrix","result":[{"metric":{"pod_template_hash":"new"},"values":[[1700000001,"NaN"]]}]}}`)
	f.Add(`{"status":"success","data":{"resultType":"matrix","result":[{"metric":{},"histograms":[[1,{}]]}]}}`)
	f.Add(`{"status":"error"}`)
	var body string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(body)) }))
	f.Cleanup(server.Close)
	source, err := prometheus.New(prometheus.Options{Address: server.URL})
	require.NoError(f, err)
	f.Cleanup(source.Close)
	f.Fuzz(func(t *testing.T, answer string) {
		body = answer
		rounds, err := source.Rounds(t.Context(), query)
		if err != nil {
			require.ErrorIs(t, err, prometheus.ErrUnavailable)
			require.Empty(t, rounds)
		}
	})
}
