// SPDX-License-Identifier: Apache-2.0

package rollout

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/sluice-mesh/sluice/api/v1alpha1"
)

// A slot of a budget is an entry in the status of its RolloutPolicy, and a run begins only after its
// entry was written. Each entry is written on top of the version of the policy on which the free slots
// were counted, so of two that saw the same free slot the API server refuses one: neither a stale
// cache nor two controllers that both believe to lead can give a slot twice. An entry goes only when
// its Canary, read past the cache, is no longer in that run: the phase Held with the run's name was in
// its status before the entry was made, so Stable and Rejected come after it. The caches decide only
// who asks first.

const (
	// pointOfPriority is what a point of priority is worth in waiting: nobody is overtaken for ever.
	pointOfPriority = time.Minute
	// queueCheck is how often a Canary in a queue looks by itself.
	queueCheck = time.Minute
)

// Slot is how one policy's budget stands to one Canary.
type Slot struct {
	Policy string
	// Mine: the Canary has a slot, for its current run or for one that is over. Held: for the current.
	Mine, Held bool
	// Position in the queue, from 1; 0 when a slot is free for this Canary.
	Position int32
	// Used of Limit slots.
	Used  int
	Limit string
}

// slotOf stands one Canary to a policy's budget, given all the Canaries there are. It is PURE.
func slotOf(policy *v1alpha1.RolloutPolicy, all []v1alpha1.Canary, canary *v1alpha1.Canary) Slot {
	policy = policy.DeepCopy()
	// Whose slot is that of a run which is over has not given it back: he died before, or was deleted.
	// Who takes it asks again, past the cache.
	policy.Status.Running = slices.DeleteFunc(policy.Status.Running, func(entry v1alpha1.RunningRun) bool {
		mine := entry.Namespace == canary.Namespace && entry.Canary == canary.Name
		return !mine && len(all) > 0 && !slices.ContainsFunc(all, func(other v1alpha1.Canary) bool { return entryIsOf(entry, &other) })
	})
	slot := Slot{Policy: policy.Name, Used: len(policy.Status.Running), Limit: limitOf(policy)}
	for _, entry := range policy.Status.Running {
		if entry.Namespace == canary.Namespace && entry.Canary == canary.Name {
			slot.Mine, slot.Held = true, entry.Run == canary.Status.Run
		}
	}
	same := func(other v1alpha1.Canary) bool {
		return other.Namespace == canary.Namespace && other.Name == canary.Name
	}
	queue := slices.DeleteFunc(slices.Clone(all), func(other v1alpha1.Canary) bool { return same(other) || !queues(policy, &other) })
	admitted, waiting := line(policy, append(queue, *canary))
	if !slices.ContainsFunc(admitted, same) {
		slot.Position = int32(slices.IndexFunc(waiting, same)) + 1
	}
	return slot
}

// entryIsOf: an entry is that of the run in which a Canary is.
func entryIsOf(entry v1alpha1.RunningRun, canary *v1alpha1.Canary) bool {
	status := &canary.Status
	return entry.Namespace == canary.Namespace && entry.Canary == canary.Name && entry.Run == status.Run &&
		status.Phase != v1alpha1.PhaseStable && status.Phase != v1alpha1.PhaseRejected
}

// queues: a Canary waits in a policy's queue and would go if it were let.
func queues(policy *v1alpha1.RolloutPolicy, canary *v1alpha1.Canary) bool {
	status := canary.Status
	return status.Phase == v1alpha1.PhaseHeld && status.Queue != nil && status.Queue.Policy == policy.Name &&
		canary.DeletionTimestamp.IsZero() && !canary.Spec.Suspend
}

