// SPDX-License-Identifier: Apache-2.0

// Package rollouttest gives tests the table of cases for the hold, which the webhook and the
// MutatingAdmissionPolicy must both pass.
//
// It must not be imported by anything but tests.
package rollouttest

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"

	jsonpatch "github.com/evanphx/json-patch/v5"
	appsv1 "k8s.io/api/apps/v1"
	"sigs.k8s.io/yaml"
)

// HoldCase is one update of a Deployment and what admission must make of it.
type HoldCase struct {
	Name     string
	Old, New *appsv1.Deployment
	// Deleting: the Deployment has a deletionTimestamp.
	Deleting bool
	// Paused and Hold are spec.paused and the hold label afterwards.
	Paused bool
	Hold   string
}

// HoldCases reads the table from a directory with base.yaml and cases.yaml.
func HoldCases(directory string) ([]HoldCase, error) {
	base, err := readJSON(filepath.Join(directory, "base.yaml"))
	if err != nil {
		return nil, err
	}
	raw, err := readJSON(filepath.Join(directory, "cases.yaml"))
	if err != nil {
		return nil, err
	}
	var rows []struct {
		Name     string          `json:"name"`
		Old, New json.RawMessage `json:",omitempty"`
		Deleting bool            `json:"deleting"`
		Want     struct {
			Paused bool   `json:"paused"`
			Hold   string `json:"hold"`
		} `json:"want"`
	}
	if err := yaml.UnmarshalStrict(raw, &rows); err != nil {
		return nil, fmt.Errorf("read the cases: %w", err)
	}
	cases := make([]HoldCase, len(rows))
	for i, row := range rows {
		cases[i] = HoldCase{Name: row.Name, Deleting: row.Deleting, Paused: row.Want.Paused, Hold: row.Want.Hold}
		old, err := merge(base, row.Old, &cases[i].Old)
		if err != nil {
			return nil, fmt.Errorf("case %q: %w", row.Name, err)
		}
		if _, err := merge(old, row.New, &cases[i].New); err != nil {
			return nil, fmt.Errorf("case %q: %w", row.Name, err)
		}
	}
	return cases, nil
}

func readJSON(path string) ([]byte, error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	return yaml.YAMLToJSON(content)
}

func merge(base, patch []byte, into **appsv1.Deployment) ([]byte, error) {
	merged := base
	if len(patch) > 0 {
		var err error
		if merged, err = jsonpatch.MergePatch(base, patch); err != nil {
			return nil, fmt.Errorf("merge: %w", err)
		}
	}
	*into = &appsv1.Deployment{}
	if err := json.Unmarshal(merged, *into); err != nil {
		return nil, fmt.Errorf("read the deployment: %w", err)
	}
	return merged, nil
}
