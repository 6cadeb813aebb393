// SPDX-License-Identifier: Apache-2.0

package mesh

import (
	"regexp"
	"slices"
	"strings"
)

// MatchKind is how a value is compared.
type MatchKind string

// Kinds of matches. A kind that is none of these matches nothing.
const (
	MatchExact   MatchKind = "exact"   // The value is this.
	MatchPrefix  MatchKind = "prefix"  // The value begins with this.
	MatchRegex   MatchKind = "regex"   // The whole value matches this RE2 expression.
	MatchPresent MatchKind = "present" // There is a value.
	MatchAbsent  MatchKind = "absent"  // There is none.
)

// RequestMatch means the requests for which all its parts hold.
type RequestMatch struct {
	Headers     []ValueMatch `json:"headers,omitempty"`
	Cookies     []ValueMatch `json:"cookies,omitempty"`
	QueryParams []ValueMatch `json:"queryParams,omitempty"`
	// Method is empty for any.
	Method string `json:"method,omitempty"`
	// Path has no name; its kind is exact, prefix, or empty for any.
	Path ValueMatch `json:"path,omitzero"`
}

// ValueMatch compares one named value.
type ValueMatch struct {
	Name  string    `json:"name,omitempty"`
	Kind  MatchKind `json:"kind"`
	Value string    `json:"value,omitempty"`
	// expression is nil when Value is none.
	expression *regexp.Regexp
}

// NewValueMatch returns a match. One whose expression is not valid matches nothing.
func NewValueMatch(name string, kind MatchKind, value string) ValueMatch {
	match := ValueMatch{Name: name, Kind: kind, Value: value}
	if kind == MatchRegex {
		if expression, err := regexp.Compile(`^(?:` + value + `)$`); err == nil {
			match.expression = expression
		}
	}
	return match
}

// Holds says whether one value, which is there, is meant.
func (m *ValueMatch) Holds(value string) bool {
	switch m.Kind {
	case MatchExact:
		return value == m.Value
	case MatchPrefix:
		return strings.HasPrefix(value, m.Value)
	case MatchRegex:
		return m.expression != nil && m.expression.MatchString(value)
	case MatchPresent:
		return true
	}
	return false
}

// HoldsPath says whether a path is meant. A prefix ends where a segment of the path does.
func (m *ValueMatch) HoldsPath(path string) bool {
	if m.Kind == "" {
		return true
	}
	if m.Kind != MatchPrefix {
		return m.Holds(path)
	}
	below, found := strings.CutPrefix(path, strings.TrimSuffix(m.Value, "/"))
	return found && (below == "" || below[0] == '/')
}

// Equal compares two splits whole.
func (s Split) Equal(other Split) bool {
	return s.Workload == other.Workload && s.Generation == other.Generation &&
		slices.Equal(s.Revisions, other.Revisions) &&
		slices.EqualFunc(s.Matches, other.Matches, equalMatches) &&
		equalPointed(s.Mirror, other.Mirror) && equalPointed(s.Stickiness, other.Stickiness)
}

func equalMatches(a, b RequestMatch) bool {
	return a.Method == b.Method && equalValues(a.Path, b.Path) &&
		slices.EqualFunc(a.Headers, b.Headers, equalValues) &&
		slices.EqualFunc(a.Cookies, b.Cookies, equalValues) &&
		slices.EqualFunc(a.QueryParams, b.QueryParams, equalValues)
}

// equalValues leaves the expression out: it follows from the rest.
func equalValues(a, b ValueMatch) bool {
	return a.Name == b.Name && a.Kind == b.Kind && a.Value == b.Value
}

func equalPointed[T comparable](a, b *T) bool {
	return a == b || a != nil && b != nil && *a == *b
}
