// SPDX-License-Identifier: Apache-2.0

package prometheus

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/prometheus/common/model"

	"github.com/sluice-mesh/sluice/analysis"
)

const (
	// together is how many runs are asked for at once, by queriesByBatch queries: 500 runs are 4.
	together       = 250
	queriesByBatch = 2
	// remembered is of how many runs the edges are kept.
	remembered = 10_000
)

// Answer is what is known of one run. Without an error and without rounds nothing has happened yet; rounds
// with an error lack custom metrics.
type Answer struct {
	Rounds []analysis.Round
	Err    error
}

// RoundsOf reads many runs at once: two requests for each 250 of them, one more in the life of each
// run that asks for the time before it, and two for each custom metric. The answers are in the order of the queries. If an answer is
// too large, its runs are asked for in halves.
func (s *Source) RoundsOf(ctx context.Context, queries []analysis.Query) []Answer {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	answers := make([]Answer, len(queries))
	var plans []plan
	var places []int
	for i, query := range queries {
		p, err := newPlan(query)
		if err != nil {
			answers[i].Err = fmt.Errorf("plan the queries for %s/%s: %w", query.Namespace, query.Workload, err)
			continue
		}
		p.edges = s.edgesOf(ctx, p)
		plans, places = append(plans, p), append(places, i)
	}
	for len(plans) > 0 {
		n := min(together, len(plans))
		for i, answer := range s.chunk(ctx, plans[:n]) {
			answers[places[i]] = answer
		}
		plans, places = plans[n:], places[n:]
	}
	return answers
}

// chunk reads some runs with one batch of queries.
func (s *Source) chunk(ctx context.Context, plans []plan) []Answer {
	answers := make([]Answer, len(plans))
	streams, err := s.streams(ctx, plans)
	if half := len(plans) / 2; errors.Is(err, errTooLarge) && half > 0 {
		return append(s.chunk(ctx, plans[:half]), s.chunk(ctx, plans[half:])...)
	}
	for i, p := range plans {
		if err != nil {
			answers[i].Err = fmt.Errorf("read the requests of %s/%s: %w: %w", p.Namespace, p.Workload, ErrUnavailable, err)
			continue
		}
		own := append(streams[revision{p.Namespace, p.CanaryHash}], streams[revision{p.Namespace, p.StableHash}]...)
		if answers[i].Rounds, err = fold(p, own); err != nil {
			answers[i].Err = fmt.Errorf("count the requests of %s/%s: %w: %w", p.Namespace, p.Workload, ErrUnavailable, err)
			err = nil
		} else if len(p.Custom) > 0 {
			if failed := s.count(ctx, p, answers[i].Rounds); failed != nil {
				answers[i].Err = fmt.Errorf("count the metrics of %s/%s: %w: %w", p.Namespace, p.Workload, ErrUnavailable, failed)
			}
		}
	}
	return answers
}

// revision that a series speaks of.
type revision struct{ namespace, hash string }

// streams reads all series of some runs, by the revision that they speak of.
func (s *Source) streams(ctx context.Context, plans []plan) (map[revision]model.Matrix, error) {
	now := plans[0].Now
	for _, p := range plans {
		if p.Now.After(now) {
			now = p.Now
		}
	}
	streams := map[revision]model.Matrix{}
	for _, selector := range selectors(plans) {
		value, err := s.read(ctx, selector, now)
		if err != nil {
			return nil, err
		}
		matrix, ok := value.(model.Matrix)
		if !ok {
			return nil, errors.New("the answer holds no series of samples")
		}
		for _, stream := range matrix {
			key := revision{string(stream.Metric[labelNamespace]), string(stream.Metric[labelHash])}
			if stream.Metric[labelDirection] == outbound {
				key = revision{string(stream.Metric[labelDestinationNamespace]), string(stream.Metric[labelDestination])}
			}
			streams[key] = append(streams[key], stream)
		}
	}
	return streams, nil
}

// edgesOf asks once in a run at which edges its latencies are best compared. While that is not known
// they are compared at the objective's only.
func (s *Source) edgesOf(ctx context.Context, p plan) (picked [2]time.Duration) {
	if p.edge == 0 || p.Before < time.Minute || p.Edges != picked {
		return p.Edges
	}
	key := fmt.Sprint(p.Namespace, "/", p.StableHash, p.Since.Unix(), p.edge)
	s.mutex.Lock()
	picked, ok := s.edges[key]
	s.mutex.Unlock()
	if ok {
		return picked
	}
	value, err := s.read(ctx, p.histogram(), p.Since)
	vector, isVector := value.(model.Vector)
	if err != nil || !isVector {
		return picked
	}
	picked = analysis.Edges(shares(vector), p.LatencyLimit)
	s.mutex.Lock()
	defer s.mutex.Unlock()
	if len(s.edges) >= remembered {
		clear(s.edges)
	}
	s.edges[key] = picked
	return picked
}

// shares of responses over each edge.
func shares(vector model.Vector) []analysis.EdgeShare {
	var shares []analysis.EdgeShare
	var all float64
	for _, sample := range vector {
		if sample.Metric[labelEdge] == "+Inf" {
			all = float64(sample.Value)
		}
	}
	for _, sample := range vector {
		milliseconds, err := strconv.ParseFloat(string(sample.Metric[labelEdge]), 64)
		if err != nil || !(all > 0) || !(milliseconds > 0 && milliseconds < 1e9) {
			continue
		}
		shares = append(shares, analysis.EdgeShare{
			Edge:  time.Duration(milliseconds * float64(time.Millisecond)),
			Share: 1 - float64(sample.Value)/all,
		})
	}
	return shares
}
