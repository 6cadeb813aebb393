// SPDX-License-Identifier: Apache-2.0

package chain

import (
	"encoding/json"
	"fmt"

	"github.com/sluice-mesh/sluice/api/v1alpha1"
)

// Limits of one record: what the API takes, with room for the object's metadata.
const (
	MaxEntries = 200
	MaxBytes   = 240 << 10
)

// Shrink brings a record within its limits. Measurements and hooks' answers go first, the oldest
// first; their digests stay, so that the chain holds. Then the oldest entries that nobody asked for
// are folded, two into one.
func Shrink(run *v1alpha1.CanaryRun, entries, bytes int) error {
	for len(run.Record.Entries) > entries && foldAny(&run.Record) {
	}
	for {
		size, err := sizeOf(run)
		if err != nil || size <= bytes {
			return err
		}
		if !drop(&run.Record, size-bytes) && !foldAny(&run.Record) {
			return nil
		}
	}
}

func sizeOf(run *v1alpha1.CanaryRun) (int, error) {
	raw, err := json.Marshal(run)
	if err != nil {
		return 0, fmt.Errorf("measure run %s: %w", run.Name, err)
	}
	return len(raw), nil
}

// drop removes the oldest measurements and hooks, at least so many bytes if there are.
func drop(record *v1alpha1.CanaryRunRecord, bytes int) bool {
	dropped := false
	for i := range record.Entries {
		entry := &record.Entries[i]
		if entry.Measurement == nil && entry.Hook == nil {
			continue
		}
		if bytes <= 0 {
			break
		}
		before, _ := json.Marshal([]any{entry.Measurement, entry.Hook}) // sizeOf has just marshalled it.
		entry.Measurement, entry.Hook = nil, nil
		bytes -= len(before)
		dropped = true
	}
	return dropped
}

// tail is how many of the newest entries are never folded: a controller that died recognises by them
// what it has written.
const tail = 10

// foldAny folds looks and answers first, because the gate reads from the transitions when each step
// began; then what nobody asked for; then what somebody did, but never what decided the outcome.
func foldAny(record *v1alpha1.CanaryRunRecord) bool {
	unasked := func(entry *v1alpha1.RunEntry) bool { return entry.Request == nil && entry.Approval == nil }
	for _, may := range []func(*v1alpha1.RunEntry) bool{
		func(entry *v1alpha1.RunEntry) bool { return unasked(entry) && (entry.Digest != "" || entry.Folded > 0) },
		unasked,
		func(*v1alpha1.RunEntry) bool { return true },
	} {
		if fold(record, may) {
			return true
		}
	}
	return false
}

// fold joins the oldest two neighbours that may be; the first entry, which says what began, stays.
func fold(record *v1alpha1.CanaryRunRecord, may func(*v1alpha1.RunEntry) bool) bool {
	for i := 1; i+1 < len(record.Entries)-tail; i++ {
		older, newer := &record.Entries[i], &record.Entries[i+1]
		if older.Outcome != "" || newer.Outcome != "" || !may(older) || !may(newer) {
			continue
		}
		folded := max(older.Folded, 1) + max(newer.Folded, 1)
		*newer = v1alpha1.RunEntry{
			Number: newer.Number, Time: newer.Time, Phase: newer.Phase, Weight: newer.Weight, Hash: newer.Hash, Folded: folded,
			Message: fmt.Sprintf("%d entries up to number %d were folded to save space", folded, newer.Number),
		}
		record.Entries = append(record.Entries[:i], record.Entries[i+1:]...)
		return true
	}
	return false
}

// Summarised counts the entries of which something was dropped, and those that were folded away.
func Summarised(record *v1alpha1.CanaryRunRecord) int32 {
	count := int32(0)
	for i := range record.Entries {
		entry := &record.Entries[i]
		switch {
		case entry.Folded > 0:
			count += entry.Folded
		case entry.Digest != "" && entry.Measurement == nil && entry.Hook == nil:
			count++
		}
	}
	return count
}
