// SPDX-License-Identifier: Apache-2.0

// Package config embeds the objects that Sluice consists of besides its Deployments: definitions,
// roles, admission rules, samples and what Prometheus needs. The chart gets copies by
// `make generate`. It must not hold Go code beyond the embedding.
package config

import "embed"

// FS holds one directory per kind of file.
//
//go:embed crd rbac samples prometheus webhook
var FS embed.FS
