// SPDX-License-Identifier: Apache-2.0

package discovery

import (
	"cmp"
	"math"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/sluice-mesh/sluice/api/v1alpha1"
	"github.com/sluice-mesh/sluice/mesh"
)

// trafficPolicy is what a TrafficPolicy says, as proxies are told.
type trafficPolicy struct {
	timeouts            mesh.Timeouts
	maxParallelRequests uint32
	retries             *mesh.Retries
	outlierEjection     *mesh.OutlierEjection
	// overload is for the Service's own pods; nil for none.
	overload *mesh.Overload
}

func (p trafficPolicy) applyTo(destination *mesh.Destination) {
	destination.Timeouts, destination.Retries = p.timeouts, p.retries
	destination.MaxParallelRequests, destination.OutlierEjection = p.maxParallelRequests, p.outlierEjection
}

// policiesOf returns what policies say of Services, by "namespace/name": a policy has the name of its
// Service, so that there are never two of them.
func policiesOf(trustDomain spiffeid.TrustDomain, policies []*v1alpha1.TrafficPolicy) map[string]trafficPolicy {
	said := map[string]trafficPolicy{}
	for _, policy := range policies {
		made := policyOf(&policy.Spec)
		made.overload = overloadOf(trustDomain, policy)
		said[keyOf(policy)] = made
	}
	return said
}

func policyOf(spec *v1alpha1.TrafficPolicySpec) trafficPolicy {
	policy := trafficPolicy{retries: retriesOf(spec.Retries), outlierEjection: ejectionOf(spec.OutlierEjection)}
	if written := spec.Timeouts; written != nil {
		policy.timeouts = mesh.Timeouts{
			Request: milliseconds(written.Request),
			Try:     milliseconds(written.Try),
			Idle:    milliseconds(written.Idle),
		}
	}
	if spec.CircuitBreaker != nil {
		policy.maxParallelRequests = count(spec.CircuitBreaker.MaxParallelRequests)
	}
	return policy
}

// retriesOf fills in what the API server would for objects that were written through it.
func retriesOf(written *v1alpha1.Retries) *mesh.Retries {
	if written == nil {
		return nil
	}
	retries := &mesh.Retries{
		Attempts: max(count(written.Attempts), 1), Codes: []uint32{502, 503, 504}, Methods: []string{"GET", "HEAD", "OPTIONS", "TRACE"},
		Percent: 20, Interval: 10_000, MinCount: 10, MinInterval: 1000,
	}
	if written.Codes != nil {
		retries.Codes = counts(written.Codes)
	}
	if written.Methods != nil {
		retries.Methods = nil
		for _, method := range written.Methods {
			retries.Methods = append(retries.Methods, string(method))
		}
	}
	for _, code := range written.GRPCCodes {
		if number := grpcCode(code); number != 0 {
			retries.GRPCCodes = append(retries.GRPCCodes, number)
		}
	}
	if budget := written.Budget; budget != nil {
		retries.Percent = orElse(budget.Percent, retries.Percent)
		retries.Interval = cmp.Or(milliseconds(budget.Interval), retries.Interval)
	}
	if rate := written.MinRetryRate; rate != nil {
		retries.MinCount = orElse(rate.Count, retries.MinCount)
		retries.MinInterval = cmp.Or(milliseconds(rate.Interval), retries.MinInterval)
	}
	return retries
}

// ejectionOf fills in what the API server would.
func ejectionOf(written *v1alpha1.OutlierEjection) *mesh.OutlierEjection {
	if written == nil {
		return nil
	}
	ejection := &mesh.OutlierEjection{
		ConsecutiveFailures: orElse(written.ConsecutiveFailures, 5),
		Interval:            10_000, MinRequests: 100, MinEndpoints: 5,
		BaseTime:   cmp.Or(milliseconds(written.BaseTime), 30_000),
		MaxTime:    cmp.Or(milliseconds(written.MaxTime), 300_000),
		MaxPercent: orElse(written.MaxPercent, 50),
	}
	if rate := written.SuccessRate; rate != nil {
		ejection.Interval = cmp.Or(milliseconds(rate.Interval), ejection.Interval)
		ejection.MinRequests = orElse(rate.MinRequests, ejection.MinRequests)
		ejection.MinEndpoints = orElse(rate.MinEndpoints, ejection.MinEndpoints)
	}
	return ejection
}

// grpcCode is the number of a status; 0 for what the API server does not let in.
func grpcCode(name v1alpha1.RetriedGRPCCode) uint32 {
	switch name {
	case "CANCELLED":
		return 1
	case "DEADLINE_EXCEEDED":
		return 4
	case "RESOURCE_EXHAUSTED":
		return 8
	case "INTERNAL":
		return 13
	case "UNAVAILABLE":
		return 14
	}
	return 0
}

func orElse(written *int32, otherwise uint32) uint32 {
	if written == nil {
		return otherwise
	}
	return count(*written)
}

// count is 0 for what the API server does not let in.
func count(written int32) uint32 { return uint32(max(written, 0)) }

func counts(written []int32) []uint32 {
	all := make([]uint32, 0, len(written))
	for _, one := range written {
		all = append(all, count(one))
	}
	return all
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
