// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"helm.sh/helm/v4/pkg/chart/common"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/sluice-mesh/sluice/chart"
	"github.com/sluice-mesh/sluice/config"
)

var update = flag.Bool("update", false, "write the golden files")

func run(t *testing.T, arguments ...string) (code int, out, complaint string) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	code = Execute(context.Background(), Streams{In: strings.NewReader(""), Out: &stdout, Err: &stderr}, arguments)
	return code, stdout.String(), stderr.String()
}

func TestInstallPrints(t *testing.T) {
	everything := filepath.Join("testdata", "everything.values.yaml")
	for name, arguments := range map[string][]string{
		"default":    {"install"},
		"webhook":    {"install", "--set", "hold.mode=webhook"},
		"everything": {"install", "--values", everything, "--set", "image.tag=v2", "--namespace", "other"},
	} {
		t.Run(name, func(t *testing.T) {
			code, out, complaint := run(t, arguments...)
			require.Equal(t, exitOK, code, complaint)
			objects, err := appendObjects(nil, "output", []byte(out))
			require.NoError(t, err)
			var shown []*unstructured.Unstructured
			var text bytes.Buffer
			for _, object := range objects {
				fmt.Fprintf(&text, "# %s\n", nameOf(object))
				if !copied(object) {
					shown = append(shown, object)
				}
			}
			require.NoError(t, writeYAML(&text, shown))
			requireGolden(t, filepath.Join("testdata", name+".out.yaml"), text.String())
		})
	}
}

// copied: the object is written in config/, which has tests of its own.
func copied(object *unstructured.Unstructured) bool {
	return object.GetLabels()["app.kubernetes.io/part-of"] != "sluice"
}

func requireGolden(t *testing.T, path, text string) {
	t.Helper()
	if *update {
		require.NoError(t, os.WriteFile(path, []byte(text), 0o644))
	}
	want, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, string(want), text)
}

func TestInstallRefuses(t *testing.T) {
	for name, test := range map[string]struct {
		arguments []string
		want      string
	}{
		"unknown flag":     {[]string{"--nonsense"}, "unknown flag: --nonsense"},
		"argument":         {[]string{"now"}, `unknown command "now" for "sluice install"`},
		"unknown value":    {[]string{"--set", "nonsense=1"}, "additional properties 'nonsense' not allowed"},
		"unknown mode":     {[]string{"--set", "hold.mode=never"}, "value must be one of 'auto', 'policy', 'webhook'"},
		"address":          {[]string{"--set", "prometheus.address=prometheus:9090"}, "'prometheus:9090' does not match pattern"},
		"two meshes":       {[]string{"--set", "mesh.replicas=2"}, "value must be 1"},
		"interval":         {[]string{"--set", "analysis.interval=5"}, "got number, want string"},
		"missing file":     {[]string{"--values", "testdata/none.yaml"}, "--values: open testdata/none.yaml: no such file or directory"},
		"not an assigment": {[]string{"--set", "hold"}, `--set hold: key "hold" has no value`},
	} {
		t.Run(name, func(t *testing.T) {
			code, out, complaint := run(t, append([]string{"install"}, test.arguments...)...)
			require.Equal(t, exitError, code)
			require.Empty(t, out)
			require.Contains(t, complaint, test.want)
		})
	}
}

// TestHoldFollowsTheCluster: a cluster without the policy gets the webhook.
func TestHoldFollowsTheCluster(t *testing.T) {
	version, err := common.ParseKubeVersion("v1.33.1")
	require.NoError(t, err)
	for name, test := range map[string]struct {
		apis common.VersionSet
		flag string
	}{
		"with the policy":    {common.VersionSet{"v1", policyAPI}, "--hold=policy"},
		"without the policy": {common.VersionSet{"v1"}, "--hold=webhook"},
	} {
		t.Run(name, func(t *testing.T) {
			objects, err := render(&renderOptions{namespace: defaultNamespace}, &common.Capabilities{KubeVersion: *version, APIVersions: test.apis})
			require.NoError(t, err)
			container := deployment(t, objects, "sluice-controller").Spec.Template.Spec.Containers[0]
			require.Contains(t, container.Args, test.flag)
		})
	}
}

func deployment(t *testing.T, objects []*unstructured.Unstructured, name string) *appsv1.Deployment {
	t.Helper()
	for _, object := range objects {
		if object.GetKind() == "Deployment" && object.GetName() == name {
			found := &appsv1.Deployment{}
			require.NoError(t, convert(object, found))
			return found
		}
	}
	require.Fail(t, "no Deployment "+name)
	return nil
}

// TestRestricted: what Pod Security's standard restricted asks of a pod, and what it need not ask.
func TestRestricted(t *testing.T) {
	capabilities, err := newestCluster()
	require.NoError(t, err)
	objects, err := render(&renderOptions{namespace: defaultNamespace}, capabilities)
	require.NoError(t, err)
	for _, name := range []string{"sluice-controller", "sluice-mesh"} {
		pod := deployment(t, objects, name).Spec.Template.Spec
		require.True(t, *pod.SecurityContext.RunAsNonRoot)
		require.Equal(t, corev1.SeccompProfileTypeRuntimeDefault, pod.SecurityContext.SeccompProfile.Type)
		for _, container := range pod.Containers {
			require.False(t, *container.SecurityContext.AllowPrivilegeEscalation)
			require.True(t, *container.SecurityContext.ReadOnlyRootFilesystem)
			require.Equal(t, []corev1.Capability{"ALL"}, container.SecurityContext.Capabilities.Drop)
		}
	}
}

// TestNoClusterWideSecrets: a stolen token of ours must not read anybody's Secrets.
func TestNoClusterWideSecrets(t *testing.T) {
	capabilities, err := newestCluster()
	require.NoError(t, err)
	objects, err := render(&renderOptions{namespace: defaultNamespace}, capabilities)
	require.NoError(t, err)
	for _, object := range objects {
		if object.GetKind() != "ClusterRole" {
			continue
		}
		rules, _, err := unstructured.NestedSlice(object.Object, "rules")
		require.NoError(t, err)
		for _, rule := range rules {
			require.NotContains(t, rule.(map[string]any)["resources"], "secrets", object.GetName())
			require.NotContains(t, rule.(map[string]any)["resources"], "*", object.GetName())
			require.NotContains(t, rule.(map[string]any)["verbs"], "*", object.GetName())
		}
	}
}

// TestChartHasWhatConfigHas: the chart's copies are made by make generate.
func TestChartHasWhatConfigHas(t *testing.T) {
	for from, to := range map[string]string{"crd": "crds", "rbac": "files/rbac", "webhook": "files/webhook"} {
		require.Equal(t, files(t, config.FS, from), files(t, chart.FS, to))
	}
}

func files(t *testing.T, from fs.FS, directory string) map[string]string {
	t.Helper()
	entries, err := fs.ReadDir(from, directory)
	require.NoError(t, err)
	found := map[string]string{}
	for _, entry := range entries {
		file, err := from.Open(directory + "/" + entry.Name())
		require.NoError(t, err)
		content, err := io.ReadAll(file)
		require.NoError(t, err)
		found[entry.Name()] = string(content)
	}
	require.NotEmpty(t, found)
	return found
}
