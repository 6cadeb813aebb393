// SPDX-License-Identifier: Apache-2.0

package prometheus

import (
	"errors"
	"fmt"
	"math"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/common/model"
	"github.com/stretchr/testify/require"

	"github.com/sluice-mesh/sluice/analysis"
)

// matchers reads a selector back by the rules of PromQL's strings.
func matchers(t *testing.T, text string) map[string]string {
	t.Helper()
	require.True(t, strings.HasPrefix(text, "{") && strings.HasSuffix(text, "}"), text)
	found := map[string]string{}
	for text = text[1:]; text != "}"; text = strings.TrimPrefix(text, ",") {
		end := strings.IndexAny(text, `=`)
		require.Positive(t, end)
		name := text[:end]
		text = strings.TrimPrefix(strings.TrimPrefix(text[end:], "="), "~")
		quoted, err := strconv.QuotedPrefix(text)
		require.NoError(t, err)
		value, err := strconv.Unquote(quoted)
		require.NoError(t, err)
		require.NotContains(t, found, name)
		found[name], text = value, text[len(quoted):]
	}
	return found
}

// Whatever stands in a label's name or value, a selector has one matcher for it, or is refused.
func FuzzSelected(f *testing.F) {
	f.Add("orders_total", "status", "ok", "shop", "abc")
	f.Add("orders_total", "status", `ok"} or vector(1) #`, "shop", "abc")
	f.Add("a{}", "b=", "\\", "`", "|.*")
	f.Add("orders", "namespace", "other", "shop", "\xff")
	f.Fuzz(func(t *testing.T, metric, label, value, namespace, hash string) {
		text, err := selected(analysis.Selector{Metric: metric, Labels: map[string]string{label: value}}, namespace, hash)
		if err != nil {
			return
		}
		found := matchers(t, text)
		require.Len(t, found, 4, text)
		require.Equal(t, metric, found["__name__"])
		require.Equal(t, strings.ToValidUTF8(namespace, "\ufffd"), strings.ToValidUTF8(found["namespace"], "\ufffd"))
		require.Equal(t, strings.ToValidUTF8(value, "\ufffd"), strings.ToValidUTF8(found[label], "\ufffd"))
	})
}

func TestSelectedRefuses(t *testing.T) {
	for _, metric := range []string{"", "a b", `a"`, "a{}", "1a", "a\n"} {
		_, err := selected(analysis.Selector{Metric: metric}, "shop", "new")
		require.ErrorContains(t, err, "no name of a metric", metric)
	}
	for _, label := range []string{"", "a b", "a=", "namespace", "pod_template_hash", "__name__", "a\n"} {
		_, err := selected(analysis.Selector{Metric: "a", Labels: map[string]string{label: "b"}}, "shop", "new")
		require.ErrorContains(t, err, "no label that may be selected by", label)
	}
	text, err := selected(analysis.Selector{Metric: "orders_total", Labels: map[string]string{"b": "2", "a": "1"}}, "shop", "new", "o.d")
	require.NoError(t, err)
	require.Equal(t, `{__name__="orders_total",namespace="shop",pod_template_hash=~"new|o\\.d",a="1",b="2"}`, text)
}

func served(t *testing.T, answer func(query string) string) *Source {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = fmt.Fprint(w, answer(r.FormValue("query"))) }))
	t.Cleanup(server.Close)
	source, err := New(Options{Address: server.URL})
	require.NoError(t, err)
	t.Cleanup(source.Close)
	return source
}

