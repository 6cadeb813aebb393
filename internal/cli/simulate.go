// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sluice-mesh/sluice/analysis/simulation"
)

const formatText = "text"

// ruleSluice is the name of our own rule beside other tools'.
const ruleSluice = "sluice"

type simulateOptions struct {
	planOptions
	serviceOptions
	defects  []string
	runs     int
	seed     uint32
	scrape   time.Duration
	interval time.Duration
	callers  int
	compare  bool
	output   string
}

func newSimulate() *cobra.Command {
	options := &simulateOptions{}
	command := &cobra.Command{
		Use:   "simulate",
		Short: "Try a plan on a modelled service: how soon it promotes, what it catches, how often it cries wolf",
		Long: `Play a plan many times on a modelled service, once with a canary that is as good as stable and once
for each defect, by the gate that the controller runs. Nothing is asked of a cluster.

The plan is that of a Canary in a file, or of flags. A defect is written as parts with commas between:
  errors=5      percentage points of requests that fail more than on stable
  latency=1.5   times as long as stable's
  stall=2       percent of requests that take 0.6 to 1.5 s
  step=3        it shows from the plan's third step on
  after=150s    it shows so long after the first step began
Without --defect the canary's defects are: as many errors as the objective allows, five times as many,
50 points more errors, and latencies half as long again.

docs/simulate.md says how the service is modelled.`,
		Args: cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error {
			return options.run(command.Context(), command.InOrStdin(), command.OutOrStdout())
		},
	}
	options.planOptions.bind(command)
	flags := command.Flags()
	options.serviceOptions.bind(flags)
	flags.StringArrayVar(&options.defects, "defect", nil, "what is wrong with the canary, such as errors=5,step=2; may be repeated")
	flags.IntVar(&options.runs, "runs", 1000, "how often each canary is released, 10 to 1000000")
	flags.Uint32Var(&options.seed, "seed", 1, "another seed gives other runs")
	flags.DurationVar(&options.scrape, "scrape-interval", 15*time.Second, "how often Prometheus scrapes, 1s to 5m")
	flags.DurationVar(&options.interval, "interval", 5*time.Second, "how often the canary is judged, 1s to 5m")
	flags.IntVar(&options.callers, "callers", 0, "count in so many callers' proxies, each scraped at once for both revisions; 0 counts in the pods")
	flags.BoolVar(&options.compare, "compare", false, "play Flagger's and Argo Rollouts' rules on the same runs")
	flags.StringVarP(&options.output, "output", "o", formatText, "text or json")
	return command
}

func (o *simulateOptions) run(ctx context.Context, in io.Reader, out io.Writer) error {
	if err := o.check(); err != nil {
		return err
	}
	tried, err := o.read(in)
	if err != nil {
		return err
	}
	plan := tried.plan
	service, err := o.service()
	if err != nil {
		return err
	}
	canaries, err := o.canaries(service, plan)
	if err != nil {
		return err
	}
	cells, err := simulation.Play(ctx, canaries, o.rules(plan), simulation.Runs{Count: o.runs, Seed: o.seed})
	if err != nil {
		return err
	}
	report := newForecast(plan, cells)
	notes := append(tried.notes, o.broken(plan.Config.Objectives)...)
	report.Notes, report.Service, report.Runs, report.Seed = notes, o.describe(), o.runs, o.seed
	report.Metrics = fmt.Sprintf("scraped every %v from %s, judged every %v", o.scrape, o.counters(), o.interval)
	if o.output == formatJSON {
		return writeObject(out, formatJSON, report)
	}
	return report.writeText(out)
}

func (o *simulateOptions) counters() string {
	if o.callers == 0 {
		return "4 stable and 2 canary pods"
	}
	return fmt.Sprintf("%d callers' proxies", o.callers)
}

// check the flags that stand for themselves.
func (o *simulateOptions) check() error {
	span := func(flag string, value time.Duration) error {
		if value < time.Second || value > 5*time.Minute {
			return fmt.Errorf("--%s %v: write a duration from 1s to 5m", flag, value)
		}
		return nil
	}
	if o.runs < 10 || o.runs > 1_000_000 {
		return fmt.Errorf("--runs %d: write a number from 10 to 1000000", o.runs)
	}
	if o.callers < 0 || o.callers > 100 {
		return fmt.Errorf("--callers %d: write a number from 0 to 100", o.callers)
	}
	if o.output != formatText && o.output != formatJSON {
		return fmt.Errorf("--output %s: write text or json", o.output)
	}
	return errors.Join(span("scrape-interval", o.scrape), span("interval", o.interval))
}

// rules that are played.
func (o *simulateOptions) rules(plan simulation.Plan) []simulation.Rule {
	vantage := simulation.Vantage{Scrape: o.scrape.Seconds(), Callers: o.callers}
	rules := []simulation.Rule{simulation.Gate(ruleSluice, plan, simulation.GateOptions{Vantage: vantage, Interval: o.interval.Seconds()})}
	if o.compare {
		tick := plan.MeanHold()
		rules = append(rules,
			simulation.Flagger(fmt.Sprintf("Flagger, every %v", tick), plan, tick.Seconds()),
			simulation.Argo("Argo, failureLimit 0", plan, 0),
			simulation.Argo("Argo, failureLimit 3", plan, 3))
	}
	return rules
}

// canaries are the good one and those with defects.
func (o *simulateOptions) canaries(service simulation.Scenario, plan simulation.Plan) ([]simulation.Scenario, error) {
	healthy := service
	healthy.Name, healthy.Good = "as good as stable", true
	canaries := []simulation.Scenario{healthy}
	defects := o.defects
	if len(defects) == 0 {
		points := func(budgets float64) string {
			return "errors=" + strconv.FormatFloat(math.Min(budgets*(100-plan.Config.Objectives.SuccessRate), 100), 'g', 4, 64)
		}
		defects = []string{points(1), points(5), "errors=50", "latency=1.5"}
	}
	for _, text := range defects {
		canary := service
		canary.Name = text
		if err := applyDefect(&canary, text, plan); err != nil {
			return nil, fmt.Errorf("--defect %s: %w", text, err)
		}
		canaries = append(canaries, canary)
	}
	return canaries, nil
}

// applyDefect reads "errors=5,step=2".
func applyDefect(canary *simulation.Scenario, text string, plan simulation.Plan) error {
	for part := range strings.SplitSeq(text, ",") {
		key, value, _ := strings.Cut(part, "=")
		var err error
		switch key {
		case "errors":
			canary.AddErrors, err = percentage(key, value)
		case "stall":
			canary.Stall, err = percentage(key, value)
		case "latency":
			canary.Slower, err = strconv.ParseFloat(value, 64)
			if err != nil || !(canary.Slower > 1 && canary.Slower <= 1000) {
				err = fmt.Errorf("latency=%s: write a factor above 1 and at most 1000, such as latency=1.5", value)
			}
		case "step":
			canary.OnsetWeight, err = weightOf(value, plan)
			canary.OnsetWeight *= 100
		case "after":
			canary.Onset, err = onset(value)
		default:
			err = fmt.Errorf("%q is no part of a defect; write errors=, latency=, stall=, step= or after=", part)
		}
		if err != nil {
			return err
		}
	}
	if canary.AddErrors == 0 && canary.Slower == 0 && canary.Stall == 0 {
		return errors.New("nothing is wrong with this canary; write errors=, latency= or stall= as well")
	}
	return nil
}
