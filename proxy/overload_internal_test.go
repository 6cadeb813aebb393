// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sluice-mesh/sluice/mesh"
)

// TestOverloadsKeepWhatIsOpen: a change of the policy counts on, and a claim that was made before ends where it
// was made.
func TestOverloadsKeepWhatIsOpen(t *testing.T) {
	metrics, asked := newMetrics(Options{Now: time.Now}), mesh.Asked{Port: 80, Method: "GET", Path: "/"}
	var of overloads
	of.apply([]mesh.Overload{{Service: "a", Ports: []uint16{80}, MaxParallelRequests: 1}}, metrics)
	first := of.slotFor(mesh.Caller{}, asked, false)
	require.True(t, first.enter())
	second := of.slotFor(mesh.Caller{}, asked, false)
	require.False(t, second.enter())
	of.apply([]mesh.Overload{{Service: "a", Ports: []uint16{80}, MaxParallelRequests: 2}}, metrics)
	second = of.slotFor(mesh.Caller{}, asked, true)
	require.False(t, second.enter(), "75 % of 2 is 1, and a copy is low")
	first.leave()
	first.leave()
	require.True(t, second.enter())
	second.leave()
	require.Zero(t, (*of.list.Load())[0].open.Load())
	of.apply(nil, metrics)
	third := of.slotFor(mesh.Caller{}, asked, false)
	require.Nil(t, third.overload)
}

func TestOverloadsMakeNoGarbage(t *testing.T) {
	metrics, asked := newMetrics(Options{Now: time.Now}), mesh.Asked{Port: 80, Method: "GET", Path: "/low"}
	var off, on overloads
	on.apply([]mesh.Overload{{
		Service: "a", Ports: []uint16{80}, MaxParallelRequests: 100, Probes: []mesh.Probe{{Port: 80, Method: "GET", Path: "/"}},
		Classes: []mesh.TrafficClass{
			{Priority: mesh.PriorityCritical, Callers: &mesh.AccessRule{Identities: []string{"spiffe://a/b"}}},
			{Priority: mesh.PriorityLow, Routes: []mesh.AccessRoute{{Path: mesh.NewValueMatch("", mesh.MatchPrefix, "/low")}}, BytesPerSecond: 1 << 40},
		},
	}}, metrics)
	for _, of := range []*overloads{&off, &on} {
		require.Zero(t, testing.AllocsPerRun(100, func() {
			claim := of.slotFor(mesh.Caller{Identity: "spiffe://c/d"}, asked, false)
			if claim.enter() && claim.pace != nil {
				claim.pace.take(time.Now(), 100)
			}
			claim.leave()
		}))
	}
}
