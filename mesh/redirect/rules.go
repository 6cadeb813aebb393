// SPDX-License-Identifier: Apache-2.0

package redirect

import (
	"fmt"
	"strings"

	"github.com/sluice-mesh/sluice/mesh"
)

// TableName is the one nftables table that belongs to Sluice in a pod's network namespace.
const TableName = "sluice"

// Config says what is redirected to where.
type Config struct {
	// ProxyUID is the user whose own connections are left alone: they would come back forever.
	ProxyUID uint32
	// OutboundPort takes connections that the pod opens.
	OutboundPort uint16
	// InboundPort takes connections that others open to the pod.
	InboundPort uint16
	// SkipInboundPorts of the pod are reached directly.
	SkipInboundPorts []PortRange
	// SkipOutboundPorts of others are dialled directly.
	SkipOutboundPorts []PortRange
}

// DefaultConfig redirects everything but the proxy's own admin port.
func DefaultConfig() Config {
	return Config{
		ProxyUID:     mesh.ProxyUID,
		OutboundPort: mesh.PortOutbound,
		InboundPort:  mesh.PortInbound,
	}
}

// Hook is where in a packet's way through the kernel a chain looks at it.
type Hook string

// Hooks in use.
const (
	HookPrerouting Hook = "prerouting" // what comes from outside the pod
	HookOutput     Hook = "output"     // what processes in the pod send
)

// Chain is a list of rules at one hook; the first that matches decides, and what none matches passes.
type Chain struct {
	Name  string
	Hook  Hook
	Rules []Rule
}

// Rule matches with exactly one of Loopback, UID and Ports, or, when none is set, all of TCP. It
// lets the packet pass unchanged unless RedirectTo is set.
type Rule struct {
	// Loopback matches what comes from or goes to the interface lo.
	Loopback bool
	// UID matches what a process of this user sends.
	UID uint32
	// Ports matches TCP to these ports.
	Ports PortRange
	// RedirectTo is the port on this machine that gets the connection instead.
	RedirectTo uint16
}

// Rules computes the chains of the table. Equal configurations give equal rules, whatever the order
// of their ports.
func Rules(config Config) []Chain {
	inbound := []Rule{{Loopback: true}}
	// The proxy answers probes and scrapes itself; sent to its inbound port they would be forwarded
	// to the admin port by a connection that looks local, past the check of who may ask.
	skipInbound := append(Ports(mesh.PortAdmin), config.SkipInboundPorts...)
	for _, ports := range merge(skipInbound) {
		inbound = append(inbound, Rule{Ports: ports})
	}
	inbound = append(inbound, Rule{RedirectTo: config.InboundPort})

	outbound := []Rule{{UID: config.ProxyUID}, {Loopback: true}}
	for _, ports := range merge(config.SkipOutboundPorts) {
		outbound = append(outbound, Rule{Ports: ports})
	}
	outbound = append(outbound, Rule{RedirectTo: config.OutboundPort})

	return []Chain{
		{Name: "inbound", Hook: HookPrerouting, Rules: inbound},
		{Name: "outbound", Hook: HookOutput, Rules: outbound},
	}
}

// Text is how `nft list table` prints the chains.
func Text(family string, chains []Chain) string {
	var text strings.Builder
	fmt.Fprintf(&text, "table %s %s {\n", family, TableName)
	for i, chain := range chains {
		if i > 0 {
			text.WriteString("\n")
		}
		fmt.Fprintf(&text, "\tchain %s {\n", chain.Name)
		fmt.Fprintf(&text, "\t\ttype nat hook %s priority %s; policy accept;\n", chain.Hook, chain.Hook.priority())
		for _, rule := range chain.Rules {
			fmt.Fprintf(&text, "\t\t%s\n", rule.text(chain.Hook))
		}
		text.WriteString("\t}\n")
	}
	text.WriteString("}\n")
	return text.String()
}

// priority is nft's name for -100, which it knows at one of the two hooks only.
func (h Hook) priority() string {
	if h == HookPrerouting {
		return "dstnat"
	}
	return "-100"
}

func (r Rule) text(hook Hook) string {
	verdict := "return"
	if r.RedirectTo != 0 {
		verdict = fmt.Sprintf("redirect to :%d", r.RedirectTo)
	}
	switch {
	case r.Loopback && hook == HookPrerouting:
		return `iif "lo" ` + verdict
	case r.Loopback:
		return `oif "lo" ` + verdict
	case r.UID != 0:
		return fmt.Sprintf("meta skuid %d %s", r.UID, verdict)
	case r.Ports != PortRange{}:
		return fmt.Sprintf("tcp dport %s %s", r.Ports, verdict)
	default:
		return "meta l4proto tcp " + verdict
	}
}
