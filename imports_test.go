// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const module = "github.com/sluice-mesh/sluice/"

// importRule bans packages, by import path prefix, from all that the packages under subject import,
// directly or not.
type importRule struct {
	subject string
	banned  []string
	except  []string
	reason  string
}

var importRules = []importRule{
	{
		subject: "proxy",
		banned: []string{
			"k8s.io/", "sigs.k8s.io/", "google.golang.org/grpc", "github.com/prometheus/client_golang",
			"go.opentelemetry.io/otel/sdk",
		},
		reason: "one proxy runs beside every pod: what it links, every pod's memory pays, and it must never talk to the Kubernetes API",
	},
	{
		subject: "proxy",
		banned:  []string{module + "api", module + "rollout", module + "analysis", module + "mesh/ca", module + "mesh/discovery", module + "mesh/inject"},
		reason:  "the data plane knows the mesh's vocabulary and protocol, not its control plane",
	},
	{
		subject: "rollout",
		banned:  []string{module + "mesh", module + "proxy"},
		reason:  "the two halves of Sluice meet only through Kubernetes objects",
	},
	{
		subject: "mesh",
		banned:  []string{module + "rollout", module + "proxy", module + "analysis"},
		reason:  "the two halves of Sluice meet only through Kubernetes objects",
	},
	{
		subject: "analysis",
		banned:  []string{"k8s.io/", "sigs.k8s.io/", module + "api", module + "rollout", module + "mesh", module + "proxy"},
		reason:  "a verdict is a function of counters: it knows no cluster",
	},
	{
		subject: "api",
		banned:  []string{"k8s.io/client-go", "k8s.io/api/", "sigs.k8s.io/controller-runtime", module},
		except:  []string{module + "api"},
		reason:  "other programs import the types without our dependencies",
	},
}

// wirers are the only packages that may import both halves.
var wirers = []string{module + "internal/cli", module + "e2e", strings.TrimSuffix(module, "/")}

type listedPackage struct {
	ImportPath string
	Deps       []string
	Standard   bool
}

func TestDependencyRule(t *testing.T) {
	packages := listPackages(t)
	for _, rule := range importRules {
		found := false
		for _, pkg := range packages {
			if !under(pkg.ImportPath, module+rule.subject) {
				continue
			}
			found = true
			for _, dependency := range pkg.Deps {
				if underAny(dependency, rule.banned) && !underAny(dependency, rule.except) {
					t.Errorf("%s imports %s: %s", pkg.ImportPath, dependency, rule.reason)
				}
			}
		}
		require.True(t, found, "no package under %q: the rule's subject was renamed", rule.subject)
	}
}

func TestOnlyTheCommandLineWires(t *testing.T) {
	for _, pkg := range listPackages(t) {
		if underAny(pkg.ImportPath, wirers) {
			continue
		}
		rollout := slices.Contains(pkg.Deps, module+"rollout")
		mesh := slices.ContainsFunc(pkg.Deps, func(path string) bool { return under(path, module+"mesh") })
		require.False(t, rollout && mesh, "%s imports both rollout and mesh: only internal/cli wires them", pkg.ImportPath)
	}
}

func listPackages(t *testing.T) []listedPackage {
	t.Helper()
	command := exec.Command("go", "list", "-json=ImportPath,Deps,Standard", "./...")
	var stderr bytes.Buffer
	command.Stderr = &stderr
	output, err := command.Output()
	require.NoError(t, err, stderr.String())
	var packages []listedPackage
	decoder := json.NewDecoder(bytes.NewReader(output))
	for {
		var pkg listedPackage
		err := decoder.Decode(&pkg)
		if errors.Is(err, io.EOF) {
			return packages
		}
		require.NoError(t, err)
		packages = append(packages, pkg)
	}
}

func underAny(path string, prefixes []string) bool {
	return slices.ContainsFunc(prefixes, func(prefix string) bool { return under(path, prefix) })
}

// under says whether path is prefix or lies below it.
func under(path, prefix string) bool {
	trimmed := strings.TrimSuffix(prefix, "/")
	return path == trimmed || strings.HasPrefix(path, trimmed+"/")
}
