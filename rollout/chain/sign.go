// SPDX-License-Identifier: Apache-2.0

package chain

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/sluice-mesh/sluice/api/v1alpha1"
)

// Keys are the public keys by which heads may be signed, by their identity.
type Keys map[string]ed25519.PublicKey

// KeyID names a public key: the first half of its SHA-256, in hexadecimal.
func KeyID(key ed25519.PublicKey) string {
	digest := sha256.Sum256(key)
	return hex.EncodeToString(digest[:len(digest)/2])
}

// Errors of CheckHead. ErrUnsigned: nothing was signed yet. ErrSignature: the head is not what was
// signed. ErrUnknownKey: it may be, but by a key that is not at hand.
var (
	ErrUnsigned   = errors.New("the head is not signed")
	ErrSignature  = errors.New("the head is not what was signed")
	ErrUnknownKey = errors.New("the head is signed by an unknown key")
)

// Sign makes the last entry of a record its signed head. A record without entries has no head.
func Sign(run *v1alpha1.CanaryRun, key ed25519.PrivateKey) error {
	count := len(run.Record.Entries)
	if count == 0 {
		return nil
	}
	last := run.Record.Entries[count-1]
	head := &v1alpha1.RunHead{Number: last.Number, Hash: last.Hash, Summarised: Summarised(&run.Record)}
	statement, err := statementOf(run, head)
	if err != nil {
		return err
	}
	public, ok := key.Public().(ed25519.PublicKey)
	if !ok {
		return errors.New("sign the head: the key is not an Ed25519 key")
	}
	head.KeyID, head.Signature = KeyID(public), base64.StdEncoding.EncodeToString(ed25519.Sign(key, statement))
	run.Record.Head = head
	return nil
}

// CheckHead says whether the head is that of this record and was signed by one of the keys.
func CheckHead(run *v1alpha1.CanaryRun, keys Keys) error {
	head, count := run.Record.Head, len(run.Record.Entries)
	if head == nil || head.Signature == "" {
		return ErrUnsigned
	}
	if count == 0 || run.Record.Entries[count-1].Number != head.Number || run.Record.Entries[count-1].Hash != head.Hash {
		return fmt.Errorf("%w: it is not the last entry", ErrSignature)
	}
	if summarised := Summarised(&run.Record); summarised != head.Summarised {
		return fmt.Errorf("%w: %d entries are summarised, it says %d", ErrSignature, summarised, head.Summarised)
	}
	key, known := keys[head.KeyID]
	if !known {
		return fmt.Errorf("%w: %s", ErrUnknownKey, head.KeyID)
	}
	signature, err := base64.StdEncoding.DecodeString(head.Signature)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrSignature, err)
	}
	statement, err := statementOf(run, head)
	if err != nil {
		return err
	}
	if !ed25519.Verify(key, statement, signature) {
		return ErrSignature
	}
	return nil
}

// statementOf is what is signed.
func statementOf(run *v1alpha1.CanaryRun, head *v1alpha1.RunHead) ([]byte, error) {
	statement, err := Canonical(map[string]any{
		"namespace": run.Namespace, "run": run.Name, "number": head.Number, "hash": head.Hash,
		"summarised": head.Summarised, "outcome": run.Record.Outcome, "endedAt": run.Record.EndedAt,
	})
	if err != nil {
		return nil, fmt.Errorf("encode the head of run %s: %w", run.Name, err)
	}
	return statement, nil
}

// Holds says whether a record has the entry of a head that was exported before. An entry that was
// folded into a later one cannot be told.
func Holds(run *v1alpha1.CanaryRun, number int32, hash string) bool {
	for i := range run.Record.Entries {
		if entry := &run.Record.Entries[i]; entry.Number == number {
			return entry.Hash == hash
		}
	}
	return false
}
