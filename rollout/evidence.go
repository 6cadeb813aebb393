// SPDX-License-Identifier: Apache-2.0

package rollout

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/sluice-mesh/sluice/analysis"
	"github.com/sluice-mesh/sluice/api/v1alpha1"
)

const (
	// rehearsal is how long before a run stable is read as well.
	rehearsal = 15 * time.Minute
	// checkpointEvery is how old the evidence that a run keeps may get. What came after it is read again
	// by a controller that restarts, at most an hour of it.
	checkpointEvery = 10 * time.Minute
)

// memory has the gates of the runs that are judged, by Canary. What is lost with the process is read
// again: from the run's last checkpoint on, or from its start.
type memory struct {
	mutex sync.Mutex
	gates map[types.NamespacedName]*remembered
}

// remembered is the gate of one run.
type remembered struct {
	run   types.UID
	since time.Time
	gate  *analysis.Gate
	// stored is up to when the checkpoint goes that the run has.
	stored time.Time
}

// checkpoint is what a run keeps of its gate.
type checkpoint struct {
	Since time.Time      `json:"since"`
	State analysis.State `json:"state"`
}

// recall the gate of a run, or make one. A gate that was made with another configuration begins anew,
// and so does one whose evidence counts from another time on.
func (m *memory) recall(key types.NamespacedName, run *v1alpha1.CanaryRun, config analysis.Config, since time.Time) (*remembered, error) {
	m.mutex.Lock()
	defer m.mutex.Unlock()
	if known := m.gates[key]; known != nil && known.run == run.UID && known.since.Equal(since) {
		if known.gate.Serves(config) {
			return known, nil
		}
	}
	fresh := &remembered{run: run.UID, since: since}
	if fresh.gate = stored(run, config, since); fresh.gate != nil {
		fresh.stored = fresh.gate.State().End
	} else {
		gate, err := analysis.Begin(config, since)
		if err != nil {
			return nil, err
		}
		fresh.gate = gate
	}
	if m.gates == nil {
		m.gates = map[types.NamespacedName]*remembered{}
	}
	m.gates[key] = fresh
	return fresh, nil
}

// stored is the gate of a run's checkpoint; nil when there is none that can be used.
func stored(run *v1alpha1.CanaryRun, config analysis.Config, since time.Time) *analysis.Gate {
	if run.Evidence == nil {
		return nil
	}
	var kept checkpoint
	if err := json.Unmarshal(run.Evidence.Raw, &kept); err != nil || !kept.Since.Equal(since) {
		return nil
	}
	gate, err := analysis.Resume(config, kept.State)
	if err != nil {
		return nil // Another version or configuration made it: the rounds are read again.
	}
	return gate
}

// forget the gate of a Canary whose run has ended.
func (m *memory) forget(key types.NamespacedName) {
	m.mutex.Lock()
	defer m.mutex.Unlock()
	delete(m.gates, key)
}

// keep what the gate knows in the run, as far as it is decided on.
func (r *remembered) keep(run *v1alpha1.CanaryRun) error {
	if r == nil || r.run != run.UID {
		return nil
	}
	state := r.gate.State()
	raw, err := json.Marshal(checkpoint{Since: r.since, State: state})
	if err != nil {
		return fmt.Errorf("write down the evidence: %w", err)
	}
	run.Evidence = &runtime.RawExtension{Raw: raw}
	r.stored = state.End
	return nil
}

// keepEvidence goes along with what is recorded. A run that ended needs it no more.
func (h *hands) keepEvidence(run *v1alpha1.CanaryRun, e RecordRun) error {
	if e.Ended != nil {
		run.Evidence = nil
		return nil
	}
	return h.evidence.keep(run)
}

// checkpoint writes the evidence of a step that lasts long, in which nothing else is recorded.
func (h *hands) checkpoint(ctx context.Context) error {
	if h.evidence == nil || h.evidence.gate.State().End.Sub(h.evidence.stored) < checkpointEvery {
		return nil
	}
	run := h.run(h.canary.Status.Run)
	if run == nil || run.Record.EndedAt != nil {
		return nil
	}
	before := run.DeepCopy()
	if err := h.evidence.keep(run); err != nil {
		return err
	}
	patch := client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{})
	if err := h.client.Patch(ctx, run, patch); client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("keep the evidence of canaryrun %s: %w", run.Name, err)
	}
	return nil
}
