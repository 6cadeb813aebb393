// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// Options of Up.
type Options struct {
	// Log receives progress, a line at a time; default is standard error.
	Log io.Writer
}

// Cluster is one that runs.
type Cluster struct {
	// Kubeconfig is the path of an administrator's.
	Kubeconfig string

	layout   layout
	existing bool
}

// Open returns the cluster that Up has started before, or the existing one that the environment
// names, and does not look whether it answers.
func Open() (*Cluster, error) {
	if os.Getenv(EnvExisting) == "yes" {
		path := os.Getenv("KUBECONFIG")
		if path == "" {
			return nil, fmt.Errorf("use an existing cluster: %s is yes, but KUBECONFIG is not set", EnvExisting)
		}
		return &Cluster{Kubeconfig: path, existing: true}, nil
	}
	l := newLayout()
	path := l.path(kubeconfigName)
	if !fileExists(path) {
		return nil, fmt.Errorf("open the test cluster: there is none in %s; start it with make cluster-up", l.dir)
	}
	return &Cluster{Kubeconfig: path, layout: l}, nil
}

// RestConfig calls the API server as administrator, without a rate limit.
func (c *Cluster) RestConfig() (*rest.Config, error) {
	config, err := clientcmd.BuildConfigFromFlags("", c.Kubeconfig)
	if err != nil {
		return nil, fmt.Errorf("read the cluster's kubeconfig: %w", err)
	}
	config.QPS = -1
	return config, nil
}

// Existing is true when the cluster is not one of ours: its nodes cannot be reached.
func (c *Cluster) Existing() bool { return c.existing }

// Command is one that runs in a node's network, Node1 or Node2.
func (c *Cluster) Command(ctx context.Context, nodeName, program string, arguments ...string) (*exec.Cmd, error) {
	if c.existing {
		return nil, errors.New("run on a node: the existing cluster's nodes cannot be reached")
	}
	for _, n := range nodes() {
		if n.name == nodeName {
			words := n.inside(append([]string{program}, arguments...)...)
			return exec.CommandContext(ctx, words[0], words[1:]...), nil
		}
	}
	return nil, fmt.Errorf("run on a node: there is no %q, only %s and %s", nodeName, Node1, Node2)
}

func architecture() string { return runtime.GOARCH }
