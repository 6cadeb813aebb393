// SPDX-License-Identifier: Apache-2.0

// Package clustertest holds the tests of package rollout that need a real API server, Deployment
// controller and admission: every claim about what Kubernetes does is made here.
//
// It must not contain anything but tests.
package clustertest
