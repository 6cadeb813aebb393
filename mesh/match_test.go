// SPDX-License-Identifier: Apache-2.0

package mesh_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sluice-mesh/sluice/mesh"
)

func TestValueMatchHolds(t *testing.T) {
	for _, c := range []struct {
		kind         mesh.MatchKind
		value, given string
		want         bool
	}{
		{mesh.MatchExact, "beta", "beta", true},
		{mesh.MatchExact, "beta", "Beta", false},
		{mesh.MatchExact, "", "", true},
		{mesh.MatchPrefix, "be", "beta", true},
		{mesh.MatchPrefix, "eta", "beta", false},
		{mesh.MatchRegex, "b.ta|x", "beta", true},
		{mesh.MatchRegex, "b.t", "beta", false},
		{mesh.MatchRegex, "x|eta", "beta", false},
		{mesh.MatchRegex, "(", "(", false},
		{mesh.MatchPresent, "", "", true},
		{mesh.MatchAbsent, "", "", false},
		{"unknown", "beta", "beta", false},
	} {
		match := mesh.NewValueMatch("x", c.kind, c.value)
		require.Equal(t, c.want, match.Holds(c.given), "%s %q of %q", c.kind, c.value, c.given)
	}
}

func TestValueMatchHoldsPath(t *testing.T) {
	for _, c := range []struct {
		kind        mesh.MatchKind
		value, path string
		want        bool
	}{
		{"", "", "/any", true},
		{mesh.MatchExact, "/api", "/api", true},
		{mesh.MatchExact, "/api", "/api/", false},
		{mesh.MatchPrefix, "/", "/any", true},
		{mesh.MatchPrefix, "/api", "/api", true},
		{mesh.MatchPrefix, "/api", "/api/x", true},
		{mesh.MatchPrefix, "/api/", "/api", true},
		{mesh.MatchPrefix, "/api", "/apis", false},
		{"unknown", "/", "/", false},
	} {
		match := mesh.NewValueMatch("", c.kind, c.value)
		require.Equal(t, c.want, match.HoldsPath(c.path), "%s %q of %q", c.kind, c.value, c.path)
	}
}

func TestSplitEqual(t *testing.T) {
	whole := func() mesh.Split {
		return mesh.Split{
			Workload: "n/a", Generation: 1, Revisions: []mesh.RevisionWeight{{Name: "stable", Weight: 100}},
			Matches: []mesh.RequestMatch{{
				Headers: []mesh.ValueMatch{mesh.NewValueMatch("x", mesh.MatchRegex, "a")},
				Cookies: []mesh.ValueMatch{mesh.NewValueMatch("y", mesh.MatchPresent, "")},
				Path:    mesh.NewValueMatch("", mesh.MatchExact, "/"),
			}},
			Mirror: &mesh.Mirror{Percent: 1}, Stickiness: &mesh.Stickiness{Header: "x"},
		}
	}
	require.True(t, whole().Equal(whole()))
	for name, change := range map[string]func(*mesh.Split){
		"workload":   func(s *mesh.Split) { s.Workload = "n/b" },
		"generation": func(s *mesh.Split) { s.Generation++ },
		"weight":     func(s *mesh.Split) { s.Revisions[0].Weight-- },
		"regex":      func(s *mesh.Split) { s.Matches[0].Headers[0] = mesh.NewValueMatch("x", mesh.MatchRegex, "b") },
		"cookie":     func(s *mesh.Split) { s.Matches[0].Cookies[0].Kind = mesh.MatchAbsent },
		"path":       func(s *mesh.Split) { s.Matches[0].Path.Value = "/x" },
		"method":     func(s *mesh.Split) { s.Matches[0].Method = "GET" },
		"query":      func(s *mesh.Split) { s.Matches[0].QueryParams = []mesh.ValueMatch{{}} },
		"mirror":     func(s *mesh.Split) { s.Mirror.Percent++ },
		"no mirror":  func(s *mesh.Split) { s.Mirror = nil },
		"stickiness": func(s *mesh.Split) { s.Stickiness.Header = "y" },
	} {
		changed := whole()
		change(&changed)
		require.False(t, whole().Equal(changed), name)
		require.False(t, changed.Equal(whole()), name)
	}
}
