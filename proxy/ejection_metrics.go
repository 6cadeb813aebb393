// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"maps"
	"slices"
	"sync/atomic"

	"github.com/sluice-mesh/sluice/mesh"
)

type ejectionLabels struct {
	namespace, service string
	reason             ejectionReason
	outcome            string
}

func (l ejectionLabels) text() string {
	return join(serviceText(mesh.Service{Namespace: l.namespace, Name: l.service}),
		labelText(label{"reason", string(l.reason)}, label{"outcome", l.outcome}))
}

func serviceText(service mesh.Service) string {
	return labelText(label{"dst_namespace", service.Namespace}, label{"dst_service", service.Name})
}

// ejection counts an endpoint that was to be left out.
func (m *metrics) ejection(labels ejectionLabels) { m.ejectionsOf(labels).Add(1) }

func (m *metrics) ejectionsOf(labels ejectionLabels) *atomic.Uint64 {
	other := ejectionLabels{otherValue, otherValue, labels.reason, labels.outcome}
	return bounded(m, m.ejections, labels, other, func() *atomic.Uint64 { return &atomic.Uint64{} })
}

// expectEjections makes the series of a Service that has a policy of ejection.
func (m *metrics) expectEjections(to *mesh.Destination) {
	if to.OutlierEjection == nil {
		return
	}
	for _, reason := range []ejectionReason{ejectedInRow, ejectedByRate} {
		for _, outcome := range []string{ejectionMade, ejectionCapped} {
			m.ejectionsOf(ejectionLabels{to.Service.Namespace, to.Service.Name, reason, outcome})
		}
	}
}

func writeEjections(out *exposition, all map[ejectionLabels]*atomic.Uint64, left map[mesh.Service]int) {
	out.family("sluice_outlier_ejections_total", "counter",
		"Endpoints that a TrafficPolicy wants left out, by why and by whether they were.")
	for _, of := range sorted(all, ejectionLabels.text) {
		out.sample("sluice_outlier_ejections_total", of.labels, float64(of.series.Load()))
	}
	out.family("sluice_outlier_ejected_endpoints", "gauge", "Endpoints of a Service that are left out now.")
	counted := map[string]int{}
	for labels := range all {
		counted[serviceText(mesh.Service{Namespace: labels.namespace, Name: labels.service})] = 0
	}
	for service, count := range left {
		text := serviceText(service)
		if _, known := counted[text]; !known {
			text = serviceText(mesh.Service{Namespace: otherValue, Name: otherValue})
		}
		counted[text] += count
	}
	for _, text := range slices.Sorted(maps.Keys(counted)) {
		out.sample("sluice_outlier_ejected_endpoints", text, float64(counted[text]))
	}
}
