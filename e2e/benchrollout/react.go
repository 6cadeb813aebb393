// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"os/exec"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/sluice-mesh/sluice/e2e/benchreport"
)

// reaction is a reason to take traffic back.
type reaction struct {
	name string
	// target of the 95th percentile; 0 for none.
	target time.Duration
	// give the reason, and say since when it is there.
	give func(context.Context, client.ObjectKey) (time.Time, error)
}

// reactAll times each reaction, one workload after the other, while all others go on.
func (b *bed) reactAll(ctx context.Context) ([]benchreport.Result, error) {
	left := b.inRun()
	var all []benchreport.Result
	for _, r := range []reaction{
		{name: "sluice abort", give: b.abort},
		{name: "first bad response (half of 50/s)", give: b.spoil, target: b.scrape + 1500*time.Millisecond},
		{name: "Git reverts the template", give: b.revert, target: time.Second},
	} {
		if len(left) < b.repeats {
			return nil, fmt.Errorf("%d workloads are left in a run, %d are needed", len(left), b.repeats)
		}
		var took []time.Duration
		for _, key := range left[:b.repeats] {
			one, err := b.react(ctx, r, key)
			if err != nil {
				return nil, fmt.Errorf("%s for %s: %w", r.name, key, err)
			}
			took = append(took, one)
		}
		left = left[b.repeats:]
		name := fmt.Sprintf("%s, %d times", r.name, b.repeats)
		slow := benchreport.Result{Case: name, Metric: "to acknowledged weight 0, p95", Unit: "ms", Ours: milliseconds(ranked(took, .95))}
		if r.target > 0 {
			slow = atMost(milliseconds(r.target), slow)
		}
		all = append(all,
			benchreport.Result{Case: name, Metric: "to acknowledged weight 0, p50", Unit: "ms", Ours: milliseconds(ranked(took, .5))}, slow,
			benchreport.Result{Case: name, Metric: "to acknowledged weight 0, max", Unit: "ms", Ours: milliseconds(ranked(took, 1))})
	}
	return all, nil
}

func milliseconds(d time.Duration) float64 { return d.Seconds() * 1e3 }

func (b *bed) react(ctx context.Context, r reaction, key client.ObjectKey) (time.Duration, error) {
	const patience = 10 * time.Minute
	ctx, cancel := context.WithTimeoutCause(ctx, patience, errNoRetreat)
	defer cancel()
	gone := b.mesh.retreat(key)
	since, err := r.give(ctx, key)
	if err != nil {
		return 0, err
	}
	select {
	case at := <-gone:
		return at.Sub(since), nil
	case <-b.process.done:
		return 0, fmt.Errorf("the controller has ended: %w", b.process.failed)
	case <-ctx.Done():
		return 0, context.Cause(ctx)
	}
}

// abort is what a person types; the program's start counts.
func (b *bed) abort(ctx context.Context, key client.ObjectKey) (time.Time, error) {
	began := time.Now()
	output, err := exec.CommandContext(ctx, b.binary, "abort", key.Name, "--namespace="+key.Namespace, "--kubeconfig="+b.cluster.Kubeconfig).CombinedOutput()
	if err != nil {
		return began, fmt.Errorf("sluice abort: %w: %s", err, output)
	}
	return began, nil
}

func (b *bed) spoil(_ context.Context, key client.ObjectKey) (time.Time, error) {
	return b.exporter.spoil(key), nil
}

func (b *bed) revert(ctx context.Context, key client.ObjectKey) (time.Time, error) {
	began := time.Now()
	return began, b.git(ctx, key, oldImage)
}
