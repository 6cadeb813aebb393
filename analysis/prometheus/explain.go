// SPDX-License-Identifier: Apache-2.0

package prometheus

import "github.com/sluice-mesh/sluice/analysis"

// Queries are those that Rounds and Number ask, for people who want to ask them too. The edges beside the
// objective's are left out: they are chosen when they are asked for. What cannot be asked is left out as well:
// who asks is told why.
func (s *Source) Queries(query analysis.Query, numbers ...analysis.NumberQuery) []string {
	p, err := newPlan(query)
	if err != nil {
		return nil
	}
	texts := selectors([]plan{p})
	for _, custom := range p.Custom {
		for _, counters := range [2]analysis.Selector{custom.Total, custom.Good} {
			if text, err := selected(counters, p.Namespace, p.CanaryHash, p.StableHash); err == nil {
				texts = append(texts, text+p.window())
			}
		}
	}
	for _, number := range numbers {
		if text, err := numbered(number); err == nil {
			texts = append(texts, text)
		}
	}
	return texts
}
