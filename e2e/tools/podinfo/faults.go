// SPDX-License-Identifier: Apache-2.0

package main

import (
	"math/rand/v2"
	"net/http"
	"time"
)

// faults are what goes wrong on purpose. Probes and metrics are spared: a pod that Kubernetes takes
// away is not what a canary's gate has to find.
type faults struct {
	errorPercent float64
	delayPercent float64
	delay        time.Duration
	work         time.Duration
}

func (f faults) inject(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/healthz", "/readyz", "/metrics":
			next.ServeHTTP(w, r)
			return
		}
		burn(f.work)
		if f.delay > 0 && hit(f.delayPercent) {
			timer := time.NewTimer(f.delay)
			defer timer.Stop()
			select {
			case <-timer.C:
			case <-r.Context().Done():
				return
			}
		}
		if hit(f.errorPercent) {
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
