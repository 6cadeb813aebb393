// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"slices"

	"github.com/sluice-mesh/sluice/mesh"
)

// Names of revisions in a split: stable serves when the drawn one cannot, the canary gets matches.
const (
	stableRevision = "stable"
	canaryRevision = "canary"
)

// revision names one revision of a workload; the workload is "namespace/name".
type revision struct{ workload, hash string }

// route is what the weights chose for one request, and where it may go.
type route struct {
	// drawn is the revision for which the request counts, whoever serves it in the end.
	drawn revision
	// tiers of endpoints, to be tried in order. The first holds those of the drawn revision and is
	// empty when it has none.
	tiers []tier
	// split says that the weights of a split were applied.
	split bool
	// cookie is the Set-Cookie that keeps the user where the request went; empty for none.
	cookie string
	// mirror is where a copy of the request goes; nil for nowhere.
	mirror *mirrorRoute
	// most is how much may be open at an endpoint; 0 for any number.
	most uint32
	// ejection is by what endpoints are left out; nil for nobody.
	ejection *mesh.OutlierEjection
}

// tier are endpoints among which the next is drawn.
type tier struct {
	endpoints []*mesh.Endpoint
	// farther says that they are of the same kind as those of the tier before, and only farther from the
	// caller: where those have as much open as they may, these serve.
	farther bool
	// conducts of the endpoints, in their order; none where nobody is left out.
	conducts []*conduct
}

// chooseRoute draws a workload in proportion to its ready endpoints, then one of its revisions by
// what the request is and by weight, and orders the endpoints. It is pure: draw gives numbers in
// [0, 1), and what is kept follows from the destination.
func chooseRoute(kept *routes, destination *mesh.Destination, request requestView, draw func() float64) route {
	if len(destination.Endpoints) == 0 {
		return route{}
	}
	workload := drawWorkload(destination.Endpoints, kept.at, draw)
	own := addressed(destination)
	if own != nil {
		// Who dials a pod of a split workload means its workload, not another of the Service.
		workload = own.Workload
	}
	split := splitOf(destination, workload)
	switch {
	case split != nil:
	case own != nil:
		return withoutSplit(kept, destination)
	default:
		return unsplitRoute(kept, destination, workload)
	}
	drawn, cookie := drawRevision(split, request, draw)
	return route{
		drawn: revision{workload, drawn.PodTemplateHash}, tiers: drawnTiers(kept, destination, split, drawn), split: true,
		cookie: cookie, mirror: mirrorOf(split, destination.Endpoints, request, drawn, draw),
	}
}

// drawnTiers orders the endpoints for a revision of a split workload.
func drawnTiers(kept *routes, destination *mesh.Destination, split *mesh.Split, drawn mesh.RevisionWeight) []tier {
	return kept.tiers(routeKey{to: destination, workload: split.Workload, hash: drawn.PodTemplateHash}, func() []tier {
		serving := destination.Endpoints
		if addressed(destination) != nil {
			serving = slices.DeleteFunc(slices.Clone(serving), func(e mesh.Endpoint) bool { return e.Workload != split.Workload })
		}
		return preferred(nearestFirst(splitTiers(destination, serving, split, drawn), kept.at), destination.Address)
	})
}

// withoutSplit is the route for requests that mean this very address, such as scrapes of a pod.
func withoutSplit(kept *routes, destination *mesh.Destination) route {
	own := addressed(destination)
	if own == nil {
		return route{}
	}
	tiers := kept.tiers(routeKey{to: destination, alone: true}, func() []tier { return []tier{{endpoints: []*mesh.Endpoint{own}}} })
	return route{drawn: revisionOf(own), tiers: tiers}
}

// addressed is the endpoint whose very address the destination is; nil for that of a Service.
func addressed(destination *mesh.Destination) *mesh.Endpoint {
	if !destination.PodAddress {
		return nil
	}
	for i := range destination.Endpoints {
		if destination.Endpoints[i].Address == destination.Address {
			return &destination.Endpoints[i]
		}
	}
	return nil
}

func revisionOf(endpoint *mesh.Endpoint) revision {
	return revision{endpoint.Workload, endpoint.PodTemplateHash}
}

func splitOf(destination *mesh.Destination, workload string) *mesh.Split {
	for i := range destination.Splits {
		if destination.Splits[i].Workload == workload && workload != "" {
			return &destination.Splits[i]
		}
	}
	return nil
}

// drawRevision gives what matches to the canary and draws the rest by weight; cookie is what keeps
// the user where it was drawn to. Weights that are all zero mean stable: a split that sends requests
// nowhere is nobody's intent.
func drawRevision(split *mesh.Split, request requestView, draw func() float64) (_ mesh.RevisionWeight, cookie string) {
	if request.matches(split.Matches) {
		for _, candidate := range split.Revisions {
			if candidate.Name == canaryRevision {
				return candidate, ""
			}
		}
	}
	var sum uint32
	for _, candidate := range split.Revisions {
		sum += candidate.Weight
	}
	if sum == 0 {
		return stableOf(split), ""
	}
	standing := standingOf(split, request, draw())
	if standing.place >= 0 {
		cookie = stickyCookie(split.Stickiness, standing.place)
	}
	return revisionAt(split, standing.at*float64(sum)), cookie
}

