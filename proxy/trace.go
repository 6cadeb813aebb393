// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"strings"

	"github.com/sluice-mesh/sluice/proxy/tracing"
)

// newTracer makes what sends spans to the collector.
func (p *Proxy) newTracer() *tracing.Exporter {
	return tracing.New(tracing.Options{
		Tracing: p.options.Tracing, Version: p.options.Version, Resource: p.resource, Dial: p.options.Dial,
		Failed: func(err error) {
			p.log.Warn("cannot send spans", "collector", p.options.Tracing.Collector, "error", err)
		},
	})
}

// resource says who sends spans, as far as the control plane has told.
func (p *Proxy) resource() []tracing.Attribute {
	own := p.ownRevision()
	namespace, name, _ := strings.Cut(own.workload, "/")
	var pod string
	if discovery := p.options.Discovery; discovery != nil {
		namespace, pod = discovery.Namespace, discovery.Pod
	}
	if name == "" {
		name = pod
	}
	var list []tracing.Attribute
	for _, of := range []tracing.Attribute{
		{Name: "service.name", Value: name}, {Name: "service.namespace", Value: namespace},
		{Name: "k8s.namespace.name", Value: namespace}, {Name: "k8s.pod.name", Value: pod},
		{Name: "sluice.pod_template_hash", Value: own.hash},
	} {
		if of.Value != "" {
			list = append(list, of)
		}
	}
	return list
}
