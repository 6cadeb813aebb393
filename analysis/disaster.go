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
	// Pods of the canary, by themselves. Others than before are another disaster.
	Pods []Counts `json:"pods,omitempty"`
}

const (
	// DisasterShare of the canary's requests failed at least, and half of that without its worst pod.
	DisasterShare = 0.25
	// disasterBad requests failed at least, more than one cluster of errors; or fewBad where each of as many
	// rounds saw some, so that they are no cluster either: of a few requests a second ten are long in coming.
	disasterBad = 10
	fewBad      = 4
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
	if len(round.CanaryPods) != len(d.Pods) {
		*d = Disaster{}
	}
	if all >= disasterBad && bad < DisasterShare*all || d.Bad+bad < DisasterShare*(d.All+all) {
		*d = Disaster{}
		return
	}
	if bad >= DisasterShare*all {
		d.Rounds++
	}
	d.Bad += bad
	d.All += all
	d.StableBad += float64(min(round.Stable.Errors, round.Stable.Requests))
	d.StableAll += float64(round.Stable.Requests)
	if d.Pods == nil {
		d.Pods = make([]Counts, len(round.CanaryPods))
	}
	for i, pod := range round.CanaryPods {
		d.Pods[i] = d.Pods[i].plus(pod)
	}
}

// others are the failed and all requests without those of the pod that failed most, where there are several.
func (d *Disaster) others() (bad, all float64) {
	if len(d.Pods) < 2 {
		return d.Bad, d.All
	}
	var worst Counts
	for _, pod := range d.Pods {
		bad += float64(min(pod.Errors, pod.Requests))
		all += float64(pod.Requests)
		if pod.Errors > worst.Errors {
			worst = pod
		}
	}
	return bad - float64(min(worst.Errors, worst.Requests)), all - float64(worst.Requests)
}

// certain says whether it is the revision that fails so much, for so many rounds at least: not one pod of it, and
// not stable too.
func (d *Disaster) certain(rounds int) bool {
	othersBad, othersAll := d.others()
	many := d.Bad >= disasterBad || d.Bad >= fewBad && d.Rounds >= fewBad
	return d.Rounds >= rounds && many &&
		othersBad >= DisasterShare/2*othersAll && othersAll > 0 &&
		d.StableAll >= disasterBad && disasterTimes*d.StableBad*d.All <= d.Bad*d.StableAll
}
