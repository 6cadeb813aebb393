// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"math"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sluice-mesh/sluice/analysis/backtest"
	"github.com/sluice-mesh/sluice/analysis/simulation"
)

// remembered is a report as a day of a workload with a hostile name might give it.
func remembered(t *testing.T) *hindsight {
	t.Helper()
	options := &backtestOptions{
		planOptions: planOptions{steps: "5:1m,50:2m,100:5m", successRate: 99, latency: 500 * time.Millisecond, changed: func(string) bool { return false }},
		namespace:   "shop", workload: "<script>alert(1)</script>", since: 6 * time.Hour, every: time.Hour, interval: 5 * time.Second,
		split: "pods", releases: 8, seed: 1, defects: []string{"errors=5"}, now: noon,
	}
	tried, err := options.read(strings.NewReader(""))
	require.NoError(t, err)
	settled, err := options.options(tried.plan)
	require.NoError(t, err)
	require.Equal(t, noon().Add(-6*time.Hour), settled.From)
	require.Equal(t, noon().Add(-8*time.Minute), settled.To)
	require.Equal(t, 35*time.Minute, settled.Length)
	some := func(value, low, high float64) simulation.Interval {
		return simulation.Interval{Value: value, Low: low, High: high}
	}
	report := &backtest.Report{
		FalseAlarms: some(7.5, 2, 20), Promoted: some(72.5, 50, 90), Undecided: some(20, 5, 40), Median: some(485, 480, 500), P95: some(600, 580, 620), Releases: 40,
		Defects: []backtest.Detection{{
			Name: "errors=5", Missed: some(0, 0, 9), Undecided: some(20, 5, 40), Median: some(95, 90, 100), P95: some(140, 120, 150), Bad: some(21.5, 20, 23), Releases: 40,
		}},
	}
	for i := range 6 {
		hour := backtest.Hour{
			Start: settled.From.Add(time.Duration(i) * time.Hour), Revision: "7d4f", Pods: 4, Split: backtest.SplitPods,
			Requests: 80 + 3*float64(i), Errors: 0.1, Slow: 0.25 * float64(i), Releases: 8, Promoted: 8, Median: 485,
		}
		switch i {
		case 2:
			hour.Promoted, hour.RolledBack, hour.Errors = 5, 3, 2.4
			hour.Reason = "31 of 646 requests failed (4.8 %), 11 of 5804 on stable (0.19 %) at weight 5 %: at least 9 times stable, 1.5 times is allowed"
		case 4:
			hour.Promoted, hour.Median, hour.Errors = 0, math.NaN(), 30
			hour.Reason = "both revisions break the objective of 99 % success; not the canary: <b>30 %</b>"
		case 5:
			hour = backtest.Hour{Start: hour.Start, Split: backtest.SplitPods, Median: math.NaN(), Reason: "the workload had no pods then"}
		}
		report.Hours = append(report.Hours, hour)
	}
	return newHindsight(options, tried, settled, report)
}

func TestBacktestReports(t *testing.T) {
	told := remembered(t)
	var text, page, object bytes.Buffer
	require.NoError(t, told.writeText(&text))
	requireGolden(t, filepath.Join("testdata", "tryout", "backtest.out"), text.String())
	require.NoError(t, writeObject(&object, formatJSON, told))
	requireGolden(t, filepath.Join("testdata", "tryout", "backtest-json.out"), object.String())
	require.NoError(t, json.Unmarshal(object.Bytes(), &map[string]any{}))
	require.NoError(t, told.writeHTML(&page))
	requireGolden(t, filepath.Join("testdata", "tryout", "backtest.html"), page.String())
	requireHarmless(t, page.String())
}

// requireHarmless: the page is well-formed, loads and runs nothing, and its plots stay within their frames.
func requireHarmless(t *testing.T, page string) {
	t.Helper()
	require.NotContains(t, page, "ZgotmplZ")
	body := page[strings.Index(page, "<body>"):strings.Index(page, "</html>")]
	decoder := xml.NewDecoder(strings.NewReader(body))
	bars := 0
	for {
		token, err := decoder.Token()
		if token == nil {
			require.ErrorContains(t, err, "EOF")
			break
		}
		require.NoError(t, err)
		element, ok := token.(xml.StartElement)
		if !ok {
			continue
		}
		require.NotContains(t, []string{"script", "img", "link", "iframe", "a", "b", "image", "use"}, element.Name.Local)
		for _, attribute := range element.Attr {
			require.False(t, strings.HasPrefix(attribute.Name.Local, "on") || attribute.Name.Local == "href" || attribute.Name.Local == "style", attribute.Name.Local)
			require.NotContains(t, attribute.Value, "NaN")
			require.NotContains(t, attribute.Value, "Inf")
		}
		if element.Name.Local == "rect" {
			bars++
		}
	}
	require.Equal(t, 4+5*6, bars)
}

