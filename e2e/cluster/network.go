// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// createNetwork makes the second node's namespace, the link to it, routes and address translation.
// Every command can be given again.
func createNetwork(ctx context.Context) error {
	other := nodes()[1]
	if !isNamespace(other.netns) {
		// A file without a namespace behind it is what an interrupted run or a reboot left.
		_ = os.Remove(other.netns)
		if err := run(ctx, "ip", "netns", "add", namespaceName); err != nil {
			return err
		}
	}
	if run(ctx, "ip", "link", "show", linkName) != nil {
		if err := run(ctx, "ip", "link", "add", linkName, "type", "veth", "peer", "name", "eth0", "netns", namespaceName); err != nil {
			return err
		}
	}
	for _, arguments := range [][]string{
		{"addr", "replace", gatewayIP + "/24", "dev", linkName},
		{"link", "set", linkName, "up"},
		{"route", "replace", other.podCIDR, "via", other.ip},
		{"-n", namespaceName, "addr", "replace", other.ip + "/24", "dev", "eth0"},
		{"-n", namespaceName, "link", "set", "eth0", "up"},
		{"-n", namespaceName, "link", "set", "lo", "up"},
		{"-n", namespaceName, "route", "replace", "default", "via", gatewayIP},
	} {
		if err := run(ctx, "ip", arguments...); err != nil {
			return err
		}
	}
	if err := inNamespace(other.netns, func() error { return writeSysctl("net/ipv4/ip_forward", "1") }); err != nil {
		return err
	}
	rules, err := natRules()
	if err != nil {
		return err
	}
	if err := feed(ctx, rules, "nft", "-f", "-"); err != nil {
		return err
	}
	return acceptForwarding(ctx)
}

// removeNetwork takes everything back; what is not there is no error.
func removeNetwork(ctx context.Context) error {
	var failures []error
	// Namespace and link go together, and routes with the link.
	if run(ctx, "ip", "link", "show", linkName) == nil {
		failures = append(failures, run(ctx, "ip", "link", "delete", linkName))
	}
	if path := nodes()[1].netns; fileExists(path) {
		if isNamespace(path) {
			failures = append(failures, run(ctx, "ip", "netns", "delete", namespaceName))
		} else {
			failures = append(failures, os.Remove(path))
		}
	}
	for _, table := range [][]string{{"ip", natTable}, {"ip", "kube-proxy"}, {"ip6", "kube-proxy"}} {
		if run(ctx, "nft", "list", "table", table[0], table[1]) == nil {
			failures = append(failures, run(ctx, "nft", "delete", "table", table[0], table[1]))
		}
	}
	removeForwarding(ctx)
	return errors.Join(failures...)
}

// forwardRules let the cluster's traffic through a machine that forwards nothing by default, as
// Docker sets it. A rule in a table of our own could not: a drop elsewhere wins.
func forwardRules() [][]string {
	var rules [][]string
	for _, network := range []string{podNetwork, machineNetwork} {
		for _, direction := range []string{"--source", "--destination"} {
			rules = append(rules, []string{"FORWARD", direction, network, "-m", "comment", "--comment", natTable, "-j", "ACCEPT"})
		}
	}
	return rules
}

func acceptForwarding(ctx context.Context) error {
	// Without iptables there is nothing that it drops.
	output, _ := exec.CommandContext(ctx, "iptables", "-S", "FORWARD").Output()
	if !bytes.Contains(output, []byte("-P FORWARD DROP")) {
		return nil
	}
	for _, rule := range forwardRules() {
		if run(ctx, "iptables", append([]string{"-C"}, rule...)...) == nil {
			continue
		}
		if err := run(ctx, "iptables", append([]string{"-I"}, rule...)...); err != nil {
			return err
		}
	}
	return nil
}

func removeForwarding(ctx context.Context) {
	output, _ := exec.CommandContext(ctx, "iptables", "-S", "FORWARD").Output()
	if !bytes.Contains(output, []byte(natTable)) {
		return
	}
	for _, rule := range forwardRules() {
		_ = run(ctx, "iptables", append([]string{"-D"}, rule...)...)
	}
}

// sysctls are what the cluster and its kubelets change on the machine.
func sysctls() []string {
	return []string{
		"net/ipv4/ip_forward",
		"fs/inotify/max_user_instances",
		"kernel/keys/root_maxbytes", "kernel/keys/root_maxkeys", "kernel/panic", "kernel/panic_on_oops",
		"vm/overcommit_memory", "vm/panic_on_oom",
		"net/netfilter/nf_conntrack_tcp_be_liberal",
	}
}

// setSysctls writes down what was, once, and sets what the cluster needs.
func (l layout) setSysctls() error {
	saved := l.path("sysctls")
	if !fileExists(saved) {
		var lines strings.Builder
		for _, key := range sysctls() {
			if content, err := os.ReadFile(filepath.Join("/proc/sys", key)); err == nil {
				_, _ = fmt.Fprintf(&lines, "%s %s\n", key, strings.TrimSpace(string(content)))
			}
		}
		if err := os.WriteFile(saved, []byte(lines.String()), 0o644); err != nil {
			return fmt.Errorf("save the machine's settings: %w", err)
		}
	}
	// Two kubelets, two containerds and their pods watch more files than one machine's default.
	return errors.Join(writeSysctl("net/ipv4/ip_forward", "1"), writeSysctl("fs/inotify/max_user_instances", "8192"))
}

// restoreSysctls sets them as they were before the first Up.
func (l layout) restoreSysctls() error {
	content, err := os.ReadFile(l.path("sysctls"))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("restore the machine's settings: %w", err)
	}
	var failures []error
	for line := range strings.Lines(string(content)) {
		key, value, ok := strings.Cut(strings.TrimSpace(line), " ")
		if ok {
			failures = append(failures, writeSysctl(key, value))
		}
	}
	return errors.Join(failures...)
}

func writeSysctl(key, value string) error {
	if err := os.WriteFile(filepath.Join("/proc/sys", key), []byte(value), 0o644); err != nil {
		return fmt.Errorf("set %s to %s: %w", strings.ReplaceAll(key, "/", "."), value, err)
	}
	return nil
}

// run runs a short command.
func run(ctx context.Context, name string, arguments ...string) error {
	return feed(ctx, nil, name, arguments...)
}

// feed runs a short command with the given input.
func feed(ctx context.Context, input []byte, name string, arguments ...string) error {
	command := exec.CommandContext(ctx, name, arguments...)
	command.Stdin = bytes.NewReader(input)
	if output, err := command.CombinedOutput(); err != nil {
		return fmt.Errorf("%s %s: %w: %s", name, strings.Join(arguments, " "), err, bytes.TrimSpace(output))
	}
	return nil
}
