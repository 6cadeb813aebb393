// SPDX-License-Identifier: Apache-2.0

package rollout

import (
	"context"
	"errors"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/sluice-mesh/sluice/analysis"
)

// reports are live rounds of a second each.
type reports struct {
	recording
	err error
}

func (r *reports) Rounds(ctx context.Context, query analysis.Query) ([]analysis.Round, error) {
	if r.err != nil {
		return nil, r.err
	}
	return r.recording.Rounds(ctx, query)
}

func (*reports) Covered(namespace, workload string) string {
	return "from 38 of 40 proxies of " + namespace + "/" + workload
}

func newReports(began time.Time, bad float64, seed uint64) *reports {
	random := rand.New(rand.NewPCG(seed, 9))
	made := &reports{}
	draw := func(n int, bad float64) analysis.Counts {
		counts := analysis.Counts{Requests: uint64(n)}
		for range n {
			if random.Float64() < bad {
				counts.Errors++
			}
		}
		return counts
	}
	for second := 1; second <= 600; second++ {
		canary, stable := draw(50, bad), draw(200, 0.001)
		made.rounds = append(made.rounds, analysis.Round{
			End: began.Add(time.Duration(second) * time.Second), Canary: canary, Stable: stable, ColdKnown: true,
			CanaryPods: []analysis.Counts{canary}, StablePods: []analysis.Counts{stable},
		})
	}
	return made
}

// guarded is a gateway over a Prometheus in which all is well, or that is away, with live reports beside it.
func guarded(j *journey, live *reports, away error) *gateway {
	well := &reports{recording: recording{rounds: newReports(j.began, 0.001, 1).rounds}, err: away}
	g := newGateway(well)
	g.watchman = &watchman{source: live}
	return g
}

func (j *journey) glance(t *testing.T, g *gateway, at time.Duration) *GateLook {
	t.Helper()
	s := &scene{canary: j.canary.DeepCopy()}
	s.Runs = append(s.Runs, *j.run.DeepCopy())
	look := g.look(t.Context(), s, j.began.Add(at))
	require.NotNil(t, look)
	return look
}

// A canary that fails is taken back by what proxies report, however well it looks in Prometheus, and
// while Prometheus is away.
func TestLiveReportsFailACanary(t *testing.T) {
	for name, away := range map[string]error{"beside Prometheus": nil, "while it is away": errors.New("connection refused")} {
		for seed := range uint64(10) {
			j := newJourney(seed)
			j.run.Spec.TargetRef.Name = "web"
			j.move(0, rand.New(rand.NewPCG(seed, 1)))
			g := guarded(j, newReports(j.began, 0.5, seed), away)
			var failed *GateLook
			at := time.Duration(0)
			for ; failed == nil && at < time.Minute; at += time.Second {
				if look := j.glance(t, g, at); look.Judgement.Verdict == analysis.VerdictFail {
					failed = look
				}
			}
			require.NotNil(t, failed, "%s, seed %d", name, seed)
			require.LessOrEqual(t, at, 8*time.Second, "%s, seed %d", name, seed)
			require.Empty(t, failed.Unavailable)
			require.Contains(t, failed.Judgement.Reason, "(live, from 38 of 40 proxies of shop/web)")
			require.Equal(t, []string{"live reports from 38 of 40 proxies of shop/web"}, failed.Queries)
		}
	}
}

// A decision is made again before it is carried out. What was reported until then stays said when the
// reports break off between the two.
func TestLiveReportsThatBreakOffStaySaid(t *testing.T) {
	for seed := range uint64(5) {
		j := newJourney(seed)
		j.move(0, rand.New(rand.NewPCG(seed, 1)))
		reported := newReports(j.began, 0.5, seed)
		g := guarded(j, reported, nil)
		at := time.Second
		for ; j.glance(t, g, at).Judgement.Verdict != analysis.VerdictFail; at += time.Second {
			require.Less(t, at, time.Minute)
		}
		reported.err = errors.New("the mesh is away")
		for range 3 {
			at += 30 * time.Second
			require.Equal(t, analysis.VerdictFail, j.glance(t, g, at).Judgement.Verdict, "seed %d", seed)
		}
	}
}

// What is reported live lets no canary go on, and its absence holds none.
func TestLiveReportsOnlyFail(t *testing.T) {
	for seed := range uint64(5) {
		j := newJourney(seed)
		j.move(0, rand.New(rand.NewPCG(seed, 1)))
		well := newReports(j.began, 0.001, seed)
		away := guarded(j, well, errors.New("connection refused"))
		silent := guarded(j, &reports{err: errors.New("no answer")}, nil)
		alone := guarded(j, well, nil)
		for at := time.Second; at < 3*time.Minute; at += 5 * time.Second {
			require.Equal(t, "connection refused", j.glance(t, away, at).Unavailable)
			want := j.glance(t, alone, at)
			require.Equal(t, want, j.glance(t, silent, at), "the gate's own word at %v", at)
			require.NotEqual(t, analysis.VerdictFail, want.Judgement.Verdict)
		}
	}
}

// Two gates that both look for faults promise together what one does alone.
func TestGatesShareTheFalseAlarms(t *testing.T) {
	config := analysis.Defaults()
	require.Equal(t, config.FalseRollback, 2*shared(config).FalseRollback)
	j := newJourney(1)
	j.move(0, rand.New(rand.NewPCG(1, 1)))
	g := guarded(j, newReports(j.began, 0.001, 1), nil)
	j.glance(t, g, time.Minute)
	key := client.ObjectKeyFromObject(&j.canary)
	want, err := GateOf(j.canary.Spec)
	require.NoError(t, err)
	require.True(t, g.watchman.gates[key].gate.Serves(shared(want)))
	require.True(t, g.memory.gates[key].gate.Serves(shared(want)))
	g.forget(key)
	require.Empty(t, g.watchman.gates)
	require.Empty(t, g.memory.gates)
	(*watchman)(nil).forget(key)
}
