// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/sluice-mesh/sluice/api/v1alpha1"
)

// cliManager is the field manager of what people ask through this program. Flux strips what managers
// whose name begins with "kubectl" wrote.
const cliManager = "sluice-cli"

// session is one command's connection to a cluster.
type session struct {
	client client.Client
	// namespace that the kubeconfig's context names.
	namespace string
	now       func() time.Time
}

// dialer connects to the cluster that flags and environment name.
type dialer func(*kubeconfig) (*session, error)

func dial(k *kubeconfig) (*session, error) {
	config, err := k.load()
	if err != nil {
		return nil, err
	}
	scheme, err := newScheme()
	if err != nil {
		return nil, err
	}
	made, err := client.New(config, client.Options{Scheme: scheme})
	if err != nil {
		return nil, fmt.Errorf("make a client: %w", err)
	}
	namespace, _, err := k.loader().Namespace()
	if err != nil {
		return nil, fmt.Errorf("find the namespace: %w", err)
	}
	return &session{client: made, namespace: namespace, now: time.Now}, nil
}

// loader reads the configuration as kubectl does: the flag, then KUBECONFIG, then the home directory.
func (k *kubeconfig) loader() clientcmd.ClientConfig {
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	rules.ExplicitPath = k.path
	overrides := &clientcmd.ConfigOverrides{CurrentContext: k.context}
	return clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, overrides)
}

// place is where a command looks for Canaries.
type place struct {
	kubeconfig
	namespace string
	dial      dialer
}

func (p *place) bind(flags *pflag.FlagSet) {
	p.kubeconfig.bind(flags)
	flags.StringVarP(&p.namespace, "namespace", "n", "", "namespace of the Canary; default is the context's")
}

// open connects and settles the namespace.
func (p *place) open() (*session, error) {
	opened, err := p.dial(&p.kubeconfig)
	if err != nil {
		return nil, err
	}
	if p.namespace != "" {
		opened.namespace = p.namespace
	}
	return opened, nil
}

// canaryName takes a name, or kind and name as kubectl writes them.
func canaryName(argument string) (string, error) {
	kind, name, found := strings.Cut(argument, "/")
	if !found {
		return argument, nil
	}
	if !slices.Contains([]string{"canary", "canaries", "cn", "canary.sluice.dev", "canaries.sluice.dev"}, strings.ToLower(kind)) {
		return "", fmt.Errorf("%s: write the name of a Canary, or canary/name", argument)
	}
	return name, nil
}

func (s *session) canary(ctx context.Context, argument string) (*v1alpha1.Canary, error) {
	name, err := canaryName(argument)
	if err != nil {
		return nil, err
	}
	canary := &v1alpha1.Canary{}
	if err := s.client.Get(ctx, client.ObjectKey{Namespace: s.namespace, Name: name}, canary); err != nil {
		return nil, fmt.Errorf("read Canary %s/%s: %w", s.namespace, name, err)
	}
	canary.SetGroupVersionKind(v1alpha1.GroupVersion.WithKind("Canary"))
	canary.ManagedFields = nil
	return canary, nil
}

// complete offers the names of Canaries to the shell.
func (p *place) complete(command *cobra.Command, chosen []string, prefix string) ([]string, cobra.ShellCompDirective) {
	opened, err := p.open()
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	list := &v1alpha1.CanaryList{}
	if err := opened.client.List(command.Context(), list, client.InNamespace(opened.namespace)); err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	var names []string
	for _, canary := range list.Items {
		if strings.HasPrefix(canary.Name, prefix) && !slices.Contains(chosen, canary.Name) {
			names = append(names, canary.Name)
		}
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

// one offers a name for the first argument only.
func (p *place) one(command *cobra.Command, chosen []string, prefix string) ([]string, cobra.ShellCompDirective) {
	if len(chosen) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return p.complete(command, chosen, prefix)
}
