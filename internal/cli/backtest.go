// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sluice-mesh/sluice/analysis/backtest"
	"github.com/sluice-mesh/sluice/analysis/prometheus"
	"github.com/sluice-mesh/sluice/analysis/simulation"
)

const (
	formatHTML = "html"
	// exitAlarms says that the gate cries wolf more often than it promises.
	exitAlarms = 2
	// rehearsal is how long before each release stable is read: its pods' differences and latencies.
	rehearsal = 10 * time.Minute
	// slack after the time in which a plan leaves its steps even with low evidence.
	slack = 5 * time.Minute
	// longestRelease is what may be read for one.
	longestRelease = 24 * time.Hour
	// backtestBytes bounds one answer; each is one release long.
	backtestBytes = 256 << 20
)

type backtestOptions struct {
	planOptions
	prometheus prometheusOptions
	namespace  string
	workload   string
	since      time.Duration
	from, to   string
	every      time.Duration
	interval   time.Duration
	timeout    time.Duration
	split      string
	releases   int
	seed       uint32
	defects    []string
	output     string
	now        func() time.Time
}

func newBacktest(now func() time.Time) *cobra.Command {
	options := &backtestOptions{now: now}
	command := &cobra.Command{
		Use:   "backtest",
		Short: "Try a gate on a workload's history in Prometheus: which hours would have failed, and why",
		Long: `Release, at each hour of a workload's history, a canary that was no other than stable: half of its
pods, with as many of their requests as the plan's weights give a canary. Whatever the gate rolls back
there is a false alarm. With --defect the same canaries are spoilt, to see what the gate catches:
  errors=5      percent of the requests that had not failed do
  slow=5        percent of the requests that were quick enough take longer than the objective's limit
  step=3        it shows from the plan's third step on
  after=150s    it shows so long after the first step began

Prometheus is only read. Exit code 2 says that more releases would have been rolled back than the gate
promises. docs/backtest.md says what is read and how it is judged.`,
		Args: cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error {
			return options.run(command.Context(), command.InOrStdin(), command.OutOrStdout())
		},
	}
	options.bind(command)
	flags := command.Flags()
	options.prometheus.bind(flags, "http://localhost:9090")
	flags.StringVarP(&options.namespace, "namespace", "n", "", "namespace of the workload; default is the Canary's")
	flags.StringVar(&options.workload, "workload", "", "name of the Deployment; default is the Canary's target")
	flags.DurationVar(&options.since, "since", 24*time.Hour, "how long ago the first release begins")
	flags.StringVar(&options.from, "from", "", "when the first release begins, as 2026-11-22T06:00:00Z; instead of --since")
	flags.StringVar(&options.to, "to", "", "when metrics end, as 2026-11-22T18:00:00Z; default is now")
	flags.DurationVar(&options.every, "every", time.Hour, "time from release to release, 1m to 168h")
	flags.DurationVar(&options.interval, "interval", 5*time.Second, "how often a canary is judged, 1s to 5m")
	flags.DurationVar(&options.timeout, "timeout", 30*time.Second, "how long Prometheus may take for one release's metrics")
	flags.StringVar(&options.split, "split", string(backtest.SplitPods), "what makes the canary: pods (half of them) or requests (drawn one by one)")
	flags.IntVar(&options.releases, "releases", 8, "releases at each time, each with other pods or requests, 1 to 200")
	flags.Uint32Var(&options.seed, "seed", 1, "another seed draws other pods and requests")
	flags.StringArrayVar(&options.defects, "defect", []string{"errors=5"}, "what is wrong with a spoilt canary, such as errors=5,step=2; may be repeated")
	flags.StringVarP(&options.output, "output", "o", formatText, "text, json or html")
	return command
}

func (o *backtestOptions) run(ctx context.Context, in io.Reader, out io.Writer) error {
	if err := o.check(); err != nil {
		return err
	}
	tried, err := o.read(in)
	if err != nil {
		return err
	}
	options, err := o.options(tried.plan)
	if err != nil {
		return err
	}
	if err := o.target(tried); err != nil {
		return err
	}
	if err := o.server(tried); err != nil {
		return err
	}
	source, err := o.prometheus.open(ctx, o.timeout, backtestBytes)
	if err != nil {
		return fmt.Errorf("flags --prometheus-*: %w", err)
	}
	defer source.Close()
	report, err := backtest.Run(ctx, options, func(ctx context.Context, from, to time.Time) (backtest.Recording, error) {
		return source.Record(ctx, prometheus.RecordingQuery{
			Namespace: o.namespace, Workload: o.workload, From: from, To: to,
			Before: rehearsal, LatencyLimit: tried.plan.Config.Objectives.LatencyLimit,
		})
	})
	if err != nil {
		return err
	}
	told := newHindsight(o, tried, options, report)
	switch o.output {
	case formatJSON:
		err = writeObject(out, formatJSON, told)
	case formatHTML:
		err = told.writeHTML(out)
	default:
		err = told.writeText(out)
	}
	if err != nil {
		return err
	}
	return told.alarm()
}

