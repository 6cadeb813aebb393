// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"slices"
	"strings"

	"helm.sh/helm/v4/pkg/chart/common"
	"helm.sh/helm/v4/pkg/chart/common/util"
	"helm.sh/helm/v4/pkg/chart/loader/archive"
	helmchart "helm.sh/helm/v4/pkg/chart/v2"
	"helm.sh/helm/v4/pkg/chart/v2/loader"
	"helm.sh/helm/v4/pkg/engine"
	"helm.sh/helm/v4/pkg/strvals"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/yaml"

	"github.com/sluice-mesh/sluice/chart"
)

// policyAPI is what a cluster serves when the hold needs no webhook.
const policyAPI = "admissionregistration.k8s.io/v1/MutatingAdmissionPolicy"

// renderOptions are what people give to commands that render the chart.
type renderOptions struct {
	namespace   string
	valuesFiles []string
	set         []string
}

// values merges the files, then the single values, the later over the earlier.
func (o *renderOptions) values() (map[string]any, error) {
	merged := map[string]any{}
	for _, file := range o.valuesFiles {
		content, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("--values: %w", err)
		}
		values := map[string]any{}
		if err := yaml.Unmarshal(content, &values); err != nil {
			return nil, fmt.Errorf("--values %s: %w", file, err)
		}
		merged = loader.MergeMaps(merged, values)
	}
	for _, assignment := range o.set {
		if err := strvals.ParseInto(assignment, merged); err != nil {
			return nil, fmt.Errorf("--set %s: %w", assignment, err)
		}
	}
	return merged, nil
}

// newestCluster is what is rendered for when no cluster is asked: the Kubernetes that this program
// was made with.
func newestCluster() (*common.Capabilities, error) {
	version, err := common.ParseKubeVersion("v1.36.0")
	if err != nil {
		return nil, fmt.Errorf("parse the Kubernetes version: %w", err)
	}
	return &common.Capabilities{KubeVersion: *version, APIVersions: common.VersionSet{"v1", policyAPI}}, nil
}

// render returns the objects that make up an installation, in the order in which they are applied.
func render(options *renderOptions, capabilities *common.Capabilities) ([]*unstructured.Unstructured, error) {
	loaded, err := loadChart()
	if err != nil {
		return nil, err
	}
	values, err := options.values()
	if err != nil {
		return nil, err
	}
	release := common.ReleaseOptions{Name: "sluice", Namespace: options.namespace, IsInstall: true, Revision: 1}
	rendered, err := util.ToRenderValues(loaded, values, release, capabilities)
	if err != nil {
		return nil, fmt.Errorf("read the values: %w", err)
	}
	files, err := engine.Render(loaded, rendered)
	if err != nil {
		return nil, fmt.Errorf("render the chart: %w", err)
	}
	objects := []*unstructured.Unstructured{systemNamespace(options.namespace)}
	for _, crd := range loaded.CRDObjects() {
		if objects, err = appendObjects(objects, crd.Filename, crd.File.Data); err != nil {
			return nil, err
		}
	}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if path.Ext(name) != ".yaml" {
			continue
		}
		if objects, err = appendObjects(objects, name, []byte(files[name])); err != nil {
			return nil, err
		}
	}
	slices.SortStableFunc(objects, func(a, b *unstructured.Unstructured) int {
		return cmp.Compare(rank(a.GetKind()), rank(b.GetKind()))
	})
	return objects, nil
}

func loadChart() (*helmchart.Chart, error) {
	var files []*archive.BufferedFile
	err := fs.WalkDir(chart.FS, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		content, err := fs.ReadFile(chart.FS, name)
		if err != nil {
			return err
		}
		files = append(files, &archive.BufferedFile{Name: name, Data: content})
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read the embedded chart: %w", err)
	}
	loaded, err := loader.LoadFiles(files)
	if err != nil {
		return nil, fmt.Errorf("load the embedded chart: %w", err)
	}
	return loaded, nil
}

// systemNamespace is what Helm makes with --create-namespace, and more: both Deployments meet the
// strictest standard, and nothing else shall run beside them.
func systemNamespace(name string) *unstructured.Unstructured {
	namespace := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "v1", "kind": "Namespace"}}
	namespace.SetName(name)
	namespace.SetLabels(map[string]string{
		"app.kubernetes.io/part-of":          "sluice",
		"pod-security.kubernetes.io/enforce": "restricted",
		"pod-security.kubernetes.io/warn":    "restricted",
	})
	return namespace
}

func appendObjects(objects []*unstructured.Unstructured, file string, content []byte) ([]*unstructured.Unstructured, error) {
	decoder := utilyaml.NewYAMLOrJSONDecoder(bytes.NewReader(content), len(content)+1)
	for {
		object := &unstructured.Unstructured{}
		err := decoder.Decode(&object.Object)
		if errors.Is(err, io.EOF) {
			return objects, nil
		}
		if err != nil {
			return nil, fmt.Errorf("read %s as rendered: %w", file, err)
		}
		if len(object.Object) > 0 {
			objects = append(objects, object)
		}
	}
}

// rank orders kinds: what others need comes first, and what the API server calls comes when there is
// somebody to answer.
func rank(kind string) int {
	order := []string{
		"Namespace", "CustomResourceDefinition", "ServiceAccount", "ClusterRole", "ClusterRoleBinding",
		"Role", "RoleBinding", "Service",
		"ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding",
		"MutatingAdmissionPolicy", "MutatingAdmissionPolicyBinding", "PodDisruptionBudget", "Deployment",
	}
	if position := slices.Index(order, kind); position >= 0 {
		return position
	}
	return len(order)
}

// writeYAML prints objects as one stream of documents.
func writeYAML(out io.Writer, objects []*unstructured.Unstructured) error {
	var documents []string
	for _, object := range objects {
		content, err := yaml.Marshal(object.Object)
		if err != nil {
			return fmt.Errorf("write %s %s: %w", object.GetKind(), object.GetName(), err)
		}
		documents = append(documents, string(content))
	}
	_, err := io.WriteString(out, strings.Join(documents, "---\n"))
	return err
}
