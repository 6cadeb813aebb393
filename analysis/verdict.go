// SPDX-License-Identifier: Apache-2.0

package analysis

import (
	"fmt"
	"math"
	"time"
)

// hearing is everything a judgement rests on.
type hearing struct {
	*Gate
	now  time.Time
	step StepState
	// compared: stable has requests to compare with; else the objectives alone decide.
	compared bool
	// over is the evidence by measure that an objective is broken.
	over []float64
}

// ruling is what a rule says; without a verdict it says nothing.
type ruling struct {
	verdict Verdict
	cause   Cause
	reason  string
}

// Judge folds steps and rounds, each oldest first, and judges the last step: what a Gate does bit by
// bit, at once.
func Judge(config Config, startedAt time.Time, steps []Step, rounds []Round, now time.Time) (Judgement, error) {
	gate, err := Begin(config, startedAt)
	if err != nil {
		return Judgement{}, err
	}
	for _, step := range steps {
		gate.Enter(step)
	}
	for _, round := range rounds {
		gate.Add(round)
	}
	return gate.Judge(now), nil
}

// Judge says where the run stands. It changes nothing.
func (g *Gate) Judge(now time.Time) Judgement {
	h := &hearing{Gate: g, now: now, step: g.current(), over: make([]float64, len(g.measures))}
	h.compared = g.compared(h.step.Step)
	for i := range h.over {
		h.over[i] = g.over(i)
	}
	judgement := Judgement{Canary: g.state.Canary, Stable: g.state.Stable, Evidence: h.evidence()}
	for _, rule := range []func() ruling{h.invalid, h.fails, h.ranges, h.shared, h.suspicious, h.silent, h.passes} {
		if r := rule(); r.verdict != "" {
			judgement.Verdict, judgement.Cause, judgement.Reason = r.verdict, r.cause, r.reason
			break
		}
	}
	return judgement
}

// current is the step that was entered last, with its clock moved to the last round.
func (g *Gate) current() StepState {
	pending := g.state.Pending
	if len(pending) == 0 {
		return g.state.Step
	}
	step := pending[len(pending)-1]
	state := StepState{Step: step, Number: g.state.Step.Number + len(pending), Start: -1}
	if g.state.End.After(step.StartedAt) {
		state.Elapsed = min(g.state.End.Sub(step.StartedAt), g.patience())
	}
	return state
}

// evidence by family.
func (h *hearing) evidence() []Evidence {
	var all []Evidence
	limit := h.config.decisive() / math.Ln10
	for i, measure := range h.measures {
		m := &h.state.Measures[i]
		all = append(all, Evidence{"cmp-" + measure.name, m.Worse.Capped / math.Ln10, limit})
		if !measure.custom {
			all = append(all, Evidence{"slo-" + measure.name, h.over[i] / math.Ln10, limit})
		}
	}
	return all
}

func (h *hearing) invalid() ruling {
	switch weight := h.step.Step.Weight; {
	case h.step.Number == 0:
		return ruling{VerdictWait, CauseUnconfirmed, "the proxies have not acknowledged the step's weight yet"}
	case weight < 1 && !h.step.Step.Alone || weight < 0 || weight > 100:
		return ruling{VerdictHold, CauseInvalid, fmt.Sprintf("the step's weight of %d %% is not between 1 and 100; nothing was decided", weight)}
	case h.state.Rounds == 0 && h.sinceData() <= h.patience():
		return ruling{VerdictHold, CauseNoData, "no complete round of samples from both revisions yet; nothing was decided"}
	}
	return ruling{}
}

// fails says whether the canary is to blame for something that must not go on.
func (h *hearing) fails() ruling {
	if h.compared && h.glimpsed() >= h.config.decisive() {
		return ruling{VerdictFail, CauseWorse, h.explainGlimpse()}
	}
	for i, measure := range h.measures {
		m := &h.state.Measures[i]
		if m.Worse.Capped >= h.config.decisive() && (h.compared || measure.custom) {
			return ruling{VerdictFail, CauseWorse, h.explainWorse(i)}
		}
		if !measure.custom && h.over[i] >= h.config.decisive() && h.blamed(m) {
			return ruling{VerdictFail, CauseObjective, h.explainBreach(i)}
		}
	}
	return ruling{}
}

// blamed: with 95 % certainty it is the canary that breaks the objective. Where nothing is compared,
// what it did in this step alone must say so: before, it was compared. Where stable has gone, that must
// be worse than stable ever was.
func (h *hearing) blamed(m *MeasureState) bool {
	limit := math.Log(attribution)
	switch {
	case h.compared:
		return h.state.Starts.mixture(m.Blame, nil) >= limit
	case h.bereft(h.step.Step) && h.step.Number == h.state.Step.Number:
		return m.Past.worse() >= limit
	}
	return h.step.Start >= 0 && h.step.Number == h.state.Step.Number && alone(m.OverBets[h.step.Start]) >= limit
}

// ranges says whether other numbers are what they should be.
func (h *hearing) ranges() ruling {
	for i, bound := range h.config.Ranges {
		state := h.state.Ranges[i]
		if out := state.out(); out >= bound.Failures {
			return ruling{VerdictFail, CauseRange, fmt.Sprintf("%s was %s, not %s, in %d of the last %d samples; %d is allowed",
				bound.Name, number(state.Last), bound.bounds(), out, len(state.Out), bound.Failures-1)}
		}
	}
	return ruling{}
}

