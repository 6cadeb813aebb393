// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/sluice-mesh/sluice/api/v1alpha1"
)

type uninstallOptions struct {
	renderOptions
	kubeconfig
	timeout time.Duration
}

func newUninstall() *cobra.Command {
	options := &uninstallOptions{}
	command := &cobra.Command{
		Use:   "uninstall",
		Short: "Remove Sluice from a cluster; workloads stay as plain Deployments",
		Long: `Delete all Canaries and wait until each has put its traffic back on stable and let go of its
Deployment; then delete everything that install applied, the mesh's key included. Pods keep running,
and meshed pods keep their proxies, which carry traffic as they did last, until they are restarted.
Restart them soon: they are told of no new pods. They must be restarted before the mesh is installed
again: they do not trust its new key.

Take Canaries out of Git first: Flux or Argo CD would bring them back.`,
		Args: cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error {
			ctx, cancel := context.WithTimeout(command.Context(), options.timeout)
			defer cancel()
			return options.run(ctx, command.OutOrStdout())
		},
	}
	flags := command.Flags()
	options.renderOptions.bind(flags)
	options.kubeconfig.bind(flags)
	flags.DurationVar(&options.timeout, "timeout", 5*time.Minute, "how long to wait")
	return command
}

func (o *uninstallOptions) run(ctx context.Context, out io.Writer) error {
	cluster, err := connect(&o.kubeconfig)
	if err != nil {
		return err
	}
	applier := &applier{cluster: cluster, progress: out}
	if err := o.removeCanaries(ctx, applier); err != nil {
		return err
	}
	objects, err := o.everything(cluster.capabilities)
	if err != nil {
		return err
	}
	return applier.remove(ctx, objects)
}

// removeCanaries lets the controller unwind what runs, while it is still there to do it.
func (o *uninstallOptions) removeCanaries(ctx context.Context, applier *applier) error {
	canaries := &unstructured.UnstructuredList{}
	canaries.SetGroupVersionKind(v1alpha1.GroupVersion.WithKind("CanaryList"))
	err := applier.cluster.client.List(ctx, canaries)
	if ignoreNoMatch(err) != nil {
		return fmt.Errorf("list canaries: %w", err)
	}
	var objects []*unstructured.Unstructured
	for i := range canaries.Items {
		objects = append(objects, &canaries.Items[i])
	}
	if err := applier.remove(ctx, objects); err != nil {
		return fmt.Errorf("canaries must be unwound by a running sluice-controller first: %w", err)
	}
	return nil
}
