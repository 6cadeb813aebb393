// SPDX-License-Identifier: Apache-2.0

// Package redirect brings a pod's TCP traffic to the proxy that runs beside it: it computes the
// nftables rules for a pod's network namespace and puts them in force in one transaction.
//
// It must not know Kubernetes, and it must not read anything from the pod: what to redirect is in
// Config and nowhere else. Rules are plain data, so that they can be compared with golden files and
// with what the kernel lists.
package redirect
