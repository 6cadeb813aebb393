// SPDX-License-Identifier: Apache-2.0

package prometheus

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/stretchr/testify/require"

	"github.com/sluice-mesh/sluice/analysis"
)

func expression(text string) analysis.NumberQuery {
	return analysis.NumberQuery{Name: "lag", Namespace: "shop", Workload: "web", Hashes: []string{"new", "o.d"}, Expression: text, Now: began}
}

func TestExpressed(t *testing.T) {
	for text, want := range map[string]string{
		`up`:                              `up{namespace="shop"}`,
		`max(lag{group="$workload"}) / 2`: `max(lag{group="web",namespace="shop"}) / 2`,
		`sum(rate(orders_total{pod_template_hash="$canary"}[5m])) > bool 3`:      `sum(rate(orders_total{namespace="shop",pod_template_hash="new"}[5m])) > bool 3`,
		`avg by (pod_template_hash) (lag{pod_template_hash=~"$canary|$stable"})`: `avg by (pod_template_hash) (lag{namespace="shop",pod_template_hash=~"new|o\\.d"})`,
		`lag{namespace="$namespace"}`:                                            `lag{namespace="shop"}`,
		`lag{"namespace"='shop', namespace="shop"}`:                              `lag{namespace="shop"}`,
		`lag{path=~"^/a$"}`: `lag{namespace="shop",path=~"^/a$"}`,
		// Nothing in a string leaves it.
		`lag{a="\"} or vector(1) #"}`:       `lag{a="\"} or vector(1) #",namespace="shop"}`,
		`{"up} or vector(1) #"}`:            `{__name__="up} or vector(1) #",namespace="shop"}`,
		`{"lag $workload", "a\"}"="b"}`:     `{"a\"}"="b",__name__="lag web",namespace="shop"}`,
		`sum by ("a) or up #") (lag{a=''})`: `sum by ("a) or up #") (lag{a="",namespace="shop"})`,
		// Every selector is bound, wherever it stands.
		`{__name__=~".+"}`:                                          `{__name__=~".+",namespace="shop"}`,
		`a and b unless c or d`:                                     `a{namespace="shop"} and b{namespace="shop"} unless c{namespace="shop"} or d{namespace="shop"}`,
		`a / on (pod) group_left (namespace) b`:                     `a{namespace="shop"} / on (pod) group_left (namespace) b{namespace="shop"}`,
		`absent(a{b="c"})`:                                          `absent(a{b="c",namespace="shop"})`,
		`absent_over_time(a[5m])`:                                   `absent_over_time(a{namespace="shop"}[5m])`,
		`label_replace(a, "namespace", "other", "x", "$canary")`:    `label_replace(a{namespace="shop"}, "namespace", "other", "x", "$canary")`,
		`quantile(scalar(a), b) + topk(scalar(c), d)`:               `quantile(scalar(a{namespace="shop"}), b{namespace="shop"}) + topk(scalar(c{namespace="shop"}), d{namespace="shop"})`,
		`max_over_time(sum(rate(a[1m]))[1h:1m] @ end() offset -5m)`: `max_over_time(sum(rate(a{namespace="shop"}[1m]))[1h:1m] @ end() offset -5m)`,
		`-(sum(a @ 0 offset 1w) by (namespace))`:                    `-(sum by (namespace) (a{namespace="shop"} @ 0.000 offset 1w))`,
		`1 + time()`:                                                `1 + time()`,
	} {
		got, err := expressed(expression(text))
		require.NoError(t, err, text)
		require.Equal(t, want, got, text)
	}
	_, err := expressed(analysis.NumberQuery{Expression: "up", Namespace: "shop", Hashes: []string{"new"}})
	require.ErrorContains(t, err, "hashes of both revisions are needed")
}

