// SPDX-License-Identifier: Apache-2.0

//go:build harness

package clustertest

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sluice-mesh/sluice/api/v1alpha1"
)

// What was analysed is what runs: the pods before the handover are the pods after it.
func TestPromote(t *testing.T) {
	b := newBed(t)
	b.start()
	b.rest("app:v1", 4, step(25), step(50), step(100))
	generation := b.deployment().Generation

	b.gate.set(func(g *gate) { g.silent = true })
	b.git("app:v2")
	b.awaitHolding(25)
	require.Len(t, b.pods()["app:v1"], 4, "stable keeps its full capacity")
	require.Len(t, b.pods()["app:v2"], 1, "the canary has what its weight needs")
	require.Equal(t, "wait", orWait(b.canary().Status.Verdict))
	b.gate.set(func(g *gate) { g.silent = false })

	b.awaitHolding(100)
	analysed := b.pods()["app:v2"]
	require.Len(t, analysed, 4)
	b.awaitStable("app:v2")
	require.Equal(t, analysed, b.pods()["app:v2"])

	require.Equal(t, []int32{0, 25, 50, 100}, b.mesh.seen())
	require.Nil(t, b.split(), "the split ends with the run")
	run := b.run("app-1")
	require.Equal(t, v1alpha1.OutcomePromoted, run.Record.Outcome)
	require.NotNil(t, run.Record.EndedAt)
	require.Equal(t, "app:v2", run.Spec.Candidate.Images["app"])

	d := b.deployment()
	require.Equal(t, generation+2, d.Generation, "one commit and our one unpause")
	require.Equal(t, "2", d.Annotations["deployment.kubernetes.io/revision"])
	require.NotContains(t, d.Labels, v1alpha1.LabelHold)
	b.eventually("the history is whole", func() bool {
		revisions := map[string]string{}
		for _, rs := range b.sets() {
			if len(rs.Labels) == 2 && len(rs.OwnerReferences) == 1 && *rs.OwnerReferences[0].Controller {
				revisions[image(&rs)] = rs.Annotations["deployment.kubernetes.io/revision"]
			}
		}
		return len(revisions) == 2 && revisions["app:v1"] == "1" && revisions["app:v2"] == "2"
	})
}

func orWait(verdict *v1alpha1.VerdictStatus) string {
	if verdict == nil || verdict.Verdict == "hold" {
		return "wait"
	}
	return verdict.Verdict
}
