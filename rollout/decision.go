// SPDX-License-Identifier: Apache-2.0

package rollout

import (
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/sluice-mesh/sluice/api/v1alpha1"
	"github.com/sluice-mesh/sluice/internal/fluxkit"
)

// Decision is what plan wants done.
type Decision struct {
	// Effects are carried out in order, up to the first that fails.
	Effects []Effect
	// Status is what the Canary's status shall say when all effects were carried out; its
	// conditions follow from Standing.
	Status   v1alpha1.CanaryStatus
	Standing fluxkit.Standing
	// Events tell people of transitions.
	Events []Event
	// Next is when to look again; Wake, if it is set, is a time at which to do so at the latest.
	Next Next
	Wake time.Time
}

// Next is when to look at a Canary again.
type Next int

// WhenChanged: only a change can matter. NextInterval: time matters too. AtOnce: there is more to do.
const (
	WhenChanged Next = iota
	NextInterval
	AtOnce
)

// Event is one line for people, on the Canary.
type Event struct {
	Warning         bool
	Reason, Message string
}

// Effect is one write. Each is fenced by the resource version of the object as it was observed, so
// that what was decided on an old view is not done.
type Effect interface{ effect() }

type (
	// SetFinalizer keeps the Canary until it was unwound.
	SetFinalizer struct{}
	// ClearFinalizer lets the Canary go.
	ClearFinalizer struct{}

	// MarkTarget writes Sluice's labels on the Deployment. Hold is the run that holds it; with a
	// hold the Deployment is kept paused, without one its pause is not touched.
	MarkTarget struct{ Hold string }
	// Unpause takes the hold off and lets the Deployment controller go on. It fails when anything
	// changed since the template was compared.
	Unpause struct{}
	// ForgetTarget takes all of Sluice's labels off; the pause is lifted or left.
	ForgetTarget struct{ StayPaused bool }

	// CreateRun records a new run.
	CreateRun struct {
		Name string
		Spec v1alpha1.CanaryRunSpec
	}
	// RecordRun appends to a run's record. An outcome is written once; Ended closes the record.
	RecordRun struct {
		Run     string
		Entries []Entry
		Outcome v1alpha1.Outcome
		Ended   *time.Time
	}

	// DeleteRun removes the record of a run that ended long ago.
	DeleteRun struct{ Name string }

	// AskHook asks a webhook, outside of this look; its answer is observed later.
	AskHook struct {
		Webhook  v1alpha1.Webhook
		Key, Run string
		Attempt  int32
		Message  HookMessage
	}
	// TellHook tells a webhook that nobody waits for.
	TellHook struct {
		Webhook  v1alpha1.Webhook
		Key, Run string
		Message  HookMessage
	}

	// WriteSplit shares the traffic between two revisions: the canary gets CanaryWeight out of
	// TotalWeight, stable the rest, and the canary what else the routing says.
	WriteSplit struct {
		StableHash, CanaryHash    string
		CanaryWeight, TotalWeight int32
		Routing                   Routing
	}
	// DeleteSplit ends the sharing.
	DeleteSplit struct{}

	// CreateSet makes a ReplicaSet: as the Deployment controller's own (Owned) or as a released one.
	CreateSet struct {
		Name, Hash, Role string
		Template         corev1.PodTemplateSpec
		Replicas         int32
		Owned            bool
		Revision         int64
	}
	// ScaleSet sizes a released set.
	ScaleSet struct {
		Name     string
		Replicas int32
	}
	// ReleaseSet takes a set out of the Deployment's selector.
	ReleaseSet struct{ Name, Role string }
	// GiveBackSet puts a set under the Deployment controller. With Replicas it is the handover of
	// the set that is to be its new one.
	GiveBackSet struct {
		Name     string
		Handover *Handover
	}
	// DeleteSet removes a released set that has no pods.
	DeleteSet struct{ Name string }

	// TakeSlot takes a slot of a policy's budget for a run; Beyond also when none is free.
	TakeSlot struct {
		Policy, Run string
		Beyond      bool
	}
	// ReleaseSlot gives it back.
	ReleaseSlot struct{ Policy string }

	// EvictPod asks for a pod of stable to be replaced, as far as the disruption budgets allow.
	EvictPod struct{ Name string }
)

// Entry is one line of a run's record. One that Enters a phase is not repeated by a controller that
// died before it could note in the status that it had entered; its message may differ then.
type Entry struct {
	v1alpha1.RunEntry
	Enters bool
}

// Handover is what the Deployment controller's annotations on its new ReplicaSet say.
type Handover struct {
	Replicas, MaxReplicas int32
	Revision              int64
}

func (SetFinalizer) effect()   {}
func (ClearFinalizer) effect() {}
func (MarkTarget) effect()     {}
func (Unpause) effect()        {}
func (ForgetTarget) effect()   {}
func (CreateRun) effect()      {}
func (RecordRun) effect()      {}
func (DeleteRun) effect()      {}
func (AskHook) effect()        {}
func (TellHook) effect()       {}
func (WriteSplit) effect()     {}
func (DeleteSplit) effect()    {}
func (CreateSet) effect()      {}
func (ScaleSet) effect()       {}
func (ReleaseSet) effect()     {}
func (GiveBackSet) effect()    {}
func (DeleteSet) effect()      {}
func (TakeSlot) effect()       {}
func (ReleaseSlot) effect()    {}
func (EvictPod) effect()       {}