func TestExpressedRefuses(t *testing.T) {
	const leaveOut = ": the namespace is the Canary's: leave it out"
	for text, want := range map[string]string{
		`lag{`:                         "it is no PromQL: 1:5: parse error",
		"lag{\n\n":                     "it is no PromQL: 3:1: parse error",
		`{}`:                           "at least one non-empty matcher",
		`lag{a=~"$workload("}`:         "it is no PromQL",
		`lag{pod="$pod"}`:              "$pod is no variable: write $canary, $stable, $namespace or $workload",
		strings.Repeat("a", 5000):      "longer than 4096",
		`lag[5m]`:                      "it answers with a range vector, not with numbers",
		`"lag"`:                        "it answers with a string, not with numbers",
		`lag{namespace="other"}`:       `namespace="other"` + leaveOut,
		`lag{namespace="$workload"}`:   `namespace="web"` + leaveOut,
		`{namespace!="shop"}`:          "at least one non-empty matcher",
		`lag{namespace!="shop"}`:       `namespace!="shop"` + leaveOut,
		`lag{namespace=~".+"}`:         `namespace=~".+"` + leaveOut,
		`lag{"namespace"=~"shop|b"}`:   `namespace=~"shop|b"` + leaveOut,
		`a or sum(b{namespace=""})`:    `namespace=""` + leaveOut,
		`x{namespace="shop" or a="b"}`: "it is no PromQL", // VictoriaMetrics
		`WITH (x = up) x`:              "it is no PromQL", // VictoriaMetrics
		// Experimental: info() reads series that no selector names.
		`info(up)`:                     "it is no PromQL",
		`info(up, {namespace="shop"})`: "it is no PromQL",
		`limitk(1, up)`:                "it is no PromQL",
		`sum(rate(up[5m * 2]))`:        "it is no PromQL",
		`sum(rate(up[5m] smoothed))`:   "it is no PromQL",
		`a + fill(0) b`:                "it is no PromQL",
	} {
		got, err := expressed(expression(text))
		require.ErrorContains(t, err, want, "%s: %s", text, got)
		require.NotContains(t, err.Error(), "\n")
		require.Less(t, len(err.Error()), 400)
	}
}

// Whatever an expression says, what is asked is PromQL and reads one namespace.
func FuzzExpressed(f *testing.F) {
	for _, seed := range []string{
		`up`, `{}`, `{__name__=~".+"}`, `sum(a{b="c"} @ end()) by (x)`, `a{namespace!="shop"}`, `WITH (x = a) x + x`, "a{b=`c`}", `a[5m:{x="y"}]`,
		`label_replace(a, "namespace", "b", "", "")`, `a or on() vector(1)`, `a{"b"="c"}`, `a @ (b)`, `rate(a[1i])`, `a # {`, `info(a, {b="c"})`,
		`{"a b", "c d"=~"$canary|$stable"}`, `{"$workload"}`, `absent(a{namespace="shop"} offset -1h)`, `max_over_time(rate(a[5m])[1h:] @ 3)`,
		`quantile(scalar(a), b) ^ -c`, `a * on (x) group_left (namespace) b`, `count_values("namespace", a)`, `a{x="\xff\u00e9\n"}`, `1h30m + 0x1F`,
	} {
		f.Add(seed, "shop")
	}
	f.Add(`{a="$namespace", b=~"$namespace"}`, `"} or up #`)
	f.Fuzz(func(t *testing.T, text, namespace string) {
		query := expression(text)
		query.Namespace = namespace
		asked, err := expressed(query)
		if err != nil {
			require.NotContains(t, err.Error(), "\n")
			return
		}
		again, err := parser.NewParser(parser.Options{}).ParseExpr(asked)
		require.NoError(t, err, asked)
		parser.Inspect(again, func(part parser.Node, _ []parser.Node) error {
			if selector, ok := part.(*parser.VectorSelector); ok {
				var namespaces []*labels.Matcher
				for _, matcher := range selector.LabelMatchers {
					if matcher.Name == "namespace" {
						namespaces = append(namespaces, matcher)
					}
				}
				require.Len(t, namespaces, 1, asked)
				require.Equal(t, labels.MatchEqual, namespaces[0].Type, asked)
				require.Equal(t, namespace, namespaces[0].Value, asked)
			}
			return nil
		})
	})
}

