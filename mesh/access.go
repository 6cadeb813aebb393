// SPDX-License-Identifier: Apache-2.0

package mesh

import (
	"net/netip"
	"slices"
	"strings"
)

// Access says who may call a pod. Nil means everybody.
type Access struct {
	// Default is for pods that no enforcing policy names. What is none of the constants is deny.
	Default AccessDefault `json:"default"`
	// Policies that name the pod's workload.
	Policies []AccessPolicy `json:"policies,omitempty"`
	// Probes of the kubelet, which are let in whoever asks: nothing tells a kubelet from others.
	Probes []Probe `json:"probes,omitempty"`
	// Limits say how often each of those who are let in may ask.
	Limits []RateLimit `json:"limits,omitempty"`
}

// AccessDefault is who is let in where no policy is enforced.
type AccessDefault string

// Defaults.
const (
	AccessAllow  AccessDefault = "allow"  // Everybody.
	AccessMeshed AccessDefault = "meshed" // Who has an identity of the mesh.
	AccessDeny   AccessDefault = "deny"   // Nobody.
)

// AccessMode is what is done about callers that no rule lets in.
type AccessMode string

// Modes. What is neither is enforced.
const (
	AccessEnforce AccessMode = "enforce"
	AccessAudit   AccessMode = "audit"
)

// AccessPolicy lets in whom any of its rules lets in.
type AccessPolicy struct {
	Name  string       `json:"name"`
	Mode  AccessMode   `json:"mode"`
	Rules []AccessRule `json:"rules,omitempty"`
}

// AccessRule lets in callers whom any of Identities, Namespaces and Networks names, to any of the ports and
// with any of the routes.
type AccessRule struct {
	// Identities are SPIFFE IDs.
	Identities []string `json:"identities,omitempty"`
	// Namespaces are what the SPIFFE IDs of a namespace begin with, the last slash included.
	Namespaces []string       `json:"namespaces,omitempty"`
	Networks   []netip.Prefix `json:"networks,omitempty"`
	// Ports of the pod; all when there are none.
	Ports []uint16 `json:"ports,omitempty"`
	// Routes of requests; all, and all other connections, when there are none.
	Routes []AccessRoute `json:"routes,omitempty"`
}

// AccessRoute means requests with one of the methods, any when there are none, and the path.
type AccessRoute struct {
	Methods []string   `json:"methods,omitempty"`
	Path    ValueMatch `json:"path,omitzero"`
}

// Probe is a request by which a kubelet looks at a container.
type Probe struct {
	Port   uint16 `json:"port"`
	Method string `json:"method"`
	Path   string `json:"path"`
}

// Caller is who calls a pod.
type Caller struct {
	// Identity is its SPIFFE ID; empty outside the mesh.
	Identity string
	// Address is where it calls from; invalid when that is not known.
	Address netip.Addr
}

// Asked is what a caller asks for. Method and Path are empty for connections that are not HTTP.
type Asked struct {
	Port         uint16
	Method, Path string
}

// Reasons of verdicts that no policy gave.
const (
	AccessByDefault = "default"
	AccessByProbe   = "probe"
)

// AccessVerdict says whether a caller is let in.
type AccessVerdict struct {
	Allowed bool
	// Policy is the name of the policy that decided; empty where none did.
	Policy string
	// Reason is AccessByDefault or AccessByProbe where no policy decided; empty else.
	Reason string
	// Audited is the name of a policy in audit mode that would refuse what is let in; empty for none.
	Audited string
}

// Judge says whether a caller gets what it asks for. It is pure.
func (a *Access) Judge(from Caller, asked Asked) AccessVerdict {
	if a == nil {
		return AccessVerdict{Allowed: true, Reason: AccessByDefault}
	}
	if asked.Method != "" && slices.Contains(a.Probes, Probe(asked)) {
		return AccessVerdict{Allowed: true, Reason: AccessByProbe}
	}
	verdict := a.enforce(from, asked)
	if verdict.Allowed {
		verdict.Audited = a.audited(from, asked)
	}
	return verdict
}

// enforce lets in what a rule of any enforced policy lets in, or the default where there is none.
func (a *Access) enforce(from Caller, asked Asked) AccessVerdict {
	first := ""
	for i := range a.Policies {
		policy := &a.Policies[i]
		switch {
		case policy.Mode == AccessAudit:
		case policy.letsIn(from, asked):
			return AccessVerdict{Allowed: true, Policy: policy.Name}
		case first == "":
			first = policy.Name
		}
	}
	if first != "" {
		return AccessVerdict{Policy: first}
	}
	allowed := a.Default == AccessAllow || a.Default == AccessMeshed && from.Identity != ""
	return AccessVerdict{Allowed: allowed, Reason: AccessByDefault}
}

