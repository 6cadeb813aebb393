// SPDX-License-Identifier: Apache-2.0

package rollout

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/sluice-mesh/sluice/analysis"
	"github.com/sluice-mesh/sluice/api/v1alpha1"
)

var updateStories = flag.Bool("update", false, "write what the plan does into testdata/stories")

// A story is a file of what happens to a Canary (lines that begin with >) and, below each, of what its
// users then see: phase and weight, what is written to the cluster, the run's record, the events, and
// in the end of each line of time what Ready says. Only looks that change something are told.
func TestStories(t *testing.T) {
	files, err := filepath.Glob("testdata/stories/*.txt")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			content, err := os.ReadFile(file)
			require.NoError(t, err)
			told := tell(t, string(content))
			if *updateStories {
				require.NoError(t, os.WriteFile(file, []byte(told), 0o600))
				return
			}
			require.Equal(t, string(content), told)
		})
	}
}

// story is a world whose every look is written down.
type story struct {
	*testing.T
	*world
	text  strings.Builder
	began time.Time
	// silent: the proxies acknowledge nothing; stuck: no pod starts or becomes ready.
	silent, stuck bool
	// quiet: what comes is not written down, another story tells it.
	quiet bool
	// last is what the look before said.
	last string
}

// tell plays the lines that happen and returns the file with what the plan does about them.
func tell(t *testing.T, content string) string {
	t.Helper()
	s := &story{T: t, world: newWorld(1)}
	s.began = s.now
	s.seen.Gate = judged(analysis.VerdictPass)
	for line := range strings.Lines(content) {
		happens, isDeed := strings.CutPrefix(strings.TrimSpace(line), "> ")
		if !isDeed && !strings.HasPrefix(line, "#") {
			continue
		}
		s.text.WriteString(line)
		if isDeed {
			happens, s.quiet = strings.CutPrefix(happens, "quietly ")
			word, rest, _ := strings.Cut(happens, " ")
			s.happens(word, rest)
			if len(s.canary.Spec.Webhooks) > 0 { // The world knows none, which may reject, too.
				s.violation = ""
			}
			require.Empty(t, s.violation, line)
		}
	}
	return s.text.String()
}

func (s *story) happens(word, rest string) {
	deeds := map[string]func(string){
		"push": s.push, "restart": s.restart, "tick": s.tick, "until": s.untilIn, "look": func(string) { s.look(true, -1) },
		"dies": func(after string) { s.look(true, s.number(after)) }, "advance": s.advance,
		"proxies": func(do string) { s.silent = do == "silent" }, "kubelet": func(does string) { s.stuck = does == "stuck" },
		"gate": s.gate, "annotate": s.annotate, "drop": s.drop, "approve": s.approveStep,
		"delete": func(string) { s.canary.DeletionTimestamp = &metav1.Time{Time: s.now} },
		"spec":   func(raw string) { s.canary.Generation++; s.edit(raw, &s.canary.Spec) },
		"status": func(raw string) { s.edit(raw, &s.canary.Status) },
		"seen":   func(raw string) { s.edit(raw, &s.seen) }, "target": func(raw string) { s.edit(raw, s.seen.Target) },
		"split": func(raw string) { s.edit(raw, s.seen.Split) }, "set": s.editSet,
		"run": func(raw string) { s.edit(raw, &s.seen.Runs[0]) },
	}
	deed, known := deeds[word]
	require.True(s, known, "nobody knows what %q is", word)
	deed(rest)
}

func (s *story) approveStep(user string) {
	s.approve("by-"+user, user, func(given *v1alpha1.Approval) { given.Spec.Step = s.canary.Status.Step })
}

func (s *story) edit(raw string, into any) {
	decoder := json.NewDecoder(bytes.NewReader([]byte(raw)))
	decoder.DisallowUnknownFields()
	require.NoError(s, decoder.Decode(into), raw)
}

// editSet edits a set by its name or its role in the run, or adds one.
func (s *story) editSet(rest string) {
	name, raw, _ := strings.Cut(rest, " ")
	if s.seen.set(s.nameOf(name)) == nil {
		s.addSet(Set{Name: name, Hash: strings.TrimPrefix(name, "app-"), Template: template(name)})
	}
	image := struct {
		*Set
		Image string
	}{Set: s.seen.set(s.nameOf(name))}
	s.edit(raw, &image)
	if image.Image != "" {
		image.Template = template(image.Image)
	}
}

func (s *story) nameOf(role string) string {
	switch status := s.canary.Status; {
	case role == "stable" && status.Stable != nil:
		return status.Stable.ReplicaSet
	case role == "canary" && status.Canary != nil:
		return status.Canary.ReplicaSet
	}
	return role
}

func (s *story) number(text string) int {
	number, err := strconv.Atoi(text)
	require.NoError(s, err)
	return number
}

func (s *story) advance(by string) {
	duration, err := time.ParseDuration(by)
	require.NoError(s, err)
	s.now = s.now.Add(duration)
}

func (s *story) gate(says string) {
	switch says {
	case "unknown":
		s.seen.Gate = nil
	case "down":
		s.seen.Gate = &GateLook{Unavailable: "connection refused"}
	default:
		s.seen.Gate = judged(analysis.Verdict(says))
	}
}

