// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"fmt"

	"sigs.k8s.io/controller-runtime/pkg/manager"

	"github.com/sluice-mesh/sluice/internal/webhooktrust"
	"github.com/sluice-mesh/sluice/mesh/ca"
)

// addTrust lets a manager keep webhooks trusted, and be ready only when they are.
func addTrust(made manager.Manager, issuer *ca.Issuer, keepers ...*webhooktrust.Keeper) error {
	// The issuer reloads in every replica, leading or not: each serves.
	if err := made.Add(everywhere{issuer.Start}); err != nil {
		return fmt.Errorf("add to the manager: %w", err)
	}
	for i, keeper := range keepers {
		if err := made.Add(keeper); err != nil {
			return fmt.Errorf("add to the manager: %w", err)
		}
		if err := made.AddReadyzCheck(fmt.Sprintf("webhook-%d", i), keeper.Ready); err != nil {
			return fmt.Errorf("add the readiness check: %w", err)
		}
	}
	return nil
}

// everywhere runs without the lease.
type everywhere struct{ start func(context.Context) error }

func (e everywhere) Start(ctx context.Context) error { return e.start(ctx) }
func (e everywhere) NeedLeaderElection() bool        { return false }

// serviceNames are the names by which the API server and others in the cluster call a Service.
func serviceNames(service, namespace string) []string {
	return []string{
		service + "." + namespace + ".svc",
		service + "." + namespace + ".svc.cluster.local",
	}
}