// audited is the first of the policies in audit mode when none of them would let the caller in.
func (a *Access) audited(from Caller, asked Asked) string {
	first := ""
	for i := range a.Policies {
		policy := &a.Policies[i]
		switch {
		case policy.Mode != AccessAudit:
		case policy.letsIn(from, asked):
			return ""
		case first == "":
			first = policy.Name
		}
	}
	return first
}

func (p *AccessPolicy) letsIn(from Caller, asked Asked) bool {
	for i := range p.Rules {
		if p.Rules[i].letsIn(from, asked) {
			return true
		}
	}
	return false
}

func (r *AccessRule) letsIn(from Caller, asked Asked) bool {
	return (len(r.Ports) == 0 || slices.Contains(r.Ports, asked.Port)) && r.names(from) &&
		(len(r.Routes) == 0 || r.means(asked))
}

func (r *AccessRule) names(from Caller) bool {
	if from.Identity != "" {
		if slices.Contains(r.Identities, from.Identity) {
			return true
		}
		for _, namespace := range r.Namespaces {
			if namespace != "" && strings.HasPrefix(from.Identity, namespace) {
				return true
			}
		}
	}
	for _, network := range r.Networks {
		if network.Contains(from.Address) {
			return true
		}
	}
	return false
}

func (r *AccessRule) means(asked Asked) bool {
	if asked.Method == "" {
		return false // No HTTP.
	}
	for i := range r.Routes {
		route := &r.Routes[i]
		if len(route.Methods) > 0 && !slices.Contains(route.Methods, asked.Method) {
			continue
		}
		if route.Path.Kind == "" || IsPlainPath(asked.Path) && route.Path.HoldsPath(asked.Path) {
			return true
		}
	}
	return false
}

// IsPlainPath says that all servers read a path the same way. Others come in by no rule that names a path:
// a server that takes /public/..%2fadmin for /admin would let in who may only see /public. Segments of one
// or two dots are none, also escaped or with parameters behind a semicolon, nor are slashes that are
// escaped or turned around, escapes of escapes, or bytes that only a slash in bad UTF-8 has.
func IsPlainPath(path string) bool {
	if path == "" || path[0] != '/' {
		return false
	}
	for segment := range strings.SplitSeq(path[1:], "/") {
		if !isPlainSegment(segment) {
			return false
		}
	}
	return true
}

func isPlainSegment(segment string) bool {
	if strings.IndexByte(segment, '\\') >= 0 {
		return false
	}
	dots, name := 0, false // Before the parameters.
	parameters := false
	for i := 0; i < len(segment); i++ {
		b := segment[i]
		if b == '%' {
			high, low := unhex(segment, i+1), unhex(segment, i+2)
			if high < 0 || low < 0 {
				return false
			}
			b, i = byte(high<<4|low), i+2
			switch {
			case b == '/', b == '\\', b == '%', b < ' ', b == 0x7f, b == 0xc0, b == 0xc1:
				return false
			}
		}
		switch {
		case b == ';':
			parameters = true
		case parameters, b == ' ': // Some servers cut spaces off.
		case b == '.':
			dots++
		default:
			name = true
		}
	}
	return name || dots == 0 || dots > 2
}

// unhex is the value of a hexadecimal digit, or negative when there is none.
func unhex(text string, at int) int {
	if at >= len(text) {
		return -1
	}
	switch b := text[at]; {
	case b >= '0' && b <= '9':
		return int(b - '0')
	case b >= 'a' && b <= 'f':
		return int(b-'a') + 10
	case b >= 'A' && b <= 'F':
		return int(b-'A') + 10
	}
	return -1
}

// Equal compares two whole.
func (a *Access) Equal(other *Access) bool {
	if a == nil || other == nil {
		return a == other
	}
	return a.Default == other.Default && slices.Equal(a.Probes, other.Probes) &&
		slices.EqualFunc(a.Limits, other.Limits, func(a, b RateLimit) bool { return a.Equal(&b) }) &&
		slices.EqualFunc(a.Policies, other.Policies, equalPolicies)
}

func equalPolicies(a, b AccessPolicy) bool {
	return a.Name == b.Name && a.Mode == b.Mode && slices.EqualFunc(a.Rules, b.Rules, equalRules)
}

func equalRules(a, b AccessRule) bool {
	return slices.Equal(a.Identities, b.Identities) && slices.Equal(a.Namespaces, b.Namespaces) &&
		slices.Equal(a.Networks, b.Networks) && slices.Equal(a.Ports, b.Ports) &&
		slices.EqualFunc(a.Routes, b.Routes, equalRoutes)
}

func equalRoutes(a, b AccessRoute) bool {
	return slices.Equal(a.Methods, b.Methods) && equalValues(a.Path, b.Path)
}
