// SPDX-License-Identifier: Apache-2.0

package rollout

import (
	"context"
	"encoding/json"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/sluice-mesh/sluice/analysis"
	"github.com/sluice-mesh/sluice/api/v1alpha1"
)

// recording is a source whose rounds are known beforehand; what ended by lost is gone.
type recording struct {
	rounds []analysis.Round
	lost   time.Time
	asked  analysis.Query
}

func (r *recording) Rounds(_ context.Context, query analysis.Query) ([]analysis.Round, error) {
	r.asked = query
	var rounds []analysis.Round
	for _, round := range r.rounds {
		rehearsed := query.After.IsZero() && round.End.After(query.Since.Add(-query.Before))
		if (round.End.After(query.After) && !query.After.IsZero() || rehearsed) && !round.End.After(query.Now) && round.End.After(r.lost) {
			rounds = append(rounds, round)
		}
	}
	return rounds, nil
}

// journey is a run of an hour at three weights with a canary that is somewhat worse than stable.
type journey struct {
	canary v1alpha1.Canary
	run    v1alpha1.CanaryRun
	rounds []analysis.Round
	began  time.Time
}

func newJourney(seed uint64) *journey {
	random := rand.New(rand.NewPCG(seed, 3))
	j := &journey{began: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)}
	j.canary.Name, j.canary.Namespace = "app", "shop"
	j.canary.Spec.Steps = []v1alpha1.Step{testStep(5), testStep(25), testStep(50)}
	j.canary.Status = v1alpha1.CanaryStatus{Run: "app-1", Phase: v1alpha1.PhaseHolding, TotalWeight: 100}
	j.run.Name, j.run.UID, j.run.CreationTimestamp = "app-1", "uid", metav1.NewTime(j.began)
	count := func(n int, bad float64) analysis.Counts {
		counts := analysis.Counts{Requests: uint64(random.IntN(n))}
		for range counts.Requests {
			if random.Float64() < bad {
				counts.Errors++
			}
		}
		return counts
	}
	for end := j.began.Add(-10 * time.Minute); end.Before(j.began.Add(time.Hour)); end = end.Add(time.Duration(4000+random.IntN(2000)) * time.Millisecond) {
		pods := []analysis.Counts{count(60, 0.004), count(60, 0.008)}
		round := analysis.Round{End: end, StablePods: pods, Edges: [2]time.Duration{100 * time.Millisecond}, Stable: analysis.Counts{
			Requests: pods[0].Requests + pods[1].Requests, Errors: pods[0].Errors + pods[1].Errors,
		}}
		if end.After(j.began) {
			round.Canary = count(30, 0.02)
		}
		j.rounds = append(j.rounds, round)
	}
	return j
}

// move to the step that is in force at a time; it says whether the step is new.
func (j *journey) move(at time.Duration, random *rand.Rand) bool {
	step := int32(at / (20 * time.Minute))
	now := metav1.NewTime(j.began.Add(at).Truncate(time.Second)) // as the API server stores it
	if n := len(j.run.Record.Entries); n == 0 || j.canary.Status.Step != step {
		j.canary.Status.Step, j.canary.Status.Weight = step, j.canary.Spec.Steps[step].Weight
		j.canary.Status.StepStartedAt = &now
		j.run.Record.Entries = append(j.run.Record.Entries,
			v1alpha1.RunEntry{Time: now, Phase: v1alpha1.PhaseShifting},
			v1alpha1.RunEntry{Time: now, Phase: v1alpha1.PhaseHolding, Weight: j.canary.Status.Weight})
		return true
	}
	if random.IntN(20) == 0 { // something stops the clock
		j.canary.Status.StepStartedAt = stamp(j.canary.Status.StepStartedAt.Add(3 * time.Second))
	}
	return false
}

// look as a controller does that reads everything from the API server anew.
func (j *journey) look(t *testing.T, g *gateway, now time.Time) (*GateLook, *remembered, *v1alpha1.CanaryRun) {
	t.Helper()
	run := j.run.DeepCopy()
	s := &scene{canary: j.canary.DeepCopy()}
	s.Runs = []v1alpha1.CanaryRun{*run}
	look := g.look(t.Context(), s, now)
	require.NotNil(t, look)
	require.Empty(t, look.Unavailable)
	return look, s.evidence, run
}

