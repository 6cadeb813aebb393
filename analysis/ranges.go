// SPDX-License-Identifier: Apache-2.0

package analysis

import (
	"fmt"
	"math"
	"time"
)

// Range bounds a number that is no counter of requests: a queue's length, orders per minute.
type Range struct {
	Name string
	// Min and Max are the bounds, inclusive; nil is none. One of them must be given.
	Min, Max *float64
	// The canary fails when Failures of the last Window samples are out of range. 1 <= Failures <=
	// Window <= 100. A sample without a number is not counted: no data is never a failure.
	Failures, Window int
}

// RangeState is what is remembered of a Range.
type RangeState struct {
	// Out says of the last samples, oldest first, which were out of range.
	Out []bool `json:"out,omitempty"`
	// Last is the last sample.
	Last   float64   `json:"last,omitempty"`
	LastAt time.Time `json:"lastAt,omitzero"`
}

func (r Range) validate() error {
	switch {
	case r.Min == nil && r.Max == nil:
		return fmt.Errorf("the range of %q has neither min nor max", r.Name)
	case r.Min != nil && r.Max != nil && !(*r.Min <= *r.Max):
		return fmt.Errorf("the range of %q from %v to %v is empty", r.Name, *r.Min, *r.Max)
	case r.Failures < 1 || r.Window < r.Failures || r.Window > 100:
		return fmt.Errorf("the range of %q fails at %d of %d samples; write 1 of 1 up to 100 of 100", r.Name, r.Failures, r.Window)
	}
	return nil
}

func (r Range) holds(number float64) bool {
	return (r.Min == nil || number >= *r.Min) && (r.Max == nil || number <= *r.Max)
}

func (r Range) add(state RangeState, value Value) RangeState {
	if math.IsNaN(value.Number) || !value.At.After(state.LastAt) {
		return state
	}
	if math.IsInf(value.Number, 0) { // JSON knows no infinity
		value.Number = math.Copysign(math.MaxFloat64, value.Number)
	}
	out := append(append([]bool(nil), state.Out...), !r.holds(value.Number))
	return RangeState{Out: out[max(0, len(out)-r.Window):], Last: value.Number, LastAt: value.At}
}

// out is how many of the last samples were out of range.
func (state RangeState) out() int {
	count := 0
	for _, out := range state.Out {
		if out {
			count++
		}
	}
	return count
}

// bounds are the range in words.
func (r Range) bounds() string {
	switch {
	case r.Max == nil:
		return "at least " + plain(*r.Min)
	case r.Min == nil:
		return "at most " + plain(*r.Max)
	default:
		return "from " + plain(*r.Min) + " to " + plain(*r.Max)
	}
}
