// SPDX-License-Identifier: Apache-2.0

package rollout

import (
	"bytes"

	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"

	"github.com/sluice-mesh/sluice/api/v1alpha1"
)

// pauseOwner finds who else applies spec.paused of a Deployment that is not paused: a manifest that says
// paused: false lifts each hold with the next sync. While a hold stands nobody else owns the field,
// because Sluice has forced it. What was written once and is not applied is no such claim: a person's
// kubectl edit leaves one behind.
func pauseOwner(d *appsv1.Deployment) string {
	if d.Spec.Paused {
		return ""
	}
	for _, entry := range d.ManagedFields {
		if entry.Manager == v1alpha1.FieldManager || entry.Operation != metav1.ManagedFieldsOperationApply || entry.Subresource != "" || entry.FieldsV1 == nil {
			continue
		}
		fields := &fieldpath.Set{}
		if err := fields.FromJSON(bytes.NewReader(entry.FieldsV1.GetRawBytes())); err == nil && fields.Has(fieldpath.MakePathOrDie("spec", "paused")) {
			return entry.Manager
		}
	}
	return ""
}
