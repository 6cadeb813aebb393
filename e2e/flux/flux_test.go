// SPDX-License-Identifier: Apache-2.0

package flux

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestActions(t *testing.T) {
	log := `not JSON
{"level":"info","ts":"2026-01-01T10:00:00.000Z","msg":"server-side apply completed","Kustomization":{"name":"fleet","namespace":"flux-system"},"output":{"Deployment/shop/podinfo":"configured"},"revision":"main@sha1:aa"}
{"level":"info","ts":"2026-01-01T10:00:10.000Z","msg":"server-side apply completed","Kustomization":{"name":"fleet","namespace":"flux-system"},"output":{"Deployment/shop/podinfo":"unchanged","Service/shop/podinfo":"created"},"revision":"main@sha1:bb"}
{"level":"info","ts":"2026-01-01T10:00:20.000Z","msg":"garbage collection completed: PodDisruptionBudget/shop/podinfo deleted","Kustomization":{"name":"fleet","namespace":"flux-system"}}
{"level":"info","ts":"2026-01-01T10:00:30.000Z","msg":"Reconciliation finished","Kustomization":{"name":"fleet","namespace":"flux-system"}}
`
	since := time.Date(2026, 1, 1, 10, 0, 5, 0, time.UTC)
	got, err := actions(strings.NewReader(log), since)
	require.NoError(t, err)
	require.Equal(t, []Action{
		{Time: since.Add(5 * time.Second), Kustomization: "fleet", Object: "Service/shop/podinfo", Verb: "created", Revision: "main@sha1:bb"},
		{Time: since.Add(15 * time.Second), Kustomization: "fleet", Object: "PodDisruptionBudget/shop/podinfo", Verb: "deleted"},
	}, got)
}
