// SPDX-License-Identifier: Apache-2.0

package rollout

import (
	"context"
	"fmt"
	"slices"

	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/sluice-mesh/sluice/api/v1alpha1"
)

// maxEntries is what the API takes in one record; the last place is kept for the end of the run.
const maxEntries = 200

func (h *hands) createRun(ctx context.Context, e CreateRun) error {
	run := &v1alpha1.CanaryRun{
		ObjectMeta: metav1.ObjectMeta{
			Name: e.Name, Namespace: h.canary.Namespace,
			Labels: map[string]string{v1alpha1.LabelCanary: h.canary.Name},
		},
		Spec: e.Spec,
	}
	if err := h.client.Create(ctx, run); err != nil {
		return fmt.Errorf("create canaryrun %s: %w", e.Name, err)
	}
	h.Runs = append([]v1alpha1.CanaryRun{*run}, h.Runs...)
	return nil
}

// recordRun appends to a run's record. A run that somebody deleted is not brought back, and an entry
// that was written before a crash is not written twice.
func (h *hands) recordRun(ctx context.Context, e RecordRun) error {
	run := h.run(e.Run)
	if run == nil {
		return nil
	}
	before := run.DeepCopy()
	appendEntries(&run.Record, e.Entries, e.Ended != nil)
	if run.Record.Outcome == "" {
		run.Record.Outcome = e.Outcome
	}
	if e.Ended != nil && run.Record.EndedAt == nil {
		run.Record.EndedAt = stamp(*e.Ended)
	}
	if equality.Semantic.DeepEqual(before.Record, run.Record) {
		return nil
	}
	patch := client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{})
	if err := h.client.Patch(ctx, run, patch); client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("record canaryrun %s: %w", e.Run, err)
	}
	return nil
}

func appendEntries(record *v1alpha1.CanaryRunRecord, entries []Entry, end bool) {
	limit := maxEntries - 1
	if end {
		limit = maxEntries
	}
	for _, entry := range entries[overlap(record.Entries, entries):] {
		if len(record.Entries) < limit {
			record.Entries = append(record.Entries, entry.RunEntry)
		}
	}
}

// overlap is how many of the first entries are the record's last ones, written before a crash.
func overlap(written []v1alpha1.RunEntry, entries []Entry) int {
	for n := min(len(written), len(entries)); n > 0; n-- {
		if slices.EqualFunc(written[len(written)-n:], entries[:n], repeats) {
			return n
		}
	}
	return 0
}

func repeats(written v1alpha1.RunEntry, entry Entry) bool {
	return written.Phase == entry.Phase && written.Weight == entry.Weight && (entry.Enters || written.Message == entry.Message)
}
