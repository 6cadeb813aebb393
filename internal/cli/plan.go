// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	kubernetesyaml "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/yaml"

	"github.com/sluice-mesh/sluice/analysis"
	"github.com/sluice-mesh/sluice/analysis/simulation"
	"github.com/sluice-mesh/sluice/api/v1alpha1"
	"github.com/sluice-mesh/sluice/rollout"
)

// What a Canary has that does not say it; the API server fills it in from the definition.
const (
	defaultSteps   = "5:1m,25:2m,50:2m,100:10m"
	defaultHold    = time.Minute
	defaultMaxHold = 2 * time.Hour
)

// planOptions say which plan is tried: that of a manifest, of flags, or of a manifest with parts
// replaced by flags.
type planOptions struct {
	file, name  string
	steps       string
	successRate float64
	latency     time.Duration
	// changed says which flags were given.
	changed func(flag string) bool
}

func (o *planOptions) bind(command *cobra.Command) {
	flags := command.Flags()
	usual := analysis.Defaults().Objectives
	flags.StringVarP(&o.file, "filename", "f", "", "file with a Canary whose plan is tried; - is the standard input")
	flags.StringVar(&o.name, "canary", "", "which Canary of the file, if it holds more than one")
	flags.Float64Var(&o.successRate, "gate-success-rate", usual.SuccessRate, "objective: percent of requests that succeed; replaces the file's")
	flags.DurationVar(&o.latency, "gate-latency-p99", usual.LatencyLimit, "objective: at most 1 % of responses take longer; replaces the file's")
	flags.StringVar(&o.steps, "steps", defaultSteps, "weights in percent with their holds; replaces the file's")
	o.changed = flags.Changed
}

// tryout is a plan, and the workload that it is for if a Canary says that.
type tryout struct {
	plan                simulation.Plan
	namespace, workload string
	// prometheus is the server that the Canary names, if it does.
	prometheus string
	// notes say what of a Canary the plan leaves out.
	notes []string
}

// read the file and the flags.
func (o *planOptions) read(in io.Reader) (*tryout, error) {
	tried := &tryout{}
	plan := &tried.plan
	*plan = simulation.Plan{Config: analysis.Defaults(), MaximumHold: defaultMaxHold, OnInconclusive: analysis.PolicyHold}
	for _, edge := range analysis.LatencyEdges() {
		plan.Histogram = append(plan.Histogram, edge.Seconds())
	}
	if o.file != "" {
		canary, err := o.find(in)
		if err != nil {
			return nil, err
		}
		if tried.notes, err = canary.into(plan); err != nil {
			return nil, fmt.Errorf("--filename %s: Canary %s: %w", o.file, canary.Name, err)
		}
		tried.namespace, tried.workload = canary.Namespace, canary.Spec.TargetRef.Name
		if named := canary.Spec.Gate.Prometheus; named != nil {
			tried.prometheus = named.Address
		}
	} else if o.name != "" {
		return nil, errors.New("--canary: give the file that holds it with --filename")
	}
	if o.file == "" || o.changed("steps") {
		var err error
		if plan.Steps, err = parseSteps(o.steps); err != nil {
			return nil, fmt.Errorf("--steps %s: %w", o.steps, err)
		}
	}
	if err := o.objectives(&plan.Config.Objectives); err != nil {
		return nil, err
	}
	plan.Config.Steps = len(plan.Steps)
	return tried, plan.Validate()
}

// objectives that flags replace.
func (o *planOptions) objectives(objectives *analysis.Objectives) error {
	if o.file == "" || o.changed("gate-success-rate") {
		objectives.SuccessRate = o.successRate
	}
	if o.file == "" || o.changed("gate-latency-p99") {
		objectives.LatencyLimit = o.latency
	}
	if rate := objectives.SuccessRate; !(rate > 0 && rate < 100) {
		return fmt.Errorf("--gate-success-rate %v: write a percentage above 0 and below 100, such as 99.9", rate)
	}
	if limit := objectives.LatencyLimit; analysis.LatencyEdge(limit) == 0 {
		return fmt.Errorf("--gate-latency-p99 %v: write at least 1ms, the lowest edge of the histogram", limit)
	}
	return nil
}

// parseSteps reads "5:1m,25:2m".
func parseSteps(text string) ([]simulation.Step, error) {
	var steps []simulation.Step
	for part := range strings.SplitSeq(text, ",") {
		weight, hold, found := strings.Cut(strings.TrimSpace(part), ":")
		percent, err := strconv.ParseFloat(weight, 64)
		if err != nil || !found {
			return nil, fmt.Errorf("%q is no step; write weight:hold with the weight in percent, such as 5:1m", part)
		}
		step := simulation.Step{Weight: percent / 100}
		if step.Hold, err = time.ParseDuration(hold); err != nil || step.Hold < 0 {
			return nil, fmt.Errorf("%q is no hold; write a duration such as 90s or 10m", hold)
		}
		if n := len(steps); !(step.Weight > 0) || step.Weight > 1 || n > 0 && step.Weight <= steps[n-1].Weight {
			return nil, fmt.Errorf("weight %s; write weights above 0 that rise from step to step up to 100", weight)
		}
		steps = append(steps, step)
	}
	if steps[len(steps)-1].Weight != 1 {
		return nil, errors.New("the last step must have weight 100; append ,100:10m")
	}
	return steps, nil
}

