// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// verdict is what became of a change.
type verdict string

const (
	killed   verdict = "killed"
	survived verdict = "survived"
	// unbuilt changes are no programs; they count for nothing.
	unbuilt verdict = "does not compile"
)

type judged struct {
	change
	verdict verdict
	// by is the first test that failed.
	by string
}

type judge struct {
	packages []string
	timeout  time.Duration
}

func (j *judge) all(ctx context.Context, changes []change, into *[]judged) error {
	for i, one := range changes {
		began := time.Now()
		verdict, by, err := j.one(ctx, one)
		if err != nil {
			return err
		}
		*into = append(*into, judged{one, verdict, by})
		fmt.Printf("%d/%d %s %s: %s %s (%s)\n", i+1, len(changes), verdict, one.file, one.what, by, time.Since(began).Round(time.Second))
	}
	return nil
}

// one runs the tests of the packages until one fails.
func (j *judge) one(ctx context.Context, c change) (verdict, string, error) {
	dir, err := os.MkdirTemp("", "mutation-")
	if err != nil {
		return "", "", fmt.Errorf("make a directory: %w", err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	overlay, err := writeOverlay(dir, c)
	if err != nil {
		return "", "", err
	}
	for _, pkg := range j.packages {
		ctx, cancel := context.WithTimeout(ctx, j.timeout)
		command := exec.CommandContext(ctx, "go", "test", "-trimpath", "-short", "-failfast", "-vet=off", "-overlay", overlay, pkg)
		output, err := command.CombinedOutput()
		late := ctx.Err() != nil
		cancel()
		var exit *exec.ExitError
		switch {
		case err == nil:
			continue
		case late:
			return killed, "by its time limit", nil
		case !errors.As(err, &exit):
			return "", "", fmt.Errorf("run the tests of %s: %w", pkg, err)
		case strings.Contains(string(output), "[build failed]"):
			return unbuilt, "", nil
		}
		return killed, "by " + firstFailure(string(output)), nil
	}
	return survived, "", nil
}

func writeOverlay(dir string, c change) (string, error) {
	path, err := filepath.Abs(c.file)
	if err != nil {
		return "", fmt.Errorf("find %s: %w", c.file, err)
	}
	changed, overlay := filepath.Join(dir, "changed.go"), filepath.Join(dir, "overlay.json")
	content, err := json.Marshal(map[string]map[string]string{"Replace": {path: changed}})
	if err != nil {
		return "", fmt.Errorf("encode the overlay: %w", err)
	}
	if err := errors.Join(os.WriteFile(changed, c.content, 0o600), os.WriteFile(overlay, content, 0o600)); err != nil {
		return "", fmt.Errorf("write the overlay: %w", err)
	}
	return overlay, nil
}

// firstFailure is the name of the test that failed, or of the package that panicked.
func firstFailure(output string) string {
	for line := range strings.Lines(output) {
		if _, rest, found := strings.Cut(line, "--- FAIL: "); found {
			name, _, _ := strings.Cut(rest, " ")
			return name
		}
	}
	return "a panic"
}
