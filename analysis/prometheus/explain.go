// SPDX-License-Identifier: Apache-2.0

package prometheus

import "github.com/sluice-mesh/sluice/analysis"

// Queries are those that Rounds asks, for people who want to ask them too. The edges beside the
// objective's are left out: they are chosen when they are asked for.
func (s *Source) Queries(query analysis.Query) []string {
	p, err := newPlan(query)
	if err != nil {
		return nil
	}
	return selectors([]plan{p})
}
