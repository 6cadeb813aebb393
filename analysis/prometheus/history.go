// SPDX-License-Identifier: Apache-2.0

package prometheus

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/prometheus/common/model"

	"github.com/sluice-mesh/sluice/analysis"
)

// longestRecording bounds the window of one RecordingQuery.
const longestRecording = 24 * time.Hour

// RecordingQuery asks for what the pods of one workload counted in the past.
type RecordingQuery struct {
	Namespace string
	// Workload is the Deployment's name, in the label deployment.
	Workload string
	// The window; at most 24h.
	From, To time.Time
	// Before is how long before From is read as well, at most 1h.
	Before time.Duration
	// LatencyLimit: responses over it are slow.
	LatencyLimit time.Duration
}

// Recording is what the pods of one revision of a workload counted for a while: the revision that had
// the most pods when the window began. Requests that got no response at all are not in it, because
// callers count them by revision and not by pod.
type Recording struct {
	plan plan
	all  []series
	pods []string
}

// Record reads a Recording. Where the workload had no pods then, the Recording has none.
func (s *Source) Record(ctx context.Context, query RecordingQuery) (*Recording, error) {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	p, err := newRecordingPlan(query)
	if err != nil {
		return nil, fmt.Errorf("plan the queries for %s/%s: %w", query.Namespace, query.Workload, err)
	}
	value, err := s.read(ctx, p.census(), p.from)
	if err != nil {
		return nil, fmt.Errorf("count the pods of %s/%s: %w: %w", query.Namespace, query.Workload, ErrUnavailable, err)
	}
	if p.StableHash = largest(value); p.StableHash == "" {
		return &Recording{plan: p}, nil
	}
	p.CanaryHash = p.StableHash
	p.edges = s.edgesOf(ctx, p)
	streams, err := s.streams(ctx, []plan{p})
	if err != nil {
		return nil, fmt.Errorf("read the requests of %s/%s: %w: %w", query.Namespace, query.Workload, ErrUnavailable, err)
	}
	return newRecording(p, streams[revision{p.Namespace, p.StableHash}]), nil
}

func newRecordingPlan(query RecordingQuery) (plan, error) {
	p := plan{Query: analysis.Query{
		Namespace: query.Namespace, Workload: query.Workload,
		Since: query.From, Now: query.To, Before: query.Before, LatencyLimit: query.LatencyLimit,
	}, from: query.From, edge: analysis.LatencyEdge(query.LatencyLimit)}
	switch length := query.To.Sub(query.From); {
	case query.Namespace == "" || query.Workload == "":
		return p, errors.New("namespace and workload are needed")
	case query.From.IsZero() || length <= 0 || length > longestRecording:
		return p, fmt.Errorf("the window from %v to %v is not longer than nothing and at most %v", query.From, query.To, longestRecording)
	case query.Before < 0 || query.Before > longest:
		return p, fmt.Errorf("the time before the window %v is not from 0 to %v", query.Before, longest)
	case p.edge == 0:
		return p, fmt.Errorf("the latency limit %v is below the lowest bucket edge of 1ms", query.LatencyLimit)
	}
	return p, nil
}

// census asks which revisions had how many pods when the window began.
func (p plan) census() string {
	return fmt.Sprintf(`count by (%s) (last_over_time(%s{%s=%s,%s=%s,%s!=""}[%ds]))`, labelHash, presence,
		labelNamespace, quote(p.Namespace), labelWorkload, quote(p.Workload), labelHash, int64(lead/time.Second))
}

// largest revision of a census; of equal ones the first by name.
func largest(value model.Value) (hash string) {
	most := model.SampleValue(0)
	vector, _ := value.(model.Vector)
	for _, sample := range vector {
		name := string(sample.Metric[labelHash])
		if sample.Value > most || sample.Value == most && name < hash {
			most, hash = sample.Value, name
		}
	}
	return hash
}

// newRecording sorts an answer.
func newRecording(p plan, answer model.Matrix) *Recording {
	r := &Recording{plan: p}
	for _, stream := range answer {
		if string(stream.Metric[labelWorkload]) != p.Workload || stream.Metric[labelDirection] == outbound {
			continue // equal templates have equal hashes
		}
		s, ok := newSeries(p, stream)
		if !ok {
			continue
		}
		s.arm = stable
		r.all = append(r.all, s)
		there := slices.ContainsFunc(s.samples, func(s sample) bool { return !s.at.After(p.from) && p.from.Sub(s.at) < lead })
		if there && !slices.Contains(r.pods, s.pod) {
			r.pods = append(r.pods, s.pod)
		}
	}
	slices.Sort(r.pods)
	return r
}

// Revision is the pod-template-hash of the pods.
func (r *Recording) Revision() string { return r.plan.StableHash }

// Pods are those that were there when the window began.
func (r *Recording) Pods() []string { return slices.Clone(r.pods) }

// Rounds are those of the time before the window, in which all pods are stable's, and those of the
// window with some pods as the canary's. Without any, all are stable's.
func (r *Recording) Rounds(canaries []string) ([]analysis.Round, error) {
	p := r.plan
	p.alone = len(canaries) == 0
	split := slices.Clone(r.all)
	for i := range split {
		if slices.Contains(canaries, split[i].pod) {
			split[i].arm = canary
		}
	}
	p, err := complete(p, split)
	if err != nil {
		return nil, fmt.Errorf("count the requests of %s/%s: %w: %w", p.Namespace, p.Workload, ErrUnavailable, err)
	}
	var rounds []analysis.Round
	if p.Before > 0 {
		rounds = newAssembler(p.rehearsal(), before(r.all, p.from)).rounds()
	}
	return append(rounds, newAssembler(p, split).rounds()...), nil
}
