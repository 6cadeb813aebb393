// SPDX-License-Identifier: Apache-2.0

package notify_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/sluice-mesh/sluice/api/v1alpha1"
	"github.com/sluice-mesh/sluice/rollout/notify"
)

var update = flag.Bool("update", false, "write the golden files")

// rolledBack has in its text what each service would take for markup or a mention.
func rolledBack() *notify.Message {
	return &notify.Message{
		ID: "u/7/0", Namespace: "shop", Canary: "checkout", Workload: "Deployment checkout", Run: "checkout-3", Phase: v1alpha1.PhaseRollingBack,
		Weight: 12.5, Severity: v1alpha1.SeverityError, Reason: v1alpha1.ReasonRolledBack,
		Text:   `50 of 100 requests failed & p99 > 500ms <!channel> <@1> @everyone *bold* [link](http://x) ` + "`code`" + ` _under_ |bar| \*`,
		Source: &v1alpha1.RunSource{Revision: "main@sha1:1f2e3d4c", Author: "Ada <ada@example.com>"}, Head: "14:abcdef",
		Time: time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC),
	}
}

func promoted() *notify.Message {
	return &notify.Message{
		ID: "u/9/0", Namespace: "shop", Canary: "till", Workload: "Deployment till", Phase: v1alpha1.PhaseStable, Severity: v1alpha1.SeverityInfo,
		Reason: v1alpha1.ReasonPromoted, Text: "run till-1: promoted", Time: rolledBack().Time,
	}
}

// What each service gets is as testdata says.
func TestRender(t *testing.T) {
	for _, kind := range []v1alpha1.NotifierType{v1alpha1.NotifierSlack, v1alpha1.NotifierTeams, v1alpha1.NotifierDiscord, v1alpha1.NotifierGeneric} {
		for name, message := range map[string]*notify.Message{"error": rolledBack(), "info": promoted()} {
			raw, err := notify.Render(kind, "#releases", message)
			require.NoError(t, err)
			var pretty bytes.Buffer
			require.NoError(t, json.Indent(&pretty, raw, "", "  "))
			pretty.WriteByte('\n')
			path := filepath.Join("testdata", string(kind)+"-"+name+".json")
			if *update {
				require.NoError(t, os.WriteFile(path, pretty.Bytes(), 0o644))
			}
			want, err := os.ReadFile(path)
			require.NoError(t, err)
			require.Equal(t, string(want), pretty.String())
		}
	}
	_, err := notify.Render("pager", "", promoted())
	require.ErrorContains(t, err, `spec.type: "pager" is unknown; write slack, teams, discord or generic`)
}

// Discord refuses a field of more than 1024 characters and with it the message.
func TestFactsAreCutBetweenCharacters(t *testing.T) {
	message := rolledBack()
	message.Source.Author = "a" + strings.Repeat("€", 2000)
	raw, err := notify.Render(v1alpha1.NotifierDiscord, "", message)
	require.NoError(t, err)
	var body struct {
		Embeds []struct {
			Fields []struct{ Name, Value string } `json:"fields"`
		} `json:"embeds"`
	}
	require.NoError(t, json.Unmarshal(raw, &body))
	for _, field := range body.Embeds[0].Fields {
		require.LessOrEqual(t, len(field.Value), 1024)
		require.False(t, strings.ContainsRune(field.Value, utf8.RuneError), field.Value)
	}
}

func TestWants(t *testing.T) {
	shop := labels.Set{"team": "shop"}
	for name, c := range map[string]struct {
		spec     v1alpha1.NotifierSpec
		severity string
		want     bool
	}{
		"everything":      {v1alpha1.NotifierSpec{}, "info", true},
		"errors, error":   {v1alpha1.NotifierSpec{Severity: v1alpha1.SeverityError}, "error", true},
		"errors, info":    {v1alpha1.NotifierSpec{Severity: v1alpha1.SeverityError}, "info", false},
		"named":           {v1alpha1.NotifierSpec{Events: []string{"Promoted", "RolledBack"}}, "info", true},
		"not named":       {v1alpha1.NotifierSpec{Events: []string{"Promoted"}}, "error", false},
		"selected":        {v1alpha1.NotifierSpec{Canaries: &metav1.LabelSelector{MatchLabels: shop}}, "info", true},
		"others selected": {v1alpha1.NotifierSpec{Canaries: &metav1.LabelSelector{MatchLabels: labels.Set{"team": "till"}}}, "info", false},
	} {
		t.Run(name, func(t *testing.T) {
			wants, err := notify.Wants(&c.spec, shop, c.severity, v1alpha1.ReasonRolledBack)
			require.NoError(t, err)
			require.Equal(t, c.want, wants)
		})
	}
	broken := &v1alpha1.NotifierSpec{Canaries: &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "a", Operator: "Near"}}}}
	_, err := notify.Wants(broken, shop, "info", v1alpha1.ReasonPromoted)
	require.ErrorContains(t, err, "spec.canaries")
}
