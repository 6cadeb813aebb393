// SPDX-License-Identifier: Apache-2.0

package binaries

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// KubernetesMinor is the Kubernetes that the test bed runs. e2e/tools/kubernetes pins the patch
// version; a test holds the two together.
const KubernetesMinor = "1.36"

// EnvKubernetes names an older minor to build instead, for tests that say how Kubernetes behaves: one
// that a module e2e/tools/kubernetes-<minor> pins.
const EnvKubernetes = "SLUICE_KUBERNETES"

const toolsDirectory = "e2e/tools"

// kubernetesFolder is that of the Kubernetes to build.
func kubernetesFolder(root, minor string) (string, error) {
	const current = "kubernetes"
	if minor == "" || minor == KubernetesMinor {
		return current, nil
	}
	folder := current + "-" + minor
	if exists(filepath.Join(root, toolsDirectory, folder, "go.mod")) {
		return folder, nil
	}
	older, err := filepath.Glob(filepath.Join(root, toolsDirectory, current+"-*"))
	if err != nil {
		return "", fmt.Errorf("list the Kubernetes versions: %w", err)
	}
	known := []string{KubernetesMinor}
	for _, path := range older {
		known = append(known, strings.TrimPrefix(filepath.Base(path), current+"-"))
	}
	return "", fmt.Errorf("%s=%q: write one of %s", EnvKubernetes, minor, strings.Join(known, ", "))
}

// Tool is one program built from a module under e2e/tools.
type Tool struct {
	// Name of the file.
	Name string
	// Module is the folder under e2e/tools whose go.mod pins it.
	Module string
	// Package is the import path of the main package, or "." for one of our own in that module.
	Package string
	// Tags are build tags that leave out what the test bed does not use.
	Tags string
	// Stamp is the module whose version the program has to report as its own. Kubernetes programs
	// otherwise call themselves v0.0.0, which breaks discovery and Helm.
	Stamp string
}

// Tools are all programs that Builder.Tool knows.
func Tools() []Tool {
	tools := []Tool{
		{Name: "etcd", Module: "etcd", Package: "go.etcd.io/etcd/server/v3"},
		{Name: "coredns", Module: "coredns", Package: "."},
		{Name: "metrics-server", Module: "metrics-server", Package: "sigs.k8s.io/metrics-server/cmd/metrics-server"},
		{
			Name: "prometheus", Module: "prometheus", Package: "github.com/prometheus/prometheus/cmd/prometheus",
			Tags: "remove_all_sd,enable_kubernetes_sd",
		},
		{Name: "podinfo", Module: "podinfo", Package: "."},
		{Name: "source-controller", Module: "source-controller", Package: "github.com/fluxcd/source-controller"},
		{Name: "kustomize-controller", Module: "kustomize-controller", Package: "github.com/fluxcd/kustomize-controller"},
	}
	for _, name := range []string{"kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy", "kubectl"} {
		tools = append(tools, Tool{Name: name, Module: "kubernetes", Package: kubernetesModule + "/cmd/" + name, Stamp: kubernetesModule})
	}
	return tools
}

const kubernetesModule = "k8s.io/kubernetes"

func (b *Builder) find(name string) (Tool, error) {
	var known []string
	for _, tool := range Tools() {
		if tool.Name == name {
			if tool.Stamp == kubernetesModule {
				tool.Module = b.kubernetes
			}
			return tool, nil
		}
		known = append(known, tool.Name)
	}
	return Tool{}, fmt.Errorf("no tool is called %q; there are %s", name, strings.Join(known, ", "))
}

// KubernetesVersion is that of the Kubernetes to build, as "v1.36.3".
func (b *Builder) KubernetesVersion() (string, error) {
	return b.pinned(b.kubernetes, kubernetesModule)
}

// stamp returns the version to link into a tool, empty if it gets none.
func (b *Builder) stamp(tool Tool) (string, error) {
	if tool.Stamp == "" {
		return "", nil
	}
	return b.pinned(tool.Module, tool.Stamp)
}

// pinned reads the version of a dependency from the go.mod of a folder under e2e/tools.
func (b *Builder) pinned(module, dependency string) (string, error) {
	path := filepath.Join(b.root, toolsDirectory, module, "go.mod")
	content, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("read the pins of %s: %w", module, err)
	}
	for line := range strings.Lines(string(content)) {
		words := strings.Fields(strings.TrimPrefix(strings.TrimSpace(line), "require "))
		if len(words) >= 2 && words[0] == dependency && strings.HasPrefix(words[1], "v") {
			return words[1], nil
		}
	}
	return "", fmt.Errorf("read the pins of %s: %s requires no %s", module, path, dependency)
}

// versionFlags are the linker flags that make Kubernetes programs report a version, with a leading
// space. Only the linker sees them: the compiler's cache stays shared.
func versionFlags(version string) string {
	if version == "" {
		return ""
	}
	parts := strings.SplitN(strings.TrimPrefix(version, "v"), ".", 3)
	if len(parts) < 3 {
		return ""
	}
	const variable = " -X k8s.io/component-base/version."
	return variable + "gitVersion=" + version +
		variable + "gitMajor=" + parts[0] +
		variable + "gitMinor=" + parts[1] +
		variable + "gitTreeState=clean"
}
