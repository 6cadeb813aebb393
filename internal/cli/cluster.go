// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"fmt"

	"helm.sh/helm/v4/pkg/chart/common"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// kubeconfig is which cluster a command speaks to.
type kubeconfig struct {
	path, context string
}

// load makes the client's configuration.
func (k *kubeconfig) load() (*rest.Config, error) {
	config, err := k.loader().ClientConfig()
	if err != nil {
		return nil, fmt.Errorf("find the cluster: %w", err)
	}
	// The API server's own priority and fairness is the limit; the client's would only make
	// a hundred applied objects slow.
	config.QPS = -1
	return config, nil
}

// cluster is what commands need to read and write objects of any kind.
type cluster struct {
	client       client.Client
	capabilities *common.Capabilities
}

func connect(k *kubeconfig) (*cluster, error) {
	config, err := k.load()
	if err != nil {
		return nil, err
	}
	return connectTo(config)
}

func connectTo(config *rest.Config) (*cluster, error) {
	capabilities, err := capabilitiesOf(config)
	if err != nil {
		return nil, err
	}
	writer, err := client.New(config, client.Options{})
	if err != nil {
		return nil, fmt.Errorf("make a client: %w", err)
	}
	return &cluster{client: writer, capabilities: capabilities}, nil
}

// capabilitiesOf asks what templates may depend on.
func capabilitiesOf(config *rest.Config) (*common.Capabilities, error) {
	asker, err := discovery.NewDiscoveryClientForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("make a discovery client: %w", err)
	}
	serverVersion, err := asker.ServerVersion()
	if err != nil {
		return nil, fmt.Errorf("ask the cluster for its version: %w", err)
	}
	version, err := common.ParseKubeVersion(serverVersion.GitVersion)
	if err != nil {
		return nil, fmt.Errorf("read the cluster's version %q: %w", serverVersion.GitVersion, err)
	}
	_, resources, err := asker.ServerGroupsAndResources()
	// Aggregated APIs that are down are none of ours.
	if err != nil && !discovery.IsGroupDiscoveryFailedError(err) {
		return nil, fmt.Errorf("ask the cluster for its kinds: %w", err)
	}
	capabilities := &common.Capabilities{KubeVersion: *version}
	for _, list := range resources {
		capabilities.APIVersions = append(capabilities.APIVersions, list.GroupVersion)
		for _, resource := range list.APIResources {
			capabilities.APIVersions = append(capabilities.APIVersions, list.GroupVersion+"/"+resource.Kind)
		}
	}
	return capabilities, nil
}
