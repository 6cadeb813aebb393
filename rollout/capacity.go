// SPDX-License-Identifier: Apache-2.0

package rollout

import "slices"

// needed is how many ready pods of a revision a weight needs when the workload has so many replicas.
func needed(weight, replicas int32) int32 {
	if weight <= 0 || replicas <= 0 {
		return 0
	}
	return max(1, (weight*replicas+99)/100)
}

func sorted(lines []string) []string {
	slices.Sort(lines)
	return lines
}
