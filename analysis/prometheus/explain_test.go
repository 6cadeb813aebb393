// SPDX-License-Identifier: Apache-2.0

package prometheus

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sluice-mesh/sluice/analysis"
)

// The record of a run names all that was asked, a Canary's own metrics too.
func TestQueries(t *testing.T) {
	query := runQuery(time.Minute)
	query.Custom = []analysis.CustomQuery{{Total: analysis.Selector{Metric: "orders_total"}, Good: analysis.Selector{Metric: "orders_total", Labels: map[string]string{"paid": "yes"}}}}
	source, err := New(Options{Address: "http://prometheus.test"})
	require.NoError(t, err)
	asked := source.Queries(query,
		analysis.NumberQuery{Namespace: "shop", Hashes: []string{"new"}, Selector: analysis.Selector{Metric: "queue_length"}, Aggregate: "max"},
		analysis.NumberQuery{Namespace: "shop", Workload: "web", Hashes: []string{"new", "old"}, Expression: "sum(up)"},
		analysis.NumberQuery{Namespace: "shop", Hashes: []string{"new"}, Selector: analysis.Selector{Metric: "queue_length"}, Aggregate: "rate"},
	)
	require.Len(t, asked, 6, "one cannot be asked")
	require.Contains(t, asked[0], "response_total")
	require.Equal(t, []string{
		`{__name__="orders_total",namespace="shop",pod_template_hash=~"new|old"}[121s]`,
		`{__name__="orders_total",namespace="shop",pod_template_hash=~"new|old",paid="yes"}[121s]`,
		`max({__name__="queue_length",namespace="shop",pod_template_hash=~"new"})`,
		`sum(up{namespace="shop"})`,
	}, asked[2:])
}
