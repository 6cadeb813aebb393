// SPDX-License-Identifier: Apache-2.0

package prometheus

import "github.com/sluice-mesh/sluice/analysis"

// Queries are what Rounds asks Prometheus for a query; none when it would refuse.
func (s *Source) Queries(query analysis.Query) []string {
	p, err := newPlan(query)
	if err != nil {
		return nil
	}
	return p.selectors()
}
