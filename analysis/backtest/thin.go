// SPDX-License-Identifier: Apache-2.0

package backtest

import (
	"github.com/sluice-mesh/sluice/analysis"
	"github.com/sluice-mesh/sluice/analysis/simulation"
)

// classes are requests by how long they took: each in one class, so that a class is drawn from without
// regard to the others.
type classes struct {
	// requests by class, the quickest first, and which of Over[0], Over[1] and Slow begins each of the others.
	requests [4]int
	begins   [3]int
	errors   int
}

func newClasses(counts analysis.Counts) classes {
	c := classes{begins: [3]int{0, 1, 2}, errors: int(counts.Errors)}
	over := [3]uint64{counts.Over[0], counts.Over[1], counts.Slow}
	// What is over a higher edge is over the lower ones, too.
	for _, pair := range [][2]int{{0, 1}, {1, 2}, {0, 1}} {
		if a, b := pair[0], pair[1]; over[c.begins[a]] < over[c.begins[b]] {
			c.begins[a], c.begins[b] = c.begins[b], c.begins[a]
		}
	}
	left := counts.Requests
	for i := range 3 {
		next := min(over[c.begins[i]], left)
		c.requests[i] = int(left - next)
		left = next
	}
	c.requests[3] = int(left)
	return c
}

func (c classes) counts() analysis.Counts {
	var over [3]uint64
	left := 0
	for i := 3; i > 0; i-- {
		left += c.requests[i]
		over[c.begins[i-1]] = uint64(left)
	}
	left += c.requests[0]
	return analysis.Counts{
		Requests: uint64(left), Errors: uint64(min(c.errors, left)),
		Over: [2]uint64{over[0], over[1]}, Slow: over[2],
	}
}

// draw each request with a chance.
func draw(counts analysis.Counts, chance float64, random simulation.Sampler) analysis.Counts {
	if chance >= 1 {
		return counts
	}
	c := newClasses(counts)
	for i, n := range c.requests {
		c.requests[i] = random.Binomial(n, chance)
	}
	c.errors = random.Binomial(c.errors, chance)
	return c.counts()
}

// Defect is what is made of the canary's requests.
type Defect struct {
	Name string
	// Errors and Slow are the shares of requests that fail, or take longer than the objective's limit,
	// though they did not.
	Errors, Slow float64
	// It shows from this weight, 0 to 1, and from these seconds after the first step on.
	OnsetWeight, Onset float64
}

// spoil requests.
func (d Defect) spoil(counts analysis.Counts, random simulation.Sampler) analysis.Counts {
	c := newClasses(counts)
	slow := 0
	for i, begins := range c.begins {
		if begins == 2 {
			slow = i + 1
		}
	}
	for i := range slow {
		moved := random.Binomial(c.requests[i], d.Slow)
		c.requests[i] -= moved
		c.requests[slow] += moved
	}
	c.errors += random.Binomial(int(counts.Requests)-c.errors, d.Errors)
	return c.counts()
}

func minus(a, b analysis.Counts) analysis.Counts {
	return analysis.Counts{
		Requests: a.Requests - b.Requests, Errors: a.Errors - min(a.Errors, b.Errors), Slow: a.Slow - b.Slow,
		Over: [2]uint64{a.Over[0] - b.Over[0], a.Over[1] - b.Over[1]},
	}
}

func plus(a, b analysis.Counts) analysis.Counts {
	return analysis.Counts{
		Requests: a.Requests + b.Requests, Errors: a.Errors + b.Errors, Slow: a.Slow + b.Slow,
		Over: [2]uint64{a.Over[0] + b.Over[0], a.Over[1] + b.Over[1]},
	}
}
