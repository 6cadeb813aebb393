// SPDX-License-Identifier: Apache-2.0

package chain

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"

	"github.com/sluice-mesh/sluice/api/v1alpha1"
)

// Origin is the hash from which a run's first entry continues: over the run's name and spec, so that
// a record cannot be moved to another run, nor say that other templates were tried.
func Origin(run *v1alpha1.CanaryRun) (string, error) {
	raw, err := Canonical(map[string]any{"namespace": run.Namespace, "name": run.Name, "spec": run.Spec})
	if err != nil {
		return "", fmt.Errorf("encode the spec of run %s: %w", run.Name, err)
	}
	return sum(raw), nil
}

// Append adds an entry to a record: its number, digest and hash are worked out here.
func Append(run *v1alpha1.CanaryRun, entry v1alpha1.RunEntry) error {
	previous, number, err := last(run)
	if err != nil {
		return err
	}
	entry.Number = number + 1
	if entry.Digest, err = digest(&entry); err != nil {
		return err
	}
	if entry.Hash, err = hash(previous, &entry); err != nil {
		return err
	}
	run.Record.Entries = append(run.Record.Entries, entry)
	return nil
}

func last(run *v1alpha1.CanaryRun) (string, int32, error) {
	if count := len(run.Record.Entries); count > 0 {
		entry := run.Record.Entries[count-1]
		return entry.Hash, entry.Number, nil
	}
	origin, err := Origin(run)
	return origin, 0, err
}

// BrokenError says at which entry a record is not what was written.
type BrokenError struct {
	// Number of the entry as it should be; 0 when it is about the record as a whole.
	Number int32
	Why    string
}

func (b *BrokenError) Error() string {
	if b.Number == 0 {
		return "the record is not what was written: " + b.Why
	}
	return fmt.Sprintf("entry %d is not what was written: %s", b.Number, b.Why)
}

// Verify works all hashes of a record out again. The error is a *BrokenError when one differs.
func Verify(run *v1alpha1.CanaryRun) error {
	previous, err := Origin(run)
	if err != nil {
		return &BrokenError{Why: err.Error()}
	}
	number, outcome := int32(0), v1alpha1.Outcome("")
	for i := range run.Record.Entries {
		entry := &run.Record.Entries[i]
		if entry.Folded > 1 {
			number += entry.Folded - 1
		}
		number++
		if err := verifyEntry(previous, number, entry); err != nil {
			return err
		}
		previous = entry.Hash
		if outcome == "" {
			outcome = entry.Outcome
		}
	}
	if outcome != run.Record.Outcome {
		return &BrokenError{Why: fmt.Sprintf("outcome is %q, the entries say %q", run.Record.Outcome, outcome)}
	}
	return nil
}

func verifyEntry(previous string, number int32, entry *v1alpha1.RunEntry) error {
	broken := func(format string, arguments ...any) error {
		return &BrokenError{Number: number, Why: fmt.Sprintf(format, arguments...)}
	}
	if entry.Number != number {
		return broken("its number is %d", entry.Number)
	}
	if entry.Folded > 0 {
		// What was folded cannot be worked out again; the chain goes on from its hash, and the
		// head's signature covers how much was folded.
		return nil
	}
	if entry.Measurement != nil || entry.Hook != nil {
		want, err := digest(entry)
		if err != nil || want != entry.Digest {
			return broken("its measurement or hook does not have the digest %q", entry.Digest)
		}
	}
	want, err := hash(previous, entry)
	if err != nil || want != entry.Hash {
		return broken("its hash is %q, not %q", entry.Hash, want)
	}
	return nil
}

// digest of what may be dropped from an entry; empty when there is nothing.
func digest(entry *v1alpha1.RunEntry) (string, error) {
	if entry.Measurement == nil && entry.Hook == nil {
		return "", nil
	}
	raw, err := Canonical(map[string]any{"measurement": entry.Measurement, "hook": entry.Hook})
	if err != nil {
		return "", fmt.Errorf("encode what entry %d saw: %w", entry.Number, err)
	}
	return sum(raw), nil
}

func hash(previous string, entry *v1alpha1.RunEntry) (string, error) {
	bare := *entry
	bare.Measurement, bare.Hook, bare.Hash = nil, nil, ""
	raw, err := Canonical(bare)
	if err != nil {
		return "", fmt.Errorf("encode entry %d: %w", entry.Number, err)
	}
	return sum(append([]byte(previous+"\n"), raw...)), nil
}

func sum(raw []byte) string {
	digest := sha256.Sum256(raw)
	return hex.EncodeToString(digest[:])
}