// check the flags that stand for themselves.
func (o *backtestOptions) check() error {
	span := func(flag string, value, low, high time.Duration) error {
		if value < low || value > high {
			return fmt.Errorf("--%s %v: write a duration from %v to %v", flag, value, low, high)
		}
		return nil
	}
	if o.split != string(backtest.SplitPods) && o.split != string(backtest.SplitRequests) {
		return fmt.Errorf("--split %s: write pods or requests", o.split)
	}
	if o.releases < 1 || o.releases > 200 {
		return fmt.Errorf("--releases %d: write a number from 1 to 200", o.releases)
	}
	if o.output != formatText && o.output != formatJSON && o.output != formatHTML {
		return fmt.Errorf("--output %s: write text, json or html", o.output)
	}
	return errors.Join(
		span("every", o.every, time.Minute, 7*24*time.Hour),
		span("interval", o.interval, time.Second, 5*time.Minute),
		span("timeout", o.timeout, time.Second, time.Hour),
		span("since", o.since, time.Minute, 10*365*24*time.Hour))
}

// target is the workload that flags or the Canary name.
func (o *backtestOptions) target(tried *tryout) error {
	if o.namespace == "" {
		o.namespace = tried.namespace
	}
	if o.workload == "" {
		o.workload = tried.workload
	}
	switch {
	case o.workload == "":
		return errors.New("--workload: write the Deployment's name, or give its Canary with --filename")
	case o.namespace == "":
		return errors.New("--namespace: write the namespace of the workload; the Canary names none")
	}
	return nil
}

// server is where the Canary's metrics are, unless a flag says where they are found from here. A file
// chooses no server for the credentials of who runs this: those are sent where a flag says.
func (o *backtestOptions) server(tried *tryout) error {
	given := &o.prometheus
	if tried.prometheus == "" || o.changed("prometheus-address") {
		return nil
	}
	if given.credentials != "" || len(given.headers) > 0 || given.tokenURL != "" {
		return fmt.Errorf("--prometheus-address: the Canary names %s; write the address to which credentials and headers are to be sent", tried.prometheus)
	}
	given.address = tried.prometheus
	return nil
}

// options of the backtest.
func (o *backtestOptions) options(plan simulation.Plan) (backtest.Options, error) {
	options := backtest.Options{
		Plan: plan, Every: o.every, Split: backtest.Split(o.split), Releases: o.releases, Seed: o.seed, Interval: o.interval,
	}
	var err error
	if options.End, err = moment("to", o.to, o.now()); err != nil {
		return options, err
	}
	if options.End.After(o.now()) {
		return options, fmt.Errorf("--to %s: write a time that has passed", o.to)
	}
	if options.From, err = moment("from", o.from, options.End.Add(-o.since)); err != nil {
		return options, err
	}
	if whole := options.From.Truncate(o.every); o.from == "" && whole.Before(options.From) {
		options.From = whole.Add(o.every)
	}
	var holds time.Duration
	for _, step := range plan.Steps {
		holds += step.Hold
		options.Length += max(step.Hold, plan.Config.StepMaximum)
	}
	options.Length += slack
	if options.Length > longestRelease {
		return options, fmt.Errorf("--steps: a release may take %v, at most %v are read for one; write shorter holds", options.Length, longestRelease)
	}
	options.To = options.End.Add(-holds)
	if !options.From.Before(options.To) {
		return options, fmt.Errorf("--from: no release fits between %s and %s, the plan's holds alone take %v; write an earlier time",
			options.From.UTC().Format(time.RFC3339), options.End.UTC().Format(time.RFC3339), holds)
	}
	for _, text := range o.defects {
		defect, err := parseSpoil(text, plan)
		if err != nil {
			return options, fmt.Errorf("--defect %s: %w", text, err)
		}
		options.Defects = append(options.Defects, defect)
	}
	return options, nil
}

func moment(flag, text string, usual time.Time) (time.Time, error) {
	if text == "" {
		return usual, nil
	}
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return at, fmt.Errorf("--%s %s: write a time such as 2026-11-22T06:00:00Z", flag, text)
	}
	return at, nil
}

// parseSpoil reads "errors=5,step=2".
func parseSpoil(text string, plan simulation.Plan) (backtest.Defect, error) {
	defect := backtest.Defect{Name: text}
	for part := range strings.SplitSeq(text, ",") {
		key, value, _ := strings.Cut(part, "=")
		var err error
		switch key {
		case "errors":
			defect.Errors, err = percentage(key, value)
		case "slow":
			defect.Slow, err = percentage(key, value)
		case "step":
			defect.OnsetWeight, err = weightOf(value, plan)
		case "after":
			defect.Onset, err = onset(value)
		default:
			err = fmt.Errorf("%q is no part of a defect; write errors=, slow=, step= or after=", part)
		}
		if err != nil {
			return defect, err
		}
	}
	if defect.Errors == 0 && defect.Slow == 0 {
		return defect, errors.New("nothing is wrong with this canary; write errors= or slow= as well")
	}
	return defect, nil
}
