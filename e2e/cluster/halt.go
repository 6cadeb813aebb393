// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
)

// Halt stops a component of the control plane, such as kube-controller-manager, and returns what starts
// it again as it was. A component is not ready when that returns.
func (c *Cluster) Halt(ctx context.Context, name string) (resume func(context.Context) error, err error) {
	if c.existing {
		return nil, errors.New("stop " + name + ": the existing cluster's programs cannot be reached")
	}
	running, ok := c.layout.running(name)
	if !ok {
		return nil, fmt.Errorf("stop %s: it does not run", name)
	}
	line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", running.pid))
	if err != nil {
		return nil, fmt.Errorf("read how %s was started: %w", name, err)
	}
	arguments := strings.Split(strings.TrimSuffix(string(line), "\x00"), "\x00")
	if err := c.layout.stop(ctx, name); err != nil {
		return nil, err
	}
	return func(ctx context.Context) error {
		return c.layout.ensure(ctx, component{name: name, arguments: arguments})
	}, nil
}