func TestBacktestAlarms(t *testing.T) {
	told := remembered(t)
	var coded *codeError
	require.ErrorAs(t, told.alarm(), &coded)
	require.Equal(t, exitAlarms, coded.code)
	require.EqualError(t, coded, "7.5 % [2.0-20.0] of good releases would have been rolled back; the gate promises 1 %")
	told.FalseAlarms.Low = 1
	require.NoError(t, told.alarm())
	told.FalseAlarms = nil
	require.NoError(t, told.alarm())
}

// TestTryoutDocs: the commands in the docs are commands.
func TestTryoutDocs(t *testing.T) {
	sample := filepath.Join("..", "..", "config", "samples", "canary.yaml")
	for page, commands := range map[string]int{"simulate": 3, "backtest": 3} {
		raw, err := os.ReadFile(filepath.Join("..", "..", "docs", page+".md"))
		require.NoError(t, err)
		for line := range strings.SplitSeq(string(raw), "\n") {
			command, found := strings.CutPrefix(line, "sluice "+page+" ")
			if !found {
				continue
			}
			commands--
			command, _, _ = strings.Cut(command, " > ")
			arguments := strings.Fields(strings.ReplaceAll(command, "-f canary.yaml", "-f "+sample))
			if page == "simulate" && strings.Contains(command, "-f ") {
				arguments = append(arguments, "--canary=podinfo")
			}
			if page == "simulate" {
				arguments = append(arguments, "--runs=10")
			} else {
				arguments = append(arguments, "--prometheus-address=http://127.0.0.1:1")
			}
			code, _, complaint := run(t, append([]string{page}, arguments...)...)
			if page == "backtest" {
				require.Contains(t, complaint, "count the pods of shop/checkout: prometheus unavailable", line)
				continue
			}
			require.Equal(t, exitOK, code, "%s: %s", line, complaint)
		}
		require.Zero(t, commands, page)
	}
}

// Plots of nothing, and of very many hours, are plots.
func TestPlotsOfAnyLength(t *testing.T) {
	for _, hours := range []int{0, 1, 13, 5000} {
		told := remembered(t)
		told.Hours = make([]hindsightHour, hours)
		for i := range told.Hours {
			told.Hours[i] = hindsightHour{Start: noon().Add(time.Duration(i) * time.Hour), Outcome: hourPassed, Requests: float64(i % 7)}
		}
		drawn := told.plot("any", "%.4g", 0, func(h hindsightHour) float64 { return h.Requests })
		require.Len(t, drawn.Bars, hours)
		require.LessOrEqual(t, len(drawn.Ticks), plotMaxTicks)
		var page bytes.Buffer
		require.NoError(t, told.writeHTML(&page))
		require.NotContains(t, page.String(), "NaN")
	}
}