// What custom counters grew by is in the round in which it was scraped, and what is known already is
// not counted again.
func TestCustomCounters(t *testing.T) {
	second := func(n int) string { return strconv.FormatInt(began.Add(time.Duration(n)*time.Second).Unix(), 10) }
	stream := func(hash, values string) string {
		return `{"metric":{"pod":"` + hash + `","instance":"app","pod_template_hash":"` + hash + `"},"values":[` + values + `]}`
	}
	matrix := func(streams ...string) string {
		return `{"status":"success","data":{"resultType":"matrix","result":[` + strings.Join(streams, ",") + `]}}`
	}
	source := served(t, func(query string) string {
		old, fresh := 100, 0
		if strings.Contains(query, "good_total") {
			old, fresh = 90, 0
		}
		value := func(at, n int) string { return `[` + second(at) + `,"` + strconv.Itoa(n) + `"]` }
		return matrix(
			stream("old", value(-5, old)+","+value(10, old+20)+","+value(25, old+40)),
			stream("new", value(12, fresh+4)+","+value(27, fresh+6)),
			stream("other", value(12, 7)+","+value(27, 9)),
		)
	})
	query := runQuery(time.Minute)
	query.Custom = []analysis.CustomQuery{{Total: analysis.Selector{Metric: "all_total"}, Good: analysis.Selector{Metric: "good_total"}}}
	p, err := newPlan(query)
	require.NoError(t, err)
	rounds := []analysis.Round{{End: began.Add(15 * time.Second)}, {End: began.Add(30 * time.Second)}}
	require.NoError(t, source.count(t.Context(), p, rounds))
	require.Equal(t, []analysis.Pair{{Total: 4, Good: 4}}, rounds[0].CanaryCustom)
	require.Equal(t, []analysis.Pair{{Total: 20, Good: 20}}, rounds[0].StableCustom)
	require.Equal(t, []analysis.Pair{{Total: 2, Good: 2}}, rounds[1].CanaryCustom)

	query.After = began.Add(15 * time.Second)
	p, err = newPlan(query)
	require.NoError(t, err)
	later := []analysis.Round{{End: began.Add(30 * time.Second)}}
	require.NoError(t, source.count(t.Context(), p, later))
	require.Equal(t, rounds[1].CanaryCustom, later[0].CanaryCustom)
	require.Equal(t, rounds[1].StableCustom, later[0].StableCustom)

	// A metric that cannot be read has nothing in it, and keeps no other from being read.
	readable := query.Custom[0]
	query.Custom = []analysis.CustomQuery{{Total: readable.Total, Good: analysis.Selector{Metric: "no name"}}, readable}
	p.Query = query
	require.ErrorContains(t, source.count(t.Context(), p, later), "no name of a metric")
	require.Equal(t, append([]analysis.Pair{{}}, rounds[1].CanaryCustom...), later[0].CanaryCustom)
	require.Equal(t, append([]analysis.Pair{{}}, rounds[1].StableCustom...), later[0].StableCustom)
}

func TestNumber(t *testing.T) {
	vector := func(samples ...string) string {
		return `{"status":"success","data":{"resultType":"vector","result":[` + strings.Join(samples, ",") + `]}}`
	}
	const sample = `{"metric":{},"value":[1700000000,"%s"]}`
	query := analysis.NumberQuery{
		Name: "queue", Namespace: "shop", Hashes: []string{"new"}, Selector: analysis.Selector{Metric: "queue_length"}, Aggregate: "max", Now: began,
	}
	cases := []struct {
		name, answer string
		want         float64
		problem      string
	}{
		{"one", vector(fmt.Sprintf(sample, "7")), 7, ""},
		{"none", vector(), math.NaN(), ""},
		{"NaN", vector(fmt.Sprintf(sample, "NaN")), math.NaN(), ""},
		{"two", vector(fmt.Sprintf(sample, "7"), fmt.Sprintf(sample, "8")), math.NaN(), "more than one number"},
		{"series", `{"status":"success","data":{"resultType":"matrix","result":[]}}`, math.NaN(), "what came is no number"},
		{"histogram", vector(`{"metric":{},"histogram":[1700000000,{"count":"3","sum":"7","buckets":[]}]}`), math.NaN(), "what came is no number"},
		{"refused", `{"status":"error","errorType":"bad_data","error":"hidden"}`, math.NaN(), "refused"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			var asked string
			source := served(t, func(query string) string { asked = query; return c.answer })
			value, err := source.Number(t.Context(), query)
			require.Equal(t, `max({__name__="queue_length",namespace="shop",pod_template_hash=~"new"})`, asked)
			if c.problem != "" {
				require.ErrorContains(t, err, c.problem)
				require.Equal(t, c.name == "refused", errors.Is(err, ErrUnavailable))
				require.NotContains(t, err.Error(), "hidden")
				return
			}
			require.NoError(t, err)
			require.Equal(t, fmt.Sprint(c.want), fmt.Sprint(value.Number))
			require.Equal(t, began, value.At)
		})
	}
	query.Aggregate = "count_values"
	_, err := served(t, func(string) string { return "" }).Number(t.Context(), query)
	require.ErrorContains(t, err, "write one of sum, avg, min, max")
}

// A series of another revision is nobody's.
func TestGrownIgnoresOthers(t *testing.T) {
	p, err := newPlan(runQuery(time.Minute))
	require.NoError(t, err)
	require.Empty(t, p.grown(model.Matrix{good("oth/1", 1, 5, 2, 7)}))
}
