// SPDX-License-Identifier: Apache-2.0

package analysis

// Disaster is what both revisions did in the last rounds, if the canary failed a large part of its
// requests in them. Its evidence need not span Config.EvidenceSpan: that is there for the hiccups
// of single pods and small shares of requests, and waiting costs users more with each second.
//
// The bound on false rollbacks stays: what is waived is the cap, not the evidence itself.
type Disaster struct {
	// Rounds in which the canary failed that much.
	Rounds    int     `json:"rounds,omitempty"`
	Bad       float64 `json:"bad,omitempty"`
	All       float64 `json:"all,omitempty"`
	StableBad float64 `json:"stableBad,omitempty"`
	StableAll float64 `json:"stableAll,omitempty"`
	// OthersBad and OthersAll leave the pod out that failed most in each round, where there are several.
	OthersBad float64 `json:"othersBad,omitempty"`
	OthersAll float64 `json:"othersAll,omitempty"`
}

const (
	// disasterShare of the canary's requests failed at least, and half of that without its worst pod.
	disasterShare = 0.25
	// disasterBad requests failed at least, more than one cluster of errors.
	disasterBad = 10
	// disasterRounds are the least: all of stable's pods of the second are read after the canary's of
	// the first, so an outage of both that begins between their scrapes shows in both.
	disasterRounds = 2
	// disasterTimes as large as stable's is the canary's share of failures at least.
	disasterTimes = 4
)

// add a round. One in which the canary failed little ends the disaster; what a few requests did says
// that only together with the rounds before.
func (d *Disaster) add(round Round) {
	bad, all := float64(min(round.Canary.Errors, round.Canary.Requests)), float64(round.Canary.Requests)
	if all == 0 {
		return
	}
	if all >= disasterBad && bad < disasterShare*all || d.Bad+bad < disasterShare*(d.All+all) {
		*d = Disaster{}
		return
	}
	if bad >= disasterShare*all {
		d.Rounds++
	}
	d.Bad += bad
	d.All += all
	d.StableBad += float64(min(round.Stable.Errors, round.Stable.Requests))
	d.StableAll += float64(round.Stable.Requests)
	othersBad, othersAll := others(round.CanaryPods)
	if len(round.CanaryPods) < 2 {
		othersBad, othersAll = bad, all
	}
	d.OthersBad += othersBad
	d.OthersAll += othersAll
}

// others are the failed and all requests of pods without the pod that failed most.
func others(pods []Counts) (bad, all float64) {
	var worst Counts
	for _, pod := range pods {
		bad += float64(min(pod.Errors, pod.Requests))
		all += float64(pod.Requests)
		if pod.Errors > worst.Errors {
			worst = pod
		}
	}
	return bad - float64(min(worst.Errors, worst.Requests)), all - float64(worst.Requests)
}

// certain says whether it is the revision that fails so much: not one pod of it, and not stable too.
func (d *Disaster) certain() bool {
	return d.Rounds >= disasterRounds && d.Bad >= disasterBad &&
		d.OthersBad >= disasterShare/2*d.OthersAll && d.OthersAll > 0 &&
		d.StableAll >= disasterBad && disasterTimes*d.StableBad*d.All <= d.Bad*d.StableAll
}
