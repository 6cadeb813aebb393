// SPDX-License-Identifier: Apache-2.0

package discovery

import (
	"math"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/sluice-mesh/sluice/api/v1alpha1"
	"github.com/sluice-mesh/sluice/mesh"
)

// timeoutsOf returns what policies say of Services, by "namespace/name": a policy has the name of its
// Service, so that there are never two of them.
func timeoutsOf(policies []*v1alpha1.TrafficPolicy) map[string]mesh.Timeouts {
	timeouts := map[string]mesh.Timeouts{}
	for _, policy := range policies {
		if written := policy.Spec.Timeouts; written != nil {
			timeouts[keyOf(policy)] = mesh.Timeouts{
				Request: milliseconds(written.Request),
				Try:     milliseconds(written.Try),
				Idle:    milliseconds(written.Idle),
			}
		}
	}
	return timeouts
}

// milliseconds is 0 for what is not written. The API server lets in nothing below one; a part of one
// counts as a whole.
func milliseconds(written *metav1.Duration) uint32 {
	if written == nil || written.Duration <= 0 {
		return 0
	}
	whole := (written.Duration + time.Millisecond - 1) / time.Millisecond
	return uint32(min(whole, math.MaxUint32))
}
