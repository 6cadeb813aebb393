// SPDX-License-Identifier: Apache-2.0

package prometheus_test

import (
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sluice-mesh/sluice/analysis"
)

// answering serves the same two pods in each of some namespaces, and a histogram of stable's.
func answering(asked *atomic.Int64, padding int, namespaces ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		query := r.FormValue("query")
		if strings.HasPrefix(query, "sum by (le)") {
			_, _ = fmt.Fprint(w, `{"status":"success","data":{"resultType":"vector","result":[`+
				`{"metric":{"le":"100"},"value":[1700000000,"90"]},{"metric":{"le":"200.0"},"value":[1700000000,"98"]},`+
				`{"metric":{"le":"500"},"value":[1700000000,"99.9"]},{"metric":{"le":"+Inf"},"value":[1700000000,"100"]}]}}`)
			return
		}
		var series []string
		for i, namespace := range namespaces {
			if !strings.Contains(query, namespace) || strings.Contains(query, `direction="outbound"`) {
				continue
			}
			for _, hash := range []string{"new", "old"} {
				series = append(series, fmt.Sprintf(
					`{"metric":{"__name__":"response_total","pod":"%s","namespace":"%s","direction":"inbound","classification":"success","pod_template_hash":"%s"},"values":[[1699999990,"0"],[1700000010,"%d"]]}`,
					hash, namespace, hash, 10*(i+1)))
			}
		}
		_, _ = fmt.Fprintf(w, `{"status":"success","data":{"resultType":"matrix","result":[%s]}}%s`,
			strings.Join(series, ","), strings.Repeat(" ", padding*len(series)))
	}
}

func runs(namespaces ...string) []analysis.Query {
	var queries []analysis.Query
	for _, namespace := range namespaces {
		query := query
		query.Namespace = namespace
		queries = append(queries, query)
	}
	return queries
}

// Two requests read all runs; equal hashes in other namespaces are kept apart, and one bad query spoils
// no other.
func TestRoundsOf(t *testing.T) {
	var asked atomic.Int64
	source := newSource(t, answering(&asked, 0, "aa", "bb", "cc"))
	answers := source.RoundsOf(t.Context(), append(runs("aa", "", "bb"), runs("empty")...))
	require.Len(t, answers, 4)
	require.ErrorContains(t, answers[1].Err, "namespace and the hashes")
	for i, want := range map[int]uint64{0: 10, 2: 20} {
		require.NoError(t, answers[i].Err)
		require.Len(t, answers[i].Rounds, 1)
		require.Equal(t, want, answers[i].Rounds[0].Canary.Requests)
		require.Equal(t, want, answers[i].Rounds[0].Stable.Requests)
	}
	require.NoError(t, answers[3].Err)
	require.Empty(t, answers[3].Rounds)
	require.EqualValues(t, 2, asked.Load())
}

func TestRoundsOfManyRuns(t *testing.T) {
	var asked atomic.Int64
	source := newSource(t, answering(&asked, 0))
	many := make([]string, 500)
	for i := range many {
		many[i] = fmt.Sprintf("shop-%d", i)
	}
	for _, answer := range source.RoundsOf(t.Context(), runs(many...)) {
		require.NoError(t, answer.Err)
	}
	require.LessOrEqual(t, asked.Load(), int64(10))
}

// An answer that is too large is asked for in halves; what is too large by itself is unknown.
func TestRoundsOfTooMuch(t *testing.T) {
	var asked atomic.Int64
	source := newSource(t, answering(&asked, 700, "aa", "bb", "cc"))
	for _, answer := range source.RoundsOf(t.Context(), runs("aa", "bb", "cc")) {
		require.NoError(t, answer.Err)
		require.Len(t, answer.Rounds, 1)
	}
	source = newSource(t, answering(&asked, 3000, "aa"))
	require.ErrorContains(t, source.RoundsOf(t.Context(), runs("aa", "bb"))[0].Err, "larger than allowed")
}

// The edges are asked for once in a run.
func TestEdgesAreAskedOnce(t *testing.T) {
	var asked atomic.Int64
	source := newSource(t, answering(&asked, 0))
	query := query
	query.LatencyLimit, query.Before = 500*time.Millisecond, 5*time.Minute
	for range 3 {
		_, err := source.Rounds(t.Context(), query)
		require.NoError(t, err)
	}
	require.EqualValues(t, 1+3*2, asked.Load())
}
