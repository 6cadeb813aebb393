// SPDX-License-Identifier: Apache-2.0

package analysistest_test

import (
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sluice-mesh/sluice/analysis"
	"github.com/sluice-mesh/sluice/analysis/analysistest"
)

func TestFake(t *testing.T) {
	analysistest.TestSource(t, func(*testing.T) analysistest.Bench {
		workload := &analysistest.Workload{}
		return analysistest.Bench{Workload: workload, Source: &analysistest.Fake{Workload: workload}}
	})
}

func TestFakeFails(t *testing.T) {
	outage := errors.New("away")
	fake := &analysistest.Fake{Workload: &analysistest.Workload{}}
	query := analysis.Query{
		Namespace: analysistest.Namespace, CanaryHash: analysistest.CanaryHash, StableHash: analysistest.StableHash, Now: time.Now(),
	}
	fake.Fail(outage)
	_, err := fake.Rounds(t.Context(), query)
	require.ErrorIs(t, err, outage)
	fake.Fail(nil)
	_, err = fake.Rounds(t.Context(), query)
	require.NoError(t, err)
}
