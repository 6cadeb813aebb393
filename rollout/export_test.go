// SPDX-License-Identifier: Apache-2.0

package rollout

// RestartAnnotations is the list that the admission policies repeat.
func RestartAnnotations() []string { return restartAnnotations() }
