// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestRefusals(t *testing.T) {
	fit := machine{system: "linux", administrator: true, directory: defaultDirectory}
	cases := map[string]struct {
		change func(*machine)
		says   string
	}{
		"fit":        {func(*machine) {}, ""},
		"other":      {func(m *machine) { m.system = "darwin" }, "it runs darwin, and nodes need Linux"},
		"unprivi":    {func(m *machine) { m.administrator = false }, "not root with CAP_SYS_ADMIN and CAP_NET_ADMIN"},
		"no overlay": {func(m *machine) { m.lacks = []string{"overlayfs (module overlay)"} }, "the kernel lacks overlayfs (module overlay)"},
		"long":       {func(m *machine) { m.directory = "/" + strings.Repeat("x", 80) }, "set SLUICE_CLUSTER_DIR to a shorter one"},
		"address taken": {func(m *machine) {
			m.addresses = map[string][]netip.Prefix{"eth0": {netip.MustParsePrefix("10.244.7.1/16")}}
		}, "interface eth0 has 10.244.7.1/16, which the cluster needs for itself (10.244.0.0/16)"},
	}
	for name, test := range cases {
		t.Run(name, func(t *testing.T) {
			candidate := fit
			test.change(&candidate)
			err := candidate.refuse()
			if test.says == "" {
				require.NoError(t, err)
				return
			}
			require.ErrorIs(t, err, errUnfit)
			require.ErrorContains(t, err, test.says)
			require.ErrorContains(t, err, "set KUBECONFIG to its kubeconfig and SLUICE_EXISTING_CLUSTER=yes")
		})
	}
}

func TestHierarchies(t *testing.T) {
	const version1 = `30 29 0:26 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu,cpuacct
31 29 0:27 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
32 29 0:28 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,name=systemd
33 29 0:29 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw
`
	found := parseHierarchies(version1)
	require.Equal(t, []hierarchy{
		{path: "/sys/fs/cgroup/cpu", controllers: []string{"rw", "cpu", "cpuacct"}},
		{path: "/sys/fs/cgroup/memory", controllers: []string{"rw", "memory"}},
		{path: "/sys/fs/cgroup/systemd", controllers: []string{"rw", "name=systemd"}},
		{path: "/sys/fs/cgroup/unified", unified: true},
	}, found)
	require.Equal(t, []string{"the control group controller cpuset", "the control group controller pids"}, missingControllers(found))

	unified := []hierarchy{{path: "/sys/fs/cgroup", unified: true, controllers: []string{"cpuset", "cpu", "io", "memory", "pids"}}}
	require.Empty(t, missingControllers(unified))
}

func TestMountPointsAreOnlyOurs(t *testing.T) {
	const mountinfo = `1 0 8:1 / / rw - ext4 /dev/sda rw
2 1 0:1 / /state/node-1/run/a\040b rw - overlay overlay rw
3 1 0:2 / /state-of-others/x rw - tmpfs tmpfs rw
4 1 0:3 / /state/node-2 rw shared:1 - tmpfs tmpfs rw
`
	require.Equal(t, []string{"/state/node-1/run/a b", "/state/node-2"}, mountPoints(mountinfo, "/state"))
}
