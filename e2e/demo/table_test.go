// SPDX-License-Identifier: Apache-2.0

package main

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sluice-mesh/sluice/api/v1alpha1"
	"github.com/sluice-mesh/sluice/e2e/load"
	"github.com/sluice-mesh/sluice/e2e/timeline"
)

func exampleRow() row {
	answered := load.Version{Requests: 200, OK: 199}
	for range 200 {
		answered.Latency.Observe(4 * time.Millisecond)
	}
	m := &meter{samples: []sample{{}, {counts: load.Counts{Versions: map[string]load.Version{"v1": answered}}}}}
	canary := &v1alpha1.Canary{}
	canary.Spec.Steps = make([]v1alpha1.Step, 4)
	canary.Status.Phase, canary.Status.Step, canary.Status.Weight = v1alpha1.PhaseHolding, 1, 25
	canary.Status.Verdict = &v1alpha1.VerdictStatus{Verdict: "wait", Reason: "12 of 40 requests"}
	return newRow(timeline.State{Canary: canary}, m, "v1", "v2", 83*time.Second)
}

func TestRow(t *testing.T) {
	require.Equal(t, "  1:23  v1 > v2  Holding       2/4    25 %            -        -      99.50 %   4.0 ms  wait: 12 of 40 requests", exampleRow().String())
	require.Equal(t, strings.Index(header, "verdict"), strings.Index(exampleRow().String(), "wait:"))
}

func TestScreenAppends(t *testing.T) {
	var out strings.Builder
	s := &screen{out: &out}
	now, r := time.Now(), exampleRow()
	s.show(r, now)
	s.show(r, now.Add(time.Second))
	r.weight = 50
	s.show(r, now.Add(2*time.Second))
	s.show(r, now.Add(8*time.Second))
	s.say("done")
	require.Equal(t, 1+1+3+1, strings.Count(out.String(), "\n"), out.String())
	require.NotContains(t, out.String(), "\033")
}

func TestScreenRedraws(t *testing.T) {
	var out strings.Builder
	s := &screen{out: &out, terminal: true, width: 40}
	now, r := time.Now(), exampleRow()
	s.show(r, now)
	s.show(r, now)
	require.Equal(t, 1, strings.Count(out.String(), "\r\033[K"))
	s.say("done")
	require.True(t, strings.HasSuffix(out.String(), "…\ndone\n"), out.String())
}
