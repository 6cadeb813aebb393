// SPDX-License-Identifier: Apache-2.0

package meshpb

import (
	"net/netip"
	"time"

	"github.com/sluice-mesh/sluice/mesh"
)

func fromAccess(access *mesh.Access) *Access {
	if access == nil {
		return nil
	}
	return &Access{
		Default:  fromDefault(access.Default),
		Policies: convert(access.Policies, fromPolicy),
		Probes:   convert(access.Probes, fromProbe),
		Limits:   convert(access.Limits, fromLimit),
	}
}

func toAccess(message *Access) *mesh.Access {
	if message == nil {
		return nil
	}
	return &mesh.Access{
		Default:  toDefault(message.GetDefault()),
		Policies: convert(message.GetPolicies(), toPolicy),
		Probes:   convert(message.GetProbes(), toProbe),
		Limits:   convert(message.GetLimits(), toLimit),
	}
}

func fromProbe(probe mesh.Probe) *Probe {
	return &Probe{Port: uint32(probe.Port), Method: probe.Method, Path: probe.Path}
}

func toProbe(message *Probe) mesh.Probe {
	return mesh.Probe{Port: toPort(message.GetPort()), Method: message.GetMethod(), Path: message.GetPath()}
}

// longestInterval is that of one request in an hour. With it no sum of times overflows.
const longestInterval = time.Hour

func fromLimit(limit mesh.RateLimit) *RateLimit {
	return &RateLimit{
		Name: limit.Name, Mode: fromMode(limit.Mode), Ports: convert(limit.Ports, fromPort), Routes: convert(limit.Routes, fromRoute),
		IntervalNanoseconds: uint64(max(limit.Interval, 1)), Burst: limit.Burst,
	}
}

// toLimit keeps a limit that is out of its bounds as the next one within.
func toLimit(message *RateLimit) mesh.RateLimit {
	return mesh.RateLimit{
		Name:     message.GetName(),
		Mode:     toMode(message.GetMode()),
		Ports:    convert(message.GetPorts(), toPort),
		Routes:   convert(message.GetRoutes(), toRoute),
		Interval: time.Duration(min(max(message.GetIntervalNanoseconds(), 1), uint64(longestInterval))),
		Burst:    min(max(message.GetBurst(), 1), mesh.MostBurst),
	}
}

func fromDefault(access mesh.AccessDefault) AccessDefault {
	switch access {
	case mesh.AccessAllow:
		return AccessDefault_ACCESS_DEFAULT_ALLOW
	case mesh.AccessMeshed:
		return AccessDefault_ACCESS_DEFAULT_MESHED
	}
	return AccessDefault_ACCESS_DEFAULT_DENY
}

// toDefault denies what this version does not know.
func toDefault(access AccessDefault) mesh.AccessDefault {
	switch access {
	case AccessDefault_ACCESS_DEFAULT_ALLOW:
		return mesh.AccessAllow
	case AccessDefault_ACCESS_DEFAULT_MESHED:
		return mesh.AccessMeshed
	}
	return mesh.AccessDeny
}

func fromPolicy(policy mesh.AccessPolicy) *AccessPolicy {
	return &AccessPolicy{Name: policy.Name, Mode: fromMode(policy.Mode), Rules: convert(policy.Rules, fromRule)}
}

func toPolicy(message *AccessPolicy) mesh.AccessPolicy {
	return mesh.AccessPolicy{Name: message.GetName(), Mode: toMode(message.GetMode()), Rules: convert(message.GetRules(), toRule)}
}

func fromMode(mode mesh.AccessMode) AccessMode {
	if mode == mesh.AccessAudit {
		return AccessMode_ACCESS_MODE_AUDIT
	}
	return AccessMode_ACCESS_MODE_ENFORCE
}

// toMode enforces what has a mode that this version does not know.
func toMode(mode AccessMode) mesh.AccessMode {
	if mode == AccessMode_ACCESS_MODE_AUDIT {
		return mesh.AccessAudit
	}
	return mesh.AccessEnforce
}

func fromRule(rule mesh.AccessRule) *AccessRule {
	return &AccessRule{
		Identities: rule.Identities,
		Namespaces: rule.Namespaces,
		Networks:   convert(rule.Networks, netip.Prefix.String),
		Ports:      convert(rule.Ports, fromPort),
		Routes:     convert(rule.Routes, fromRoute),
	}
}

func fromPort(port uint16) uint32 { return uint32(port) }

func fromRoute(route mesh.AccessRoute) *AccessRoute {
	message := &AccessRoute{Methods: route.Methods}
	if route.Path.Kind != "" {
		message.Path = fromValue(route.Path)
	}
	return message
}

func toRoute(message *AccessRoute) mesh.AccessRoute {
	route := mesh.AccessRoute{Methods: message.GetMethods()}
	if message.GetPath() != nil {
		route.Path = toValue(message.GetPath())
	}
	return route
}

// toRule keeps what it cannot read as something that means nobody and nothing: a list that becomes empty
// would mean everything.
func toRule(message *AccessRule) mesh.AccessRule {
	return mesh.AccessRule{
		Identities: message.GetIdentities(),
		Namespaces: message.GetNamespaces(),
		Networks: convert(message.GetNetworks(), func(text string) netip.Prefix {
			network, err := netip.ParsePrefix(text)
			if err != nil {
				return netip.Prefix{} // Contains nobody.
			}
			return network
		}),
		Ports:  convert(message.GetPorts(), toPort),
		Routes: convert(message.GetRoutes(), toRoute),
	}
}