// line divides a queue into those that have a free slot and those that wait, in order. One whose
// namespace is full does not keep back those behind it.
func line(policy *v1alpha1.RolloutPolicy, queue []v1alpha1.Canary) (admitted, waiting []v1alpha1.Canary) {
	queue = slices.Clone(queue)
	slices.SortFunc(queue, func(a, b v1alpha1.Canary) int {
		return cmp.Or(arrival(&a).Compare(arrival(&b)), cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	})
	running := slices.Clone(policy.Status.Running)
	for _, canary := range queue {
		if !room(policy, running, canary.Namespace, canary.Name) {
			waiting = append(waiting, canary)
			continue
		}
		admitted = append(admitted, canary)
		running = append(running, v1alpha1.RunningRun{Namespace: canary.Namespace, Canary: canary.Name})
	}
	return admitted, waiting
}

// arrival is when a Canary came into the queue, as if it had come earlier by its priority. The order
// does not change with time, and only the finitely many that come within 2000 minutes can overtake.
func arrival(canary *v1alpha1.Canary) time.Time {
	var held time.Time
	if canary.Status.PhaseStartedAt != nil {
		held = canary.Status.PhaseStartedAt.Time
	}
	return held.Add(-time.Duration(canary.Spec.Priority) * pointOfPriority)
}

// room: one more run fits beside those of others.
func room(policy *v1alpha1.RolloutPolicy, running []v1alpha1.RunningRun, namespace, name string) bool {
	total, here := int32(0), int32(0)
	for _, entry := range running {
		if entry.Namespace == namespace && entry.Canary == name {
			continue
		}
		total++
		if entry.Namespace == namespace {
			here++
		}
	}
	limit, limitHere := policy.Spec.MaxConcurrentRuns, policy.Spec.MaxConcurrentRunsPerNamespace
	return (limit == nil || total < *limit) && (limitHere == nil || here < *limitHere)
}

func budgeted(policy *v1alpha1.RolloutPolicy) bool {
	return policy.Spec.MaxConcurrentRuns != nil || policy.Spec.MaxConcurrentRunsPerNamespace != nil
}

func limitOf(policy *v1alpha1.RolloutPolicy) string {
	text := ""
	if limit := policy.Spec.MaxConcurrentRuns; limit != nil {
		text = fmt.Sprintf("maxConcurrentRuns %d", *limit)
	}
	if limit := policy.Spec.MaxConcurrentRunsPerNamespace; limit != nil {
		if text != "" {
			text += ", "
		}
		text += fmt.Sprintf("maxConcurrentRunsPerNamespace %d", *limit)
	}
	return text
}

// queued waits for a slot of every policy that has a budget, in the order of their names, so that two
// Canaries never each keep a slot that the other waits for.
func (p *planner) queued() bool {
	if p.returning() {
		return false
	}
	for _, slot := range p.seen.Slots {
		if slot.Held {
			continue
		}
		before := p.canary.Status.Queue
		p.status.Queue = &v1alpha1.QueueStatus{Policy: slot.Policy, Position: max(1, slot.Position)}
		p.moving(v1alpha1.ReasonWaitingForBudget, fmt.Sprintf("a new template is held; number %d in the queue of RolloutPolicy %s: %d runs are under way (%s)",
			max(1, slot.Position), slot.Policy, slot.Used, slot.Limit))
		switch {
		case before == nil || before.Policy != slot.Policy:
			p.decision.Next = AtOnce // others must be able to see it in the queue before it asks
		case slot.Position == 0:
			p.do(TakeSlot{Policy: slot.Policy, Run: p.status.Run})
			p.decision.Next = AtOnce
		default:
			p.wakeAt(p.now.Add(queueCheck))
		}
		return true
	}
	return false
}

// leaveQueue gives back the slots of a run that waits for a webhook's word. Its place in the queue is
// that of its age, so nothing is lost by it.
func (p *planner) leaveQueue() {
	for _, slot := range p.seen.Slots {
		if slot.Mine {
			p.do(ReleaseSlot{Policy: slot.Policy})
		}
	}
}

// keepSlots gives back the slots of a run that is over, as the status has said since the last look,
// and counts one that began before the policy came.
func (p *planner) keepSlots() {
	seen := p.canary.Status.Phase
	over := (seen == v1alpha1.PhaseStable || seen == v1alpha1.PhaseRejected) && p.status.Phase == seen
	active := seen != "" && !over && seen != v1alpha1.PhaseHeld && p.status.Phase == seen && !p.returning()
	for _, slot := range p.seen.Slots {
		switch {
		case over && slot.Mine:
			p.do(ReleaseSlot{Policy: slot.Policy})
		case active && !slot.Held:
			p.do(TakeSlot{Policy: slot.Policy, Run: p.status.Run, Beyond: true})
		}
	}
}

// takeSlot writes the entry that lets a run begin.
func (h *hands) takeSlot(ctx context.Context, e TakeSlot) error {
	return h.patchPolicy(ctx, e.Policy, func(policy *v1alpha1.RolloutPolicy) error {
		namespace, name := h.canary.Namespace, h.canary.Name
		if !e.Beyond && !room(policy, policy.Status.Running, namespace, name) {
			if err := h.dropEnded(ctx, policy); err != nil {
				return err
			}
			if !room(policy, policy.Status.Running, namespace, name) {
				return apierrors.NewConflict(v1alpha1.GroupVersion.WithResource("rolloutpolicies").GroupResource(), e.Policy,
					fmt.Errorf("its slots are taken"))
			}
		}
		policy.Status.Running = append(without(policy.Status.Running, h.canary), v1alpha1.RunningRun{Namespace: namespace, Canary: name, Run: e.Run})
		return nil
	})
}

func (h *hands) releaseSlot(ctx context.Context, e ReleaseSlot) error {
	return client.IgnoreNotFound(h.patchPolicy(ctx, e.Policy, func(policy *v1alpha1.RolloutPolicy) error {
		policy.Status.Running = without(policy.Status.Running, h.canary)
		return nil
	}))
}

// dropEnded drops the entries of runs that are over, as their Canaries, read now, say.
func (h *hands) dropEnded(ctx context.Context, policy *v1alpha1.RolloutPolicy) error {
	var kept []v1alpha1.RunningRun
	for _, entry := range policy.Status.Running {
		canary := &v1alpha1.Canary{}
		err := h.reader.Get(ctx, types.NamespacedName{Namespace: entry.Namespace, Name: entry.Canary}, canary)
		if client.IgnoreNotFound(err) != nil {
			return fmt.Errorf("read canary %s/%s: %w", entry.Namespace, entry.Canary, err)
		}
		if err == nil && entryIsOf(entry, canary) {
			kept = append(kept, entry)
		}
	}
	policy.Status.Running = kept
	return nil
}

// patchPolicy changes a policy's status on top of what it was read as, past the cache.
func (h *hands) patchPolicy(ctx context.Context, name string, change func(*v1alpha1.RolloutPolicy) error) error {
	policy := &v1alpha1.RolloutPolicy{}
	if err := h.reader.Get(ctx, types.NamespacedName{Name: name}, policy); err != nil {
		return fmt.Errorf("read rolloutpolicy %s: %w", name, err)
	}
	before := policy.DeepCopy()
	if err := change(policy); err != nil {
		return err
	}
	patch := client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{})
	if err := h.client.Status().Patch(ctx, policy, patch); err != nil {
		return fmt.Errorf("write the slots of rolloutpolicy %s: %w", name, err)
	}
	return nil
}

func without(running []v1alpha1.RunningRun, canary *v1alpha1.Canary) []v1alpha1.RunningRun {
	return slices.DeleteFunc(slices.Clone(running), func(entry v1alpha1.RunningRun) bool {
		return entry.Namespace == canary.Namespace && entry.Canary == canary.Name
	})
}
