// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"bytes"
	"embed"
	"fmt"
	"strings"
	"text/template"
)

// templates are the configuration files of what runs on the nodes, manifests what runs in the
// cluster.
//
//go:embed templates manifests
var files embed.FS

// pauseImage keeps a pod's namespaces; it is ours, because there is no registry to take it from.
const pauseImage = "sluice.dev/pause:dev"

func render(path string, values any) ([]byte, error) {
	parsed, err := template.New("").Option("missingkey=error").ParseFS(files, path)
	if err != nil {
		return nil, fmt.Errorf("parse %s: %w", path, err)
	}
	var out bytes.Buffer
	if err := parsed.Templates()[0].Execute(&out, values); err != nil {
		return nil, fmt.Errorf("render %s: %w", path, err)
	}
	return out.Bytes(), nil
}

// nodeFiles are a node's configuration files by path.
func (l layout) nodeFiles(n node, pluginDirectory string) (map[string][]byte, error) {
	rendered := map[string][]byte{}
	for _, file := range []struct {
		path, template string
		values         any
	}{
		{l.path(n.name, "containerd.toml"), "templates/containerd.toml", map[string]string{
			"Root":             l.path(n.name, "containerd"),
			"State":            l.path(n.name, "run"),
			"RuntimeRoot":      l.path(n.name, "runc"),
			"Socket":           l.containerdSocket(n),
			"PauseImage":       pauseImage,
			"PluginDirectory":  pluginDirectory,
			"NetworkDirectory": l.path(n.name, "net.d"),
		}},
		{l.path(n.name, "kubelet.yaml"), "templates/kubelet.yaml", map[string]any{
			"IP": n.ip, "Port": kubeletPort,
			"Certificate":   l.pki(n.name + ".crt"),
			"Key":           l.pki(n.name + ".key"),
			"ClientCA":      l.pki("ca.crt"),
			"CgroupRoot":    n.cgroup(),
			"Socket":        l.containerdSocket(n),
			"DNS":           dnsIP,
			"Domain":        clusterDomain,
			"ResolvConf":    l.path("resolv.conf"),
			"PodLogs":       l.path(n.name, "pod-logs"),
			"VolumePlugins": l.path(n.name, "volume-plugins"),
		}},
		{l.path(n.name, "net.d", "10-sluice.conflist"), "templates/network.conflist", map[string]string{
			"Name": cniNetwork, "DataDirectory": l.path(n.name, "ipam"), "Subnet": n.podCIDR,
		}},
	} {
		content, err := render(file.template, file.values)
		if err != nil {
			return nil, err
		}
		rendered[file.path] = content
	}
	return rendered, nil
}

func natRules() ([]byte, error) {
	return render("templates/nat.nft", map[string]string{
		"Table": natTable, "Pods": podNetwork, "Machines": machineNetwork, "Services": serviceNetwork,
	})
}

// resolvConf keeps the name servers that pods can reach too: not those on the machine's loopback.
func resolvConf(machine string) (content string, servers []string) {
	for line := range strings.Lines(machine) {
		words := strings.Fields(line)
		if len(words) < 2 || words[0] != "nameserver" {
			continue
		}
		if strings.HasPrefix(words[1], "127.") || words[1] == "::1" {
			continue
		}
		servers = append(servers, words[1])
		content += "nameserver " + words[1] + "\n"
	}
	return content, servers
}
