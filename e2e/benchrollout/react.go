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
	// from are the workloads that it is given to, each once.
	from *[]client.ObjectKey
	// give the reason, and say since when it is there and where it is told that the canary has lost its traffic.
	give func(context.Context, client.ObjectKey) (time.Time, <-chan time.Time, error)
}

// reactAll times each reaction, one workload after the other, while all others go on.
func (b *bed) reactAll(ctx context.Context) ([]benchreport.Result, error) {
	running, resting := b.inRun(), b.atRest()
	for _, key := range resting[:min(b.repeats, len(resting))] { // Whoever is released anew has been scraped for long.
		b.exporter.let(key, flow{stable: oldHash(key)})
	}
	var all []benchreport.Result
	for _, r := range []reaction{
		{name: "sluice abort", from: &running, give: b.abort},
		{name: "first bad response (half of 50/s)", from: &resting, give: b.releaseBad, target: b.scrape + 1500*time.Millisecond},
		{name: "first bad response in mid-run", from: &running, give: b.spoil},
		{name: "Git reverts the template", from: &running, give: b.revert, target: time.Second},
		{name: "Git reverts it at weight 100, stable warm", from: &running, give: b.revertWarm, target: time.Second},
	} {
		left := *r.from
		if len(left) < b.repeats {
			return nil, fmt.Errorf("%d workloads are left for %s, %d are needed", len(left), r.name, b.repeats)
		}
		var took []time.Duration
		for i, key := range left[:b.repeats] {
			// A reaction ends shortly after a scrape; the next begins at another time between two of them.
			if _, err := until(ctx, time.After(b.scrape*time.Duration(i)/time.Duration(b.repeats))); err != nil {
				return nil, err
			}
			one, err := b.react(ctx, r, key)
			if err != nil {
				return nil, fmt.Errorf("%s for %s: %w", r.name, key, err)
			}
			took = append(took, one)
		}
		*r.from = left[b.repeats:]
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
	since, gone, err := r.give(ctx, key)
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
func (b *bed) abort(ctx context.Context, key client.ObjectKey) (time.Time, <-chan time.Time, error) {
	gone, began := b.mesh.retreat(key), time.Now()
	return began, gone, b.sluice(ctx, "abort", key)
}

// sluice runs a command about a workload's Canary.
func (b *bed) sluice(ctx context.Context, command string, key client.ObjectKey) error {
	output, err := exec.CommandContext(ctx, b.binary, command, key.Name, "--namespace="+key.Namespace, "--kubeconfig="+b.cluster.Kubeconfig).CombinedOutput()
	if err != nil {
		return fmt.Errorf("sluice %s: %w: %s", command, err, output)
	}
	return nil
}

// releaseBad releases a version that is bad from its first request.
func (b *bed) releaseBad(ctx context.Context, key client.ObjectKey) (time.Time, <-chan time.Time, error) {
	b.exporter.spoil(key)
	arrived := b.mesh.arrival(key)
	if err := b.git(ctx, key, newImage); err != nil {
		return time.Time{}, nil, err
	}
	at, err := until(ctx, arrived)
	return at, b.mesh.retreat(key), err
}

// until waits until something is told.
func until(ctx context.Context, told <-chan time.Time) (time.Time, error) {
	select {
	case at := <-told:
		return at, nil
	case <-ctx.Done():
		return time.Time{}, context.Cause(ctx)
	}
}

// spoil makes a version bad that was good so far.
func (b *bed) spoil(_ context.Context, key client.ObjectKey) (time.Time, <-chan time.Time, error) {
	gone := b.mesh.retreat(key)
	return b.exporter.spoil(key), gone, nil
}

// revertWarm reverts a version that has got all traffic while the pods of the one before are still there.
func (b *bed) revertWarm(ctx context.Context, key client.ObjectKey) (time.Time, <-chan time.Time, error) {
	arrived := b.mesh.arrival(key)
	if err := b.sluice(ctx, "promote", key); err != nil {
		return time.Time{}, nil, err
	}
	if _, err := until(ctx, arrived); err != nil {
		return time.Time{}, nil, err
	}
	return b.revert(ctx, key)
}

func (b *bed) revert(ctx context.Context, key client.ObjectKey) (time.Time, <-chan time.Time, error) {
	gone, began := b.mesh.retreat(key), time.Now()
	return began, gone, b.git(ctx, key, oldImage)
}
