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
	"github.com/sluice-mesh/sluice/rollout/chain"
)

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

// recordRun appends to a run's record and signs its head. A run that somebody deleted is not brought
// back, and an entry that was written before a crash is not written twice.
func (h *hands) recordRun(ctx context.Context, e RecordRun) error {
	run := h.run(e.Run)
	if run == nil {
		return nil
	}
	before := run.DeepCopy()
	if err := h.keepEvidence(run, e); err != nil {
		return fmt.Errorf("record canaryrun %s: %w", e.Run, err)
	}
	if err := appendEntries(run, e); err != nil {
		return fmt.Errorf("record canaryrun %s: %w", e.Run, err)
	}
	if !equality.Semantic.DeepEqual(before.Record, run.Record) {
		signed, err := h.seal.sign(before, run)
		if err != nil {
			return fmt.Errorf("sign canaryrun %s: %w", e.Run, err)
		}
		patch := client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{})
		if err := h.client.Patch(ctx, run, patch); client.IgnoreNotFound(err) != nil {
			return fmt.Errorf("record canaryrun %s: %w", e.Run, err)
		}
		if !signed {
			h.events = append(h.events, unsignedEvent(run))
		}
	}
	if e.Ended != nil && run.Record.Head != nil {
		h.events = append(h.events, headEvent(run))
	}
	return nil
}

func (h *hands) deleteRun(ctx context.Context, e DeleteRun) error {
	run := h.run(e.Name)
	if run == nil {
		return nil
	}
	fence := client.Preconditions{UID: &run.UID, ResourceVersion: &run.ResourceVersion}
	if err := h.client.Delete(ctx, run, fence); client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("delete canaryrun %s: %w", e.Name, err)
	}
	h.Runs = slices.DeleteFunc(slices.Clone(h.Runs), func(other v1alpha1.CanaryRun) bool { return other.Name == e.Name })
	return nil
}

// appendEntries extends a record by what is not yet in it, within its limits.
func appendEntries(run *v1alpha1.CanaryRun, e RecordRun) error {
	fresh := e.Entries[overlap(run.Record.Entries, e.Entries):]
	decides := run.Record.Outcome == "" && e.Outcome != ""
	if decides && len(fresh) == 0 && len(e.Entries) > 0 {
		// An outcome is never lost to what only looks like a repetition.
		fresh = e.Entries[len(e.Entries)-1:]
	}
	for i, entry := range fresh {
		if decides && i == len(fresh)-1 {
			entry.Outcome, run.Record.Outcome = e.Outcome, e.Outcome
		}
		if err := chain.Append(run, entry.RunEntry); err != nil {
			return err
		}
	}
	if e.Ended != nil && run.Record.EndedAt == nil {
		run.Record.EndedAt = stamp(*e.Ended)
	}
	return chain.Shrink(run, chain.MaxEntries, chain.MaxBytes)
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

// headEvent exports the head of a run that ended: whoever kept it can tell later whether the record
// still is what it was.
func headEvent(run *v1alpha1.CanaryRun) Event {
	head := run.Record.Head
	return Event{Reason: v1alpha1.ReasonRecorded, Message: fmt.Sprintf("run %s ended %s; the head of its record is %d:%s, signed by key %s",
		run.Name, run.Record.Outcome, head.Number, head.Hash, orDefault(head.KeyID, "none"))}
}

func unsignedEvent(run *v1alpha1.CanaryRun) Event {
	return Event{Warning: true, Reason: v1alpha1.ReasonRecordNotSigned, Message: fmt.Sprintf(
		"the record of run %s does not continue from a head that this controller signed: it is not signed any more; sluice history --verify says from where on", run.Name)}
}
