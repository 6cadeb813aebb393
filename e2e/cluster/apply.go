// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

const fieldManager = "sluice-test-bed"

// Apply applies the objects of a YAML file, in their order, by server-side apply. Kinds that a
// definition among them brings are waited for.
func (c *Cluster) Apply(ctx context.Context, manifest []byte) error {
	config, err := c.RestConfig()
	if err != nil {
		return err
	}
	writer, err := client.New(config, client.Options{})
	if err != nil {
		return fmt.Errorf("make a client: %w", err)
	}
	objects, err := parseObjects(manifest)
	if err != nil {
		return err
	}
	for _, object := range objects {
		if err := applyObject(ctx, writer, object); err != nil {
			return fmt.Errorf("apply %s %s: %w", object.GetKind(), client.ObjectKeyFromObject(object), err)
		}
	}
	return nil
}

func applyObject(ctx context.Context, writer client.Client, object *unstructured.Unstructured) error {
	patience, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	var last error
	err := poll(patience, func(ctx context.Context) (bool, error) {
		last = writer.Apply(ctx, client.ApplyConfigurationFromUnstructured(object), client.ForceOwnership, client.FieldOwner(fieldManager))
		if last != nil && !meta.IsNoMatchError(last) {
			return false, last
		}
		return last == nil, nil
	})
	if err != nil && last != nil {
		// The reason, and not that time is up.
		return last
	}
	return err
}

// parseObjects reads YAML documents; empty ones are left out.
func parseObjects(manifest []byte) ([]*unstructured.Unstructured, error) {
	var objects []*unstructured.Unstructured
	reader := utilyaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(manifest)))
	for {
		document, err := reader.Read()
		if errors.Is(err, io.EOF) {
			return objects, nil
		}
		if err != nil {
			return nil, fmt.Errorf("read manifest: %w", err)
		}
		content, err := utilyaml.ToJSON(document)
		if err != nil {
			return nil, fmt.Errorf("parse manifest: %w", err)
		}
		if string(content) == "null" {
			continue
		}
		object := &unstructured.Unstructured{}
		if err := object.UnmarshalJSON(content); err != nil {
			return nil, fmt.Errorf("parse manifest: %w", err)
		}
		objects = append(objects, object)
	}
}
