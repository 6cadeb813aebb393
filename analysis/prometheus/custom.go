// SPDX-License-Identifier: Apache-2.0

package prometheus

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/common/model"

	"github.com/sluice-mesh/sluice/analysis"
)

// A name is no value: it cannot be quoted, so it is checked.
var (
	metricName = regexp.MustCompile(`^[a-zA-Z_:][a-zA-Z0-9_:]*$`)
	labelName  = regexp.MustCompile(`^[a-zA-Z_][a-zA-Z0-9_]*$`)
)

// aggregations make one number of the pods' numbers.
func aggregations() []string { return []string{"sum", "avg", "min", "max"} }

// selected writes a selector of the series of some revisions in one namespace. Whatever the values
// hold, they stay values, and a selector cannot leave its namespace.
func selected(selector analysis.Selector, namespace string, hashes ...string) (string, error) {
	if !metricName.MatchString(selector.Metric) {
		return "", fmt.Errorf("%.100q is no name of a metric", selector.Metric)
	}
	matchers := []string{"__name__=" + quote(selector.Metric), labelNamespace + "=" + quote(namespace)}
	var alternatives []string
	for _, hash := range hashes {
		alternatives = append(alternatives, regexp.QuoteMeta(hash))
	}
	matchers = append(matchers, labelHash+"=~"+quote(strings.Join(alternatives, "|")))
	for _, label := range slices.Sorted(maps.Keys(selector.Labels)) {
		if !labelName.MatchString(label) || slices.Contains([]string{"__name__", labelNamespace, labelHash}, label) {
			return "", fmt.Errorf("%.100q is no label that may be selected by", label)
		}
		matchers = append(matchers, label+"="+quote(selector.Labels[label]))
	}
	return "{" + strings.Join(matchers, ",") + "}", nil
}

// count reads the custom metrics of a run into its rounds. What has no series has nothing in it, and so
// has a metric that cannot be read: the first such error is returned.
func (s *Source) count(ctx context.Context, p plan, rounds []analysis.Round) (unread error) {
	for i := range rounds {
		rounds[i].CanaryCustom = make([]analysis.Pair, len(p.Custom))
		rounds[i].StableCustom = make([]analysis.Pair, len(p.Custom))
	}
	for i, custom := range p.Custom {
		total, err := s.counters(ctx, p, custom.Total)
		good := []increment(nil)
		if err == nil {
			good, err = s.counters(ctx, p, custom.Good)
		}
		if err != nil {
			if unread == nil {
				unread = err
			}
			continue
		}
		p.deal(rounds, total, func(pair *analysis.Pair, n uint64) { pair.Total += n }, i)
		p.deal(rounds, good, func(pair *analysis.Pair, n uint64) { pair.Good += n }, i)
	}
	return unread
}

// counters reads what the counters of one selector grew by, oldest first.
func (s *Source) counters(ctx context.Context, p plan, selector analysis.Selector) ([]increment, error) {
	text, err := selected(selector, p.Namespace, p.CanaryHash, p.StableHash)
	if err != nil {
		return nil, err
	}
	value, err := s.read(ctx, text+p.window(), p.Now)
	if err != nil {
		return nil, err
	}
	matrix, ok := value.(model.Matrix)
	if !ok {
		return nil, errors.New("the answer holds no series of samples")
	}
	return p.grown(matrix), nil
}

// window is how far back a run's counters are read.
func (p plan) window() string {
	return fmt.Sprintf("[%ds]", int64((p.Now.Sub(p.from)+lead)/time.Second)+1)
}

// grown is what counters grew by.
func (p plan) grown(matrix model.Matrix) []increment {
	var all []series
	for _, stream := range matrix {
		arm, ok := p.armOf(string(stream.Metric[labelHash]))
		if !ok {
			continue
		}
		s := series{pod: podOf(stream), arm: arm, kind: succeeded}
		if s.samples = samples(stream, p.Now); len(s.samples) > 0 {
			all = append(all, s)
		}
	}
	seen := newSightings(all)
	var grown []increment
	for _, s := range all {
		grown = append(grown, s.increments(p.from, s.baseline(p, seen))...)
	}
	slices.SortStableFunc(grown, func(x, y increment) int { return x.at.Compare(y.at) })
	return grown
}

// deal increments out to the rounds that they ended in. What came after the last round is left.
func (p plan) deal(rounds []analysis.Round, grown []increment, add func(*analysis.Pair, uint64), index int) {
	next := 0
	for next < len(grown) && !grown[next].at.After(p.After) {
		next++
	}
	for i := range rounds {
		for ; next < len(grown) && !grown[next].at.After(rounds[i].End); next++ {
			pairs := rounds[i].StableCustom
			if grown[next].arm == canary {
				pairs = rounds[i].CanaryCustom
			}
			add(&pairs[index], uint64(math.Min(grown[next].amount, largestCount)))
		}
	}
}

// Number asks for one number over the pods of a revision. No series is no number, which is a NaN.
func (s *Source) Number(ctx context.Context, query analysis.NumberQuery) (analysis.Value, error) {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	unknown := analysis.Value{At: query.Now, Number: math.NaN()}
	text, err := numbered(query)
	if err != nil {
		return unknown, fmt.Errorf("plan the query for %s: %w", query.Name, err)
	}
	value, err := s.read(ctx, text, query.Now)
	if err != nil {
		return unknown, fmt.Errorf("read %s: %w: %w", query.Name, ErrUnavailable, err)
	}
	var canary, stable string
	if query.Expression != "" {
		canary, stable = query.Hashes[0], query.Hashes[1]
	}
	number, known, err := single(value, canary, stable)
	if err != nil {
		return unknown, fmt.Errorf("read %s: %w", query.Name, err)
	}
	if !known {
		return unknown, nil
	}
	return analysis.Value{At: query.Now, Number: number}, nil
}

// numbered is the query for a number.
func numbered(query analysis.NumberQuery) (string, error) {
	if query.Expression != "" {
		return expressed(query)
	}
	if !slices.Contains(aggregations(), query.Aggregate) {
		return "", fmt.Errorf("%.100q: write one of %s", query.Aggregate, strings.Join(aggregations(), ", "))
	}
	if query.Namespace == "" || len(query.Hashes) == 0 {
		return "", errors.New("namespace and the hash of a revision are needed")
	}
	text, err := selected(query.Selector, query.Namespace, query.Hashes...)
	if err != nil {
		return "", err
	}
	return query.Aggregate + "(" + text + ")", nil
}
