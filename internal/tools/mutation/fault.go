// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"strings"

	"sigs.k8s.io/yaml"
)

// fault is a change that somebody thought of.
type fault struct {
	Name string `json:"name"`
	File string `json:"file"`
	// Old occurs exactly once in the file.
	Old string `json:"old"`
	New string `json:"new"`
	// content is the whole file after the change.
	content string
}

func readFaults(path string) ([]fault, error) {
	var list []fault
	if err := read(path, &list); err != nil {
		return nil, err
	}
	for i := range list {
		f := &list[i]
		content, err := os.ReadFile(f.File)
		if err != nil {
			return nil, fmt.Errorf("read the file of fault %q: %w", f.Name, err)
		}
		if found := strings.Count(string(content), f.Old); found != 1 {
			return nil, fmt.Errorf("%s: fault %q: its old text occurs %d times in %s; renew it", path, f.Name, found, f.File)
		}
		f.content = strings.Replace(string(content), f.Old, f.New, 1)
	}
	return list, nil
}

func readReasons(path string) (map[string]string, error) {
	reasons := map[string]string{}
	return reasons, read(path, &reasons)
}

func read(path string, into any) error {
	if path == "" {
		return nil
	}
	content, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("read %s: %w", path, err)
	}
	if err := yaml.UnmarshalStrict(content, into); err != nil {
		return fmt.Errorf("read %s: %w", path, err)
	}
	return nil
}
