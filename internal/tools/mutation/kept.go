// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
)

// kept are verdicts of runs before, in a file to which each is added at once: a run that was stopped
// goes on where it was. A change that was killed stays so while its function is the same; one that
// survived is tried by those tests only that it has not met. Delete the file when tests were edited.
type kept struct {
	file   *os.File
	before map[string]keptVerdict
}

// keptVerdict is one line.
type keptVerdict struct {
	Key     string  `json:"key"`
	Verdict verdict `json:"verdict"`
	By      string  `json:"by,omitempty"`
	// Tests that it survived.
	Tests []string `json:"tests,omitempty"`
	// File and What are for people.
	File string `json:"file"`
	What string `json:"what"`
}

// openKept reads a file of verdicts, if there is one; without a path nothing is kept.
func openKept(path string) (*kept, error) {
	k := &kept{before: map[string]keptVerdict{}}
	if path == "" {
		return k, nil
	}
	content, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("read kept verdicts: %w", err)
	}
	for decoder := json.NewDecoder(bytes.NewReader(content)); ; {
		var line keptVerdict
		err := decoder.Decode(&line)
		// The last line may have been cut off.
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("read kept verdicts of %s: %w", path, err)
		}
		k.before[line.Key] = line
	}
	if k.file, err = os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600); err != nil {
		return nil, fmt.Errorf("open kept verdicts: %w", err)
	}
	return k, nil
}

func (k *kept) close() {
	if k.file != nil {
		_ = k.file.Close()
	}
}

func (k *kept) find(key string) keptVerdict { return k.before[key] }

func (k *kept) add(key string, tried judged, survivedTests []string) error {
	line := keptVerdict{Key: key, Verdict: tried.verdict, By: tried.by, File: tried.file, What: tried.what}
	if tried.verdict != killed {
		line.Tests = survivedTests
	}
	k.before[key] = line
	if k.file == nil {
		return nil
	}
	content, err := json.Marshal(line)
	if err != nil {
		return fmt.Errorf("encode a verdict: %w", err)
	}
	if _, err := k.file.Write(append(content, '\n')); err != nil {
		return fmt.Errorf("keep a verdict: %w", err)
	}
	return nil
}
