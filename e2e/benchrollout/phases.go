// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/sluice-mesh/sluice/api/v1alpha1"
	"github.com/sluice-mesh/sluice/e2e/benchreport"
)

// adopt starts the controller beside Canaries that it has never seen.
func (b *bed) adopt(ctx context.Context) ([]benchreport.Result, error) {
	began := time.Now()
	if err := b.startController(ctx); err != nil {
		return nil, err
	}
	if err := b.awaitPhase(ctx, v1alpha1.PhaseStable, len(b.workloads)); err != nil {
		return nil, err
	}
	return []benchreport.Result{{Case: b.name("new"), Metric: "until all are Stable", Unit: "s", Ours: time.Since(began).Seconds()}}, nil
}

func (b *bed) name(state string) string {
	return fmt.Sprintf("%d Canaries, %s", len(b.workloads), state)
}

// startAgain starts the controller anew beside Canaries at rest: it has to look at each, and has
// nothing to say.
func (b *bed) startAgain(ctx context.Context) ([]benchreport.Result, error) {
	if err := b.quiet(ctx); err != nil {
		return nil, err
	}
	before, err := b.versions(ctx)
	if err != nil {
		return nil, err
	}
	if err := b.stopController(); err != nil {
		return nil, err
	}
	if err := b.startController(ctx); err != nil {
		return nil, err
	}
	began := time.Now()
	if err := b.quiet(ctx); err != nil {
		return nil, err
	}
	last, err := b.read(ctx)
	if err != nil {
		return nil, err
	}
	after, err := b.versions(ctx)
	if err != nil {
		return nil, err
	}
	written := 0.0
	for uid, version := range after {
		if before[uid] != version {
			written++
		}
	}
	name := b.name("controller started again")
	return []benchreport.Result{
		{Case: name, Metric: "until nothing is left to look at", Unit: "s", Ours: last.at.Sub(began).Seconds()},
		{Case: name, Metric: "API reads for each Canary", Unit: "1", Ours: last.requests[http.MethodGet] / float64(len(b.workloads))},
		// The start itself writes, too: the lease, its event, the key of the records.
		atMost(0, benchreport.Result{Case: name, Metric: "Canaries and Deployments written", Unit: "1", Ours: written}),
		{Case: name, Metric: "processor", Unit: "s", Ours: last.processor.Seconds()},
	}, nil
}

// quiet waits until no reconciliation has ended for two seconds.
func (b *bed) quiet(ctx context.Context) error {
	const still = 2 * time.Second
	count, since := 0.0, time.Now()
	return b.await(ctx, "quiet", func() (bool, error) {
		found, err := scrape(ctx, b.metrics)
		if err != nil {
			return false, err
		}
		now := histogramOf(found, "controller_runtime_reconcile_time_seconds", "controller", "canary").count
		if now != count || now < float64(len(b.workloads)) {
			count, since = now, time.Now()
		}
		return time.Since(since) > still, nil
	})
}

// rest measures Canaries about which nothing changes.
func (b *bed) rest(ctx context.Context) ([]benchreport.Result, error) {
	before, after, err := b.during(ctx)
	if err != nil {
		return nil, err
	}
	name, minutes := b.name("at rest"), after.at.Sub(before.at).Minutes()
	return []benchreport.Result{
		{Case: name, Metric: "API reads", Unit: "1/min", Ours: (after.requests[http.MethodGet] - before.requests[http.MethodGet]) / minutes},
		atMost(0, benchreport.Result{Case: name, Metric: "API writes", Unit: "1/min", Ours: (after.writes() - before.writes()) / minutes}),
		{Case: name, Metric: "of the lease", Unit: "1/min", Ours: (after.requests[http.MethodPut] - before.requests[http.MethodPut]) / minutes},
		atMost(1, benchreport.Result{Case: name, Metric: "processor", Unit: "% of a core", Ours: busy(before, after)}),
		atMost(150, benchreport.Result{Case: name, Metric: "resident memory", Unit: "MB", Ours: after.resident / 1e6}),
	}, nil
}