func TestBacktestRefuses(t *testing.T) {
	manifest := filepath.Join("testdata", "tryout", "canary.yaml")
	shop := []string{"--namespace=shop", "--workload=checkout"}
	for name, test := range map[string]struct {
		arguments []string
		want      string
	}{
		"no workload":   {nil, "--workload: write the Deployment's name, or give its Canary with --filename"},
		"no namespace":  {[]string{"--filename=" + manifest, "--canary=till"}, "--namespace: write the namespace of the workload; the Canary names none"},
		"split":         {append(shop, "--split=users"), "--split users: write pods or requests"},
		"releases":      {append(shop, "--releases=0"), "--releases 0: write a number from 1 to 200"},
		"output":        {append(shop, "--output=yaml"), "--output yaml: write text, json or html"},
		"every":         {append(shop, "--every=1s"), "--every 1s: write a duration from 1m0s to 168h0m0s"},
		"interval":      {append(shop, "--interval=1h"), "--interval 1h0m0s: write a duration from 1s to 5m0s"},
		"timeout":       {append(shop, "--timeout=0"), "--timeout 0s: write a duration from 1s"},
		"since":         {append(shop, "--since=-1h"), "--since -1h0m0s: write a duration from 1m0s"},
		"no time":       {append(shop, "--to=yesterday"), "--to yesterday: write a time such as 2026-11-22T06:00:00Z"},
		"future":        {append(shop, "--to=2999-01-01T00:00:00Z"), "--to 2999-01-01T00:00:00Z: write a time that has passed"},
		"from after to": {append(shop, "--from=2026-01-02T00:00:00Z", "--to=2026-01-01T00:00:00Z"), "--from: no release fits between 2026-01-02T00:00:00Z and 2026-01-01T00:00:00Z"},
		"too short":     {append(shop, "--since=5m"), "the plan's holds alone take 15m0s; write an earlier time"},
		"defect":        {append(shop, "--defect=latency=2"), `--defect latency=2: "latency=2" is no part of a defect; write errors=, slow=, step= or after=`},
		"no defect":     {append(shop, "--defect=step=2"), "--defect step=2: nothing is wrong with this canary"},
		"share":         {append(shop, "--defect=slow=200"), "slow=200: write a percentage above 0 and at most 100, such as slow=5"},
		"steps":         {append(shop, "--steps=5:1m"), "--steps 5:1m: the last step must have weight 100"},
		"long holds":    {append(shop, "--steps=5:20h,100:20h", "--since=100h"), "--steps: a release may take 40h5m0s, at most 24h0m0s are read for one; write shorter holds"},
		"address":       {append(shop, "--prometheus-address=prometheus:9090"), "flags --prometheus-*: the Prometheus address"},
		"nobody there":  {append(shop, "--prometheus-address=http://127.0.0.1:1"), "count the pods of shop/checkout: prometheus unavailable"},
	} {
		t.Run(name, func(t *testing.T) {
			code, out, complaint := run(t, append([]string{"backtest"}, test.arguments...)...)
			require.Equal(t, exitError, code)
			require.Empty(t, out)
			require.Contains(t, complaint, test.want)
		})
	}
}

// TestBacktestServer: the metrics are read where the Canary says, unless a flag says where; what is sent with
// requests goes nowhere on the word of a file.
func TestBacktestServer(t *testing.T) {
	for name, test := range map[string]struct {
		arguments   []string
		named, flag bool
		want        string
	}{
		"the Canary's":            {nil, true, false, "prometheus unavailable"},
		"the flag's":              {[]string{"--prometheus-address=FLAG"}, false, true, "prometheus unavailable"},
		"headers":                 {[]string{"--prometheus-header=X-Scope-OrgID=shop"}, false, false, "write the address to which credentials and headers are to be sent"},
		"credentials":             {[]string{"--prometheus-credentials=testdata"}, false, false, "--prometheus-address: the Canary names http://127.0.0.1:"},
		"headers and the address": {[]string{"--prometheus-header=X-Scope-OrgID=shop", "--prometheus-address=FLAG"}, false, true, "prometheus unavailable"},
	} {
		t.Run(name, func(t *testing.T) {
			var asked [2]atomic.Bool
			var addresses [2]string
			for i := range asked {
				server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
					asked[i].Store(true)
					w.WriteHeader(http.StatusServiceUnavailable)
				}))
				defer server.Close()
				addresses[i] = server.URL
			}
			file := filepath.Join(t.TempDir(), "canary.yaml")
			manifest := fmt.Sprintf(`apiVersion: sluice.dev/v1alpha1
kind: Canary
metadata: {name: checkout, namespace: shop}
spec:
  targetRef: {name: checkout}
  gate: {prometheus: {address: %q}}
`, addresses[0])
			require.NoError(t, os.WriteFile(file, []byte(manifest), 0o600))
			arguments := []string{"backtest", "--filename=" + file}
			for _, argument := range test.arguments {
				arguments = append(arguments, strings.ReplaceAll(argument, "FLAG", addresses[1]))
			}
			code, _, complaint := run(t, arguments...)
			require.Equal(t, exitError, code)
			require.Contains(t, complaint, test.want)
			require.Equal(t, [2]bool{test.named, test.flag}, [2]bool{asked[0].Load(), asked[1].Load()})
		})
	}
}
