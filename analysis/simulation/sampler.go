// SPDX-License-Identifier: Apache-2.0

package simulation

import (
	"math"
	"math/rand/v2"
)

// Sampler draws counts exactly: a normal approximation would fake the tails, which are all that a
// gate's false alarms are made of.
type Sampler struct{ *rand.Rand }

// NewSampler draws the same for the same seed and stream.
func NewSampler(seed, stream uint64) Sampler {
	return Sampler{rand.New(rand.NewPCG(seed, stream))}
}

// Poisson draws the number of events of a given mean: by multiplication, and for larger means by
// transformed rejection (Hörmann 1993, PTRS).
func (s Sampler) Poisson(mean float64) int {
	if mean <= 0 {
		return 0
	}
	if mean < 10 {
		limit, product, n := math.Exp(-mean), s.Float64(), 0
		for product > limit {
			product *= s.Float64()
			n++
		}
		return n
	}
	b := 0.931 + 2.53*math.Sqrt(mean)
	a := -0.059 + 0.02483*b
	inverse := 1.1239 + 1.1328/(b-3.4)
	quick := 0.9277 - 3.6224/(b-2)
	for {
		u, v := s.Float64()-0.5, s.Float64()
		us := 0.5 - math.Abs(u)
		k := math.Floor((2*a/us+b)*u + mean + 0.43)
		switch {
		case us >= 0.07 && v <= quick:
			return int(k)
		case k < 0 || (us < 0.013 && v > us):
			continue
		}
		if math.Log(v)+math.Log(inverse)-math.Log(a/(us*us)+b) <= k*math.Log(mean)-mean-logFactorial(k) {
			return int(k)
		}
	}
}

// Binomial draws how many of n come true with chance p: by inversion, and where more are expected by
// transformed rejection (Hörmann 1993, BTRS).
func (s Sampler) Binomial(n int, p float64) int {
	switch {
	case n <= 0 || p <= 0:
		return 0
	case p >= 1:
		return n
	case p > 0.5:
		return n - s.Binomial(n, 1-p)
	case float64(n)*p < 10:
		return s.invert(n, p)
	}
	return s.reject(n, p)
}

func (s Sampler) invert(n int, p float64) int {
	odds, chance := p/(1-p), math.Exp(float64(n)*math.Log1p(-p))
	u, k := s.Float64(), 0
	for u > chance && k < n {
		u -= chance
		chance *= odds * float64(n-k) / float64(k+1)
		k++
	}
	return k
}

func (s Sampler) reject(count int, p float64) int {
	n := float64(count)
	spread := math.Sqrt(n * p * (1 - p))
	b := 1.15 + 2.53*spread
	a := -0.0873 + 0.0248*b + 0.01*p
	alpha := (2.83 + 5.1/b) * spread
	quick := 0.92 - 4.2/b
	mode := math.Floor((n + 1) * p)
	height := logFactorial(mode) + logFactorial(n-mode)
	for {
		u, v := s.Float64()-0.5, s.Float64()
		us := 0.5 - math.Abs(u)
		k := math.Floor((2*a/us+b)*u + n*p + 0.5)
		switch {
		case us >= 0.07 && v <= quick:
			return int(k)
		case k < 0 || k > n:
			continue
		}
		v *= alpha / (a/(us*us) + b)
		if math.Log(v) <= height-logFactorial(k)-logFactorial(n-k)+(k-mode)*math.Log(p/(1-p)) {
			return int(k)
		}
	}
}

func logFactorial(k float64) float64 {
	value, _ := math.Lgamma(k + 1)
	return value
}
