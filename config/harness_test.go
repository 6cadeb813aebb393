// SPDX-License-Identifier: Apache-2.0

//go:build harness

package config_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/sluice-mesh/sluice/config"
	"github.com/sluice-mesh/sluice/e2e/harness"
)

var cluster *harness.Harness

func TestMain(m *testing.M) { os.Exit(harness.Main(m, harness.Options{}, &cluster)) }

// newClient returns a client for a server that has the definitions.
func newClient(t *testing.T) client.Client {
	t.Helper()
	definitions, err := fs.Sub(config.FS, "crd")
	require.NoError(t, err)
	require.NoError(t, harness.InstallCRDs(t.Context(), cluster.Config, definitions))
	made, err := client.New(cluster.Config, client.Options{})
	require.NoError(t, err)
	return client.WithFieldValidation(made, metav1.FieldValidationStrict)
}

// TestDefinitionsRefuse: each bad object is refused with a message that names the field and says
// what to write instead, and each good one beside it is taken.
func TestDefinitionsRefuse(t *testing.T) {
	cluster := newClient(t)
	for name, test := range map[string]struct {
		kind, spec string
		want       string
	}{
		"shortest": {kind: "Canary", spec: `{targetRef: {name: a}}`},
		"no target": {kind: "Canary", spec: `{}`,
			want: "spec.targetRef: Required value"},
		"empty target name": {kind: "Canary", spec: `{targetRef: {name: ""}}`,
			want: "spec.targetRef.name"},
		"target kind": {kind: "Canary", spec: `{targetRef: {kind: Pod, name: a}}`,
			want: `spec.targetRef.kind: Unsupported value: "Pod": supported values: "Deployment"`},
		"unknown field": {kind: "Canary", spec: `{targetRef: {name: a}, stepz: []}`,
			want: `unknown field "spec.stepz"`},
		"steps ascend": {kind: "Canary", spec: `{targetRef: {name: a}, steps: [{weight: 1, hold: 5s}, {weight: 50}, {weight: 100}]}`},
		"steps do not ascend": {kind: "Canary", spec: `{targetRef: {name: a}, steps: [{weight: 50}, {weight: 20}, {weight: 100}]}`,
			want: "spec.steps: weights must rise from step to step; write them in ascending order, each once, after the steps without a weight"},
		"a step of nothing": {kind: "Canary", spec: `{targetRef: {name: a}, steps: [{hold: 5s}, {weight: 100}]}`,
			want: "spec.steps[0]: Invalid value: a step must say what the canary gets: write weight, matches or mirror"},
		"a strategy of everything": {kind: "Canary", spec: `{targetRef: {name: a}, surge: deployment,
  stickiness: {cookie: {name: user, maxAge: 1h}},
  preview: [{headers: [{name: x-preview, present: true}]}],
  steps: [
    {mirror: {percent: 10}, hold: 1m},
    {matches: [{headers: [{name: x-team, regex: "beta|gamma"}], method: GET}], replicas: 2},
    {weight: 10, replicas: 25%, matches: [{cookies: [{name: beta, exact: "yes"}]}, {queryParams: [{name: b, present: false}], path: {prefix: /b}}]},
    {weight: 100}]}`},
		"no weight after a weight": {kind: "Canary", spec: `{targetRef: {name: a}, steps: [{weight: 5}, {mirror: {percent: 1}}, {weight: 100}]}`,
			want: "spec.steps: weights must rise from step to step"},
		"only matches": {kind: "Canary", spec: `{targetRef: {name: a}, steps: [{matches: [{method: GET}]}]}`,
			want: "spec.steps: the last step must have weight spec.totalWeight"},
		"no replicas": {kind: "Canary", spec: `{targetRef: {name: a}, steps: [{weight: 100, replicas: 0}]}`,
			want: "replicas: write a number of at least 1, or a percentage from 1% to 100%"},
		"replicas of more than all": {kind: "Canary", spec: `{targetRef: {name: a}, steps: [{weight: 100, replicas: 101%}]}`,
			want: "spec.steps[0].replicas"},
		"another surge": {kind: "Canary", spec: `{targetRef: {name: a}, surge: half}`,
			want: `spec.surge: Unsupported value: "half": supported values: "full", "deployment"`},
		"restart": {kind: "Canary", spec: `{targetRef: {name: a}, restart: never}`,
			want: "spec.restart: write roll, canary or ask"},
		"restarts that are asked about": {kind: "Canary", spec: `{targetRef: {name: a}, restart: ask}`},
		"a weight twice": {kind: "Canary", spec: `{targetRef: {name: a}, steps: [{weight: 50}, {weight: 50}, {weight: 100}]}`,
			want: "spec.steps: weights must rise from step to step; write them in ascending order, each once"},
		"last step not 100": {kind: "Canary", spec: `{targetRef: {name: a}, steps: [{weight: 5}, {weight: 50}]}`,
			want: "spec.steps: the last step must have weight spec.totalWeight, which is 100 when it is left out; append {weight: 100, hold: 10m}"},
		"no steps": {kind: "Canary", spec: `{targetRef: {name: a}, steps: []}`,
			want: "spec.steps"},
		"weight 0": {kind: "Canary", spec: `{targetRef: {name: a}, steps: [{weight: 0}, {weight: 100}]}`,
			want: "spec.steps[0].weight"},
		"weight 101": {kind: "Canary", spec: `{targetRef: {name: a}, steps: [{weight: 101}]}`,
			want: "spec.steps: the last step must have weight spec.totalWeight"},
		"a tenth of a percent": {kind: "Canary", spec: `{targetRef: {name: a}, totalWeight: 1000, steps: [{weight: 1}, {weight: 1000}]}`},
		"percent of another total": {kind: "Canary", spec: `{targetRef: {name: a}, totalWeight: 1000, steps: [{weight: 5}, {weight: 100}]}`,
			want: "spec.steps: the last step must have weight spec.totalWeight"},
		"another total without steps": {kind: "Canary", spec: `{targetRef: {name: a}, totalWeight: 1000}`,
			want: "spec.steps: the last step must have weight spec.totalWeight"},
		"total below 100": {kind: "Canary", spec: `{targetRef: {name: a}, totalWeight: 10, steps: [{weight: 10}]}`,
			want: "spec.totalWeight"},
		"total too fine": {kind: "Canary", spec: `{targetRef: {name: a}, totalWeight: 100001, steps: [{weight: 100001}]}`,
			want: "spec.totalWeight"},
		"success rate as a number":            {kind: "Canary", spec: `{targetRef: {name: a}, gate: {successRate: 95}}`},
		"success rate as a string":            {kind: "Canary", spec: `{targetRef: {name: a}, gate: {successRate: "99"}}`},
		"success rate as a fraction":          {kind: "Canary", spec: `{targetRef: {name: a}, gate: {successRate: "99.95"}}`},
		"a server of metrics":                 {kind: "Canary", spec: `{targetRef: {name: a}, gate: {prometheus: {address: "https://mimir.example.com/prometheus"}}}`},
		"a server of metrics without address": {kind: "Canary", spec: `{targetRef: {name: a}, gate: {prometheus: {}}}`, want: `spec.gate.prometheus.address: Required value`},
		"a server of metrics of no URL":       {kind: "Canary", spec: `{targetRef: {name: a}, gate: {prometheus: {address: "prometheus:9090"}}}`, want: `spec.gate.prometheus.address`},
		"a server of metrics with a password": {kind: "Canary", spec: `{targetRef: {name: a}, gate: {prometheus: {address: "https://me:secret@a"}}}`, want: `spec.gate.prometheus.address`},
		"a server of metrics with a query":    {kind: "Canary", spec: `{targetRef: {name: a}, gate: {prometheus: {address: "https://a/?query=up"}}}`, want: `spec.gate.prometheus.address`},
		"a query of its own":                  {kind: "Canary", spec: `{targetRef: {name: a}, gate: {metrics: [{name: lag, query: {promQL: "max(lag)", max: 3}}, {name: well, query: {promQL: "min(up)"}}]}}`},
		"a query without a query":             {kind: "Canary", spec: `{targetRef: {name: a}, gate: {metrics: [{name: lag, query: {max: 3}}]}}`, want: `spec.gate.metrics[0].query.promQL: Required value`},
		"a query that fails more often than it is asked": {kind: "Canary", spec: `{targetRef: {name: a}, gate: {metrics: [{name: lag, query: {promQL: up, failures: 4}}]}}`,
			want: `failures is at most of: so many of the last samples`},
		"a metric of nothing": {kind: "Canary", spec: `{targetRef: {name: a}, gate: {metrics: [{name: lag}]}}`,
			want: `write one of counters, number and query`},
		"a metric of two kinds": {kind: "Canary", spec: `{targetRef: {name: a}, gate: {metrics: [{name: lag, query: {promQL: up}, number: {metric: up, min: 1}}]}}`,
			want: `write one of counters, number and query`},
		"success rate 0": {kind: "Canary", spec: `{targetRef: {name: a}, gate: {successRate: 0}}`,
			want: `spec.gate.successRate: write a percentage above 0 and below 100, such as 99 or "99.9"`},
		"success rate 100": {kind: "Canary", spec: `{targetRef: {name: a}, gate: {successRate: 100}}`,
			want: `spec.gate.successRate: write a percentage above 0 and below 100, such as 99 or "99.9"`},
		"success rate 100 as a string": {kind: "Canary", spec: `{targetRef: {name: a}, gate: {successRate: "100"}}`,
			want: `spec.gate.successRate: write a percentage above 0 and below 100, such as 99 or "99.9"`},
		"success rate with a sign": {kind: "Canary", spec: `{targetRef: {name: a}, gate: {successRate: "99%"}}`,
			want: `spec.gate.successRate: write a percentage above 0 and below 100, such as 99 or "99.9"`},
		"negative success rate": {kind: "Canary", spec: `{targetRef: {name: a}, gate: {successRate: -1}}`,
			want: `spec.gate.successRate: write a percentage above 0 and below 100, such as 99 or "99.9"`},
		"latency": {kind: "Canary", spec: `{targetRef: {name: a}, gate: {latency: {p99: 250ms}}}`},

		"access of nobody": {kind: "AccessPolicy", spec: `{targetRef: {name: a}, rules: []}`},
		"access of all sorts": {kind: "AccessPolicy", spec: `{targetRef: {kind: StatefulSet, name: a}, mode: audit, rules: [
    {from: {serviceAccounts: [{name: a.b}, {namespace: web, name: b}], identities: ["spiffe://cluster.local/ns/a/sa/b"], namespaces: [web], networks: [10.0.0.0/8, "::/0"]}},
    {from: {namespaces: [web]}, ports: [8080], routes: [{methods: [GET, HEAD]}, {path: {prefix: /api}}, {methods: [POST], path: {exact: /a.B/C}}]}]}`},
		"access to a pod": {kind: "AccessPolicy", spec: `{targetRef: {kind: Pod, name: a}, rules: []}`,
			want: `spec.targetRef.kind: Unsupported value: "Pod": supported values: "Deployment", "StatefulSet", "DaemonSet"`},
		"access without rules": {kind: "AccessPolicy", spec: `{targetRef: {name: a}}`, want: "spec.rules: Required value"},
		"another mode": {kind: "AccessPolicy", spec: `{targetRef: {name: a}, mode: deny, rules: []}`,
			want: `spec.mode: Unsupported value: "deny": supported values: "enforce", "audit"`},
		"access from nobody": {kind: "AccessPolicy", spec: `{targetRef: {name: a}, rules: [{from: {namespaces: []}}]}`,
			want: `spec.rules[0].from: Invalid value: from: write at least one of serviceAccounts, identities, namespaces and networks; everybody is networks: [0.0.0.0/0, "::/0"]`},
		"access from a part of an identity": {kind: "AccessPolicy", spec: `{targetRef: {name: a}, rules: [{from: {identities: ["ns/a/sa/b"]}}]}`,
			want: "identities: write whole SPIFFE IDs, such as spiffe://cluster.local/ns/web/sa/frontend"},
		"access from any namespace": {kind: "AccessPolicy", spec: `{targetRef: {name: a}, rules: [{from: {namespaces: ["*"]}}]}`,
			want: "namespaces: write names of namespaces, such as web; there are no wildcards"},
		"access from an address": {kind: "AccessPolicy", spec: `{targetRef: {name: a}, rules: [{from: {networks: [10.1.2.3]}}]}`,
			want: "networks: write networks with the length of their prefix, such as 10.0.0.0/8, or 10.1.2.3/32 for one address"},
		"access from no network": {kind: "AccessPolicy", spec: `{targetRef: {name: a}, rules: [{from: {networks: [10.1.2.3/33]}}]}`,
			want: "networks: write networks with the length of their prefix"},
		"access to a route of nothing": {kind: "AccessPolicy", spec: `{targetRef: {name: a}, rules: [{from: {namespaces: [a]}, routes: [{}]}]}`,
			want: "routes: write methods, path or both; leave routes out to let all requests in"},
		"access by a method in small letters": {kind: "AccessPolicy", spec: `{targetRef: {name: a}, rules: [{from: {namespaces: [a]}, routes: [{methods: [get]}]}]}`,
			want: "methods: write HTTP methods in capitals, such as GET"},
		"access to port 0": {kind: "AccessPolicy", spec: `{targetRef: {name: a}, rules: [{from: {namespaces: [a]}, ports: [0]}]}`,
			want: "spec.rules[0].ports[0]"},

		"endpoints that fail are left out": {kind: "TrafficPolicy", spec: `{outlierEjection: {}}`},
		"all of an ejection": {kind: "TrafficPolicy", spec: `{outlierEjection: {consecutiveFailures: 0, baseTime: 1s, maxTime: 24h, maxPercent: 50,
  successRate: {interval: 1h, minRequests: 0, minEndpoints: 5}}}`},
		"all endpoints left out": {kind: "TrafficPolicy", spec: `{outlierEjection: {maxPercent: 51}}`,
			want: "spec.outlierEjection.maxPercent"},
		"too few endpoints to compare": {kind: "TrafficPolicy", spec: `{outlierEjection: {successRate: {minEndpoints: 4}}}`,
			want: "spec.outlierEjection.successRate.minEndpoints"},
		"an ejection that ends before it has begun": {kind: "TrafficPolicy", spec: `{outlierEjection: {baseTime: 10m, maxTime: 5m}}`,
			want: "spec.outlierEjection.maxTime: write at least baseTime"},
		"an ejection of no time": {kind: "TrafficPolicy", spec: `{outlierEjection: {baseTime: 0s}}`,
			want: "spec.outlierEjection.baseTime: write 1s to 1h, such as 30s"},
		"an overload": {kind: "TrafficPolicy", spec: `{overload: {maxParallelRequests: 100, classes: [
			{priority: critical, routes: [{methods: [POST], path: {prefix: /pay}}]},
			{priority: low, from: {serviceAccounts: [{name: batch}]}, bytesPerSecond: 1000000}]}}`},
		"an overload of nothing":  {kind: "TrafficPolicy", spec: `{overload: {}}`, want: "spec.overload: write maxParallelRequests, classes or both"},
		"an overload of all":      {kind: "TrafficPolicy", spec: `{overload: {classes: [{priority: low}]}}`, want: "classes: write from, routes or both"},
		"an overload of a rank":   {kind: "TrafficPolicy", spec: `{overload: {classes: [{priority: high, routes: [{methods: [GET]}]}]}}`, want: "priority: Unsupported value"},
		"an overload of no bytes": {kind: "TrafficPolicy", spec: `{overload: {classes: [{routes: [{methods: [GET]}], bytesPerSecond: 1}]}}`, want: "bytesPerSecond"},
		"an overload of none":     {kind: "TrafficPolicy", spec: `{overload: {maxParallelRequests: 0}}`, want: "spec.overload.maxParallelRequests"},
		"a rate":                  {kind: "RateLimit", spec: `{targetRef: {name: a}, client: {requests: 10}}`},
		"a rate per minute":       {kind: "RateLimit", spec: `{targetRef: {name: a}, client: {requests: 10, per: 1m, burst: 1}}`},
		"a rate of routes": {kind: "RateLimit", spec: `{targetRef: {kind: DaemonSet, name: a}, mode: audit, ports: [8080],
    routes: [{methods: [POST]}, {path: {exact: /login}}, {methods: [GET], path: {prefix: /api}}], client: {requests: 1}}`},
		"no rate": {kind: "RateLimit", spec: `{targetRef: {name: a}, client: {requests: 0}}`,
			want: "spec.client.requests: Invalid value: 0: spec.client.requests in body should be greater than or equal to 1"},
		"no burst":       {kind: "RateLimit", spec: `{targetRef: {name: a}, client: {requests: 1, burst: 0}}`, want: "spec.client.burst"},
		"rate of nobody": {kind: "RateLimit", spec: `{targetRef: {name: a}}`, want: "spec.client: Required value"},
		"rate of a pod":  {kind: "RateLimit", spec: `{targetRef: {kind: Pod, name: a}, client: {requests: 1}}`, want: "spec.targetRef.kind: Unsupported value"},
		"rate of a mode": {kind: "RateLimit", spec: `{targetRef: {name: a}, mode: deny, client: {requests: 1}}`, want: "spec.mode: Unsupported value"},
		"rate of port 0": {kind: "RateLimit", spec: `{targetRef: {name: a}, ports: [0], client: {requests: 1}}`, want: "spec.ports[0]"},
		"rate of a route": {kind: "RateLimit", spec: `{targetRef: {name: a}, routes: [{}], client: {requests: 1}}`,
			want: "spec.routes[0]: Invalid value: routes: write methods, path or both; leave routes out to mean all requests"},
		"rate of no path": {kind: "RateLimit", spec: `{targetRef: {name: a}, routes: [{path: {}}], client: {requests: 1}}`,
			want: "path: write exactly one of exact and prefix"},
		"rate of a method in small letters": {kind: "RateLimit", spec: `{targetRef: {name: a}, routes: [{methods: [get]}], client: {requests: 1}}`,
			want: "methods: write HTTP methods in capitals, such as GET"},
		"a rate per moment": {kind: "RateLimit", spec: `{targetRef: {name: a}, client: {requests: 1, per: 1ms}}`,
			want: "client.per: write 1s to 1h, such as 1s or 1m"},

		"weights of 100": {kind: "TrafficSplit", spec: split("stable", 75, "canary", 25)},
		"weights of 101": {kind: "TrafficSplit", spec: split("stable", 75, "canary", 26),
			want: "spec.revisions: weights must add up to spec.totalWeight, which is 100 when it is left out"},
		"weights of 1000": {kind: "TrafficSplit", spec: split("stable", 999, "canary", 1) + "\n  totalWeight: 1000"},
		"weights of 100 of 1000": {kind: "TrafficSplit", spec: split("stable", 75, "canary", 25) + "\n  totalWeight: 1000",
			want: "spec.revisions: weights must add up to spec.totalWeight"},
		"weights of 0": {kind: "TrafficSplit", spec: split("stable", 0, "canary", 0),
			want: "spec.revisions: weights must add up to spec.totalWeight"},
		"a strategy": {kind: "TrafficSplit", spec: split("stable", 75, "canary", 25) + `
  matches:
  - {headers: [{name: x-team, exact: ""}, {name: x-b, prefix: a}, {name: x-c, regex: "a|b"}, {name: x-d, present: false}], method: GET, path: {prefix: /}}
  - {cookies: [{name: a, exact: b}], queryParams: [{name: c, present: true}], path: {exact: /}}
  mirror: {percent: 100, allowUnsafe: true}
  stickiness: {header: {name: X-Customer}}`},
		"a cookie of its own": {kind: "TrafficSplit", spec: split("stable", 75, "canary", 25) + "\n  stickiness: {cookie: {}}"},
		"a match of nothing": {kind: "TrafficSplit", spec: split("stable", 75, "canary", 25) + "\n  matches: [{}]",
			want: "spec.matches[0]"},
		"a header compared twice": {kind: "TrafficSplit", spec: split("stable", 75, "canary", 25) + "\n  matches: [{headers: [{name: a, exact: b, present: true}]}]",
			want: "spec.matches[0].headers[0]: Invalid value: write exactly one of exact, prefix, regex and present"},
		"a header not compared": {kind: "TrafficSplit", spec: split("stable", 75, "canary", 25) + "\n  matches: [{headers: [{name: a}]}]",
			want: "write exactly one of exact, prefix, regex and present"},
		"no header's name": {kind: "TrafficSplit", spec: split("stable", 75, "canary", 25) + "\n  matches: [{headers: [{name: 'a b', present: true}]}]",
			want: "name: write a header's name, such as x-user"},
		"no expression": {kind: "TrafficSplit", spec: split("stable", 75, "canary", 25) + "\n  matches: [{headers: [{name: a, regex: '('}]}]",
			want: "spec.matches[0].headers[0].regex"},
		"a cookie compared twice": {kind: "TrafficSplit", spec: split("stable", 75, "canary", 25) + "\n  matches: [{cookies: [{name: a, exact: b, present: true}]}]",
			want: "write exactly one of exact and present"},
		"a method in small letters": {kind: "TrafficSplit", spec: split("stable", 75, "canary", 25) + "\n  matches: [{method: get}]",
			want: "method: write an HTTP method in capitals, such as GET"},
		"two paths": {kind: "TrafficSplit", spec: split("stable", 75, "canary", 25) + "\n  matches: [{path: {exact: /a, prefix: /b}}]",
			want: "path: write exactly one of exact and prefix"},
		"a path without a slash": {kind: "TrafficSplit", spec: split("stable", 75, "canary", 25) + "\n  matches: [{path: {exact: a}}]",
			want: "spec.matches[0].path.exact"},
		"mirror of nothing": {kind: "TrafficSplit", spec: split("stable", 75, "canary", 25) + "\n  mirror: {percent: 0}",
			want: "spec.mirror.percent"},
		"two kinds of stickiness": {kind: "TrafficSplit", spec: split("stable", 75, "canary", 25) + "\n  stickiness: {header: {name: a}, cookie: {}}",
			want: "stickiness: write exactly one of header and cookie"},
		"a cookie's name": {kind: "TrafficSplit", spec: split("stable", 75, "canary", 25) + "\n  stickiness: {cookie: {name: 'a;b'}}",
			want: "name: write letters, digits, - and _"},
		"a cookie for no time": {kind: "TrafficSplit", spec: split("stable", 75, "canary", 25) + "\n  stickiness: {cookie: {maxAge: 10ms}}",
			want: "maxAge: write at least 1s"},
		"unknown revision": {kind: "TrafficSplit", spec: split("stable", 75, "green", 25),
			want: `Unsupported value: "green"`},
	} {
		t.Run(name, func(t *testing.T) {
			object := &unstructured.Unstructured{}
			require.NoError(t, yaml.Unmarshal([]byte("spec: "+test.spec), &object.Object))
			object.SetAPIVersion("sluice.dev/v1alpha1")
			object.SetKind(test.kind)
			object.SetNamespace("default")
			object.SetGenerateName("case-")
			err := cluster.Create(t.Context(), object)
			if test.want == "" {
				require.NoError(t, err)
				return
			}
			require.Error(t, err)
			require.True(t, apierrors.IsInvalid(err) || apierrors.IsBadRequest(err), err)
			require.Contains(t, err.Error(), test.want)
		})
	}
}

