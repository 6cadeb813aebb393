// SPDX-License-Identifier: Apache-2.0

package rollout

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sluice-mesh/sluice/api/v1alpha1"
)

func TestAppendEntriesSkipsWhatWasWrittenBeforeACrash(t *testing.T) {
	enters := func(phase v1alpha1.Phase, message string) Entry {
		return Entry{Enters: true, RunEntry: v1alpha1.RunEntry{Phase: phase, Message: message}}
	}
	notes := func(phase v1alpha1.Phase, message string) Entry {
		return Entry{RunEntry: v1alpha1.RunEntry{Phase: phase, Message: message}}
	}
	messages := func(record v1alpha1.CanaryRunRecord) (out []string) {
		for _, entry := range record.Entries {
			out = append(out, entry.Message)
		}
		return out
	}
	var record v1alpha1.CanaryRunRecord
	appendEntries(&record, []Entry{enters("Holding", "5 of 10")}, false)
	appendEntries(&record, []Entry{enters("Holding", "6 of 12")}, false)
	require.Equal(t, []string{"5 of 10"}, messages(record), "the same transition with other numbers")

	batch := []Entry{notes("RollingBack", "gone"), enters("Rejected", "held")}
	appendEntries(&record, batch, true)
	appendEntries(&record, batch, true)
	require.Equal(t, []string{"5 of 10", "gone", "held"}, messages(record))

	appendEntries(&record, []Entry{notes("Promoting", "handed over")}, false)
	appendEntries(&record, []Entry{notes("Promoting", "handed over"), notes("Promoting", "promoted")}, true)
	require.Equal(t, []string{"5 of 10", "gone", "held", "handed over", "promoted"}, messages(record))
}

func TestAppendEntriesKeepsAPlaceForTheEnd(t *testing.T) {
	var record v1alpha1.CanaryRunRecord
	for i := range 2 * maxEntries {
		appendEntries(&record, []Entry{{RunEntry: v1alpha1.RunEntry{Weight: int32(i)}}}, false)
	}
	require.Len(t, record.Entries, maxEntries-1)
	appendEntries(&record, []Entry{{RunEntry: v1alpha1.RunEntry{Message: "end"}}}, true)
	require.Equal(t, "end", record.Entries[maxEntries-1].Message)
}
