// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package scenario

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/sluice-mesh/sluice/e2e/load"
)

// keep leaves a failed scenario's objects in the cluster, to be looked at.
func keep() bool { return os.Getenv("SLUICE_KEEP_CLUSTER") != "" }

// report writes what a person asks for first when a scenario has failed.
func (f *fixture) report(ctx context.Context) {
	directory := filepath.Join(f.results, f.namespace)
	if err := errors.Join(os.RemoveAll(directory), os.MkdirAll(directory, 0o755)); err != nil {
		f.t.Logf("report: %v", err)
		return
	}
	write := func(name string, content []byte, err error) {
		if err == nil {
			err = os.WriteFile(filepath.Join(directory, name), content, 0o644)
		}
		if err != nil {
			f.t.Logf("report %s: %v", name, err)
		}
	}
	state := f.timeline.State()
	f.t.Logf("it stands at %s; more in %s", state.Describe(), directory)
	for name, object := range map[string]any{
		"canary.yaml": state.Canary, "deployment.yaml": state.Deployment, "runs.yaml": state.Runs, "pods.yaml": state.Pods,
		"past.yaml": map[string]any{"phases": state.Phases, "shifts": state.Shifts, "commits": fmt.Sprint(f.commits)},
	} {
		content, err := yaml.Marshal(object)
		write(name, content, err)
	}
	var counts []load.Counts
	for _, pod := range f.clients {
		if seen, err := pod.Counts(ctx, f.Kube); err == nil {
			counts = append(counts, seen)
		}
	}
	content, err := json.MarshalIndent(counts, "", " ")
	write("counts.json", content, err)
	did, err := f.flux.Actions(f.commits[0].at)
	content, _ = json.MarshalIndent(did, "", " ")
	write("flux.json", content, err)
	f.logs(ctx, "sluice-system", write)
	f.logs(ctx, f.namespace, write)
}

// logs writes the logs of all containers of a namespace, and what its proxies have counted.
func (f *fixture) logs(ctx context.Context, namespace string, write func(string, []byte, error)) {
	var pods corev1.PodList
	if err := f.Client.List(ctx, &pods, client.InNamespace(namespace)); err != nil {
		f.t.Logf("report: list pods: %v", err)
		return
	}
	for _, pod := range pods.Items {
		containers := append(append([]corev1.Container(nil), pod.Spec.InitContainers...), pod.Spec.Containers...)
		for _, container := range containers {
			log, err := f.Kube.CoreV1().Pods(namespace).GetLogs(pod.Name, &corev1.PodLogOptions{Container: container.Name}).DoRaw(ctx)
			write(pod.Name+"."+container.Name+".log", log, err)
			if container.Name == "sluice-proxy" {
				counted, err := f.Kube.CoreV1().Pods(namespace).ProxyGet("http", pod.Name, "4191", "metrics", nil).DoRaw(ctx)
				write(pod.Name+".metrics", counted, err)
			}
		}
	}
}
