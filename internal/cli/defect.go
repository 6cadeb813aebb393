// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"fmt"
	"math"
	"strconv"
	"time"

	"github.com/sluice-mesh/sluice/analysis/simulation"
)

// percentage is a part of a defect, as a share.
func percentage(key, value string) (float64, error) {
	number, err := strconv.ParseFloat(value, 64)
	if err != nil || !(number > 0 && number <= 100) {
		return 0, fmt.Errorf("%s=%s: write a percentage above 0 and at most 100, such as %s=5", key, value, key)
	}
	return number / 100, nil
}

// weightOf a step by its number: from this weight on, 0 to 1, a defect shows.
func weightOf(value string, plan simulation.Plan) (float64, error) {
	number, err := strconv.ParseFloat(value, 64)
	if err != nil || !(number >= 1 && number <= float64(len(plan.Steps))) || number != math.Trunc(number) {
		return 0, fmt.Errorf("step=%s: write a number from 1 to %d, the plan's steps with a weight", value, len(plan.Steps))
	}
	return plan.Steps[int(number)-1].Weight, nil
}

// onset is how many seconds after the first step began a defect shows.
func onset(value string) (float64, error) {
	after, err := time.ParseDuration(value)
	if err != nil || after < 0 {
		return 0, fmt.Errorf("after=%s: write a duration such as after=150s", value)
	}
	return after.Seconds(), nil
}
