// SPDX-License-Identifier: Apache-2.0

package model

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"sigs.k8s.io/yaml"

	"github.com/sluice-mesh/sluice/api/v1alpha1"
)

var (
	whole  = flag.Bool("whole", false, "search the whole form, which takes minutes")
	update = flag.Bool("update", false, "write the transitions that were seen; only the whole form takes any out")
)

const (
	transitionsFile = "testdata/transitions.yaml"
	page            = "../../docs/run.md"
	tableBegins     = "<!-- transitions: written by make model-update -->\n"
	tableEnds       = "<!-- end of transitions -->\n"
)

// forms are the searches of the whole form and of the bounded one. Each is complete for its number
// of disturbances, at any instants, from each of the initial states.
func forms() []Options {
	switch {
	case *whole:
		return []Options{{Disturbances: 2, Replicas: 1}, {Disturbances: 1, Replicas: 1, Asks: true}, {Disturbances: 1, Replicas: 1, Restart: v1alpha1.RestartCanary}, {Disturbances: 1, Replicas: 2, Restart: v1alpha1.RestartAsk}, {Disturbances: 1, Replicas: 2}, {Disturbances: 1, Replicas: 3}, {Disturbances: 2, Replicas: 3, States: 1_000_000}}
	case raceDetector:
		return []Options{{Disturbances: 1, Replicas: 1, States: 2_000}}
	case testing.Short():
		return []Options{{Disturbances: 1, Replicas: 1, States: 2_000}, {Disturbances: 1, Replicas: 1, Asks: true, States: 2_000}, {Disturbances: 1, Replicas: 1, Restart: v1alpha1.RestartAsk, States: 1_000}, {Disturbances: 1, Replicas: 3, States: 1_000}}
	}
	return []Options{{Disturbances: 1, Replicas: 1}, {Disturbances: 1, Replicas: 1, Asks: true}, {Disturbances: 1, Replicas: 1, Restart: v1alpha1.RestartAsk}, {Disturbances: 1, Replicas: 3, States: 30_000}}
}

// No decision breaks an invariant in any small world, and when the world is left alone it comes to
// rest with what was asked for. The transitions of a run are those that the documentation lists.
func TestModel(t *testing.T) {
	var listed []Transition
	content, err := os.ReadFile(transitionsFile)
	require.NoError(t, err)
	require.NoError(t, yaml.UnmarshalStrict(content, &listed))
	seen := map[Transition]bool{}
	states := 0
	for _, form := range forms() {
		began := time.Now()
		result, err := Search(form)
		require.NoError(t, err)
		t.Logf("%d disturbances, %d replicas, asks: %v, restart: %q: %d distinct states (%v by disturbances), complete: %v; %d decisions, %d moves, %d out of bounds; %s",
			form.Disturbances, form.Replicas, form.Asks, form.Restart, result.States, result.Layers, result.Complete, result.Plans, result.Moves, result.CutOff, time.Since(began).Round(time.Second))
		if result.Violation != nil {
			t.Fatal(result.Violation)
		}
		states += result.States
		for _, transition := range result.Transitions() {
			seen[transition] = true
		}
	}
	t.Logf("%d distinct states in all", states)
	if *update {
		for _, transition := range listed {
			seen[transition] = seen[transition] || !*whole
		}
		maps.DeleteFunc(seen, func(_ Transition, found bool) bool { return !found })
		write(t, (&Result{transitions: seen}).Transitions())
		return
	}
	lacking := slices.DeleteFunc(slices.Collect(maps.Keys(seen)), func(one Transition) bool { return slices.Contains(listed, one) })
	assert.Empty(t, lacking, "the plan makes transitions that %s lacks; after a look at them: make model-update", transitionsFile)
	if !*whole {
		return
	}
	require.GreaterOrEqual(t, states, 300_000)
	for _, transition := range listed {
		assert.True(t, seen[transition], "%s has a transition that the plan never makes: %+v", transitionsFile, transition)
	}
}

func write(t *testing.T, list []Transition) {
	t.Helper()
	content, err := yaml.Marshal(list)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(transitionsFile, append([]byte("# SPDX-License-Identifier: Apache-2.0\n"), content...), 0o600))
	text, err := os.ReadFile(page)
	require.NoError(t, err)
	before, _, after := cutTable(t, string(text))
	require.NoError(t, os.WriteFile(page, []byte(before+table(list)+after), 0o600))
}

func cutTable(t *testing.T, text string) (before, middle, after string) {
	t.Helper()
	begin, rest, found := strings.Cut(text, tableBegins)
	require.True(t, found, "%s has no line %s", page, tableBegins)
	middle, end, found := strings.Cut(rest, tableEnds)
	require.True(t, found, "%s has no line %s", page, tableEnds)
	return begin + tableBegins, middle, tableEnds + end
}

