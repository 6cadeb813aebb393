// SPDX-License-Identifier: Apache-2.0

package rollout

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/sluice-mesh/sluice/analysis"
	"github.com/sluice-mesh/sluice/api/v1alpha1"
)

func window(schedule, duration, zone string) v1alpha1.FreezeWindow {
	length, err := time.ParseDuration(duration)
	if err != nil {
		panic(err)
	}
	return v1alpha1.FreezeWindow{Schedule: schedule, Duration: metav1.Duration{Duration: length}, TimeZone: zone}
}

func TestFrozen(t *testing.T) {
	const berlin = "Europe/Berlin"
	weekend := window("0 18 * * 5", "62h", "")
	for _, c := range []struct {
		name   string
		window v1alpha1.FreezeWindow
		now    string
		until  string // empty: open for runs
	}{
		{"before it opens", weekend, "2026-11-20T17:59:59Z", ""},
		{"as it opens", weekend, "2026-11-20T18:00:00Z", "2026-11-23T08:00:00Z"},
		{"in the middle", weekend, "2026-11-22T12:00:00Z", "2026-11-23T08:00:00Z"},
		{"as it closes", weekend, "2026-11-23T08:00:00Z", ""},
		{"in another zone", window("0 18 * * 5", "1h", berlin), "2026-11-20T17:30:00Z", "2026-11-20T18:00:00Z"},
		{"openings that overlap", window("*/10 * * * *", "1h", ""), "2026-11-20T17:35:00Z", "2026-11-20T18:30:00Z"},
		{"days of the month or of the week, as cron reads both", window("0 0 1 * 1", "24h", ""), "2026-11-16T01:00:00Z", "2026-11-17T00:00:00Z"},
		{"a leap day, years ago", window("0 0 29 2 *", "24h", ""), "2026-11-20T00:00:00Z", ""},
		{"December by name", window("0 0 15 DEC *", "408h", ""), "2026-12-31T00:00:00Z", "2027-01-01T00:00:00Z"},
		// In Berlin 2026-03-29 goes from 02:00 to 03:00 at 01:00Z; 02:30 is skipped.
		{"opens at a skipped time: before", window("30 2 * * *", "1h", berlin), "2026-03-29T00:59:59Z", ""},
		{"opens at a skipped time: when the clock changes", window("30 2 * * *", "1h", berlin), "2026-03-29T01:00:00Z", "2026-03-29T02:00:00Z"},
		{"duration is elapsed time over the change", window("0 1 * * *", "3h", berlin), "2026-03-29T02:59:00Z", "2026-03-29T03:00:00Z"},
		{"the day after the change", window("30 2 * * *", "1h", berlin), "2026-03-30T00:30:00Z", "2026-03-30T01:30:00Z"},
		// 2026-10-25 goes from 03:00 back to 02:00 at 01:00Z; 02:30 comes at 00:30Z and at 01:30Z.
		{"opens at a time that comes twice: the first", window("30 2 * * *", "30m", berlin), "2026-10-25T00:30:00Z", "2026-10-25T01:00:00Z"},
		{"opens at a time that comes twice: not again", window("30 2 * * *", "30m", berlin), "2026-10-25T01:30:00Z", ""},
		{"over the repeated hour", window("30 2 * * *", "1h", berlin), "2026-10-25T01:05:00Z", "2026-10-25T01:30:00Z"},
		{"south of the equator, half an hour", window("15 2 * * *", "1h", "Australia/Lord_Howe"), "2026-10-03T15:30:00Z", "2026-10-03T16:30:00Z"},
	} {
		t.Run(c.name, func(t *testing.T) {
			now, err := time.Parse(time.RFC3339, c.now)
			require.NoError(t, err)
			stop := frozen("spec.freezes", []v1alpha1.FreezeWindow{c.window}, now)
			if c.until == "" {
				require.Nil(t, stop)
				return
			}
			require.NotNil(t, stop)
			require.Equal(t, v1alpha1.ReasonFrozen, stop.reason)
			require.Equal(t, c.until, stop.until.UTC().Format(time.RFC3339))
			require.Contains(t, stop.message, c.until)
		})
	}
}

// A window that cannot be read freezes: somebody wanted one. The message says which and what to write.
func TestFrozenByAMistake(t *testing.T) {
	for want, bad := range map[string]v1alpha1.FreezeWindow{
		`spec.freezes[1].timeZone: "Berlin" is no time zone`: window("0 0 * * *", "1h", "Berlin"),
		`spec.freezes[1].timeZone: "Local"`:                  window("0 0 * * *", "1h", "Local"),
		`spec.freezes[1].schedule: "0 0 * *" is no cron`:     window("0 0 * *", "1h", ""),
		`spec.freezes[1].schedule: "@daily" is no cron`:      window("@daily", "1h", ""),
		`spec.freezes[1].schedule: "0 25 * * *" is no cron`:  window("0 25 * * *", "1h", ""),
		`spec.freezes[1].schedule: "0 0 30 2 *" never comes`: window("0 0 30 2 *", "1h", ""),
		`spec.freezes[1].duration: 0s`:                       window("0 0 * * *", "0s", ""),
	} {
		stop := frozen("spec.freezes", []v1alpha1.FreezeWindow{window("0 0 1 1 *", "1m", ""), bad}, time.Date(2026, 11, 20, 0, 0, 0, 0, time.UTC))
		require.NotNil(t, stop, want)
		require.True(t, stop.stalled)
		require.Contains(t, stop.message, want)
	}
}

// While a window is open no run begins and no weight rises; a promotion ends, a rollback goes, and so
// does a return to what was stable.
func TestFreezeStopsARun(t *testing.T) {
	always := []v1alpha1.FreezeWindow{window("* * * * *", "1h", "")}

	w := newWorld(1)
	w.until(t, func() bool { return w.canary.Status.Phase == v1alpha1.PhaseStable && w.still() })
	w.canary.Spec.Freezes = always
	w.push("B")
	for range 50 {
		w.calmTick()
		w.reconcile(false)
	}
	require.Equal(t, v1alpha1.PhaseHeld, w.canary.Status.Phase)
	require.Nil(t, w.seen.Split, "nothing is begun")
	decision := Plan(&w.canary, w.observe(), w.now)
	require.Equal(t, v1alpha1.ReasonFrozen, decision.Standing.Reason)
	require.Equal(t, WhenChanged, decision.Next, "nothing is polled")
	require.True(t, decision.Wake.After(w.now))

	w = holdingAt(t, 50)
	w.canary.Spec.Freezes = always
	w.now = w.now.Add(time.Hour)
	w.reconcile(false)
	require.Equal(t, v1alpha1.PhaseHolding, w.canary.Status.Phase)
	require.Equal(t, v1alpha1.ReasonFrozen, Plan(&w.canary, w.observe(), w.now).Standing.Reason)
	w.seen.Gate = judged(analysis.VerdictFail)
	w.reconcile(false)
	require.Equal(t, v1alpha1.PhaseRollingBack, w.canary.Status.Phase)

	w = holdingAt(t, 100)
	w.canary.Spec.Freezes = always
	w.until(t, func() bool { return w.canary.Status.Phase == v1alpha1.PhaseStable && w.still() })
	require.Equal(t, "B", w.seen.serving().Template.Spec.Containers[0].Image, "the last step's promotion is no rise")
	w.push("A")
	w.until(t, func() bool { return w.canary.Status.Phase == v1alpha1.PhaseStable && w.still() })
	require.Equal(t, "A", w.seen.serving().Template.Spec.Containers[0].Image, "a return is a rollback")
}
