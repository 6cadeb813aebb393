// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
)

// machine is what has to be known of a machine to say whether it can be a cluster.
type machine struct {
	system string
	// administrator: user 0 with the capabilities to make namespaces, mounts and networks.
	administrator bool
	// lacks are kernel features that are missing.
	lacks []string
	// addresses of the machine's own interfaces, by interface.
	addresses map[string][]netip.Prefix
	directory string
}

// errUnfit begins every refusal.
var errUnfit = errors.New("this machine cannot run the test cluster")

// refuse says all that stands against a cluster on this machine, and what to do instead.
func (m machine) refuse() error {
	var reasons []string
	switch {
	case m.system != "linux":
		reasons = append(reasons, "it runs "+m.system+", and nodes need Linux")
	case !m.administrator:
		reasons = append(reasons, "this process is not root with CAP_SYS_ADMIN and CAP_NET_ADMIN, which namespaces and mounts need: use sudo, or a privileged container")
	}
	for _, lack := range m.lacks {
		reasons = append(reasons, "the kernel lacks "+lack)
	}
	if len(m.directory) > longestDirectory {
		reasons = append(reasons, fmt.Sprintf("the state directory %s has more than %d characters, too long for the names of sockets: set %s to a shorter one",
			m.directory, longestDirectory, EnvDirectory))
	}
	for name, prefixes := range m.addresses {
		for _, prefix := range prefixes {
			for _, ours := range []string{machineNetwork, podNetwork, serviceNetwork} {
				if netip.MustParsePrefix(ours).Overlaps(prefix) {
					reasons = append(reasons, fmt.Sprintf("interface %s has %s, which the cluster needs for itself (%s)", name, prefix, ours))
				}
			}
		}
	}
	if len(reasons) == 0 {
		return nil
	}
	return fmt.Errorf("%w:\n  - %s\nTo use an existing cluster instead, set KUBECONFIG to its kubeconfig and %s=yes",
		errUnfit, strings.Join(reasons, "\n  - "), EnvExisting)
}

// inspect looks at this machine. Modules that the kernel can load are loaded.
func inspect(directory string) (machine, error) {
	seen := machine{system: runtime.GOOS, directory: directory}
	if seen.system != "linux" {
		return seen, nil
	}
	seen.administrator = os.Geteuid() == 0 && hasCapabilities()
	if !seen.administrator {
		return seen, nil
	}
	for _, feature := range []struct {
		what, module string
		present      func() bool
	}{
		{"network namespaces", "", func() bool { return fileExists("/proc/self/ns/net") }},
		{"overlayfs (module overlay)", "overlay", func() bool { return listed("/proc/filesystems", "overlay") }},
		{"nf_tables (modules nf_tables, nft_nat, nft_masq)", "nf_tables", hasNetfilterTables},
		{"virtual Ethernet pairs (module veth)", "veth", func() bool { return fileExists("/sys/module/veth") || hasVeth() }},
	} {
		if feature.present() {
			continue
		}
		if feature.module != "" {
			// Whether it helped is looked at.
			_ = exec.Command("modprobe", feature.module).Run()
		}
		if !feature.present() {
			seen.lacks = append(seen.lacks, feature.what)
		}
	}
	hierarchies, err := cgroupHierarchies()
	if err != nil {
		return seen, err
	}
	seen.lacks = append(seen.lacks, missingControllers(hierarchies)...)
	seen.addresses, err = machineAddresses()
	return seen, err
}

func hasCapabilities() bool {
	content, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return false
	}
	for line := range strings.Lines(string(content)) {
		value, found := strings.CutPrefix(line, "CapEff:")
		if !found {
			continue
		}
		mask, err := strconv.ParseUint(strings.TrimSpace(value), 16, 64)
		const networkAdmin, systemAdmin = 1 << 12, 1 << 21
		return err == nil && mask&networkAdmin != 0 && mask&systemAdmin != 0
	}
	return false
}

func fileExists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

func listed(path, word string) bool {
	content, err := os.ReadFile(path)
	if err != nil {
		return false
	}
	for line := range strings.Lines(string(content)) {
		fields := strings.Fields(line)
		if len(fields) > 0 && fields[len(fields)-1] == word {
			return true
		}
	}
	return false
}

// machineAddresses leaves out the cluster's own interfaces: when the link to node-2 is there, so may
// be those of pods.
func machineAddresses() (map[string][]netip.Prefix, error) {
	interfaces, err := net.Interfaces()
	if err != nil {
		return nil, fmt.Errorf("list the interfaces: %w", err)
	}
	found := map[string][]netip.Prefix{}
	for _, each := range interfaces {
		if each.Name == linkName {
			return nil, nil
		}
		addresses, err := each.Addrs()
		if err != nil {
			return nil, fmt.Errorf("list the addresses of %s: %w", each.Name, err)
		}
		for _, address := range addresses {
			if prefix, err := netip.ParsePrefix(address.String()); err == nil && prefix.Addr().Is4() {
				found[each.Name] = append(found[each.Name], prefix)
			}
		}
	}
	return found, nil
}
