// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestSimulate(t *testing.T) {
	manifest := filepath.Join("testdata", "tryout", "canary.yaml")
	for name, arguments := range map[string][]string{
		"simulate": {"--requests=100", "--runs=40"},
		"simulate-canary": {
			"--filename=" + manifest, "--canary=checkout", "--runs=20", "--requests=200", "--callers=3", "--disturbance=drift",
			"--latency-p99=250ms", "--defect=errors=2,step=2", "--defect=stall=3,after=90s",
		},
		"simulate-compare":  {"--compare", "--runs=40", "--steps=10:1m,50:2m,100:1m", "--gate-latency-p99=450ms", "--errors=1", "--defect=errors=5"},
		"simulate-quiet":    {"--filename=" + manifest, "--canary=till", "--runs=10", "--requests=0.2", "--defect=errors=50"},
		"simulate-json":     {"--output=json", "--runs=20", "--steps=5:1m,100:1m", "--requests=100", "--defect=latency=2"},
		"simulate-no-cares": {"--runs=10", "--heavy-tail", "--seed=7", "--gate-success-rate=99.9", "--errors=0.2", "--defect=latency=1.5", "--steps=20:1m,100:0s"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			code, out, complaint := run(t, append([]string{"simulate"}, arguments...)...)
			require.Empty(t, complaint)
			require.Equal(t, exitOK, code)
			requireGolden(t, filepath.Join("testdata", "tryout", name+".out"), out)
			if strings.HasSuffix(name, "json") {
				require.NoError(t, json.Unmarshal([]byte(out), &map[string]any{}))
			}
		})
	}
}

func TestSimulateRefuses(t *testing.T) {
	manifest := filepath.Join("testdata", "tryout", "canary.yaml")
	for name, test := range map[string]struct {
		arguments []string
		want      string
	}{
		"runs":             {[]string{"--runs=5"}, "--runs 5: write a number from 10"},
		"output":           {[]string{"--output=yaml"}, "--output yaml: write text or json"},
		"scrapes":          {[]string{"--scrape-interval=1h"}, "--scrape-interval 1h0m0s: write a duration from 1s to 5m"},
		"interval":         {[]string{"--interval=0s"}, "--interval 0s: write a duration from 1s to 5m"},
		"callers":          {[]string{"--callers=-1"}, "--callers -1: write"},
		"requests":         {[]string{"--requests=-3"}, "--requests -3: write a rate"},
		"not a number":     {[]string{"--requests=NaN"}, "--requests NaN: write a rate"},
		"errors":           {[]string{"--errors=101"}, "--errors 101: write a percentage"},
		"median":           {[]string{"--latency-median=1h"}, "--latency-median 1h0m0s: write"},
		"p99":              {[]string{"--latency-p99=20ms"}, "--latency-p99 20ms: write a duration above --latency-median 60ms"},
		"two tails":        {[]string{"--latency-p99=1s", "--heavy-tail"}, "--latency-p99 1s: the tail of --heavy-tail follows"},
		"disturbance":      {[]string{"--disturbance=war"}, "--disturbance war: write drift, outage"},
		"success rate":     {[]string{"--gate-success-rate=100"}, "--gate-success-rate 100: write a percentage above 0 and below 100"},
		"latency":          {[]string{"--gate-latency-p99=10us"}, "--gate-latency-p99 10µs: write at least 1ms"},
		"no step":          {[]string{"--steps=5"}, `--steps 5: "5" is no step; write weight:hold`},
		"no hold":          {[]string{"--steps=5:long"}, `--steps 5:long: "long" is no hold`},
		"falling":          {[]string{"--steps=50:1m,5:1m"}, "weight 5; write weights above 0 that rise"},
		"unfinished":       {[]string{"--steps=5:1m"}, "--steps 5:1m: the last step must have weight 100; append"},
		"no defect":        {[]string{"--defect=step=2"}, "--defect step=2: nothing is wrong with this canary"},
		"unknown defect":   {[]string{"--defect=heat=2"}, `--defect heat=2: "heat=2" is no part of a defect`},
		"defect of errors": {[]string{"--defect=errors=x"}, "--defect errors=x: errors=x: write a percentage"},
		"defect's step":    {[]string{"--defect=errors=1,step=5"}, "step=5: write a number from 1 to 4"},
		"defect's time":    {[]string{"--defect=errors=1,after=soon"}, "after=soon: write a duration"},
		"faster":           {[]string{"--defect=latency=0.5"}, "latency=0.5: write a factor above 1"},
		"no file":          {[]string{"--filename=none.yaml"}, "--filename: open none.yaml"},
		"name of no file":  {[]string{"--canary=checkout"}, "--canary: give the file"},
		"several":          {[]string{"--filename=" + manifest}, "holds the Canaries checkout, till, asleep, crooked, unfinished; say which with --canary"},
		"none":             {[]string{"--filename=" + manifest, "--canary=web"}, "holds no Canary of that name"},
		"no analysis":      {[]string{"--filename=" + manifest, "--canary=asleep"}, "Canary asleep: spec.skipAnalysis: the gate is not asked"},
		"weights":          {[]string{"--filename=" + manifest, "--canary=crooked"}, "Canary crooked: spec.steps[1].weight: 5; write weights that rise"},
		"last weight":      {[]string{"--filename=" + manifest, "--canary=unfinished"}, "Canary unfinished: spec.steps: the last step must have weight 1000"},
	} {
		t.Run(name, func(t *testing.T) {
			code, out, complaint := run(t, append([]string{"simulate"}, test.arguments...)...)
			require.Equal(t, exitError, code)
			require.Empty(t, out)
			require.Contains(t, complaint, test.want)
		})
	}
}