// shared: an objective is broken, and not by the canary alone.
func (h *hearing) shared() ruling {
	for i, measure := range h.measures {
		if measure.custom || h.over[i] < h.config.decisive() {
			continue
		}
		if h.config.OnSharedBreach == PolicyRollback {
			return ruling{VerdictFail, CauseShared, h.explainShared(i)}
		}
		return ruling{VerdictHold, CauseShared, h.explainShared(i)}
	}
	return ruling{}
}

// suspicious: some evidence speaks against the canary.
func (h *hearing) suspicious() ruling {
	for i, measure := range h.measures {
		m := &h.state.Measures[i]
		evidence := h.over[i]
		if h.compared || measure.custom {
			evidence = max(evidence, m.Worse.Capped)
		}
		if evidence >= math.Log(suspicious) {
			return ruling{VerdictHold, CauseSuspicious, h.explainSuspicious(i, evidence)}
		}
	}
	return ruling{}
}

// silent: nothing is known of now.
func (h *hearing) silent() ruling {
	if silence := h.sinceData(); silence > h.patience() {
		return ruling{VerdictHold, CauseNoData, fmt.Sprintf("no complete round of samples for %v; nothing was decided", silence.Round(time.Second))}
	}
	return ruling{}
}

func (h *hearing) sinceData() time.Duration { return h.now.Sub(h.state.End) }

// elapsed is the step's time. Time without data counts for nothing.
func (h *hearing) elapsed() time.Duration {
	from := h.state.End
	if h.step.Step.StartedAt.After(from) {
		from = h.step.Step.StartedAt
	}
	return h.step.Elapsed + max(0, min(h.now.Sub(from), h.patience()))
}

// passes says whether the step may be left, or else what it waits for. It is the last rule.
func (h *hearing) passes() ruling {
	elapsed, step := h.elapsed(), h.step.Step
	if elapsed < step.Hold {
		return ruling{VerdictWait, CauseClock, h.explainClock(step.Hold - elapsed)}
	}
	open, wait := h.open()
	if open < 0 && wait == "" {
		return ruling{VerdictPass, CauseEvidence, h.explainPass(0, "")}
	}
	maximum := max(h.config.StepMaximum, step.Hold)
	deadline := max(h.config.StepDeadline, maximum)
	switch {
	case wait == "" && elapsed >= maximum && h.step.Canary.Requests >= lowEvidenceRequests:
		return ruling{VerdictPass, CauseLowEvidence, h.explainPass(open, "low evidence, ")}
	case elapsed >= deadline && h.config.OnInconclusive == PolicyAdvance:
		return ruling{VerdictPass, CauseInconclusive, h.explainDeadline(max(open, 0), wait)}
	case elapsed >= deadline && h.config.OnInconclusive == PolicyRollback:
		return ruling{VerdictFail, CauseInconclusive, h.explainDeadline(max(open, 0), wait)}
	case elapsed >= deadline:
		return ruling{VerdictHold, CauseInconclusive, h.explainDeadline(max(open, 0), wait)}
	case wait != "":
		return ruling{VerdictWait, CauseRange, wait}
	case h.step.Canary.Requests == 0 && elapsed > h.patience():
		return ruling{VerdictHold, CauseFewRequests, fmt.Sprintf("the canary answered no request in the %v since weight %d %%; nothing was decided",
			elapsed.Round(time.Second), step.Weight)}
	}
	return ruling{VerdictWait, CauseFewRequests, h.explainWait(open, maximum-elapsed)}
}

// open is the first measure for which what would matter is not ruled out, or -1; and why a range
// keeps the step, if one does.
func (h *hearing) open() (index int, wait string) {
	for i, bound := range h.config.Ranges {
		state := h.state.Ranges[i]
		switch {
		case !state.LastAt.After(h.step.Step.StartedAt):
			wait = fmt.Sprintf("no number for %s since the step began", bound.Name)
		case !bound.holds(state.Last):
			wait = fmt.Sprintf("%s is %s, not %s; %d of the last %d samples were out of range, %d roll back",
				bound.Name, number(state.Last), bound.bounds(), state.out(), len(state.Out), bound.Failures)
		}
	}
	for i, measure := range h.measures {
		if !h.cleared(i, measure.matters(h.step.Step)) {
			return i, wait
		}
	}
	return -1, wait
}

// cleared says whether an excess of the canary over stable is ruled out, by all rounds and with some
// of it from this step's. Cold rounds count, but the warm ones are enough.
func (h *hearing) cleared(i int, excess float64) bool {
	if h.step.Number != h.state.Step.Number {
		return false // no round of this step yet
	}
	measure, m := h.measures[i], &h.state.Measures[i]
	if measure.custom && m.Run.All == 0 {
		return true // nothing of this metric happened: no data is no failure, and keeps nobody waiting
	}
	rules := (*Clearing).better
	if !h.compared {
		rules, excess = (*Clearing).under, measure.budget+excess
	}
	all := logMean(rules(&m.Run, excess), rules(&m.RunWarm, excess))
	inStep := logMean(rules(&m.Step, excess), rules(&m.StepWarm, excess))
	return all >= math.Log(1/h.config.MissedRegression) && inStep >= math.Log(stepEvidence)
}