// table prints transitions and invariants for people.
func table(list []Transition) string {
	text := &strings.Builder{}
	text.WriteString("\n| from | because | to | reason of Ready |\n|---|---|---|---|\n")
	for _, transition := range list {
		fmt.Fprintf(text, "| %s | %s | %s | %s |\n", transition.From, transition.Because, transition.To, transition.Reason)
	}
	text.WriteString("\nWhat must hold of every decision:\n\n")
	for _, invariant := range Invariants() {
		fmt.Fprintf(text, "- %s\n", invariant.Name)
	}
	text.WriteString("\n")
	return text.String()
}

// The page says what the list of transitions says, and names every phase.
func TestPageIsNotStale(t *testing.T) {
	content, err := os.ReadFile(transitionsFile)
	require.NoError(t, err)
	var listed []Transition
	require.NoError(t, yaml.UnmarshalStrict(content, &listed))
	text, err := os.ReadFile(page)
	require.NoError(t, err)
	_, middle, _ := cutTable(t, string(text))
	require.Equal(t, table(listed), middle, "run make model-update")
	for _, phase := range phaseNames()[1:] {
		require.Contains(t, string(text), "| "+string(phase)+" |")
		require.True(t, slices.ContainsFunc(listed, func(one Transition) bool { return one.To == phase }), "%s is never entered", phase)
	}
}

// What normal form forgets, no decision reads: the same state with other clocks is decided alike.
func TestForgottenClocksAreNotRead(t *testing.T) {
	s, err := newSearch(Options{Disturbances: 1, Replicas: 2})
	require.NoError(t, err)
	for _, begin := range []string{"held", "returning", "rejected", "rest"} {
		p := s.play(t, begin)
		for range 40 {
			state := p.state
			_, _, want := s.plan(&state, look{verdict: "pass"})
			for _, at := range []age{young, drainOver, progressOver} {
				aged := state
				aged.Canary.PhaseAge = at
				aged.normal()
				if aged != state {
					continue // told apart
				}
				aged.Canary.PhaseAge = at
				_, _, got := s.plan(&aged, look{verdict: "pass"})
				require.Equal(t, len(want.Effects), len(got.Effects), "%s", state.String())
				require.Equal(t, want.Status.Phase, got.Status.Phase, "%s", state.String())
			}
			p.does("calm")
		}
	}
}

// player walks one way through the abstract cluster.
type player struct {
	*testing.T
	*search
	state State
	last  *step
}

// play begins at a named initial state.
func (s *search) play(t *testing.T, begin string) *player {
	t.Helper()
	at := slices.Index([]string{"rest", "rolling", "created", "held", "returning", "rejected", "rest without history", "held without history", "restarting", "restart rejected"}, begin)
	require.GreaterOrEqual(t, at, 0, begin)
	p := &player{T: t, search: s, state: s.options.initialStates()[at]}
	p.state.normal()
	return p
}

// does takes moves by their words: "look", "look: fail", "look: no data", "look: no room", "dies after
// 2" effects of a look, "calm" for a round of what the cluster does by itself, "until Holding 50" for
// as many as it takes, and else what happens, as traces say it.
func (p *player) does(moves ...string) {
	p.Helper()
	for _, words := range moves {
		before := p.state.String()
		switch {
		case words == "calm":
			p.calmly()
		case strings.HasPrefix(words, "until "):
			for range maxRounds {
				if fmt.Sprintf("until %s %d", p.state.Canary.phase(), p.state.Canary.Weight) == words {
					break
				}
				p.calmly()
			}
			require.Equal(p, words, fmt.Sprintf("until %s %d", p.state.Canary.phase(), p.state.Canary.Weight), "%s", p.state.String())
		default:
			require.True(p, p.takes(words), "%q is not possible in %s", words, before)
		}
	}
}

func (p *player) calmly() {
	fits, failed := p.calm(&p.state)
	require.True(p, fits)
	require.Nil(p, failed)
}

func (p *player) takes(words string) bool {
	before := p.state
	found := false
	failed := p.moves(&before, 9, func(m *move) bool {
		if m.words() == words && !found {
			found = true
			p.state = m.next
			if m.attempt != nil {
				p.last = m.attempt.step
			}
			p.state.normal()
		}
		return true
	})
	require.Nil(p, failed)
	return found
}

func (m *move) words() string {
	a := m.attempt
	switch {
	case a == nil:
		return m.happening.describe(&m.next)
	case a.between != nil || a.another:
		return ""
	case a.status && a.look.starved:
		return "look: no room"
	case a.status && a.look.slotless:
		return "look: no slot"
	case a.status && a.look.emergency:
		return "look: emergency"
	case a.status && a.look.unapproved:
		return "look: nobody has approved"
	case a.status && a.look.hooks != agree:
		return "look: " + a.look.hooks.String()
	case a.status && a.look.String() == "pass":
		return "look"
	case a.status:
		return "look: " + a.look.String()
	}
	return fmt.Sprintf("dies after %d", a.effects)
}

// rests requires that the world, left alone, comes to rest in a phase.
func (p *player) rests(phase v1alpha1.Phase) {
	p.Helper()
	failed := p.comesToRest(&p.state)
	if failed != nil {
		require.Fail(p, failed.why)
	}
	for range maxRounds {
		p.calmly()
	}
	require.Equal(p, phase, p.state.Canary.phase(), "%s", p.state.String())
}