// A file may come from a pipe; what it holds is read strictly.
func TestSimulateReadsAPipe(t *testing.T) {
	piped := func(text string) (int, string, string) {
		var out, complaint bytes.Buffer
		code := Execute(t.Context(), Streams{In: strings.NewReader(text), Out: &out, Err: &complaint},
			[]string{"simulate", "-f", "-", "--runs=10", "--requests=100", "--defect=errors=50"})
		return code, out.String(), complaint.String()
	}
	const canary = "apiVersion: sluice.dev/v1alpha1\nkind: Canary\nmetadata: {name: web}\nspec:\n  targetRef: {name: web}\n"
	code, out, complaint := piped("kind: Service\napiVersion: v1\n---\n" + canary)
	require.Equal(t, exitOK, code, complaint)
	require.Contains(t, out, "plan:       5 % for 1m0s, 25 % for 2m0s, 50 % for 2m0s, 100 % for 10m0s")
	code, noted, complaint := piped(canary + "  gate: {metrics: [{name: lag, query: {promQL: lag, max: 3, failures: 2, of: 3}}]}\n")
	require.Equal(t, exitOK, code, complaint)
	const note = "note:       spec.gate.metrics are left out: metrics of the workload's own are not tried\n"
	require.Contains(t, noted, note)
	require.Equal(t, out, strings.Replace(noted, note, "", 1))
	_, _, complaint = piped(canary + "  weights: 5\n")
	require.Contains(t, complaint, `--filename -: read a Canary: strict decoding error: unknown field "spec.weights"`)
	_, _, complaint = piped("kind: Service\napiVersion: v1\n")
	require.Contains(t, complaint, "holds no object of kind Canary and apiVersion sluice.dev/v1alpha1")
	_, _, complaint = piped("a: [")
	require.Contains(t, complaint, "--filename -: error converting YAML")
}

// What the docs show is what the samples of the repository give.
func TestSimulateTakesTheSamples(t *testing.T) {
	for _, name := range []string{"podinfo", "checkout", "till"} {
		var out, complaint bytes.Buffer
		sample, err := os.Open(filepath.Join("..", "..", "config", "samples", "canary.yaml"))
		require.NoError(t, err)
		code := Execute(t.Context(), Streams{In: sample, Out: &out, Err: &complaint},
			[]string{"simulate", "-f", "-", "--canary", name, "--runs=10", "--requests=500", "--defect=errors=50"})
		require.NoError(t, sample.Close())
		require.Equal(t, exitOK, code, complaint.String())
	}
}
