// SPDX-License-Identifier: Apache-2.0

package rollout

import (
	"slices"

	"github.com/sluice-mesh/sluice/api/v1alpha1"
)

// needed is how many ready pods of a revision a weight out of total needs when the workload has so
// many replicas.
func needed(weight, total, replicas int32) int32 {
	if weight <= 0 || total <= 0 || replicas <= 0 {
		return 0
	}
	// In 64 bits: 100000 parts of 100000 replicas are more than fit in 32.
	return int32(max(1, (int64(weight)*int64(replicas)+int64(total)-1)/int64(total)))
}

// carried is the largest weight out of total for which so many ready pods are enough: the reverse of
// needed.
func carried(ready, total, replicas int32) int32 {
	if ready <= 0 || replicas <= 0 {
		return 0
	}
	return int32(min(int64(total), int64(ready)*int64(total)/int64(replicas)))
}

// totalOf reads what weights are shares of; objects that were written without it mean percent.
func totalOf(weight int32) int32 {
	if weight <= 0 {
		return v1alpha1.DefaultTotalWeight
	}
	return weight
}

// percent is a weight as the gate counts it: rounded, and never none of what is some.
func percent(weight, total int32) int32 {
	if weight <= 0 {
		return 0
	}
	whole := int64(totalOf(total))
	return int32(max(1, (100*int64(weight)+whole/2)/whole))
}

func sorted(lines []string) []string {
	slices.Sort(lines)
	return lines
}
