// SPDX-License-Identifier: Apache-2.0

package harness

import (
	"context"
	"fmt"
	"io/fs"
	"time"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apiextensions-apiserver/pkg/client/clientset/clientset"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/yaml"
)

// InstallCRDs creates or updates the CustomResourceDefinitions in the *.yaml files at the root of
// files (os.DirFS, or a part of an embed.FS) and returns when the server serves them.
func InstallCRDs(ctx context.Context, config *rest.Config, files fs.FS) error {
	client, err := clientset.NewForConfig(config)
	if err != nil {
		return fmt.Errorf("make a client for definitions: %w", err)
	}
	paths, err := fs.Glob(files, "*.yaml")
	if err != nil {
		return fmt.Errorf("list the definitions: %w", err)
	}
	if len(paths) == 0 {
		return fmt.Errorf("install definitions: no *.yaml among the files given")
	}
	var names []string
	for _, path := range paths {
		content, err := fs.ReadFile(files, path)
		if err != nil {
			return fmt.Errorf("read the definition %s: %w", path, err)
		}
		var definition apiextensionsv1.CustomResourceDefinition
		if err := yaml.UnmarshalStrict(content, &definition); err != nil {
			return fmt.Errorf("parse the definition %s: %w", path, err)
		}
		if err := applyDefinition(ctx, client, &definition); err != nil {
			return fmt.Errorf("install the definition %s: %w", path, err)
		}
		names = append(names, definition.Name)
	}
	for _, name := range names {
		if err := awaitEstablished(ctx, client, name); err != nil {
			return err
		}
	}
	return nil
}

func applyDefinition(ctx context.Context, client clientset.Interface, definition *apiextensionsv1.CustomResourceDefinition) error {
	definitions := client.ApiextensionsV1().CustomResourceDefinitions()
	_, err := definitions.Create(ctx, definition, metav1.CreateOptions{})
	if !apierrors.IsAlreadyExists(err) {
		return err
	}
	current, err := definitions.Get(ctx, definition.Name, metav1.GetOptions{})
	if err != nil {
		return err
	}
	definition.ResourceVersion = current.ResourceVersion
	_, err = definitions.Update(ctx, definition, metav1.UpdateOptions{})
	return err
}

func awaitEstablished(ctx context.Context, client clientset.Interface, name string) error {
	err := wait.PollUntilContextTimeout(ctx, 20*time.Millisecond, 30*time.Second, true, func(ctx context.Context) (bool, error) {
		definition, err := client.ApiextensionsV1().CustomResourceDefinitions().Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return false, err
		}
		for _, condition := range definition.Status.Conditions {
			if condition.Type == apiextensionsv1.Established && condition.Status == apiextensionsv1.ConditionTrue {
				return servedByDiscovery(client, definition), nil
			}
		}
		return false, nil
	})
	if err != nil {
		return fmt.Errorf("wait until %s is served: %w", name, err)
	}
	return nil
}

// servedByDiscovery: clients that map kinds to resources need more than Established.
func servedByDiscovery(client clientset.Interface, definition *apiextensionsv1.CustomResourceDefinition) bool {
	for _, version := range definition.Spec.Versions {
		if !version.Served {
			continue
		}
		resources, err := client.Discovery().ServerResourcesForGroupVersion(definition.Spec.Group + "/" + version.Name)
		if err != nil {
			return false
		}
		found := false
		for _, served := range resources.APIResources {
			found = found || served.Name == definition.Spec.Names.Plural
		}
		if !found {
			return false
		}
	}
	return true
}
