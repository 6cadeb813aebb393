// SPDX-License-Identifier: Apache-2.0

package analysis

import (
	"math"
	"time"
)

// Dispersion measures how much more the bad requests of stable's pods differ from each other, within
// rounds, than chance explains: clusters of errors, a pod on a bad node. What moves all pods alike
// cancels out. It is Pearson's chi-squared over its degrees of freedom.
//
// The round in which they differed most is left out: one pod that was killed says nothing about how
// pods usually differ, and would make all evidence weak for as long as it is remembered.
type Dispersion struct {
	ChiSquared float64 `json:"chiSquared,omitempty"`
	Freedom    float64 `json:"freedom,omitempty"`
	// MostChiSquared and MostFreedom are that round's.
	MostChiSquared float64 `json:"mostChiSquared,omitempty"`
	MostFreedom    float64 `json:"mostFreedom,omitempty"`
}

// dispersionMemory is the time after which a round counts for 1/e.
const dispersionMemory = 30 * time.Minute

// add a round of the given length with the pods' bad and all requests.
func (d *Dispersion) add(length time.Duration, bad, all []float64) {
	fade := math.Exp(-length.Seconds() / dispersionMemory.Seconds())
	d.ChiSquared *= fade
	d.Freedom *= fade
	d.MostChiSquared *= fade
	d.MostFreedom *= fade
	var sumBad, sumAll, pods float64
	for i := range all {
		if all[i] > 0 {
			sumBad += bad[i]
			sumAll += all[i]
			pods++
		}
	}
	if pods < 2 || sumBad <= 0 || sumBad >= sumAll {
		return
	}
	rate := sumBad / sumAll
	chi := 0.0
	for i := range all {
		if all[i] > 0 {
			off := bad[i] - all[i]*rate
			chi += off * off / (all[i] * rate * (1 - rate))
		}
	}
	// Given the totals its expectation is (pods-1) n/(n-1).
	chi, freedom := chi*(sumAll-1)/sumAll, pods-1
	if chi > d.MostChiSquared {
		chi, freedom, d.MostChiSquared, d.MostFreedom = d.MostChiSquared, d.MostFreedom, chi, freedom
	}
	d.ChiSquared += chi
	d.Freedom += freedom
}

// factor divides log evidence: 1 unless more dispersion than chance is certain.
func (d *Dispersion) factor() float64 {
	if d.Freedom <= 0 {
		return 1
	}
	phi := d.ChiSquared / d.Freedom
	if phi-1 <= 3*math.Sqrt(2/d.Freedom) {
		return 1
	}
	return phi
}