func newGateway(source analysis.Source) *gateway {
	return &gateway{
		source: func(*v1alpha1.Canary) (analysis.Source, error) { return source, nil }, timeout: time.Minute, memory: &memory{},
	}
}

// A controller that restarts says what one says that never did: with the run's checkpoint, when
// Prometheus has lost all from before it; and without one, as long as Prometheus has it all.
func TestRestartedGateSaysTheSame(t *testing.T) {
	for seed := range uint64(10) {
		random := rand.New(rand.NewPCG(seed, 4))
		j := newJourney(seed)
		whole, thin := &recording{rounds: j.rounds}, &recording{rounds: j.rounds}
		steady, restarted := newGateway(whole), newGateway(thin)
		restarts := 0
		for at := time.Duration(0); at < time.Hour; at += time.Duration(900+random.IntN(4000)) * time.Millisecond {
			entered := j.move(at, random)
			now := j.began.Add(at)
			want, _, _ := j.look(t, steady, now)
			got, evidence, run := j.look(t, restarted, now)
			require.Equal(t, want, got, "seed %d at %v", seed, at)
			if at.Truncate(time.Minute)%(15*time.Minute) == 0 {
				fresh, _, _ := j.look(t, newGateway(whole), now)
				require.Equal(t, want.Judgement.Verdict, fresh.Judgement.Verdict)
				require.Equal(t, want.Judgement, fresh.Judgement, "seed %d at %v", seed, at)
			}
			if entered || random.IntN(100) == 0 {
				require.NoError(t, evidence.keep(run))
				j.run.Evidence = run.Evidence
				require.Less(t, len(run.Evidence.Raw), 32<<10)
				var kept checkpoint
				require.NoError(t, json.Unmarshal(run.Evidence.Raw, &kept))
				if kept.State.Rounds > 0 {
					thin.lost = kept.State.End
				}
			}
			if random.IntN(50) == 0 && !thin.lost.IsZero() {
				restarted = newGateway(thin)
				restarts++
			}
		}
		require.Greater(t, restarts, 3)
	}
}

// A gate that is asked by another configuration, or whose evidence begins anew, reads all again, and so
// does one whose checkpoint cannot be read.
func TestGateBeginsAnew(t *testing.T) {
	j := newJourney(1)
	j.move(0, rand.New(rand.NewPCG(1, 1)))
	source := &recording{rounds: j.rounds}
	g := newGateway(source)
	now := j.began.Add(time.Minute)
	_, evidence, run := j.look(t, g, now)
	require.True(t, source.asked.After.IsZero())
	require.Equal(t, rehearsal, source.asked.Before)
	j.look(t, g, now)
	require.False(t, source.asked.After.IsZero(), "the second look reads on")
	require.Equal(t, 100*time.Millisecond, source.asked.Edges[0])

	require.NoError(t, evidence.keep(run))
	j.run.Evidence = run.Evidence
	j.look(t, newGateway(source), now)
	require.False(t, source.asked.After.IsZero(), "a checkpoint is gone on from")

	latency := j.canary.DeepCopy()
	j.canary.Spec.Gate.Latency = &v1alpha1.LatencyObjective{P99: metav1.Duration{Duration: time.Second}}
	j.look(t, g, now)
	require.True(t, source.asked.After.IsZero(), "another objective")
	j.canary = *latency
	j.canary.Status.EvidenceSince = stamp(j.began.Add(30 * time.Second))
	j.look(t, g, now)
	require.True(t, source.asked.After.IsZero(), "another start")

	j.canary = *latency
	j.run.Evidence.Raw = []byte(`{"state": 7}`)
	j.look(t, newGateway(source), now)
	require.True(t, source.asked.After.IsZero(), "no checkpoint")
	g.memory.forget(types.NamespacedName{Namespace: "shop", Name: "app"})
	j.run.Evidence = nil
	j.look(t, g, now)
	require.True(t, source.asked.After.IsZero(), "forgotten")
}
