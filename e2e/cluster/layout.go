// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"os"
	"path/filepath"
	"strconv"
)

// Addresses and names, all our own, so that another Kubernetes or container engine on the machine is
// left alone.
const (
	gatewayIP       = "172.30.0.1"
	machineNetwork  = "172.30.0.0/24"
	podNetwork      = "10.244.0.0/16"
	serviceNetwork  = "10.96.0.0/16"
	firstServiceIP  = "10.96.0.1"
	dnsIP           = "10.96.0.10"
	clusterDomain   = "cluster.local"
	apiPort         = 16443
	etcdPort        = 16379
	etcdPeerPort    = 16380
	kubeletPort     = 16250
	proxyHealthPort = 16256
	proxyMetricPort = 16249
	linkName        = "sluice-node-2"
	namespaceName   = "sluice-node-2"
	natTable        = "sluice_cluster"
	cniNetwork      = "sluice-cluster"
	kubeconfigName  = "admin.kubeconfig"
)

// Environment variables.
const (
	// EnvDirectory moves the state directory.
	EnvDirectory = "SLUICE_CLUSTER_DIR"
	// EnvExisting, with the value "yes", makes Up use the cluster that KUBECONFIG names.
	EnvExisting = "SLUICE_EXISTING_CLUSTER"

	defaultDirectory = "/var/lib/sluice-cluster"
	// Sockets below the directory must have names of at most 107 characters.
	longestDirectory = 60
)

// Names of the nodes.
const (
	Node1 = "node-1"
	Node2 = "node-2"
)

// node is one of the two.
type node struct {
	name    string
	ip      string
	podCIDR string
	// netns is the path of the network namespace, empty for the machine's own.
	netns string
}

func nodes() []node {
	return []node{
		{name: Node1, ip: gatewayIP, podCIDR: "10.244.0.0/24"},
		{name: Node2, ip: "172.30.0.2", podCIDR: "10.244.1.0/24", netns: "/run/netns/" + namespaceName},
	}
}

// cgroup is the node's own root in each hierarchy.
func (n node) cgroup() string { return "/sluice-" + n.name }

// inside is the command line that runs another one in the node's network. Not `ip netns exec`: it
// mounts a /sys of its own, in which kubelet finds no cgroups.
func (n node) inside(arguments ...string) []string {
	if n.netns == "" {
		return arguments
	}
	return append([]string{"nsenter", "--net=" + n.netns, "--"}, arguments...)
}

// layout is where everything lies.
type layout struct {
	dir string
}

func newLayout() layout {
	dir := os.Getenv(EnvDirectory)
	if dir == "" {
		dir = defaultDirectory
	}
	return layout{dir: filepath.Clean(dir)}
}

func (l layout) path(parts ...string) string {
	return filepath.Join(append([]string{l.dir}, parts...)...)
}

func (l layout) pki(name string) string { return l.path("pki", name) }

func (l layout) kubeconfig(user string) string { return l.path(user + ".kubeconfig") }

func (l layout) log(name string) string { return l.path("log", name+".log") }

func (l layout) containerdSocket(n node) string { return l.path(n.name, "containerd.sock") }

func server() string { return "https://" + gatewayIP + ":" + strconv.Itoa(apiPort) }