// revisionAt finds whose share a point lies in. The canary's is the last, in whatever order the split
// lists them.
func revisionAt(split *mesh.Split, point float64) mesh.RevisionWeight {
	for _, last := range [2]bool{false, true} {
		for _, candidate := range split.Revisions {
			if (candidate.Name == canaryRevision) != last {
				continue
			}
			if point < float64(candidate.Weight) {
				return candidate
			}
			point -= float64(candidate.Weight)
		}
	}
	return stableOf(split)
}

func stableOf(split *mesh.Split) mesh.RevisionWeight {
	for _, candidate := range split.Revisions {
		if candidate.Name == stableRevision {
			return candidate
		}
	}
	if len(split.Revisions) > 0 {
		return split.Revisions[0]
	}
	return mesh.RevisionWeight{}
}

// splitTiers orders the endpoints of a split workload: the drawn revision, then stable, then what
// else has a weight, then what the split does not list; first the ready ones, then the terminating
// ones, then other workloads. A revision with weight 0 other than stable is in none: what was
// rejected or not yet analysed takes no traffic, not even in need.
func splitTiers(destination *mesh.Destination, serving []mesh.Endpoint, split *mesh.Split, drawn mesh.RevisionWeight) []tier {
	tiers := make([]tier, 2*rankCount, 2*rankCount+1)
	for i := range serving {
		endpoint := &serving[i]
		if endpoint.Workload != split.Workload {
			continue
		}
		rank := rankOf(endpoint.PodTemplateHash, split, drawn)
		if rank == rankNever {
			continue
		}
		if !endpoint.Ready {
			rank += rankCount
		}
		tiers[rank].endpoints = append(tiers[rank].endpoints, endpoint)
	}
	return compactTiers(append(tiers, otherWorkloads(destination, serving, split.Workload)))
}

// unsplitRoute orders the endpoints of a workload without a split: its ready ones, those of others,
// the terminating ones.
func unsplitRoute(kept *routes, destination *mesh.Destination, workload string) route {
	tiers := kept.tiers(routeKey{to: destination, workload: workload}, func() []tier {
		var ready, terminating tier
		for i := range destination.Endpoints {
			switch endpoint := &destination.Endpoints[i]; {
			case endpoint.Workload != workload:
			case endpoint.Ready:
				ready.endpoints = append(ready.endpoints, endpoint)
			default:
				terminating.endpoints = append(terminating.endpoints, endpoint)
			}
		}
		return nearestFirst(compactTiers([]tier{ready, otherWorkloads(destination, destination.Endpoints, workload), terminating}), kept.at)
	})
	return route{drawn: revision{workload: workload}, tiers: tiers}
}

// otherWorkloads are the ready endpoints of a Service's other workloads, which serve when the drawn
// one cannot at all. Revisions that their own splits keep from traffic are left out.
func otherWorkloads(destination *mesh.Destination, serving []mesh.Endpoint, workload string) tier {
	var others tier
	for i := range serving {
		endpoint := &serving[i]
		if endpoint.Workload == workload || !endpoint.Ready {
			continue
		}
		if split := splitOf(destination, endpoint.Workload); split != nil {
			if rankOf(endpoint.PodTemplateHash, split, stableOf(split)) == rankNever {
				continue
			}
		}
		others.endpoints = append(others.endpoints, endpoint)
	}
	return others
}

// Ranks of a revision in the order of tiers.
const (
	rankNever = iota - 1
	rankDrawn
	rankStable
	rankWeighted
	rankUnlisted
	rankCount
)

func rankOf(hash string, split *mesh.Split, drawn mesh.RevisionWeight) int {
	if hash == drawn.PodTemplateHash {
		return rankDrawn
	}
	for _, listed := range split.Revisions {
		switch {
		case listed.PodTemplateHash != hash:
		case listed.Name == stableRevision:
			return rankStable
		case listed.Weight > 0:
			return rankWeighted
		default:
			return rankNever
		}
	}
	return rankUnlisted
}

// preferred puts one endpoint before the others of its tier.
func preferred(tiers []tier, address string) []tier {
	for i, of := range tiers {
		at := slices.IndexFunc(of.endpoints, func(e *mesh.Endpoint) bool { return e.Address == address })
		if at < 0 || len(of.endpoints) == 1 {
			continue
		}
		others := slices.Delete(slices.Clone(of.endpoints), at, at+1)
		cut := []tier{{endpoints: of.endpoints[at : at+1], farther: of.farther}, {endpoints: others, farther: true}}
		return slices.Concat(tiers[:i], cut, tiers[i+1:])
	}
	return tiers
}

// compactTiers drops empty tiers but the first, whose emptiness says that the drawn revision has no
// endpoint.
func compactTiers(tiers []tier) []tier {
	kept := tiers[:1]
	for _, of := range tiers[1:] {
		if len(of.endpoints) > 0 {
			kept = append(kept, of)
		}
	}
	return kept
}
