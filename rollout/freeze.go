// SPDX-License-Identifier: Apache-2.0

package rollout

import (
	"fmt"
	"strings"
	"time"

	"github.com/adhocore/gronx"

	"github.com/sluice-mesh/sluice/api/v1alpha1"
)

// clockChange is more than any time zone's clock is set back by.
const clockChange = 3 * time.Hour

// frozen is the brake of the windows that are open; the one that closes last counts. A window that
// cannot be read freezes too: somebody wanted one. It is PURE.
func frozen(field string, windows []v1alpha1.FreezeWindow, now time.Time) *brake {
	var stop *brake
	for i, window := range windows {
		opened, err := lastOpening(window, now)
		if err != nil {
			return &brake{reason: v1alpha1.ReasonInvalidSpec, stalled: true, message: fmt.Sprintf("%s[%d].%s", field, i, err)}
		}
		closes := opened.Add(window.Duration.Duration)
		if opened.IsZero() || !closes.After(now) || stop != nil && !closes.After(stop.until) {
			continue
		}
		stop = &brake{reason: v1alpha1.ReasonFrozen, until: closes, message: fmt.Sprintf(
			"frozen by %s[%d] (%q in %s) until %s: no run begins and no weight rises",
			field, i, window.Schedule, zoneName(window), closes.UTC().Format(time.RFC3339))}
	}
	return stop
}

// lastOpening is the last time at or before now at which a window opened; zero if it never did. The
// schedule is read on a clock without a zone, and what it says is then looked up in the zone: a time
// that is skipped there still opens the window, and one that comes twice opens it once.
func lastOpening(window v1alpha1.FreezeWindow, now time.Time) (time.Time, error) {
	zone, err := time.LoadLocation(zoneName(window))
	if err != nil || zone == time.Local {
		return time.Time{}, fmt.Errorf("timeZone: %q is no time zone; write a name such as Europe/Berlin", window.TimeZone)
	}
	if len(strings.Fields(window.Schedule)) != 5 || !gronx.IsValid(window.Schedule) {
		return time.Time{}, fmt.Errorf("schedule: %q is no cron expression of five fields; write for instance \"0 18 * * 5\"", window.Schedule)
	}
	local := now.In(zone)
	wall := time.Date(local.Year(), local.Month(), local.Day(), local.Hour(), local.Minute(), local.Second(), 0, time.UTC)
	if window.Duration.Duration <= 0 {
		return time.Time{}, fmt.Errorf("duration: %s is no length of time; write for instance 12h", window.Duration.Duration)
	}
	// When the clock is set back, times later on the wall are already in the past.
	for reading := wall.Add(clockChange); ; reading = reading.Add(-time.Second) {
		reading, err = gronx.PrevTickBefore(window.Schedule, reading, true)
		if err != nil {
			return time.Time{}, fmt.Errorf("schedule: %q never comes; write one that does", window.Schedule)
		}
		if opened := moment(reading, zone); !opened.After(now) {
			return opened, nil
		}
	}
}

// moment is when the clock of a zone shows a reading for the first time; if it skips it, when it does.
func moment(reading time.Time, zone *time.Location) time.Time {
	at := time.Date(reading.Year(), reading.Month(), reading.Day(), reading.Hour(), reading.Minute(), reading.Second(), 0, zone)
	since, until := at.ZoneBounds()
	if at.Hour() != reading.Hour() || at.Minute() != reading.Minute() {
		// Skipped: Go answers in the zone before or after the change, and not which.
		if !since.IsZero() && at.Sub(since) <= clockChange {
			return since
		}
		return until
	}
	if since.IsZero() {
		return at
	}
	_, before := since.Add(-time.Second).Zone()
	_, after := at.Zone()
	if first := at.Add(time.Duration(after-before) * time.Second); first.Before(since) && first.Before(at) {
		return first
	}
	return at
}

func zoneName(window v1alpha1.FreezeWindow) string {
	if window.TimeZone == "" {
		return "UTC"
	}
	return window.TimeZone
}
