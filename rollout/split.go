// SPDX-License-Identifier: Apache-2.0

package rollout

import (
	"fmt"
	"strings"
	"time"

	"github.com/sluice-mesh/sluice/api/v1alpha1"
)

// proxyDeadline is how long proxies may take to acknowledge weights before they are named.
const proxyDeadline = 30 * time.Second

// pinned: no request reaches the canary.
func (p *planner) pinned() bool { return p.splitIs(0) && !p.seen.Split.Routing.reaches() }

// splitSays: the split has this run's revisions, a weight and a routing.
func (p *planner) splitSays(weight int32, routing Routing) bool {
	return p.splitIs(weight) && p.seen.Split.Routing.equal(routing)
}

// splitIs says whether the split has this run's revisions and a weight.
func (p *planner) splitIs(weight int32) bool {
	split := p.seen.Split
	return split != nil && split.StableHash == p.status.Stable.PodTemplateHash &&
		split.CanaryHash == p.status.Canary.PodTemplateHash && split.CanaryWeight == weight &&
		(weight == 0 || totalOf(split.TotalWeight) == p.total())
}

func (p *planner) writeSplit(weight int32, routing Routing) {
	p.status.Weight, p.status.TotalWeight = weight, p.total()
	p.do(WriteSplit{
		StableHash: p.status.Stable.PodTemplateHash, CanaryHash: p.status.Canary.PodTemplateHash,
		CanaryWeight: weight, TotalWeight: p.total(), Routing: routing,
	})
}

// repairSplit writes a split again that somebody changed or deleted.
func (p *planner) repairSplit() {
	weight, canary := p.status.Weight, p.canarySet()
	if canary == nil || canary.Ready < needed(weight, p.total(), p.seen.Target.Replicas) {
		weight = 0
	}
	p.status.Weight = weight
	p.writeSplit(weight, p.inForce())
	p.waitForProxies()
}

func (p *planner) waitForProxies() {
	message := fmt.Sprintf("waiting for the proxies to acknowledge weight %s", p.weightText(p.status.Weight))
	if split := p.seen.Split; split != nil && p.since() >= proxyDeadline {
		message += fmt.Sprintf("; %d of %d have not after %s: %s", len(split.Laggards), split.Carrying,
			p.since().Round(time.Second), strings.Join(split.Laggards, ", "))
	}
	p.wait(v1alpha1.ReasonWaitingForProxies, message)
}
