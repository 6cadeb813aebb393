// SPDX-License-Identifier: Apache-2.0

package prometheus

import (
	"time"

	"github.com/sluice-mesh/sluice/analysis"
)

// Issued are all kinds of queries that a Source asks about a run or a recording.
func Issued(query analysis.Query) ([]string, error) {
	p, err := newPlan(query)
	if err != nil {
		return nil, err
	}
	p.edges = [2]time.Duration{100 * time.Millisecond, 200 * time.Millisecond}
	return append(selectors([]plan{p, p}), p.histogram(), p.census()), nil
}