// during reads before and after the time that is measured.
func (b *bed) during(ctx context.Context) (before, after reading, err error) {
	if before, err = b.read(ctx); err != nil {
		return before, after, err
	}
	select {
	case <-time.After(b.measure):
	case <-ctx.Done():
		return before, after, ctx.Err()
	}
	after, err = b.read(ctx)
	return before, after, err
}

// writes of the API server; those of the lease alone are PUT.
func (r reading) writes() float64 {
	return r.requests[http.MethodPost] + r.requests[http.MethodPatch] + r.requests[http.MethodDelete]
}

// busy is how much of a core was used, in percent.
func busy(before, after reading) float64 {
	return 100 * (after.processor - before.processor).Seconds() / after.at.Sub(before.at).Seconds()
}

// release lets Git change the template of all that are to run.
func (b *bed) release(ctx context.Context) ([]benchreport.Result, error) {
	began := time.Now()
	if err := b.eachOf(ctx, b.inRun(), func(ctx context.Context, key client.ObjectKey) error { return b.git(ctx, key, newImage) }); err != nil {
		return nil, err
	}
	if err := b.awaitPhase(ctx, v1alpha1.PhaseHolding, b.running); err != nil {
		return nil, err
	}
	return []benchreport.Result{{Case: fmt.Sprintf("%d runs begin at once", b.running), Metric: "until all have weight in force", Unit: "s", Ours: time.Since(began).Seconds()}}, nil
}

// settle waits until each run was looked at several times: the first look at a run reads its past, which is
// no part of the load that lasts.
func (b *bed) settle(ctx context.Context) error {
	const looks = 4
	before, err := b.read(ctx)
	if err != nil {
		return err
	}
	return b.await(ctx, "each run is looked at", func() (bool, error) {
		now, err := b.read(ctx)
		return now.reconciles.count-before.reconciles.count >= float64(looks*b.running), err
	})
}

// runOn measures runs whose gates are looked at.
func (b *bed) runOn(ctx context.Context) ([]benchreport.Result, error) {
	if err := b.settle(ctx); err != nil {
		return nil, err
	}
	before, after, err := b.during(ctx)
	if err != nil {
		return nil, err
	}
	counts, err := b.phases(ctx)
	if err != nil {
		return nil, err
	}
	if counts[v1alpha1.PhaseHolding] != b.running {
		return nil, fmt.Errorf("of %d runs only %d are still held at their step: %v", b.running, counts[v1alpha1.PhaseHolding], counts)
	}
	name, length := fmt.Sprintf("%d running beside %d at rest", b.running, b.idle), after.at.Sub(before.at)
	looks := after.reconciles.count - before.reconciles.count
	return []benchreport.Result{
		{Case: name, Metric: "looks", Unit: "1/min", Ours: looks / length.Minutes()},
		{Case: name, Metric: "API reads", Unit: "1/min", Ours: (after.requests[http.MethodGet] - before.requests[http.MethodGet]) / length.Minutes()},
		{Case: name, Metric: "API writes", Unit: "1/min", Ours: (after.writes() - before.writes()) / length.Minutes()},
		atMost(10, benchreport.Result{Case: name, Metric: "Prometheus queries", Unit: "1/interval", Ours: (after.queries - before.queries) * b.interval.Seconds() / length.Seconds()}),
		{Case: name, Metric: "processor", Unit: "% of a core", Ours: busy(before, after)},
		{Case: name, Metric: "resident memory", Unit: "MB", Ours: after.resident / 1e6},
		{Case: name, Metric: "resident memory, peak", Unit: "MB", Ours: after.peak / 1e6},
		{Case: name, Metric: "reconcile p99, at most", Unit: "ms", Ours: after.reconciles.quantile(.99, before.reconciles)},
		{Case: name, Metric: "queue p50, at most", Unit: "ms", Ours: after.waits.quantile(.5, before.waits)},
		{Case: name, Metric: "queue p99, at most", Unit: "ms", Ours: after.waits.quantile(.99, before.waits)},
	}, nil
}

var errNoRetreat = errors.New("the canary has kept its weight")
