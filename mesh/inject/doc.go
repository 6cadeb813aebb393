// SPDX-License-Identifier: Apache-2.0

// Package inject puts the proxy into pods as they are created: it decides by labels whether a pod is
// meshed, says why when a pod that should be cannot, and adds the containers, volume and annotation.
//
// It must not look at anything but the pod, its namespace's labels and the configuration, and must
// not touch what the user wrote: it only adds.
package inject