// The parser of Prometheus, which promtool is another door to, reads every query that is issued, whatever
// the names of namespaces and revisions are.
func TestIssuedQueriesAreRead(t *testing.T) {
	for _, name := range []string{"shop", `a"b\c`, "{}[]()|.*+?^$", "`'", "über\n", "{{ .x }}", `"} or vector(1)`, "$canary"} {
		query := runQuery(time.Minute)
		query.Namespace, query.Workload, query.CanaryHash, query.StableHash = name, name, name+"1", name+"2"
		query.Before = 10 * time.Minute
		issued, err := Issued(query)
		require.NoError(t, err)
		require.Len(t, issued, 11)
		for _, text := range issued {
			_, err := parser.NewParser(parser.Options{}).ParseExpr(text)
			require.NoError(t, err, text)
		}
	}
}

func TestExpressionsAnswer(t *testing.T) {
	of := func(hash, value string) string {
		return fmt.Sprintf(`{"metric":{"pod_template_hash":%q},"value":[1700000000,%q]}`, hash, value)
	}
	vector := func(samples ...string) string {
		return `{"status":"success","data":{"resultType":"vector","result":[` + strings.Join(samples, ",") + `]}}`
	}
	const (
		bare      = `{"metric":{},"value":[1700000000,"7"]}`
		histogram = `{"metric":{"pod_template_hash":"new"},"histogram":[1700000000,{"count":"3","sum":"7","buckets":[]}]}`
	)
	for name, c := range map[string]struct {
		answer  string
		want    float64
		problem string
	}{
		"one":                      {vector(bare), 7, ""},
		"scalar":                   {`{"status":"success","data":{"resultType":"scalar","result":[1700000000,"1"]}}`, 1, ""},
		"scalar of nothing":        {`{"status":"success","data":{"resultType":"scalar","result":[1700000000,"NaN"]}}`, math.NaN(), ""},
		"none":                     {vector(), math.NaN(), ""},
		"one of each revision":     {vector(of("o.d", "3"), of("new", "5")), 5, ""},
		"NaN of the canary":        {vector(of("o.d", "3"), of("new", "NaN")), math.NaN(), ""},
		"the canary's alone":       {vector(of("new", "5")), 5, ""},
		"stable's alone":           {vector(of("o.d", "3")), math.NaN(), ""},
		"two of the canary":        {vector(of("new", "3"), of("new", "5")), 0, "more than one number came"},
		"two of stable":            {vector(of("new", "3"), of("o.d", "5"), of("o.d", "5")), 0, "more than one number came"},
		"two of none":              {vector(bare, bare), 0, "more than one number came"},
		"one without":              {vector(of("new", "3"), bare), 0, "more than one number came"},
		"of another revision":      {vector(of("new", "3"), of("older", "5")), 0, "neither the canary's nor stable's"},
		"another revision's alone": {vector(of("older", "5")), 0, "neither the canary's nor stable's"},
		"histogram":                {vector(histogram), 0, "what came is no number"},
		"series":                   {`{"status":"success","data":{"resultType":"matrix","result":[]}}`, 0, "what came is no number"},
		"text":                     {`{"status":"success","data":{"resultType":"string","result":[1700000000,"x"]}}`, 0, "cannot be read"},
	} {
		value, err := served(t, func(string) string { return c.answer }).Number(t.Context(), expression("up"))
		if c.problem != "" {
			require.ErrorContains(t, err, c.problem, name)
			require.Equal(t, name == "text", errors.Is(err, ErrUnavailable), name)
			continue
		}
		require.NoError(t, err, name)
		require.Equal(t, fmt.Sprint(c.want), fmt.Sprint(value.Number), name)
	}
}
