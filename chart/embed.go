// SPDX-License-Identifier: Apache-2.0

// Package chart embeds the one Helm chart of Sluice, so that `sluice install` renders what Helm
// would. It must not hold Go code beyond the embedding.
package chart

import "embed"

// FS holds the chart, Chart.yaml at its root.
//
//go:embed Chart.yaml values.yaml values.schema.json crds files templates
//go:embed templates/_helpers.tpl
var FS embed.FS
