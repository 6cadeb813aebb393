// SPDX-License-Identifier: Apache-2.0

package rollout

import (
	"context"
	"errors"
	"fmt"
	"math"
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
			bound, err := rangeOf(metric.Name, path+".number", metric.Number.MetricRange)
			if err != nil {
				return err
			}
			config.Ranges = append(config.Ranges, bound)
		case metric.Query != nil:
			bound, err := rangeOf(metric.Name, path+".query", metric.Query.MetricRange)
			if err != nil {
				return err
			}
			if isBoolean(metric.Query) {
				one := 1.0
				bound.Min, bound.Max = &one, &one
			}
			config.Ranges = append(config.Ranges, bound)
		default:
			return fmt.Errorf("%s: write one of counters, number and query", path)
		}
	}
	return nil
}

func rangeOf(name, path string, of v1alpha1.MetricRange) (analysis.Range, error) {
	bound := analysis.Range{Name: name, Failures: int(orDefault(of.Failures, 2)), Window: int(orDefault(of.Of, 3))}
	var err error
	if bound.Min, err = decimal(of.Min); err != nil {
		return bound, fmt.Errorf("%s.min: %w", path, err)
	}
	if bound.Max, err = decimal(of.Max); err != nil {
		return bound, fmt.Errorf("%s.max: %w", path, err)
	}
	return bound, nil
}

// isBoolean: the query answers 1 where all is well and 0 where it is not.
func isBoolean(query *v1alpha1.MetricQuery) bool { return query.Min == nil && query.Max == nil }

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

// sample the numbers whose last sample is old enough. One that cannot be read keeps none of the others
// from being seen; the first is told of.
func sample(ctx context.Context, source analysis.Source, gate *analysis.Gate, metrics []v1alpha1.GateMetric, query analysis.Query) error {
	index := -1
	var unread error
	for i, metric := range metrics {
		if metric.Counters != nil {
			continue
		}
		if index++; query.Now.Sub(gate.Sampled(index)) < sampleEvery {
			continue
		}
		value, err := numberOf(ctx, source, metric, query)
		if err == nil {
			gate.Observe(index, value)
		} else if unread == nil {
			unread = fmt.Errorf("%s: %w", numberPath(i, metric), err)
		}
	}
	return unread
}

// numberPath is the field that a number comes from.
func numberPath(index int, metric v1alpha1.GateMetric) string {
	if metric.Query != nil {
		return fmt.Sprintf("spec.gate.metrics[%d].query", index)
	}
	return fmt.Sprintf("spec.gate.metrics[%d].number", index)
}

// numberOf is the number of a metric now.
func numberOf(ctx context.Context, source analysis.Source, metric v1alpha1.GateMetric, query analysis.Query) (analysis.Value, error) {
	numbers, ok := source.(analysis.Numbers)
	if !ok {
		return analysis.Value{}, errors.New("the source of the metrics reads no numbers: take it out")
	}
	value, err := numbers.Number(ctx, numberQuery(metric, query))
	if err != nil {
		return value, err
	}
	if metric.Query != nil && isBoolean(metric.Query) && value.Number != 0 && value.Number != 1 && !math.IsNaN(value.Number) {
		return value, fmt.Errorf("%s is %v, neither 0 nor 1: write min or max", metric.Name, value.Number)
	}
	return value, nil
}

// numberQueries ask for the numbers of all metrics that are one.
func numberQueries(metrics []v1alpha1.GateMetric, query analysis.Query) (asked []analysis.NumberQuery) {
	for _, metric := range metrics {
		if metric.Counters == nil {
			asked = append(asked, numberQuery(metric, query))
		}
	}
	return asked
}

// numberQuery asks for the number of a metric.
func numberQuery(metric v1alpha1.GateMetric, query analysis.Query) analysis.NumberQuery {
	asked := analysis.NumberQuery{
		Name: metric.Name, Namespace: query.Namespace, Workload: query.Workload, Hashes: []string{query.CanaryHash}, Now: query.Now,
	}
	if metric.Query != nil {
		asked.Hashes, asked.Expression = append(asked.Hashes, query.StableHash), metric.Query.PromQL
		return asked
	}
	if metric.Number.Pods == v1alpha1.PodsAll {
		asked.Hashes = append(asked.Hashes, query.StableHash)
	}
	asked.Selector, asked.Aggregate = analysis.Selector(metric.Number.MetricSelector), orDefault(metric.Number.Aggregate, "avg")
	return asked
}
