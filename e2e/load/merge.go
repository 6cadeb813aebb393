// SPDX-License-Identifier: Apache-2.0

package load

import "maps"

// Merge adds up what several clients have seen. Quantiles are those of all answers together.
func Merge(all ...Counts) Counts {
	out := Counts{Failures: map[Class]uint64{}, Versions: map[string]Version{}, Pods: map[string]uint64{}}
	var latency Histogram
	for _, c := range all {
		if out.Since.IsZero() || c.Since.Before(out.Since) {
			out.Since = c.Since
		}
		out.Requests += c.Requests
		out.OK += c.OK
		out.Failed += c.Failed
		out.Calls += c.Calls
		out.InFlight += c.InFlight
		out.WorstLag = max(out.WorstLag, c.WorstLag)
		addUp(out.Failures, c.Failures)
		addUp(out.Pods, c.Pods)
		out.Samples = append(out.Samples, c.Samples...)
		for name, version := range c.Versions {
			sum := out.Versions[name]
			sum.Requests += version.Requests
			sum.OK += version.OK
			if sum.Failures == nil {
				sum.Failures = map[Class]uint64{}
			}
			addUp(sum.Failures, version.Failures)
			sum.Latency = sum.Latency.Add(version.Latency)
			out.Versions[name] = sum
			latency = latency.Add(version.Latency)
		}
	}
	out.P50 = milliseconds(latency.Quantile(0.50))
	out.P99 = milliseconds(latency.Quantile(0.99))
	return out
}

// Sub is what a version answered since earlier.
func (v Version) Sub(earlier Version) Version {
	out := Version{
		Requests: v.Requests - min(earlier.Requests, v.Requests),
		OK:       v.OK - min(earlier.OK, v.OK),
		Failures: maps.Clone(v.Failures),
		Latency:  v.Latency.Sub(earlier.Latency),
	}
	for class, n := range earlier.Failures {
		out.Failures[class] -= min(n, out.Failures[class])
	}
	return out
}

func addUp[K comparable](into, from map[K]uint64) {
	for key, n := range from {
		into[key] += n
	}
}
