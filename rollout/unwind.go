// SPDX-License-Identifier: Apache-2.0

package rollout

import (
	"fmt"

	"github.com/sluice-mesh/sluice/api/v1alpha1"
)

// unwind is the last phase of a Canary that is being deleted: traffic is on stable and the canary's
// pods are gone. It leaves a plain Deployment and lets the Canary go.
func (p *planner) unwind() {
	p.moving(v1alpha1.ReasonProgressing, "the Canary is being deleted")
	if p.bears() {
		p.forget()
	}
	p.handAll()
	if len(p.decision.Effects) == 0 {
		p.do(ClearFinalizer{})
		return
	}
	p.decision.Next = AtOnce
}

// forget takes Sluice's labels off the Deployment. A held template goes on by the Deployment
// controller's own rules, unless it was rejected: nobody asked for that one.
func (p *planner) forget() {
	t, stable := p.seen.Target, p.stableSet()
	known := stable != nil && p.same(t.Template, stable.Template)
	if known && !stable.Owned {
		p.do(GiveBackSet{Name: stable.Name})
		stable.Owned = true // handAll must not give it back twice
	}
	switch {
	case !t.Paused || t.Hold == "":
		p.do(ForgetTarget{StayPaused: t.Paused})
	case p.status.Phase == v1alpha1.PhaseRejected && !known:
		p.do(ForgetTarget{StayPaused: true})
		p.event(true, v1alpha1.ReasonHeldForever, fmt.Sprintf(
			"Deployment %s stays paused at a template that run %s rejected; put a good one in Git, then: kubectl rollout resume deployment/%s",
			t.Name, p.status.Run, t.Name))
	default:
		p.do(ForgetTarget{})
		p.event(false, v1alpha1.ReasonReleased, fmt.Sprintf(
			"the hold on Deployment %s is released; its controller rolls the template out without analysis", t.Name))
	}
}
