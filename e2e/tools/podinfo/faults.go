// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"math"
	"math/rand/v2"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"
)

// faults are what goes wrong on purpose. Probes and metrics are spared: a pod that Kubernetes takes
// away is not what a canary's gate has to find.
type faults struct {
	errorPercent float64
	delayPercent float64
	delay        time.Duration
	// delaySpread: a delay is this share of itself longer or shorter at most, all as often.
	delaySpread float64
	work        time.Duration
}

// pathFaults is where one pod alone is told to fail: PUT /faults?pod=<name>&error-percent=100. During a run
// the mesh may bring the request to another, which refuses it.
const pathFaults = "/faults"

func (f faults) inject(pod string, next http.Handler) http.Handler {
	var errorPercent atomic.Uint64
	errorPercent.Store(math.Float64bits(f.errorPercent))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/healthz", "/readyz", "/metrics":
			next.ServeHTTP(w, r)
			return
		case pathFaults:
			percent, err := strconv.ParseFloat(r.URL.Query().Get("error-percent"), 64)
			switch {
			case err != nil || r.Method != http.MethodPut:
				http.Error(w, fmt.Sprintf("write PUT %s?pod=<name>&error-percent=<number>", pathFaults), http.StatusBadRequest)
			case r.URL.Query().Get("pod") != pod:
				http.Error(w, "this is pod "+pod, http.StatusMisdirectedRequest)
			default:
				errorPercent.Store(math.Float64bits(percent))
			}
			return
		}
		burn(f.work)
		if f.delay > 0 && hit(f.delayPercent) {
			timer := time.NewTimer(time.Duration(float64(f.delay) * (1 + f.delaySpread*(2*rand.Float64()-1))))
			defer timer.Stop()
			select {
			case <-timer.C:
			case <-r.Context().Done():
				return
			}
		}
		if hit(math.Float64frombits(errorPercent.Load())) {
			w.Header().Set("X-Fault", "error")
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(http.StatusInternalServerError)
			_, _ = w.Write([]byte(`{"error":"injected by --fault-error-percent"}`))
			return
		}
		next.ServeHTTP(w, r)
	})
}

func hit(percent float64) bool { return percent > 0 && rand.Float64()*100 < percent }

// burn keeps a processor busy.
func burn(work time.Duration) {
	for began := time.Now(); time.Since(began) < work; {
		for range 1000 {
			continue
		}
	}
}
