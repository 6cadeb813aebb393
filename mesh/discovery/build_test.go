// SPDX-License-Identifier: Apache-2.0

package discovery

import (
	"bytes"
	"encoding/json"
	"flag"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/yaml"

	"github.com/sluice-mesh/sluice/api/v1alpha1"
	"github.com/sluice-mesh/sluice/mesh"
)

var update = flag.Bool("update", false, "write the golden files anew")

var testDomain = spiffeid.RequireTrustDomainFromString("cluster.local")

// golden is what testdata/*.out.json hold: what each proxy could be told.
type golden struct {
	Destinations []*mesh.Destination      `json:"destinations"`
	Inbound      map[string]*mesh.Inbound `json:"inbound"`
}

// TestBuild takes objects from testdata/*.in.yaml. The addresses to look up are those of Services
// and pods, and those that comments "# look up <ip:port>" add.
func TestBuild(t *testing.T) {
	files, err := filepath.Glob("testdata/*.in.yaml")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".in.yaml"), func(t *testing.T) {
			text, err := os.ReadFile(file)
			require.NoError(t, err)
			inputs := readInputs(t, text)
			index := Build(testDomain, inputs)
			got := golden{Inbound: map[string]*mesh.Inbound{}}
			for _, address := range addressesToLookUp(t, inputs, index, string(text)) {
				got.Destinations = append(got.Destinations, index.Destination(address))
			}
			for _, object := range inputs.Pods {
				got.Inbound[keyOf(object)] = index.Inbound(keyOf(object))
			}
			compare(t, strings.Replace(file, ".in.yaml", ".out.json", 1), got)
		})
	}
}

func compare(t *testing.T, file string, got any) {
	t.Helper()
	encoded, err := json.MarshalIndent(got, "", "  ")
	require.NoError(t, err)
	encoded = append(encoded, '\n')
	if *update {
		require.NoError(t, os.WriteFile(file, encoded, 0o600))
		return
	}
	want, err := os.ReadFile(file)
	require.NoError(t, err, "run the test with -update once")
	require.Equal(t, string(want), string(encoded))
}

func addressesToLookUp(t *testing.T, inputs Inputs, index *Index, text string) []netip.AddrPort {
	t.Helper()
	var addresses []netip.AddrPort
	for address := range index.services {
		addresses = append(addresses, address)
	}
	for _, object := range inputs.Pods {
		for _, port := range index.ports[keyOf(object)] {
			for _, address := range addressesOf(object) {
				addresses = append(addresses, netip.AddrPortFrom(address, port.number))
			}
		}
	}
	for line := range strings.Lines(text) {
		if wanted, ok := strings.CutPrefix(line, "# look up "); ok {
			address, err := netip.ParseAddrPort(strings.TrimSpace(wanted))
			require.NoError(t, err)
			addresses = append(addresses, address)
		}
	}
	slices.SortFunc(addresses, netip.AddrPort.Compare)
	return slices.Compact(addresses)
}

func readInputs(t testing.TB, text []byte) Inputs {
	t.Helper()
	var inputs Inputs
	documents := utilyaml.NewDocumentDecoder(io.NopCloser(bytes.NewReader(text)))
	buffer := make([]byte, 1<<20)
	for {
		length, err := documents.Read(buffer)
		if err == io.EOF {
			return inputs
		}
		require.NoError(t, err)
		inputs.add(t, buffer[:length])
	}
}

func (i *Inputs) add(t testing.TB, document []byte) {
	t.Helper()
	var meta metav1.TypeMeta
	require.NoError(t, yaml.Unmarshal(document, &meta))
	switch meta.Kind {
	case "Service":
		i.Services = append(i.Services, read[corev1.Service](t, document))
	case "EndpointSlice":
		i.EndpointSlices = append(i.EndpointSlices, read[discoveryv1.EndpointSlice](t, document))
	case "Pod":
		i.Pods = append(i.Pods, read[corev1.Pod](t, document))
	case "ReplicaSet":
		i.ReplicaSets = append(i.ReplicaSets, read[metav1.PartialObjectMetadata](t, document))
	case "TrafficSplit":
		i.TrafficSplits = append(i.TrafficSplits, read[v1alpha1.TrafficSplit](t, document))
	case "TrafficPolicy":
		i.TrafficPolicies = append(i.TrafficPolicies, read[v1alpha1.TrafficPolicy](t, document))
	case "AccessPolicy":
		i.AccessPolicies = append(i.AccessPolicies, read[v1alpha1.AccessPolicy](t, document))
	case "RateLimit":
		i.RateLimits = append(i.RateLimits, read[v1alpha1.RateLimit](t, document))
	case "Namespace":
		i.Namespaces = append(i.Namespaces, read[metav1.PartialObjectMetadata](t, document))
	case "":
	default:
		require.Fail(t, "unknown kind", meta.Kind)
	}
}

func read[T any](t testing.TB, document []byte) *T {
	t.Helper()
	object := new(T)
	require.NoError(t, yaml.UnmarshalStrict(document, object))
	return object
}
