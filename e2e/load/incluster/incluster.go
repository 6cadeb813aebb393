// SPDX-License-Identifier: Apache-2.0

// Package incluster runs load clients as pods, with and without the mesh's sidecar, and reads their
// counters through the API server, so that the reader needs no route to pods.
package incluster

import (
	"bytes"
	"context"
	_ "embed"
	"encoding/json"
	"fmt"
	"text/template"

	"k8s.io/client-go/kubernetes"

	"github.com/sluice-mesh/sluice/e2e/load"
)

// Image of the load client in the test bed.
const Image = "sluice.dev/load:dev"

const port = "8080"

//go:embed pod.yaml
var manifest string

// Pod is one client.
type Pod struct {
	Namespace, Name string
	// Meshed clients get a sidecar.
	Meshed bool
	// Target is the URL of the application.
	Target string
	// GRPC is where the application speaks gRPC, as host:port; no gRPC is spoken when it is empty.
	GRPC string
	// Rate in requests per second.
	Rate int
	// Image is this package's when empty.
	Image string
}

// YAML is the pod, and its namespace.
func (p Pod) YAML() ([]byte, error) {
	if p.Image == "" {
		p.Image = Image
	}
	parsed, err := template.New("pod").Parse(manifest)
	if err != nil {
		return nil, fmt.Errorf("parse the load client's manifest: %w", err)
	}
	var out bytes.Buffer
	if err := parsed.Execute(&out, p); err != nil {
		return nil, fmt.Errorf("write the load client's manifest: %w", err)
	}
	return out.Bytes(), nil
}

// Counts reads what the client has seen.
func (p Pod) Counts(ctx context.Context, kube kubernetes.Interface) (load.Counts, error) {
	content, err := kube.CoreV1().Pods(p.Namespace).ProxyGet("http", p.Name, port, "counts", nil).DoRaw(ctx)
	if err != nil {
		return load.Counts{}, fmt.Errorf("read the counters of %s: %w", p.Name, err)
	}
	var counts load.Counts
	if err := json.Unmarshal(content, &counts); err != nil {
		return load.Counts{}, fmt.Errorf("read the counters of %s: %w", p.Name, err)
	}
	return counts, nil
}

// Reset makes the client count from nothing.
func (p Pod) Reset(ctx context.Context, kube kubernetes.Interface) error {
	err := kube.CoreV1().RESTClient().Post().Namespace(p.Namespace).Resource("pods").SubResource("proxy").
		Name(p.Name + ":" + port).Suffix("reset").Do(ctx).Error()
	if err != nil {
		return fmt.Errorf("reset the counters of %s: %w", p.Name, err)
	}
	return nil
}
