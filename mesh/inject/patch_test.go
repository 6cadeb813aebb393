// SPDX-License-Identifier: Apache-2.0

package inject_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"flag"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	jsonpatch "github.com/evanphx/json-patch/v5"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/yaml"

	"github.com/sluice-mesh/sluice/mesh/inject"
)

var update = flag.Bool("update", false, "write the golden files")

func testConfig() inject.Config {
	return inject.Config{
		ProxyImage:           "registry.example/sluice-proxy:1.2.3",
		ProxyImagePullPolicy: corev1.PullIfNotPresent,
		ProxyResources:       inject.DefaultProxyResources(),
		TrustDomain:          "cluster.local",
		TrustAnchors:         "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n",
		ControlPlane:         "sluice-mesh.sluice-system.svc:8443",
		ControlPlaneIdentity: "spiffe://cluster.local/ns/sluice-system/sa/sluice-mesh",
		SystemNamespace:      "sluice-system",
	}
}

// Each *.in.yaml holds a Namespace and a Pod. Beside it lies what becomes of the pod: *.out.yaml, or
// *.refused.txt or *.skipped.txt with the reason.
func TestDecide(t *testing.T) {
	inputs, err := filepath.Glob("testdata/*.in.yaml")
	require.NoError(t, err)
	require.NotEmpty(t, inputs)
	for _, input := range inputs {
		name := strings.TrimSuffix(input, ".in.yaml")
		t.Run(filepath.Base(name), func(t *testing.T) {
			namespace, pod := readInput(t, input)
			decision := inject.Decide(pod, namespace.Name, namespace.Labels, testConfig())
			results := map[string]string{}
			if decision.Mutation != nil {
				out, err := yaml.Marshal(decision.Mutation.Apply(pod))
				require.NoError(t, err)
				results[".out.yaml"] = string(out)
			}
			if decision.Refused != "" {
				results[".refused.txt"] = decision.Refused + "\n"
			}
			if decision.Skipped != "" {
				results[".skipped.txt"] = decision.Skipped + "\n"
			}
			require.Len(t, results, 1, "one outcome per pod")
			requireGolden(t, name, results)
		})
	}
}

func requireGolden(t *testing.T, name string, results map[string]string) {
	t.Helper()
	for _, suffix := range []string{".out.yaml", ".refused.txt", ".skipped.txt"} {
		path := name + suffix
		result, expected := results[suffix]
		if *update {
			_ = os.Remove(path)
			if expected {
				require.NoError(t, os.WriteFile(path, []byte(result), 0o644))
			}
		}
		want, err := os.ReadFile(path)
		if !expected {
			require.ErrorIs(t, err, os.ErrNotExist, "%s is not what becomes of this pod", path)
			continue
		}
		require.NoError(t, err)
		require.Equal(t, string(want), result)
	}
}

func readInput(t *testing.T, path string) (*corev1.Namespace, *corev1.Pod) {
	t.Helper()
	content, err := os.ReadFile(path)
	require.NoError(t, err)
	decoder := utilyaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(content)))
	namespace, pod := &corev1.Namespace{}, &corev1.Pod{}
	for _, object := range []any{namespace, pod} {
		document, err := decoder.Read()
		require.NoError(t, err)
		require.NoError(t, yaml.UnmarshalStrict(document, object))
	}
	_, err = decoder.Read()
	require.ErrorIs(t, err, io.EOF)
	return namespace, pod
}

func TestInjectByDefault(t *testing.T) {
	config := testConfig()
	config.InjectByDefault = true
	require.NotNil(t, inject.Decide(&corev1.Pod{}, "shop", nil, config).Mutation)
	disabled := map[string]string{"sluice.dev/inject": "disabled"}
	require.Nil(t, inject.Decide(&corev1.Pod{}, "shop", disabled, config).Mutation)
}