// annotate asks something of the current run or, with a value, whatever else; "nothing" takes all back.
func (s *story) annotate(rest string) {
	key, value, found := strings.Cut(rest, " ")
	if !found {
		value = s.canary.Status.Run
	}
	s.canary.Annotations = map[string]string{"sluice.dev/" + key: value}
	s.canary.ManagedFields = []metav1.ManagedFieldsEntry{{Manager: "kubectl-annotate", FieldsV1: &metav1.FieldsV1{Raw: []byte(
		`{"f:metadata":{"f:annotations":{"f:sluice.dev/` + key + `":{}}}}`)}}}
	if key == "nothing" {
		s.canary.Annotations = nil
	}
}

func (s *story) drop(what string) {
	switch what {
	case "split":
		s.seen.Split = nil
	case "run":
		s.seen.Runs = s.seen.Runs[1:]
	default:
		name := s.nameOf(what)
		require.NotNil(s, s.seen.set(name), what)
		s.seen.Sets = slices.DeleteFunc(s.seen.Sets, func(set Set) bool { return set.Name == name })
	}
}

func (s *story) tick(times string) {
	count := 1
	if times != "" {
		count = s.number(times)
	}
	for range count {
		s.pass()
	}
}

// untilIn lets the world go on until a phase and, if it is said, a weight.
func (s *story) untilIn(wanted string) {
	for range 400 {
		phase, weight, weighed := strings.Cut(wanted, " ")
		if status := s.canary.Status; string(status.Phase) == phase && (!weighed || status.Weight == int32(s.number(weight))) {
			return
		}
		s.pass()
	}
	s.Fatalf("%s is not reached:\n%s", wanted, s.text.String())
}

// pass is a second in which everybody does his work.
func (s *story) pass() {
	s.now = s.now.Add(time.Second)
	s.controller()
	if !s.stuck {
		s.kubelet(true)
	}
	if s.seen.Split != nil && !s.silent {
		s.seen.Split.Acknowledged = true
	}
	s.look(false, -1)
}

// look plans once and writes down what is new, or all of it. The controller dies after some effects;
// -1 if it does not.
func (s *story) look(all bool, dies int) {
	if s.gone {
		return
	}
	seen := s.observe()
	before, now := s.canary.Status, s.now
	decision := Plan(&s.canary, seen, now)
	require.Equal(s, decision, Plan(&s.canary, seen, now), "the same look is decided alike")
	standing := decision.Standing
	says := fmt.Sprintf("%s %d %s %s %v %v", decision.Status.Phase, decision.Status.Weight, standing.Reason, standing.Ready, standing.Reconciling, standing.Stalled)
	if s.quiet {
		all = false
	} else if all || says != s.last || len(decision.Effects) > 0 || len(decision.Events) > 0 {
		s.write(decision)
	}
	if all || decision.Status.Phase != before.Phase && !s.quiet {
		s.text.WriteString("    status " + s.statusText(decision.Status) + "\n")
	}
	s.last = says
	if dies >= 0 {
		for _, effect := range decision.Effects[:min(dies, len(decision.Effects))] {
			s.apply(effect)
		}
		return
	}
	s.reconcile(false)
	s.canary.Status.Conditions = []metav1.Condition{{Type: v1alpha1.ConditionReady, Reason: standing.Reason, Message: standing.Message}}
}

func (s *story) write(decision Decision) {
	standing := decision.Standing
	ready := "Ready=" + string(standing.Ready)
	if standing.Reconciling {
		ready += " Reconciling"
	}
	if standing.Stalled {
		ready += " Stalled"
	}
	next := []string{"when something changes", "after the interval", "at once"}[decision.Next]
	if !decision.Wake.IsZero() {
		next += ", at " + decision.Wake.UTC().Format(time.RFC3339) + " at the latest"
	}
	fmt.Fprintf(&s.text, "+%s %s %d/%d: %s %s: %s\n    looks again %s\n", s.now.Sub(s.began), decision.Status.Phase, decision.Status.Weight,
		totalOf(s.canary.Spec.TotalWeight), ready, standing.Reason, standing.Message, next)
	for _, effect := range decision.Effects {
		s.text.WriteString("    " + s.effectText(effect) + "\n")
	}
	for _, event := range decision.Events {
		fmt.Fprintf(&s.text, "    event %s %s: %s\n", eventType(event), event.Reason, event.Message)
	}
}

func (s *story) effectText(effect Effect) string {
	name := strings.TrimPrefix(fmt.Sprintf("%T ", effect), "rollout.")
	switch e := effect.(type) {
	case CreateRun:
		link := ""
		if e.Spec.Previous != nil {
			link = " after " + e.Spec.Previous.Run
		}
		return fmt.Sprintf("%s%s %s %s -> %s%s", name, e.Name, e.Spec.Kind, e.Spec.Stable.ReplicaSet, e.Spec.Candidate.ReplicaSet, link)
	case CreateSet:
		return fmt.Sprintf("%s%s hash %s, role %q, %d replicas, owned %v, revision %d, image %s", name, e.Name, e.Hash, e.Role, e.Replicas, e.Owned, e.Revision,
			e.Template.Spec.Containers[0].Image)
	case RecordRun:
		text := name + e.Run
		if e.Outcome != "" {
			text += fmt.Sprintf(" outcome %s, ended %v", e.Outcome, e.Ended != nil)
		}
		for _, entry := range e.Entries {
			entry.Time = metav1.Time{}
			text += "\n        " + s.json(entry)
		}
		return text
	}
	return name + s.json(effect)
}

// statusText leaves out what other lines say.
func (s *story) statusText(status v1alpha1.CanaryStatus) string {
	status.Phase, status.Conditions = "", nil
	return s.json(status)
}

func (s *story) json(value any) string {
	var text strings.Builder
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false)
	require.NoError(s, encoder.Encode(value))
	return strings.TrimSpace(text.String())
}
