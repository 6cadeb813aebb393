// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

var update = flag.Bool("update", false, "write the golden files anew")

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		require.NoError(t, os.MkdirAll("testdata", 0o755))
		require.NoError(t, os.WriteFile(path, got, 0o644))
	}
	want, err := os.ReadFile(path)
	require.NoError(t, err, "run the test with -update")
	require.Equal(t, string(want), string(got), "run the test with -update if this is meant")
}

func TestNodeFiles(t *testing.T) {
	l := layout{dir: "/state"}
	for _, n := range nodes() {
		rendered, err := l.nodeFiles(n, "/usr/lib/cni")
		require.NoError(t, err)
		require.Len(t, rendered, 3)
		for path, content := range rendered {
			golden(t, n.name+"."+filepath.Base(path), content)
		}
	}
}

func TestNATRules(t *testing.T) {
	rules, err := natRules()
	require.NoError(t, err)
	golden(t, "nat.nft", rules)
}

func TestCommandLines(t *testing.T) {
	l := layout{dir: "/state"}
	components := []component{
		l.etcd("/bin/etcd"), l.apiserver("/bin/kube-apiserver"), l.controllerManager("/bin/kube-controller-manager"), l.scheduler("/bin/kube-scheduler"),
	}
	for _, n := range nodes() {
		components = append(components, l.containerd(n), l.kubelet(n, "/bin/kubelet"), l.proxy(n, "/bin/kube-proxy"))
	}
	var out strings.Builder
	for _, c := range components {
		out.WriteString(c.name + ":\n  " + strings.Join(c.arguments, "\n  ") + "\n")
	}
	golden(t, "components.txt", []byte(out.String()))
}

func TestManifests(t *testing.T) {
	for name, values := range map[string]map[string]any{
		"coredns":        {"IP": dnsIP, "Domain": clusterDomain, "Forward": false, "Image": "sluice.dev/coredns:dev"},
		"metrics-server": {"Image": "sluice.dev/metrics-server:dev"},
	} {
		manifest, err := render("manifests/"+name+".yaml", values)
		require.NoError(t, err)
		objects, err := parseObjects(manifest)
		require.NoError(t, err)
		require.NotEmpty(t, objects)
		for _, object := range objects {
			require.NotEmpty(t, object.GetName())
			require.NotEmpty(t, object.GetKind())
		}
	}
}

func TestResolvConf(t *testing.T) {
	cases := map[string]struct {
		machine, want string
		servers       []string
	}{
		"reachable":     {"search x\nnameserver 10.1.1.1\nnameserver fd00::53\n", "nameserver 10.1.1.1\nnameserver fd00::53\n", []string{"10.1.1.1", "fd00::53"}},
		"loopback only": {"nameserver 127.0.0.53\nnameserver ::1\n", "", nil},
		"none":          {"", "", nil},
	}
	for name, test := range cases {
		t.Run(name, func(t *testing.T) {
			content, servers := resolvConf(test.machine)
			require.Equal(t, test.want, content)
			require.Equal(t, test.servers, servers)
		})
	}
}