// manifest is a Canary as people write it, without what the API server adds.
type manifest struct {
	v1alpha1.Canary
	holds []*metav1.Duration
}

// find the Canary in the file.
func (o *planOptions) find(in io.Reader) (*manifest, error) {
	if o.file != "-" {
		file, err := os.Open(o.file)
		if err != nil {
			return nil, fmt.Errorf("--filename: %w", err)
		}
		defer file.Close() //nolint:errcheck // it was only read
		in = file
	}
	var found []*manifest
	var names []string
	for reader := kubernetesyaml.NewYAMLReader(bufio.NewReader(in)); ; {
		document, err := reader.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("--filename %s: %w", o.file, err)
		}
		var kind metav1.TypeMeta
		if err := yaml.Unmarshal(document, &kind); err != nil {
			return nil, fmt.Errorf("--filename %s: %w", o.file, err)
		}
		if kind.Kind != "Canary" || kind.APIVersion != v1alpha1.GroupVersion.String() {
			continue
		}
		canary, err := newManifest(document)
		if err != nil {
			return nil, fmt.Errorf("--filename %s: %w", o.file, err)
		}
		if o.name == "" || canary.Name == o.name {
			found, names = append(found, canary), append(names, canary.Name)
		}
	}
	switch {
	case len(found) == 1:
		return found[0], nil
	case len(found) > 1:
		return nil, fmt.Errorf("--filename %s holds the Canaries %s; say which with --canary", o.file, strings.Join(names, ", "))
	case o.name != "":
		return nil, fmt.Errorf("--canary %s: %s holds no Canary of that name", o.name, o.file)
	}
	return nil, fmt.Errorf("--filename %s holds no object of kind Canary and apiVersion %s", o.file, v1alpha1.GroupVersion)
}

func newManifest(document []byte) (*manifest, error) {
	scheme, err := newScheme()
	if err != nil {
		return nil, err
	}
	made := &manifest{}
	decoder := serializer.NewCodecFactory(scheme, serializer.EnableStrict).UniversalDeserializer()
	if _, _, err := decoder.Decode(document, nil, &made.Canary); err != nil {
		return nil, fmt.Errorf("read a Canary: %w", err)
	}
	// A hold of 0s and none are the same in the API's type.
	var written struct {
		Spec struct {
			Steps []struct{ Hold *metav1.Duration }
		}
	}
	if err := yaml.Unmarshal(document, &written); err != nil {
		return nil, fmt.Errorf("read a Canary: %w", err)
	}
	for _, step := range written.Spec.Steps {
		made.holds = append(made.holds, step.Hold)
	}
	return made, nil
}

// into puts what the Canary says into a plan.
func (m *manifest) into(plan *simulation.Plan) (notes []string, err error) {
	spec := m.Spec
	if spec.SkipAnalysis {
		return nil, errors.New("spec.skipAnalysis: the gate is not asked, so there is nothing to try; write false")
	}
	if plan.Steps, notes, err = m.weights(); err != nil {
		return nil, err
	}
	if plan.Config, err = rollout.GateOf(spec); err != nil {
		return nil, err
	}
	if len(spec.Gate.Metrics) > 0 { // A number that never comes would keep each run in its first step.
		plan.Config.Custom, plan.Config.Ranges = nil, nil
		notes = append(notes, "spec.gate.metrics are left out: metrics of the workload's own are not tried")
	}
	if spec.MaxHold != nil {
		plan.MaximumHold = spec.MaxHold.Duration
	}
	switch spec.OnInconclusive {
	case v1alpha1.InconclusiveRollback:
		plan.OnInconclusive = analysis.PolicyRollback
	case v1alpha1.InconclusivePromote:
		plan.OnInconclusive = analysis.PolicyAdvance
	case v1alpha1.InconclusiveHold, "":
	default:
		return nil, fmt.Errorf("spec.onInconclusive: %q is unknown; write hold, rollback or promote", spec.OnInconclusive)
	}
	return notes, nil
}

// weights are the steps that have one.
func (m *manifest) weights() (steps []simulation.Step, notes []string, err error) {
	if len(m.Spec.Steps) == 0 {
		steps, err = parseSteps(defaultSteps)
		return steps, nil, err
	}
	total, before := m.Spec.TotalWeight, int32(0)
	if total == 0 {
		total = 100
	}
	for i, step := range m.Spec.Steps {
		if step.Weight == 0 {
			notes = append(notes, fmt.Sprintf("spec.steps[%d] has no weight and is left out: who is chosen by a request's content is not modelled", i))
			continue
		}
		if step.Weight <= before || step.Weight > total {
			return nil, nil, fmt.Errorf("spec.steps[%d].weight: %d; write weights that rise from step to step up to spec.totalWeight, %d", i, step.Weight, total)
		}
		before = step.Weight
		hold := defaultHold
		if m.holds[i] != nil {
			hold = m.holds[i].Duration
		}
		steps = append(steps, simulation.Step{Weight: float64(step.Weight) / float64(total), Hold: hold})
	}
	if before != total {
		return nil, nil, fmt.Errorf("spec.steps: the last step must have weight %d; append {weight: %d, hold: 10m}", total, total)
	}
	return steps, notes, nil
}
