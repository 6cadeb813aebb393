// SPDX-License-Identifier: Apache-2.0

package rollout

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/sluice-mesh/sluice/analysis"
	"github.com/sluice-mesh/sluice/api/v1alpha1"
)

// sampleEvery is how often numbers are looked at.
const sampleEvery = 15 * time.Second

// customOf reads the metrics of a spec into the gate's configuration.
func customOf(config *analysis.Config, metrics []v1alpha1.GateMetric) error {
	for i, metric := range metrics {
		path := fmt.Sprintf("spec.gate.metrics[%d]", i)
		switch {
		case metric.Counters != nil:
			objective, err := decimal(&metric.Counters.Objective)
			if err != nil {
				return fmt.Errorf("%s.counters.objective: %w", path, err)
			}
			config.Custom = append(config.Custom, analysis.Custom{Name: metric.Name, Objective: *objective})
		case metric.Number != nil:
			bound := analysis.Range{
				Name: metric.Name, Failures: int(orDefault(metric.Number.Failures, 2)), Window: int(orDefault(metric.Number.Of, 3)),
			}
			var err error
			if bound.Min, err = decimal(metric.Number.Min); err != nil {
				return fmt.Errorf("%s.number.min: %w", path, err)
			}
			if bound.Max, err = decimal(metric.Number.Max); err != nil {
				return fmt.Errorf("%s.number.max: %w", path, err)
			}
			config.Ranges = append(config.Ranges, bound)
		default:
			return fmt.Errorf("%s: write either counters or number", path)
		}
	}
	return nil
}

func decimal(value *intstr.IntOrString) (*float64, error) {
	if value == nil {
		return nil, nil
	}
	text := strings.TrimSpace(value.String())
	number, err := strconv.ParseFloat(text, 64)
	if err != nil {
		return nil, fmt.Errorf("%q is no number", text)
	}
	return &number, nil
}

// customQueries are the counters in the order of the configuration's.
func customQueries(metrics []v1alpha1.GateMetric) (queries []analysis.CustomQuery) {
	for _, metric := range metrics {
		if counters := metric.Counters; counters != nil {
			queries = append(queries, analysis.CustomQuery{Total: analysis.Selector(counters.Total), Good: analysis.Selector(counters.Good)})
		}
	}
	return queries
}

// sample the numbers whose last sample is old enough.
func sample(ctx context.Context, source analysis.Source, gate *analysis.Gate, metrics []v1alpha1.GateMetric, query analysis.Query) error {
	index := -1
	for _, metric := range metrics {
		if metric.Number == nil {
			continue
		}
		if index++; query.Now.Sub(gate.Sampled(index)) < sampleEvery {
			continue
		}
		numbers, ok := source.(analysis.Numbers)
		if !ok {
			return errors.New("the source of the metrics reads no numbers: take spec.gate.metrics[].number out")
		}
		hashes := []string{query.CanaryHash}
		if metric.Number.Pods == v1alpha1.PodsAll {
			hashes = append(hashes, query.StableHash)
		}
		value, err := numbers.Number(ctx, analysis.NumberQuery{
			Name: metric.Name, Namespace: query.Namespace, Hashes: hashes, Now: query.Now,
			Selector: analysis.Selector(metric.Number.MetricSelector), Aggregate: orDefault(metric.Number.Aggregate, "avg"),
		})
		if err != nil {
			return err
		}
		gate.Observe(index, value)
	}
	return nil
}
