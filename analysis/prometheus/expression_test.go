// SPDX-License-Identifier: Apache-2.0

package prometheus

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

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
		`lag{namespace="other"} or {namespace=~".+"}`:                            `lag{namespace="other",namespace="shop"} or {namespace="shop",namespace=~".+"}`,
		`lag{namespace="$namespace"}`:                                            `lag{namespace="shop"}`,
		`lag{a="\"} or vector(1) #"}`:                                            `lag{a="\"} or vector(1) #",namespace="shop"}`,
		`max_over_time(lag[1h:1m] offset 5m)`:                                    `max_over_time(lag{namespace="shop"}[1h:1m] offset 5m)`,
		`lag{path=~"^/a$"}`:                                                      `lag{namespace="shop",path=~"^/a$"}`,
	} {
		got, err := expressed(expression(text))
		require.NoError(t, err, text)
		require.Equal(t, want, got, text)
	}
	for text, want := range map[string]string{
		`lag{`:                    "it is no PromQL",
		`lag{pod="$pod"}`:         "$pod is no variable: write $canary, $stable, $namespace or $workload",
		`lag{a=~"$workload("}`:    "it is no PromQL",
		strings.Repeat("a", 5000): "longer than 4096",
	} {
		_, err := expressed(expression(text))
		require.ErrorContains(t, err, want, text)
	}
	_, err := expressed(analysis.NumberQuery{Expression: "up", Namespace: "shop", Hashes: []string{"new"}})
	require.ErrorContains(t, err, "hashes of both revisions are needed")
}

// Whatever an expression says, what is asked is PromQL and reads one namespace.
func FuzzExpressed(f *testing.F) {
	for _, seed := range []string{
		`up`, `{}`, `{__name__=~".+"}`, `sum(a{b="c"} @ end()) by (x)`, `a{namespace!="shop"}`, `WITH (x = a) x + x`, "a{b=`c`}", `a[5m:{x="y"}]`,
		`label_replace(a, "namespace", "b", "", "")`, `a or on() vector(1)`, `a{"b"="c"}`, `a @ (b)`, `rate(a[1i])`, `a # {`,
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		asked, err := expressed(expression(text))
		if err != nil {
			return
		}
		again, err := parser.NewParser(parser.Options{}).ParseExpr(asked)
		require.NoError(t, err, asked)
		parser.Inspect(again, func(part parser.Node, _ []parser.Node) error {
			if selector, ok := part.(*parser.VectorSelector); ok {
				bound := func(m *labels.Matcher) bool { return m.String() == `namespace="shop"` }
				require.True(t, slices.ContainsFunc(selector.LabelMatchers, bound), asked)
			}
			return nil
		})
	})
}

func TestExpressionsAnswer(t *testing.T) {
	of := func(hash, value string) string {
		return fmt.Sprintf(`{"metric":{"pod_template_hash":%q},"value":[1700000000,%q]}`, hash, value)
	}
	vector := func(samples ...string) string {
		return `{"status":"success","data":{"resultType":"vector","result":[` + strings.Join(samples, ",") + `]}}`
	}
	const bare = `{"metric":{},"value":[1700000000,"7"]}`
	for name, c := range map[string]struct {
		answer  string
		want    float64
		problem string
	}{
		"one":                  {vector(bare), 7, ""},
		"scalar":               {`{"status":"success","data":{"resultType":"scalar","result":[1700000000,"1"]}}`, 1, ""},
		"none":                 {vector(), math.NaN(), ""},
		"one of each revision": {vector(of("o.d", "3"), of("new", "5")), 5, ""},
		"the canary's alone":   {vector(of("new", "5")), 5, ""},
		"stable's alone":       {vector(of("o.d", "3")), math.NaN(), ""},
		"two of the canary":    {vector(of("new", "3"), of("new", "5")), 0, "more than one number"},
		"of another revision":  {vector(of("new", "3"), of("older", "5")), 0, "more than one number"},
		"one without":          {vector(of("new", "3"), bare), 0, "more than one number"},
		"series":               {`{"status":"success","data":{"resultType":"matrix","result":[]}}`, 0, "more than one number"},
		"text":                 {`{"status":"success","data":{"resultType":"string","result":[1700000000,"x"]}}`, 0, "cannot be read"},
	} {
		value, err := served(t, func(string) string { return c.answer }).Number(t.Context(), expression("up"))
		if c.problem != "" {
			require.ErrorContains(t, err, c.problem, name)
			require.ErrorIs(t, err, ErrUnavailable, name)
			continue
		}
		require.NoError(t, err, name)
		require.Equal(t, fmt.Sprint(c.want), fmt.Sprint(value.Number), name)
	}
}
