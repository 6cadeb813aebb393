// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

const defaultNamespace = "sluice-system"

type installOptions struct {
	renderOptions
	kubeconfig
	apply   bool
	timeout time.Duration
}

func newInstall() *cobra.Command {
	options := &installOptions{}
	command := &cobra.Command{
		Use:   "install",
		Short: "Render what Sluice consists of, or apply it to a cluster",
		Long: `Render the chart that is built into this program, definitions included, and print it:

  sluice install | kubectl apply --server-side -f -

or apply it and wait until it is ready:

  sluice install --apply

Printed, it is for the newest Kubernetes; applied, for the cluster at hand.`,
		Args: cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error {
			if options.apply {
				return options.applyTo(command)
			}
			capabilities, err := newestCluster()
			if err != nil {
				return err
			}
			objects, err := render(&options.renderOptions, capabilities)
			if err != nil {
				return err
			}
			return writeYAML(command.OutOrStdout(), objects)
		},
	}
	flags := command.Flags()
	options.renderOptions.bind(flags)
	options.kubeconfig.bind(flags)
	flags.BoolVar(&options.apply, "apply", false, "apply to the cluster and wait until it is ready, instead of printing")
	flags.DurationVar(&options.timeout, "timeout", 5*time.Minute, "how long --apply waits")
	return command
}

func (o *renderOptions) bind(flags *pflag.FlagSet) {
	flags.StringVarP(&o.namespace, "namespace", "n", defaultNamespace, "namespace of the control plane")
	flags.StringArrayVarP(&o.valuesFiles, "values", "f", nil, "file with values of the chart; may be repeated")
	flags.StringArrayVar(&o.set, "set", nil, "one value of the chart, as a.b=c; may be repeated")
}

func (k *kubeconfig) bind(flags *pflag.FlagSet) {
	flags.StringVar(&k.path, "kubeconfig", "", "path of the kubeconfig; default is what kubectl would use")
	flags.StringVar(&k.context, "context", "", "context in the kubeconfig")
}

func (o *installOptions) applyTo(command *cobra.Command) error {
	cluster, err := connect(&o.kubeconfig)
	if err != nil {
		return err
	}
	objects, err := render(&o.renderOptions, cluster.capabilities)
	if err != nil {
		return err
	}
	stale, err := o.stale(cluster.capabilities, objects)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(command.Context(), o.timeout)
	defer cancel()
	applier := &applier{cluster: cluster, progress: command.OutOrStdout()}
	return applier.apply(ctx, objects, stale)
}
