// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"strconv"
	"sync/atomic"

	"github.com/sluice-mesh/sluice/mesh"
)

// authzFamily is a metric of who was let in, under Linkerd's names.
type authzFamily struct{ name, help string }

// The pairs of what is counted for requests and for connections.
const (
	authzHTTP  = "inbound_http_authz"
	authzTCP   = "inbound_tcp_authz"
	allowTotal = "_allow_total"
	denyTotal  = "_deny_total"
	// authzTerminated are connections that were closed because they are no longer let in.
	authzTerminated = "inbound_tcp_authz_terminate_total"
	authzAudited    = "sluice_access_audited_total"
	// What a RateLimit has refused, and what one in audit mode would have.
	limitHTTP    = "inbound_http_local_ratelimit_total"
	limitTCP     = "inbound_tcp_local_ratelimit_total"
	limitAudited = "sluice_ratelimit_audited_total"
)

func authzFamilies() []authzFamily {
	return []authzFamily{
		{authzHTTP + allowTotal, "Requests that were let in."},
		{authzHTTP + denyTotal, "Requests that were refused."},
		{authzTCP + allowTotal, "Connections carried as bytes that were let in."},
		{authzTCP + denyTotal, "Connections carried as bytes that were refused."},
		{authzTerminated, "Connections carried as bytes that were closed because a new policy does not let them in."},
		{authzAudited, "Requests and connections that came in and that a policy in audit mode would refuse."},
		{limitHTTP, "Requests that were refused because their client asks too often."},
		{limitTCP, "Connections carried as bytes that were refused because their client makes too many."},
		{limitAudited, "Requests and connections that came in and that a RateLimit in audit mode would refuse."},
	}
}

// Kinds of what decided.
const (
	authzGroup       = "sluice.dev"
	authzKindPolicy  = "AccessPolicy"
	authzKindLimit   = "RateLimit"
	authzKindDefault = "default"
)

// authzLabels are those of one decision. They are few per caller; callers are bounded by seriesMost.
type authzLabels struct{ targetPort, tls, client, kind, name string }

type authzSeries struct {
	family string
	labels authzLabels
}

func (l authzLabels) text() string {
	group := ""
	if l.kind != authzKindDefault {
		group = authzGroup
	}
	return labelText(
		label{"direction", directionInbound}, label{"target_port", l.targetPort}, label{"tls", l.tls},
		label{"client_id", l.client}, label{"authz_group", group}, label{"authz_kind", l.kind}, label{"authz_name", l.name},
	)
}

func authzLabelsOf(port string, from mesh.Caller, verdict mesh.AccessVerdict) authzLabels {
	labels := authzLabels{
		targetPort: port, tls: tlsNone, client: from.Identity,
		kind: authzKindDefault, name: verdict.Reason,
	}
	if from.Identity != "" {
		labels.tls = tlsTrue
	}
	if verdict.Policy != "" {
		labels.kind, labels.name = authzKindPolicy, verdict.Policy
	}
	return labels
}

// allowOf and denyOf are the two of a pair. Each request asks: the text is made beforehand.
func allowOf(pair string) string {
	if pair == authzTCP {
		return authzTCP + allowTotal
	}
	return authzHTTP + allowTotal
}

func denyOf(pair string) string {
	if pair == authzTCP {
		return authzTCP + denyTotal
	}
	return authzHTTP + denyTotal
}

// access counts a verdict.
func (m *metrics) access(pair, port string, from mesh.Caller, verdict mesh.AccessVerdict) {
	labels := authzLabelsOf(port, from, verdict)
	if !verdict.Allowed {
		m.authz(denyOf(pair), labels)
		return
	}
	m.authz(allowOf(pair), labels)
	if verdict.Audited != "" {
		labels.kind, labels.name = authzKindPolicy, verdict.Audited
		m.authz(authzAudited, labels)
	}
}

func (m *metrics) authz(family string, labels authzLabels) { m.authzOf(family, labels).Add(1) }

func (m *metrics) authzOf(family string, labels authzLabels) *atomic.Uint64 {
	series := authzSeries{family, labels}
	m.mutex.RLock()
	known, ok := m.authorizations[series]
	m.mutex.RUnlock()
	if ok {
		return known
	}
	other := labels
	other.targetPort, other.client, other.name = otherValue, otherValue, otherValue
	return bounded(m, m.authorizations, series, authzSeries{family, other}, func() *atomic.Uint64 { return &atomic.Uint64{} })
}

// limited counts what exceeds a limit.
func (m *metrics) limited(port string, from mesh.Caller, asked mesh.Asked, verdict rateVerdict) {
	switch {
	case verdict.exceeded == "":
		m.authz(limitAudited, limitLabels(port, from, verdict.audited))
	case asked.Method == "":
		m.authz(limitTCP, limitLabels(port, from, verdict.exceeded))
	default:
		m.authz(limitHTTP, limitLabels(port, from, verdict.exceeded))
	}
}

func limitLabels(port string, from mesh.Caller, limit string) authzLabels {
	labels := authzLabelsOf(port, from, mesh.AccessVerdict{})
	labels.kind, labels.name = authzKindLimit, limit
	return labels
}

// expectAccess makes the series of the policies in force, with zeros: a rate needs a counter that was there
// before the first refusal.
func (m *metrics) expectAccess(inbound *mesh.Inbound) {
	if inbound.Access == nil {
		return
	}
	for number, protocol := range inbound.Protocols {
		port, pair := strconv.Itoa(int(number)), authzHTTP
		if protocol == mesh.ProtocolTCP {
			pair = authzTCP
		}
		m.expectLimits(inbound.Access.Limits, port, protocol)
		standard := authzLabelsOf(port, mesh.Caller{}, mesh.AccessVerdict{Reason: mesh.AccessByDefault})
		m.authzOf(denyOf(pair), standard)
		for _, policy := range inbound.Access.Policies {
			labels := authzLabelsOf(port, mesh.Caller{}, mesh.AccessVerdict{Policy: policy.Name})
			if policy.Mode == mesh.AccessAudit {
				m.authzOf(authzAudited, labels)
				continue
			}
			m.authzOf(allowOf(pair), labels)
			m.authzOf(denyOf(pair), labels)
		}
	}
}

func (m *metrics) expectLimits(limits []mesh.RateLimit, port string, protocol mesh.Protocol) {
	for i := range limits {
		family := limitHTTP
		switch {
		case limits[i].Mode == mesh.AccessAudit:
			family = limitAudited
		case protocol == mesh.ProtocolTCP:
			family = limitTCP
		}
		m.authzOf(family, limitLabels(port, mesh.Caller{}, limits[i].Name))
	}
}

func writeAuthorizations(out *exposition, all map[authzSeries]*atomic.Uint64) {
	for _, family := range authzFamilies() {
		of := map[authzLabels]*atomic.Uint64{}
		for series, count := range all {
			if series.family == family.name {
				of[series.labels] = count
			}
		}
		out.family(family.name, "counter", family.help)
		for _, one := range sorted(of, authzLabels.text) {
			out.sample(family.name, one.labels, float64(one.series.Load()))
		}
	}
}
