// SPDX-License-Identifier: Apache-2.0

// Package apply puts objects into a cluster by server-side apply, in the order that they need, and
// waits for them, with the library that Flux does it with.
//
// It must not know what the objects are.
package apply

import (
	"bytes"
	"context"
	"fmt"
	"time"

	"github.com/fluxcd/cli-utils/pkg/kstatus/polling"
	"github.com/fluxcd/cli-utils/pkg/object"
	"github.com/fluxcd/pkg/ssa"
	"github.com/fluxcd/pkg/ssa/normalize"
	"github.com/fluxcd/pkg/ssa/utils"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/apiutil"
)

// Manager returns Flux's resource manager for a cluster, which writes as the given field manager.
func Manager(config *rest.Config, fieldManager string) (*ssa.ResourceManager, error) {
	httpClient, err := rest.HTTPClientFor(config)
	if err != nil {
		return nil, fmt.Errorf("make an HTTP client: %w", err)
	}
	mapper, err := apiutil.NewDynamicRESTMapper(config, httpClient)
	if err != nil {
		return nil, fmt.Errorf("make a REST mapper: %w", err)
	}
	c, err := client.New(config, client.Options{HTTPClient: httpClient, Mapper: mapper})
	if err != nil {
		return nil, fmt.Errorf("make a client: %w", err)
	}
	poller := polling.NewStatusPoller(c, mapper, polling.Options{})
	return ssa.NewResourceManager(c, poller, ssa.Owner{Field: fieldManager, Group: fieldManager + ".sluice.dev"}), nil
}

// Objects reads YAML documents.
func Objects(yaml []byte) ([]*unstructured.Unstructured, error) {
	objects, err := utils.ReadObjects(bytes.NewReader(yaml))
	if err != nil {
		return nil, fmt.Errorf("read objects: %w", err)
	}
	if err := normalize.UnstructuredList(objects); err != nil {
		return nil, fmt.Errorf("normalize objects: %w", err)
	}
	return objects, nil
}

// Applier applies for one owner.
type Applier struct{ manager *ssa.ResourceManager }

// New returns an Applier for a cluster, which writes as the given field manager.
func New(config *rest.Config, fieldManager string) (*Applier, error) {
	manager, err := Manager(config, fieldManager)
	if err != nil {
		return nil, err
	}
	return &Applier{manager: manager}, nil
}

// Apply applies YAML documents: definitions and namespaces first.
func (a *Applier) Apply(ctx context.Context, yaml []byte) ([]*unstructured.Unstructured, error) {
	objects, err := Objects(yaml)
	if err != nil {
		return nil, err
	}
	options := ssa.DefaultApplyOptions()
	options.WaitInterval = 200 * time.Millisecond
	if _, err := a.manager.ApplyAllStaged(ctx, objects, options); err != nil {
		return nil, fmt.Errorf("apply %d objects: %w", len(objects), err)
	}
	return objects, nil
}

// Wait returns when the objects are ready in the sense of kstatus.
func (a *Applier) Wait(ctx context.Context, objects []*unstructured.Unstructured, timeout time.Duration) error {
	err := a.manager.WaitForSetWithContext(ctx, object.UnstructuredSetToObjMetadataSet(objects), ssa.WaitOptions{
		Interval: 300 * time.Millisecond, Timeout: timeout, FailFast: false,
	})
	if err != nil {
		return fmt.Errorf("wait for %d objects: %w", len(objects), err)
	}
	return nil
}

// Client reads and writes the same cluster.
func (a *Applier) Client() client.Client { return a.manager.Client() }
