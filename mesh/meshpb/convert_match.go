// SPDX-License-Identifier: Apache-2.0

package meshpb

import "github.com/sluice-mesh/sluice/mesh"

func fromMatch(match mesh.RequestMatch) *RequestMatch {
	message := &RequestMatch{
		Headers:     convert(match.Headers, fromValue),
		Cookies:     convert(match.Cookies, fromValue),
		QueryParams: convert(match.QueryParams, fromValue),
		Method:      match.Method,
	}
	if match.Path.Kind != "" {
		message.Path = fromValue(match.Path)
	}
	return message
}

func toMatch(message *RequestMatch) mesh.RequestMatch {
	match := mesh.RequestMatch{
		Headers:     convert(message.GetHeaders(), toValue),
		Cookies:     convert(message.GetCookies(), toValue),
		QueryParams: convert(message.GetQueryParams(), toValue),
		Method:      message.GetMethod(),
	}
	if message.GetPath() != nil {
		match.Path = toValue(message.GetPath())
	}
	return match
}

func fromValue(match mesh.ValueMatch) *ValueMatch {
	return &ValueMatch{Name: match.Name, Kind: fromMatchKind(match.Kind), Value: match.Value}
}

func toValue(message *ValueMatch) mesh.ValueMatch {
	return mesh.NewValueMatch(message.GetName(), toMatchKind(message.GetKind()), message.GetValue())
}

func fromMatchKind(kind mesh.MatchKind) MatchKind {
	switch kind {
	case mesh.MatchExact:
		return MatchKind_MATCH_KIND_EXACT
	case mesh.MatchPrefix:
		return MatchKind_MATCH_KIND_PREFIX
	case mesh.MatchRegex:
		return MatchKind_MATCH_KIND_REGEX
	case mesh.MatchPresent:
		return MatchKind_MATCH_KIND_PRESENT
	case mesh.MatchAbsent:
		return MatchKind_MATCH_KIND_ABSENT
	}
	return MatchKind_MATCH_KIND_UNSPECIFIED
}

// matchUnknown is a kind that matches nothing: the empty one would mean any path.
const matchUnknown mesh.MatchKind = "unknown"

func toMatchKind(kind MatchKind) mesh.MatchKind {
	switch kind {
	case MatchKind_MATCH_KIND_EXACT:
		return mesh.MatchExact
	case MatchKind_MATCH_KIND_PREFIX:
		return mesh.MatchPrefix
	case MatchKind_MATCH_KIND_REGEX:
		return mesh.MatchRegex
	case MatchKind_MATCH_KIND_PRESENT:
		return mesh.MatchPresent
	case MatchKind_MATCH_KIND_ABSENT:
		return mesh.MatchAbsent
	}
	return matchUnknown
}

func fromMirror(mirror *mesh.Mirror) *Mirror {
	if mirror == nil {
		return nil
	}
	return &Mirror{Percent: mirror.Percent, AllowUnsafe: mirror.AllowUnsafe}
}

func toMirror(message *Mirror) *mesh.Mirror {
	if message == nil {
		return nil
	}
	return &mesh.Mirror{Percent: message.GetPercent(), AllowUnsafe: message.GetAllowUnsafe()}
}

func fromStickiness(stickiness *mesh.Stickiness) *Stickiness {
	if stickiness == nil {
		return nil
	}
	return &Stickiness{Header: stickiness.Header, Cookie: stickiness.Cookie, CookieMaxAgeSeconds: stickiness.CookieMaxAge}
}

func toStickiness(message *Stickiness) *mesh.Stickiness {
	if message == nil {
		return nil
	}
	return &mesh.Stickiness{
		Header: message.GetHeader(), Cookie: message.GetCookie(), CookieMaxAge: message.GetCookieMaxAgeSeconds(),
	}
}