func split(one string, oneWeight int, two string, twoWeight int) string {
	content, err := yaml.Marshal(map[string]any{
		"workloadRef": map[string]any{"name": "a"},
		"selector":    map[string]any{"matchLabels": map[string]any{"app": "a"}},
		"revisions": []any{
			map[string]any{"name": one, "podTemplateHash": "aaa", "weight": oneWeight},
			map[string]any{"name": two, "podTemplateHash": "bbb", "weight": twoWeight},
		},
	})
	if err != nil {
		panic(err)
	}
	return "\n  " + strings.ReplaceAll(string(content), "\n", "\n  ")
}

// TestDefaults: the shortest Canary says what its defaults are.
func TestDefaults(t *testing.T) {
	cluster := newClient(t)
	canary := &unstructured.Unstructured{}
	require.NoError(t, yaml.Unmarshal([]byte(`
apiVersion: sluice.dev/v1alpha1
kind: Canary
metadata: {generateName: defaults-, namespace: default}
spec: {targetRef: {name: a}}
`), &canary.Object))
	require.NoError(t, cluster.Create(t.Context(), canary))
	var want map[string]any
	require.NoError(t, yaml.Unmarshal([]byte(`
targetRef: {apiVersion: apps/v1, kind: Deployment, name: a}
totalWeight: 100
surge: full
steps: [{weight: 5, hold: 1m}, {weight: 25, hold: 2m}, {weight: 50, hold: 2m}, {weight: 100, hold: 10m}]
gate: {successRate: 99, latency: {p99: 500ms}}
restart: roll
rollbackWindow: 24h
drain: 30s
maxHold: 2h
onInconclusive: hold
deadlines: {held: 24h, shifting: 10m, approval: 24h, promoting: 30m}
`), &want))
	got, err := yaml.Marshal(canary.Object["spec"])
	require.NoError(t, err)
	expected, err := yaml.Marshal(want)
	require.NoError(t, err)
	require.YAMLEq(t, string(expected), string(got))
	generation, _, err := unstructured.NestedInt64(canary.Object, "status", "observedGeneration")
	require.NoError(t, err)
	require.EqualValues(t, -1, generation, "kstatus would call an unseen object current")
}

// TestSamples: what people copy is accepted as it is.
func TestSamples(t *testing.T) {
	cluster := newClient(t)
	samples, err := fs.Glob(config.FS, "samples/*.yaml")
	require.NoError(t, err)
	require.NotEmpty(t, samples)
	for _, sample := range samples {
		content, err := fs.ReadFile(config.FS, sample)
		require.NoError(t, err)
		decoder := utilyaml.NewYAMLOrJSONDecoder(bytes.NewReader(content), len(content))
		for {
			object := &unstructured.Unstructured{}
			err := decoder.Decode(&object.Object)
			if errors.Is(err, io.EOF) {
				break
			}
			require.NoError(t, err, sample)
			if namespace := object.GetNamespace(); namespace != "" {
				makeNamespace(t.Context(), t, cluster, namespace)
			}
			require.NoError(t, cluster.Create(t.Context(), object), sample)
		}
	}
}

func makeNamespace(ctx context.Context, t *testing.T, cluster client.Client, name string) {
	t.Helper()
	namespace := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "v1", "kind": "Namespace"}}
	namespace.SetName(name)
	require.NoError(t, client.IgnoreAlreadyExists(cluster.Create(ctx, namespace)))
}
