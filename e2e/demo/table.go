// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/sluice-mesh/sluice/e2e/load"
	"github.com/sluice-mesh/sluice/e2e/timeline"
)

// row is the table's view of one moment.
type row struct {
	elapsed        time.Duration
	release        string // "v1 > v2"
	phase          string
	step           string
	weight         int32
	canary, stable load.Version
	verdict        string
}

const header = "  time  release  phase        step  weight    canary ok      p99    stable ok      p99  verdict"

// newRow reads a state. from and to are the versions that stable and canary run.
func newRow(state timeline.State, m *meter, from, to string, elapsed time.Duration) row {
	r := row{elapsed: elapsed, release: from, stable: m.recent(from), phase: "-"}
	if to != "" {
		r.release, r.canary = from+" > "+to, m.recent(to)
	}
	if state.Canary == nil {
		return r
	}
	status := state.Canary.Status
	r.phase, r.weight = string(status.Phase), status.Weight
	if r.weight > 0 {
		r.step = fmt.Sprintf("%d/%d", status.Step+1, len(state.Canary.Spec.Steps))
	}
	if status.Verdict != nil && to != "" {
		r.verdict = status.Verdict.Verdict + ": " + status.Verdict.Reason
	}
	return r
}

func (r row) String() string {
	seconds := int(r.elapsed.Seconds())
	return fmt.Sprintf("%3d:%02d  %-7s  %-11s %5s  %4d %%  %s  %s  %s",
		seconds/60, seconds%60, r.release, r.phase, r.step, r.weight, side(r.canary), side(r.stable), r.verdict)
}

// side is a success rate and a latency, or blanks when nothing was asked.
func side(v load.Version) string {
	if v.Requests == 0 {
		return fmt.Sprintf("%11s  %7s", "-", "-")
	}
	rate := 100 * float64(v.OK) / float64(v.Requests)
	return fmt.Sprintf("%9.2f %%  %7s", rate, shortly(v.Latency.Quantile(0.99)))
}

func shortly(d time.Duration) string {
	switch {
	case d == 0:
		return "-"
	case d < 10*time.Millisecond:
		return fmt.Sprintf("%.1f ms", float64(d.Microseconds())/1000)
	case d < 10*time.Second:
		return fmt.Sprintf("%d ms", d.Milliseconds())
	}
	return d.Round(time.Second).String()
}

// changes says whether a reader of appended lines would want another one.
func (r row) changes(since row) bool {
	return r.release != since.release || r.phase != since.phase || r.weight != since.weight || r.step != since.step
}

// screen shows rows and sentences. On a terminal the newest row is redrawn in place until something
// changes; elsewhere a row is written when something changes, and every few seconds.
type screen struct {
	out      io.Writer
	terminal bool
	width    int // 0 when unbounded

	mu     sync.Mutex
	last   row
	lastAt time.Time
	open   bool // the cursor stands behind a row that may be redrawn
	titled bool
}

// quiet is the longest time without a row where rows are appended.
const quiet = 5 * time.Second

func (s *screen) show(r row, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	changed := r.changes(s.last) || s.lastAt.IsZero()
	if !s.terminal && !changed && now.Sub(s.lastAt) < quiet {
		return
	}
	if !s.titled {
		s.write("\n" + s.cut(header) + "\n")
		s.titled = true
	}
	switch {
	case !s.terminal:
		s.write(r.String() + "\n")
	case s.open && !changed:
		s.write("\r\033[K" + s.cut(r.String()))
	case s.open:
		s.write("\n" + s.cut(r.String()))
	default:
		s.write(s.cut(r.String()))
		s.open = true
	}
	s.last, s.lastAt = r, now
}

// say writes a sentence on lines of its own.
func (s *screen) say(format string, values ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.endRow()
	s.write(fmt.Sprintf(format, values...) + "\n")
}

// Write lets the screen take other programs' progress.
func (s *screen) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.endRow()
	s.write(string(p))
	return len(p), nil
}

func (s *screen) endRow() {
	if s.open {
		s.write("\n")
		s.open = false
	}
	s.titled = false
}

func (s *screen) cut(line string) string {
	runes := []rune(line)
	if s.width > 0 && len(runes) > s.width {
		return string(runes[:s.width-1]) + "…"
	}
	return line
}

func (s *screen) write(text string) {
	// A reader who has gone is no reason to fail.
	_, _ = io.Copy(s.out, strings.NewReader(text))
}
