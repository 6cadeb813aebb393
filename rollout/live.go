// SPDX-License-Identifier: Apache-2.0

package rollout

import (
	"context"
	"fmt"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/sluice-mesh/sluice/analysis"
	"github.com/sluice-mesh/sluice/api/v1alpha1"
)

// LiveSource is what proxies report of their own accord, within a second.
type LiveSource interface {
	analysis.Source
	// Covered says in words how many of the proxies it speaks for.
	Covered(namespace, workload string) string
}

// watchman judges by a LiveSource beside the gate. It only ever fails a canary, and only for its requests:
// what lets a canary go on is the gate, which counts everything. What the watchman does not know is left
// to the gate.
type watchman struct {
	source LiveSource

	mutex sync.Mutex
	gates map[types.NamespacedName]*remembered
}

// shared is a configuration for two gates that share its chance of a false alarm.
func shared(config analysis.Config) analysis.Config {
	config.FalseRollback /= 2
	return config
}

// look judges; nil is nothing against the canary.
func (w *watchman) look(ctx context.Context, s *scene, run *v1alpha1.CanaryRun, config analysis.Config, now time.Time) *GateLook {
	since := evidenceSince(s.canary, run)
	config.Custom, config.Ranges = nil, nil
	gate, err := w.gate(client.ObjectKeyFromObject(s.canary), run, config, since)
	if err != nil {
		return nil // The gate has the same configuration and says what is wrong with it.
	}
	query := gate.Query(analysis.Query{
		Namespace: s.canary.Namespace, Workload: run.Spec.TargetRef.Name,
		CanaryHash: run.Spec.Candidate.PodTemplateHash, StableHash: run.Spec.Stable.PodTemplateHash,
		Since: since, Now: now, LatencyLimit: config.Objectives.LatencyLimit,
	})
	enter(gate, stepsOf(s.canary, run, gate.Entered()))
	// Reports that break off say no more, and take nothing back: a canary that they have failed has failed.
	if rounds, err := w.source.Rounds(ctx, query); err == nil {
		for _, round := range rounds {
			gate.Add(round)
		}
	}
	judgement := gate.Judge(now)
	if judgement.Verdict != analysis.VerdictFail || judgement.Cause != analysis.CauseWorse && judgement.Cause != analysis.CauseObjective {
		return nil
	}
	covered := w.source.Covered(s.canary.Namespace, run.Spec.TargetRef.Name)
	judgement.Reason = fmt.Sprintf("%s (live, %s)", judgement.Reason, covered)
	return &GateLook{Judgement: judgement, Queries: []string{"live reports " + covered}}
}

// gate of a run, which begins anew with the process: what it knew was of seconds.
func (w *watchman) gate(key types.NamespacedName, run *v1alpha1.CanaryRun, config analysis.Config, since time.Time) (*analysis.Gate, error) {
	w.mutex.Lock()
	defer w.mutex.Unlock()
	if known := w.gates[key]; known != nil && known.run == run.UID && known.since.Equal(since) && known.gate.Serves(config) {
		return known.gate, nil
	}
	gate, err := analysis.Begin(config, since)
	if err != nil {
		return nil, fmt.Errorf("begin the live gate: %w", err)
	}
	if w.gates == nil {
		w.gates = map[types.NamespacedName]*remembered{}
	}
	w.gates[key] = &remembered{run: run.UID, since: since, gate: gate}
	return gate, nil
}

// forget a Canary whose run has ended.
func (w *watchman) forget(key types.NamespacedName) {
	if w == nil {
		return
	}
	w.mutex.Lock()
	defer w.mutex.Unlock()
	delete(w.gates, key)
}
