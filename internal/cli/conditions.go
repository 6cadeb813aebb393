// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
)

// conditions tells a person in one line what an object says about itself.
func conditions(object *unstructured.Unstructured) string {
	var said []string
	for _, condition := range conditionsOf(object) {
		said = append(said, fmt.Sprintf("%v=%v (%v)", condition["type"], condition["status"], condition["message"]))
	}
	if len(said) == 0 {
		return "nothing"
	}
	return strings.Join(said, ", ")
}

func conditionStatus(object *unstructured.Unstructured, conditionType string) string {
	for _, condition := range conditionsOf(object) {
		if condition["type"] == conditionType {
			return fmt.Sprint(condition["status"])
		}
	}
	return ""
}

func conditionsOf(object *unstructured.Unstructured) []map[string]any {
	list, _, _ := unstructured.NestedSlice(object.Object, "status", "conditions")
	var found []map[string]any
	for _, item := range list {
		if condition, ok := item.(map[string]any); ok {
			found = append(found, condition)
		}
	}
	return found
}

func convert(object *unstructured.Unstructured, into any) error {
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(object.Object, into); err != nil {
		return fmt.Errorf("read %s: %w", nameOf(object), err)
	}
	return nil
}
