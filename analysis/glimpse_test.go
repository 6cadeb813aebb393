// SPDX-License-Identifier: Apache-2.0

package analysis

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// read makes the scrapes of a pod every 5 s; the last is at a time, in seconds.
func read(pod string, canary bool, last float64, counts ...Counts) (scrapes []Scrape) {
	at := func(seconds float64) time.Time { return start.Add(time.Duration(seconds * float64(time.Second))) }
	for i, of := range counts {
		end := last - 5*float64(len(counts)-1-i)
		scrapes = append(scrapes, Scrape{Pod: pod, Canary: canary, From: at(end - 5), At: at(end), Counts: of})
	}
	return scrapes
}

// A glimpse needs all pods of the canary but one to fail, and half of stable's to be read after them and to be
// fine, in all the time that the canary's were counted in.
func TestGlimpse(t *testing.T) {
	bad, fine, half := Counts{Requests: 100, Errors: 50}, Counts{Requests: 100}, Counts{Requests: 100, Errors: 30}
	cases := []struct {
		name  string
		seen  [][]Scrape
		shows bool
	}{
		{"all at once", [][]Scrape{read("c1", true, 10, bad), read("c2", true, 10, bad), read("s1", false, 10, fine)}, true},
		{"stable read after it", [][]Scrape{read("c1", true, 10, bad), read("s1", false, 11, fine, fine), read("s2", false, 8, fine, fine)}, true},
		{"stable read before it", [][]Scrape{read("c1", true, 10, bad), read("s1", false, 9, fine, fine), read("s2", false, 8, fine, fine)}, false},
		{"a third of stable read after it", [][]Scrape{read("c1", true, 10, fine, bad), read("s1", false, 11, fine, fine), read("s2", false, 8, fine, fine), read("s3", false, 7, fine, fine)}, false},
		{"that third had gone", [][]Scrape{read("c1", true, 10, bad), read("s1", false, 11, fine, fine), read("s2", false, -9, fine, fine)}, true},
		{"one of two pods", [][]Scrape{read("c1", true, 10, bad), read("c2", true, 10, fine), read("s1", false, 10, fine)}, false},
		{"two of three pods", [][]Scrape{read("c1", true, 10, bad), read("c2", true, 10, fine), read("c3", true, 10, bad), read("s1", false, 10, fine)}, true},
		{"less than a quarter", [][]Scrape{read("c1", true, 10, Counts{Requests: 100, Errors: 24}), read("s1", false, 10, fine)}, false},
		{"nine failures", [][]Scrape{read("c1", true, 10, Counts{Requests: 9, Errors: 9}), read("s1", false, 10, fine)}, false},
		{"an outage of both began", [][]Scrape{read("c1", true, 10, half), read("s1", false, 11, fine, bad)}, false},
		{"an outage of both ended", [][]Scrape{read("c1", true, 10, half), read("s1", false, 14, half, fine)}, false},
		{"an outage of stable had ended before", [][]Scrape{read("c1", true, 10, half), read("s1", false, 14.9, bad, fine, fine)}, true},
		{"no stable", [][]Scrape{read("c1", true, 10, bad)}, false},
		{"scraped every second", [][]Scrape{{{Pod: "c1", Canary: true, From: start, At: start.Add(time.Second), Counts: bad}}, {{Pod: "s1", From: start, At: start.Add(time.Second), Counts: fine}}}, false},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			var scrapes []Scrape
			for _, pod := range c.seen {
				scrapes = append(scrapes, pod...)
			}
			require.Equal(t, c.shows, GlimpseOf(scrapes, 15*time.Second) != nil)
		})
	}
}

// What a glimpse shows fails a canary with one round, or none that is complete; it must be worth more the more
// have been looked at, and says what it saw.
func TestJudgeGlimpse(t *testing.T) {
	glimpse := func(errors uint64) *Glimpse {
		return &Glimpse{CanaryPods: []Counts{{Requests: 100, Errors: errors}}, StablePods: []Counts{{Requests: 100}, {Requests: 100}}}
	}
	cases := []struct {
		name   string
		errors uint64
		rounds int
		change func(*Config)
		fails  bool
	}{
		{"early", 60, 1, nil, true},
		{"late", 60, 2000, nil, true},
		{"few, early", 25, 1, nil, true},
		{"few, late", 25, 2000, nil, false},
		{"not compared", 60, 1, func(c *Config) { c.Compare = false }, false},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			config := Defaults()
			if c.change != nil {
				c.change(&config)
			}
			gate, err := Begin(config, start)
			require.NoError(t, err)
			gate.Enter(first)
			end := start
			for range c.rounds {
				end = end.Add(5 * time.Second)
				gate.Add(Round{End: end, Canary: Counts{Requests: 10}, Stable: Counts{Requests: 190}})
			}
			end = end.Add(5 * time.Second)
			gate.Add(Round{End: end, Open: true, Glimpse: glimpse(c.errors)})
			judgement := gate.Judge(end)
			require.Equal(t, c.fails, judgement.Verdict == VerdictFail, judgement.Reason)
			if c.fails {
				require.Equal(t, CauseWorse, judgement.Cause)
				require.Contains(t, judgement.Reason, "of 100 requests failed")
				require.Contains(t, judgement.Reason, "between two scrapes of the canary's pods, 0 of 200 (0 %) on stable, read after it")
			}
			gate.Add(Round{End: end.Add(time.Second), Canary: Counts{Requests: 10}, Stable: Counts{Requests: 190}})
			require.NotEqual(t, VerdictFail, gate.Judge(end.Add(time.Second)).Verdict, "a glimpse is of its moment")
		})
	}
}