// TestPatchIsTheMutation: whatever the pod, the JSON patch does what Apply does, on the bytes that
// came in, and a second look at the result changes nothing more.
func TestPatchIsTheMutation(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 500 {
		pod := randomPod(random)
		decision := inject.Decide(pod, "shop", nil, testConfig())
		require.NotNil(t, decision.Mutation, "%+v", decision)

		mutated := decision.Mutation.Apply(pod)
		require.Equal(t, toMap(t, mutated), patched(t, pod, decision.Mutation.Operations(pod)))
		require.Equal(t, pod.Spec.Containers, mutated.Spec.Containers, "only additions")
		require.Equal(t, inject.RedirectContainer, mutated.Spec.InitContainers[0].Name)
		require.Equal(t, inject.ProxyContainer, mutated.Spec.InitContainers[1].Name)

		again := inject.Decide(mutated, "shop", nil, testConfig())
		require.Equal(t, inject.Decision{Skipped: "the pod has the proxy already"}, again)
	}
}

// TestPatchKeepsUnknownFields: a cluster newer than this program must not lose what it has learnt.
func TestPatchKeepsUnknownFields(t *testing.T) {
	const raw = `{"metadata":{"labels":{"sluice.dev/inject":"enabled"}},"spec":{
		"newField":{"a":1},"initContainers":[{"name":"first","newField":2}],"volumes":[{"name":"data","newField":3}],
		"containers":[{"name":"app","newField":4}]}}`
	pod := &corev1.Pod{}
	require.NoError(t, json.Unmarshal([]byte(raw), pod))
	decision := inject.Decide(pod, "shop", nil, testConfig())
	require.NotNil(t, decision.Mutation)
	encoded, err := json.Marshal(decision.Mutation.Operations(pod))
	require.NoError(t, err)
	patch, err := jsonpatch.DecodePatch(encoded)
	require.NoError(t, err)
	result, err := patch.Apply([]byte(raw))
	require.NoError(t, err)
	for _, kept := range []string{`"newField":{"a":1}`, `{"name":"first","newField":2}`, `{"name":"data","newField":3}`, `{"name":"app","newField":4}`} {
		require.Contains(t, string(result), kept)
	}
}

func randomPod(random *rand.Rand) *corev1.Pod {
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"sluice.dev/inject": "enabled"}}}
	if random.IntN(2) == 0 {
		pod.Annotations = map[string]string{"a/b~c": "d"}
	}
	if random.IntN(2) == 0 {
		controller := true
		pod.Labels["pod-template-hash"] = "abc"
		pod.OwnerReferences = []metav1.OwnerReference{{Kind: "ReplicaSet", Name: "web-abc", Controller: &controller}}
	}
	for i := range random.IntN(3) {
		pod.Spec.InitContainers = append(pod.Spec.InitContainers, corev1.Container{Name: "init-" + string(rune('a'+i))})
	}
	for i := range random.IntN(3) {
		pod.Spec.Containers = append(pod.Spec.Containers, corev1.Container{Name: "app-" + string(rune('a'+i))})
	}
	for i := range random.IntN(3) {
		pod.Spec.Volumes = append(pod.Spec.Volumes, corev1.Volume{Name: "data-" + string(rune('a'+i))})
	}
	return pod
}

func patched(t *testing.T, pod *corev1.Pod, operations []inject.Operation) map[string]any {
	t.Helper()
	raw, err := json.Marshal(pod)
	require.NoError(t, err)
	encoded, err := json.Marshal(operations)
	require.NoError(t, err)
	patch, err := jsonpatch.DecodePatch(encoded)
	require.NoError(t, err)
	result, err := patch.Apply(raw)
	require.NoError(t, err)
	object := map[string]any{}
	require.NoError(t, json.Unmarshal(result, &object))
	return object
}

func toMap(t *testing.T, pod *corev1.Pod) map[string]any {
	t.Helper()
	raw, err := json.Marshal(pod)
	require.NoError(t, err)
	object := map[string]any{}
	require.NoError(t, json.Unmarshal(raw, &object))
	return object
}
