// SPDX-License-Identifier: Apache-2.0

package sampleapp

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
	"sigs.k8s.io/yaml"

	"github.com/sluice-mesh/sluice/api/v1alpha1"
)

func build(t *testing.T, app App) map[string]string {
	t.Helper()
	files, err := app.Files("apps/x")
	require.NoError(t, err)
	disk := filesys.MakeFsInMemory()
	for name, content := range files {
		require.NoError(t, disk.WriteFile(name, content))
	}
	built, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(disk, "apps/x")
	require.NoError(t, err)
	out := map[string]string{}
	for _, resource := range built.Resources() {
		content, err := resource.AsYAML()
		require.NoError(t, err)
		out[resource.GetKind()] = string(content)
		if resource.GetKind() != "Namespace" {
			require.Equal(t, app.Namespace, resource.GetNamespace())
		}
	}
	return out
}

func TestFilesSmallest(t *testing.T) {
	built := build(t, App{Namespace: "shop", Version: "v1"})
	require.Len(t, built, 3)
	var deployment appsv1.Deployment
	require.NoError(t, yaml.UnmarshalStrict([]byte(built["Deployment"]), &deployment))
	require.EqualValues(t, 2, *deployment.Spec.Replicas)
	require.Equal(t, []string{"--app-version=v1"}, deployment.Spec.Template.Spec.Containers[0].Args)
}

func TestFilesEverything(t *testing.T) {
	built := build(t, App{
		Namespace: "shop", Version: "v3", Arguments: append(Slow(50, 2*time.Second), Faulty(20)), Replicas: 3,
		Canary:     &Canary{Steps: []Step{{25, 5 * time.Second}, {100, time.Minute}}, SuccessRate: `"99.9"`, Drain: 10 * time.Second, Prometheus: "http://metrics:9090"},
		Autoscale:  &Autoscale{Max: 6, Utilization: 50},
		Disruption: &Disruption{MaxUnavailable: "1"},
	})
	require.Len(t, built, 6)
	var deployment appsv1.Deployment
	require.NoError(t, yaml.UnmarshalStrict([]byte(built["Deployment"]), &deployment))
	require.Nil(t, deployment.Spec.Replicas, "the autoscaler owns it")
	require.Equal(t, []string{"--app-version=v3", "--fault-delay-percent=50", "--fault-delay=2s", "--fault-error-percent=20"}, deployment.Spec.Template.Spec.Containers[0].Args)
	var canary v1alpha1.Canary
	require.NoError(t, yaml.UnmarshalStrict([]byte(built["Canary"]), &canary))
	require.Equal(t, "99.9", canary.Spec.Gate.SuccessRate.StrVal)
	require.Equal(t, 500*time.Millisecond, canary.Spec.Gate.Latency.P99.Duration)
	require.Equal(t, time.Minute, canary.Spec.Steps[1].Hold.Duration)
	require.Equal(t, 10*time.Second, canary.Spec.Drain.Duration)
	require.Equal(t, "http://metrics:9090", canary.Spec.Gate.Prometheus.Address)
}

func TestFilesWithAStrategy(t *testing.T) {
	built := build(t, App{Namespace: "shop", Version: "v1", Canary: &Canary{
		Strategy: []string{"totalWeight: 1000", "steps: [{weight: 5, hold: 30s}, {weight: 1000}]"}, Drain: time.Second,
	}})
	var canary v1alpha1.Canary
	require.NoError(t, yaml.UnmarshalStrict([]byte(built["Canary"]), &canary))
	require.EqualValues(t, 1000, canary.Spec.TotalWeight)
	require.Len(t, canary.Spec.Steps, 2)
	require.Equal(t, time.Second, canary.Spec.Drain.Duration)
}

// TestVersionsDifferByTheDeploymentOnly: a new version is one changed file.
func TestVersionsDifferByTheDeploymentOnly(t *testing.T) {
	one, err := App{Namespace: "shop", Version: "v1"}.Files("x")
	require.NoError(t, err)
	two, err := App{Namespace: "shop", Version: "v2"}.Files("x")
	require.NoError(t, err)
	for name := range one {
		require.Equal(t, name == "x/deployment.yaml", string(one[name]) != string(two[name]), name)
	}
}
