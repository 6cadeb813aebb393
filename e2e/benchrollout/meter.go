// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

// ticksPerSecond is the unit of /proc/<pid>/stat on every Linux of today.
const ticksPerSecond = 100

// reading is what the controller and Prometheus have counted up to an instant.
type reading struct {
	at        time.Time
	processor time.Duration
	// resident is memory in bytes now, peak the most it has been.
	resident, peak float64
	requests       map[string]float64 // by HTTP method
	queries        float64
	reconciles     histogram
	waits          histogram
}

func get(ctx context.Context, address string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, err
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Do(request)
	if err != nil {
		return nil, err
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("read %s: %s", address, response.Status)
	}
	return io.ReadAll(response.Body)
}

// scrape reads the samples that an address serves.
func scrape(ctx context.Context, address string) (model.Vector, error) {
	text, err := get(ctx, address)
	if err != nil {
		return nil, err
	}
	decoder := &expfmt.SampleDecoder{
		Dec:  expfmt.NewDecoder(bytes.NewReader(text), expfmt.NewFormat(expfmt.TypeTextPlain)),
		Opts: &expfmt.DecodeOptions{Timestamp: model.Now()},
	}
	var all model.Vector
	for {
		var some model.Vector
		switch err := decoder.Decode(&some); {
		case errors.Is(err, io.EOF):
			return all, nil
		case err != nil:
			return nil, fmt.Errorf("parse %s: %w", address, err)
		}
		all = append(all, some...)
	}
}

// read takes a reading of everything.
func (b *bed) read(ctx context.Context) (reading, error) {
	ours, err := scrape(ctx, b.metrics)
	if err != nil {
		return reading{}, err
	}
	theirs, err := scrape(ctx, b.prometheus+"/metrics")
	if err != nil {
		return reading{}, err
	}
	r := reading{at: time.Now(), requests: map[string]float64{}}
	for _, sample := range ours {
		if sample.Metric[model.MetricNameLabel] == "rest_client_requests_total" {
			r.requests[string(sample.Metric["method"])] += float64(sample.Value)
		}
	}
	for _, sample := range theirs {
		if sample.Metric[model.MetricNameLabel] == "prometheus_http_requests_total" && sample.Metric["handler"] == "/api/v1/query" {
			r.queries += float64(sample.Value)
		}
	}
	r.reconciles = histogramOf(ours, "controller_runtime_reconcile_time_seconds", "controller", "canary")
	r.waits = histogramOf(ours, "workqueue_queue_duration_seconds", "name", "canary")
	if len(r.reconciles.within) == 0 || len(r.waits.within) == 0 {
		return r, errors.New("the controller's metrics lack reconciliations or their queue")
	}
	process := b.process.Process.Pid
	if r.processor, err = processorTime(process); err != nil {
		return r, err
	}
	r.resident, r.peak, err = memory(process)
	return r, err
}

// histogram is how much was observed, in all and within each edge, in seconds.
type histogram struct {
	count  float64
	within map[float64]float64
}

func histogramOf(samples model.Vector, metric, label, value string) histogram {
	found := histogram{within: map[float64]float64{}}
	for _, sample := range samples {
		if string(sample.Metric[model.LabelName(label)]) != value {
			continue
		}
		switch string(sample.Metric[model.MetricNameLabel]) {
		case metric + "_count":
			found.count = float64(sample.Value)
		case metric + "_bucket":
			if edge, err := strconv.ParseFloat(string(sample.Metric["le"]), 64); err == nil {
				found.within[edge] = float64(sample.Value)
			}
		}
	}
	return found
}

// quantile of what was observed since another reading of a histogram, in milliseconds: the upper edge
// of the bucket in which it lies, so that it is never flattered.
func (h histogram) quantile(q float64, since histogram) float64 {
	for _, edge := range slices.Sorted(maps.Keys(h.within)) {
		if h.within[edge]-since.within[edge] >= q*(h.count-since.count) {
			return edge * 1e3
		}
	}
	return math.Inf(1)
}

// processorTime is what a process has used.
func processorTime(process int) (time.Duration, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", process))
	if err != nil {
		return 0, fmt.Errorf("read the processor time of %d: %w", process, err)
	}
	// The second field is a name in parentheses that may hold anything.
	fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
	const user, kernel = 11, 12
	if len(fields) <= kernel {
		return 0, fmt.Errorf("read the processor time of %d: %d fields", process, len(fields))
	}
	userTicks, userErr := strconv.ParseInt(fields[user], 10, 64)
	kernelTicks, kernelErr := strconv.ParseInt(fields[kernel], 10, 64)
	return time.Duration(userTicks+kernelTicks) * time.Second / ticksPerSecond, errors.Join(userErr, kernelErr)
}

// memory is how much of a process is resident, now and at most, in bytes.
func memory(process int) (now, peak float64, err error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", process))
	if err != nil {
		return 0, 0, fmt.Errorf("read the memory of %d: %w", process, err)
	}
	for line := range strings.Lines(string(text)) {
		fields := strings.Fields(line)
		if len(fields) != 3 {
			continue
		}
		kibibytes, err := strconv.ParseFloat(fields[1], 64)
		switch {
		case fields[0] == "VmRSS:" && err == nil:
			now = kibibytes * 1024
		case fields[0] == "VmHWM:" && err == nil:
			peak = kibibytes * 1024
		}
	}
	if now == 0 || peak == 0 {
		return 0, 0, fmt.Errorf("read the memory of %d: it is not said", process)
	}
	return now, peak, nil
}

// ranked is the value that a share of all is not above.
func ranked(values []time.Duration, share float64) time.Duration {
	ordered := slices.Sorted(slices.Values(values))
	return ordered[max(0, int(math.Ceil(share*float64(len(ordered))))-1)]
}
