// SPDX-License-Identifier: Apache-2.0

//go:build harness

package cli

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluice-mesh/sluice/e2e/prometheus"
)

// history is what four pods of a Deployment counted, in the text format with times of its own. In the
// second hour one pod fails every tenth request; before it, a revision with fewer pods is still there.
// From shortly before the fourth hour to its end there are no pods at all.
func history(from, to time.Time) string {
	const scrape = 15 * time.Second
	random := rand.New(rand.NewPCG(1, 2))
	type counters struct{ good, failed, quick, usual, slow int }
	pods := map[string]*counters{}
	var text strings.Builder
	for at := from.Add(-15 * time.Minute); at.Before(to); at = at.Add(scrape) {
		hour := int(at.Sub(from) / time.Hour)
		if gone := at.Sub(from.Add(3*time.Hour - 5*time.Minute)); gone >= 0 && hour < 4 {
			continue
		}
		for i := range 5 {
			name, hash := fmt.Sprintf("checkout-7d4f-%d", i), "7d4f"
			if i == 4 {
				name, hash = "checkout-5a5a-0", "5a5a"
			}
			if i == 4 && hour > 1 {
				continue
			}
			c := pods[name]
			if c == nil {
				c = &counters{}
				pods[name] = c
			}
			for range 250 + random.IntN(100) {
				switch u := random.Float64(); {
				case hash != "7d4f" || u < 0.0005 || hour == 1 && i == 1 && u < 0.1:
					c.failed++
				default:
					c.good++
				}
				switch u := random.Float64(); {
				case u < 0.9:
					c.quick++
				case u < 0.999:
					c.usual++
				default:
					c.slow++
				}
			}
			line := func(metric, labels string, value int) {
				fmt.Fprintf(&text, "%s{namespace=\"shop\",deployment=\"checkout\",pod=%q,pod_template_hash=%q%s} %d %d\n",
					metric, name, hash, labels, value, at.UnixMilli())
			}
			line("proxy_build_info", "", 1)
			line("response_total", `,direction="inbound",classification="success",status_code="200"`, c.good)
			line("response_total", `,direction="inbound",classification="failure",status_code="500"`, c.failed)
			all := c.quick + c.usual + c.slow
			for _, bucket := range []struct {
				edge  string
				count int
			}{{"100", c.quick}, {"400", c.quick + c.usual}, {"500", c.quick + c.usual}, {"+Inf", all}} {
				line("response_latency_ms_bucket", `,direction="inbound",le="`+bucket.edge+`"`, bucket.count)
			}
			line("response_latency_ms_count", `,direction="inbound"`, all)
		}
	}
	return text.String()
}

// TestBacktestOfRealPrometheus reads five hours that were scraped with their own times.
func TestBacktestOfRealPrometheus(t *testing.T) {
	to := time.Now().Truncate(time.Hour)
	from := to.Add(-5 * time.Hour)
	text := history(from, to)
	var served atomic.Bool
	exporter := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; version=0.0.4")
		if !served.Swap(true) {
			_, _ = w.Write([]byte(text))
		}
	}))
	t.Cleanup(exporter.Close)
	address := prometheus.Start(t, map[string]any{
		"global": map[string]any{"scrape_interval": "20s", "scrape_timeout": "20s"},
		"scrape_configs": []any{map[string]any{
			"job_name": "history", "scrape_interval": "1s", "scrape_timeout": "1s",
			"static_configs": []any{map[string]any{"targets": []string{strings.TrimPrefix(exporter.URL, "http://")}}},
		}},
	})
	arguments := []string{
		"backtest", "--prometheus-address", address, "--namespace=shop", "--workload=checkout", "--steps=10:1m,50:1m,100:1m",
		"--from=" + from.Format(time.RFC3339), "--to=" + to.Format(time.RFC3339), "--releases=6", "--defect=errors=5", "--defect=slow=10",
	}
	var told struct {
		Hours []struct {
			Outcome, Revision, Reason            string
			Pods, Releases, Promoted, RolledBack int
			RequestsPerSecond, ErrorsPercent     float64
		}
		FalseAlarmsPercent struct{ Value float64 }
		Defects            []struct {
			Defect        string
			MissedPercent struct{ Value float64 }
		}
	}
	var out string
	require.EventuallyWithT(t, func(c *assert.CollectT) {
		var complaint string
		_, out, complaint = run(t, append(arguments, "--output=json")...)
		require.NoError(c, json.Unmarshal([]byte(out), &told), complaint)
		require.Len(c, told.Hours, 5)
		require.NotZero(c, told.Hours[4].Pods)
	}, time.Minute, 2*time.Second)

	outcomes := []string{"passed", "failed", "passed", "no data", "passed"}
	for i, hour := range told.Hours {
		require.Equal(t, outcomes[i], hour.Outcome, "%d: %+v", i, hour)
		if i == 3 {
			require.Zero(t, hour.Releases)
			continue
		}
		require.Equal(t, "7d4f", hour.Revision, "the larger revision is stable")
		require.Equal(t, 4, hour.Pods)
		require.InDelta(t, 80, hour.RequestsPerSecond, 4, "requests of the other revision are not counted")
		require.Equal(t, 6, hour.Releases)
	}
	require.InDelta(t, 2.5, told.Hours[1].ErrorsPercent, 0.5)
	require.Contains(t, told.Hours[1].Reason, "requests failed")
	require.InDelta(t, 100*float64(told.Hours[1].RolledBack)/24, told.FalseAlarmsPercent.Value, 0.01)
	for _, defect := range told.Defects {
		require.Zero(t, defect.MissedPercent.Value, defect.Defect)
	}

	_, out, complaint := run(t, append(arguments, "--output=html")...)
	require.Contains(t, out, "<svg", complaint)
	require.Contains(t, out, "Times at which releases did not all pass")
}
