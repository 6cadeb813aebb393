// SPDX-License-Identifier: Apache-2.0

// Package v1alpha1 holds the Kubernetes objects of Sluice, group sluice.dev: what people write
// (Canary) and what the controller writes (CanaryRun, TrafficSplit), with their defaults,
// validation, condition types and reasons.
//
// It must not contain behaviour: it imports k8s.io/apimachinery and nothing else, so that other
// programs can use the types without Sluice's dependencies.
//
// +kubebuilder:object:generate=true
// +groupName=sluice.dev
package v1alpha1
