// SPDX-License-Identifier: Apache-2.0

package cli

import (
	_ "embed" // the page
	"fmt"
	"html/template"
	"io"
	"math"
	"strings"
	"time"
)

//go:embed backtest.html
var backtestPage string

// Size of a plot in its own units.
const (
	plotWidth    = 1000
	plotHeight   = 170
	plotLeft     = 60
	plotTop      = 10
	plotBottom   = 145
	tickText     = 162
	plotMaxTicks = 12
)

// plot is bars over time.
type plot struct {
	Title, Highest                            string
	Width, Height, Left, Top, Bottom, TopText int
	Bars                                      []plotBar
	Ticks                                     []plotTick
	Limit                                     *plotLimit
}

type plotBar struct {
	X, Y, Width, Height string
	Class, Title        string
}

type plotTick struct{ X, Text string }

// plotLimit is a line that values should not exceed.
type plotLimit struct {
	X, Width       int
	Y, TextY, Text string
}

// page is what the template shows.
type page struct {
	Namespace, Workload string
	Facts               [][2]string
	Legend              []legendEntry
	Plots               []plot
	Tables              []pageTable
	TickText            int
}

type legendEntry struct{ Name, Class string }

type pageTable struct {
	Title string
	Head  []string
	Rows  [][]string
}

// writeHTML writes one file that loads nothing.
func (h *hindsight) writeHTML(out io.Writer) error {
	parsed, err := template.New("backtest").Parse(backtestPage)
	if err != nil {
		return fmt.Errorf("parse the page: %w", err)
	}
	shown := page{Namespace: h.Namespace, Workload: h.Workload, Facts: h.facts(), TickText: tickText}
	for _, outcome := range []string{hourPassed, hourFailed, hourUndecided, hourNoData} {
		shown.Legend = append(shown.Legend, legendEntry{outcome, classOf(outcome)})
	}
	shown.Plots = []plot{
		h.plot("Requests per second", "%.4g", 0, func(hour hindsightHour) float64 { return hour.Requests }),
		h.plot("Requests that failed, in percent", "%.3g %%", h.errorBudget, func(hour hindsightHour) float64 { return hour.ErrorsPercent }),
		h.plot("Requests over the latency limit, in percent", "%.3g %%", h.slowBudget, func(hour hindsightHour) float64 { return hour.SlowPercent }),
		h.plot("Good releases rolled back, in percent", "%.3g %%", h.PromisedPercent, func(hour hindsightHour) float64 {
			return 100 * float64(hour.RolledBack) / math.Max(1, float64(hour.Releases))
		}),
		h.plot("Minutes to the promotion", "%.3g min", 0, func(hour hindsightHour) float64 {
			if hour.PromotedAfter == nil {
				return 0
			}
			return *hour.PromotedAfter / 60
		}),
	}
	for _, table := range []struct {
		title string
		rows  [][]string
	}{{"The same canaries, spoilt", h.defectRows()}, {"Times at which releases did not all pass", h.hourRows()}} {
		if len(table.rows) > 1 {
			shown.Tables = append(shown.Tables, pageTable{table.title, table.rows[0], table.rows[1:]})
		}
	}
	if err := parsed.Execute(out, shown); err != nil {
		return fmt.Errorf("write the page: %w", err)
	}
	return nil
}

func classOf(outcome string) string { return strings.ReplaceAll(outcome, " ", "-") }

// plot draws one value of each hour. A limit of 0 is none.
func (h *hindsight) plot(title, format string, limit float64, value func(hindsightHour) float64) plot {
	p := plot{Title: title, Width: plotWidth, Height: plotHeight, Left: plotLeft, Top: plotTop, Bottom: plotBottom, TopText: plotTop + 8}
	highest := 1.25 * limit
	for _, hour := range h.Hours {
		highest = math.Max(highest, value(hour))
	}
	p.Highest = fmt.Sprintf(format, highest)
	units := func(at float64) string { return fmt.Sprintf("%.1f", at) }
	height := func(value float64) float64 {
		if highest <= 0 {
			return 0
		}
		return (plotBottom - plotTop) * value / highest
	}
	width := float64(plotWidth-plotLeft) / float64(max(1, len(h.Hours)))
	every := (len(h.Hours) + plotMaxTicks - 1) / plotMaxTicks
	for i, hour := range h.Hours {
		// A bar of nothing still shows what came of the hour.
		x, tall := plotLeft+width*float64(i), math.Max(2, height(value(hour)))
		p.Bars = append(p.Bars, plotBar{
			X: units(x), Y: units(plotBottom - tall), Width: units(math.Max(0.5, 0.9*width)), Height: units(tall),
			Class: classOf(hour.Outcome), Title: hour.title(fmt.Sprintf(format, value(hour))),
		})
		if i%every == 0 {
			p.Ticks = append(p.Ticks, plotTick{units(x), hour.Start.Format("01-02 15:04")})
		}
	}
	if limit > 0 {
		y := plotBottom - height(limit)
		p.Limit = &plotLimit{X: plotLeft, Width: plotWidth, Y: units(y), TextY: units(y - 4), Text: fmt.Sprintf(format, limit)}
	}
	return p
}

// title is what a pointer over a bar shows.
func (h hindsightHour) title(value string) string {
	text := fmt.Sprintf("%s: %s; %s", h.Start.Format(time.RFC3339), value, h.Outcome)
	if h.Reason != "" {
		text += ": " + h.Reason
	}
	return text
}
