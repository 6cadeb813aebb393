// SPDX-License-Identifier: Apache-2.0

package discovery

import (
	"github.com/sluice-mesh/sluice/api/v1alpha1"
	"github.com/sluice-mesh/sluice/mesh"
)

// toSplit is a TrafficSplit as proxies know it.
func toSplit(workload string, object *v1alpha1.TrafficSplit) mesh.Split {
	made := mesh.Split{Workload: workload, Generation: object.Generation}
	for _, revision := range object.Spec.Revisions {
		made.Revisions = append(made.Revisions, mesh.RevisionWeight{
			Name:            revision.Name,
			PodTemplateHash: revision.PodTemplateHash,
			Weight:          uint32(max(0, revision.Weight)),
		})
	}
	for i := range object.Spec.Matches {
		made.Matches = append(made.Matches, toMatch(&object.Spec.Matches[i]))
	}
	if mirror := object.Spec.Mirror; mirror != nil {
		made.Mirror = &mesh.Mirror{Percent: uint32(max(0, mirror.Percent)), AllowUnsafe: mirror.AllowUnsafe}
	}
	made.Stickiness = toStickiness(object.Spec.Stickiness)
	return made
}

func toMatch(from *v1alpha1.RequestMatch) mesh.RequestMatch {
	made := mesh.RequestMatch{Method: from.Method}
	for _, header := range from.Headers {
		switch {
		case header.Prefix != nil:
			made.Headers = append(made.Headers, mesh.NewValueMatch(header.Name, mesh.MatchPrefix, *header.Prefix))
		case header.Regex != nil:
			made.Headers = append(made.Headers, mesh.NewValueMatch(header.Name, mesh.MatchRegex, *header.Regex))
		default:
			made.Headers = append(made.Headers, toValueMatch(header.Name, header.Exact, header.Present))
		}
	}
	for _, cookie := range from.Cookies {
		made.Cookies = append(made.Cookies, toValueMatch(cookie.Name, cookie.Exact, cookie.Present))
	}
	for _, parameter := range from.QueryParams {
		made.QueryParams = append(made.QueryParams, toValueMatch(parameter.Name, parameter.Exact, parameter.Present))
	}
	if from.Path != nil {
		made.Path = toPathMatch(from.Path)
	}
	return made
}

// matchNothing is no kind: without one a path would be any.
const matchNothing mesh.MatchKind = "nothing"

// toPathMatch makes a match of which admission let in one kind; without any it matches nothing.
func toPathMatch(from *v1alpha1.PathMatch) mesh.ValueMatch {
	switch {
	case from.Exact != nil:
		return mesh.NewValueMatch("", mesh.MatchExact, *from.Exact)
	case from.Prefix != nil:
		return mesh.NewValueMatch("", mesh.MatchPrefix, *from.Prefix)
	}
	return mesh.NewValueMatch("", matchNothing, "")
}

// toValueMatch makes a match of which admission let in one kind; without any it is of a kind that
// matches nothing.
func toValueMatch(name string, exact *string, present *bool) mesh.ValueMatch {
	switch {
	case exact != nil:
		return mesh.NewValueMatch(name, mesh.MatchExact, *exact)
	case present == nil:
		return mesh.NewValueMatch(name, "", "")
	case *present:
		return mesh.NewValueMatch(name, mesh.MatchPresent, "")
	}
	return mesh.NewValueMatch(name, mesh.MatchAbsent, "")
}

func toStickiness(from *v1alpha1.Stickiness) *mesh.Stickiness {
	switch {
	case from == nil:
	case from.Header != nil:
		return &mesh.Stickiness{Header: from.Header.Name}
	case from.Cookie != nil:
		made := &mesh.Stickiness{Cookie: from.Cookie.Name}
		if from.Cookie.MaxAge != nil {
			made.CookieMaxAge = int64(from.Cookie.MaxAge.Seconds())
		}
		return made
	}
	return nil
}
