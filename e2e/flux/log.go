// SPDX-License-Identifier: Apache-2.0

package flux

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"time"
)

// Action is something that kustomize-controller did to an object of the cluster.
type Action struct {
	Time time.Time
	// Kustomization that it did it for.
	Kustomization string
	// Object as Kind/namespace/name.
	Object string
	// Verb is created, configured, deleted or skipped.
	Verb string
	// Revision of the commit.
	Revision string
}

// Actions lists what kustomize-controller has done to objects since a moment, from its log. Looks at
// objects that changed nothing are no actions.
func (f *Flux) Actions(since time.Time) ([]Action, error) {
	log, err := os.Open(f.kustomize.log)
	if err != nil {
		return nil, fmt.Errorf("read Flux's log: %w", err)
	}
	defer func() { _ = log.Close() }()
	return actions(log, since)
}

// actions reads a log of JSON lines. An entry about applied objects carries them and their verbs as a
// map; one about pruned objects carries them in its message.
func actions(log io.Reader, since time.Time) ([]Action, error) {
	var out []Action
	scanner := bufio.NewScanner(log)
	scanner.Buffer(nil, 16<<20)
	for scanner.Scan() {
		var line struct {
			Time          time.Time       `json:"ts"`
			Message       string          `json:"msg"`
			Revision      string          `json:"revision"`
			Output        json.RawMessage `json:"output"`
			Kustomization struct {
				Name string `json:"name"`
			} `json:"Kustomization"`
		}
		if err := json.Unmarshal(scanner.Bytes(), &line); err != nil || line.Time.Before(since) {
			continue // not an entry of the controller's own
		}
		verbs := map[string]string{}
		if len(line.Output) > 0 && json.Unmarshal(line.Output, &verbs) != nil {
			continue
		}
		if pruned, ok := strings.CutPrefix(line.Message, "garbage collection completed: "); ok {
			for entry := range strings.Lines(pruned) {
				object, verb, _ := strings.Cut(strings.TrimSpace(entry), " ")
				verbs[object] = verb
			}
		}
		for object, verb := range verbs {
			if verb != "unchanged" {
				out = append(out, Action{Time: line.Time, Kustomization: line.Kustomization.Name, Object: object, Verb: verb, Revision: line.Revision})
			}
		}
	}
	if err := scanner.Err(); err != nil {
		return nil, fmt.Errorf("read Flux's log: %w", err)
	}
	return out, nil
}
