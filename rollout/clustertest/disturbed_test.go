// SPDX-License-Identifier: Apache-2.0

//go:build harness

package clustertest

import (
	"errors"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/sluice-mesh/sluice/api/v1alpha1"
)

// promoteAndReject is a release of each kind, with what must be seen of it whatever goes wrong beside.
func (b *bed) promoteAndReject() {
	b.Helper()
	b.rest("app:v1", 2)
	b.git("app:v2")
	b.awaitStable("app:v2")
	require.Equal(b, []int32{0, 50, 100}, b.mesh.seen(), "no weight is skipped or repeated")
	b.gate.set(func(g *gate) { g.errors = 300 })
	b.git("app:v3")
	b.awaitCondition("Stalled", v1alpha1.ReasonRolledBack)
	b.eventually("only v2 runs", func() bool { return len(b.pods()) == 1 && len(b.pods()["app:v2"]) == 2 })
	require.Equal(b, []int32{0, 50, 100, 0, 50, 0}, b.mesh.seen())
	for _, name := range []string{"app-1", "app-2"} {
		entries := b.run(name).Record.Entries
		for i := 1; i < len(entries); i++ {
			require.NotEqual(b, entries[i-1].Message, entries[i].Message, "nothing is recorded twice in "+name)
		}
	}
}

// Of three writes one is refused for a conflict, one is carried out and its answer lost, and one works.
func TestConflictsAndLostAnswers(t *testing.T) {
	b := newBed(t)
	var count, lost atomic.Int64
	b.intercept = func(inner client.WithWatch) client.Client {
		return writing(inner, func(write func() error) error {
			switch count.Add(1) % 3 {
			case 0:
				return apierrors.NewConflict(schema.GroupResource{Resource: "anything"}, "app", errors.New("injected"))
			case 1:
				lost.Add(1)
				return errors.Join(write(), apierrors.NewTimeoutError("injected: the answer was lost", 0))
			}
			return write()
		})
	}
	b.start()
	b.promoteAndReject()
	require.Greater(t, lost.Load(), int64(10))
}

// When the lease changes hands, for a moment two controllers may believe that they lead: here they do so
// all the time.
func TestTwoLeaders(t *testing.T) {
	b := newBed(t)
	b.start()
	b.start()
	b.promoteAndReject()
}
