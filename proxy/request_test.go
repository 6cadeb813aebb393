// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sluice-mesh/sluice/mesh"
	"github.com/sluice-mesh/sluice/proxy/http1"
)

func readRequest(t *testing.T, text string) *http1.Request {
	t.Helper()
	var buffers http1.Buffers
	var request http1.Request
	require.NoError(t, http1.NewReader(strings.NewReader(text), &buffers, http1.Rules{}).ReadRequest(&request))
	return &request
}

func TestRequestMatches(t *testing.T) {
	value := mesh.NewValueMatch
	for name, test := range map[string]struct {
		match mesh.RequestMatch
		want  bool
	}{
		"anything":                      {mesh.RequestMatch{}, true},
		"method":                        {mesh.RequestMatch{Method: "GET"}, true},
		"another method":                {mesh.RequestMatch{Method: "POST"}, false},
		"path":                          {mesh.RequestMatch{Path: value("", mesh.MatchExact, "/api/a%2Fb")}, true},
		"path prefix":                   {mesh.RequestMatch{Path: value("", mesh.MatchPrefix, "/api")}, true},
		"another path":                  {mesh.RequestMatch{Path: value("", mesh.MatchPrefix, "/ap")}, false},
		"header":                        {mesh.RequestMatch{Headers: []mesh.ValueMatch{value("x-team", mesh.MatchExact, "beta")}}, true},
		"second value of a header":      {mesh.RequestMatch{Headers: []mesh.ValueMatch{value("X-TEAM", mesh.MatchPrefix, "ga")}}, true},
		"regex":                         {mesh.RequestMatch{Headers: []mesh.ValueMatch{value("user-agent", mesh.MatchRegex, `curl/\d+`)}}, true},
		"header of another value":       {mesh.RequestMatch{Headers: []mesh.ValueMatch{value("x-team", mesh.MatchExact, "delta")}}, false},
		"header is there":               {mesh.RequestMatch{Headers: []mesh.ValueMatch{value("x-team", mesh.MatchPresent, "")}}, true},
		"header is not there":           {mesh.RequestMatch{Headers: []mesh.ValueMatch{value("x-none", mesh.MatchPresent, "")}}, false},
		"header is absent":              {mesh.RequestMatch{Headers: []mesh.ValueMatch{value("x-none", mesh.MatchAbsent, "")}}, true},
		"header is not absent":          {mesh.RequestMatch{Headers: []mesh.ValueMatch{value("x-team", mesh.MatchAbsent, "")}}, false},
		"unknown kind":                  {mesh.RequestMatch{Headers: []mesh.ValueMatch{value("x-team", "like", "")}}, false},
		"cookie":                        {mesh.RequestMatch{Cookies: []mesh.ValueMatch{value("beta", mesh.MatchExact, "yes")}}, true},
		"quoted cookie":                 {mesh.RequestMatch{Cookies: []mesh.ValueMatch{value("q", mesh.MatchExact, "1")}}, true},
		"part of a cookie's name":       {mesh.RequestMatch{Cookies: []mesh.ValueMatch{value("eta", mesh.MatchPresent, "")}}, false},
		"parameter":                     {mesh.RequestMatch{QueryParams: []mesh.ValueMatch{value("v", mesh.MatchExact, "a b")}}, true},
		"second value of a parameter":   {mesh.RequestMatch{QueryParams: []mesh.ValueMatch{value("v", mesh.MatchExact, "2")}}, true},
		"parameter without a value":     {mesh.RequestMatch{QueryParams: []mesh.ValueMatch{value("flag", mesh.MatchExact, "")}}, true},
		"parameter is absent":           {mesh.RequestMatch{QueryParams: []mesh.ValueMatch{value("w", mesh.MatchAbsent, "")}}, true},
		"no parameter is the empty one": {mesh.RequestMatch{QueryParams: []mesh.ValueMatch{value("", mesh.MatchPresent, "")}}, false},
		"all parts": {mesh.RequestMatch{
			Method: "GET", Path: value("", mesh.MatchPrefix, "/"), Headers: []mesh.ValueMatch{value("x-team", mesh.MatchPresent, "")},
			Cookies: []mesh.ValueMatch{value("beta", mesh.MatchExact, "yes"), value("q", mesh.MatchPresent, "")},
		}, true},
		"all parts but one": {mesh.RequestMatch{
			Method: "GET", Headers: []mesh.ValueMatch{value("x-team", mesh.MatchPresent, "")},
			Cookies: []mesh.ValueMatch{value("beta", mesh.MatchExact, "yes"), value("r", mesh.MatchPresent, "")},
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			for _, target := range []string{"/api/a%2Fb", "http://shop.example/api/a%2Fb"} {
				request := readRequest(t, "GET "+target+"?v=a+b&&flag&v=2 HTTP/1.1\r\n"+
					"Host: shop.example\r\nX-Team: beta\r\nX-Team: gamma\r\nUser-Agent: curl/8\r\nCookie: a=1;beta=yes\r\nCookie: q=\"1\"\r\n\r\n")
				view := viewOf(request, string(request.Method()), string(request.Target()))
				require.Equal(t, test.want, view.matches([]mesh.RequestMatch{test.match}))
				require.True(t, view.matches([]mesh.RequestMatch{test.match, {}}), "any of several is enough")
			}
			require.False(t, requestView{}.matches([]mesh.RequestMatch{test.match}), "a connection matches nothing")
		})
	}
}

// What matches goes to the canary whatever its weight, and nothing else does.
func TestMatchedRequestsGoToTheCanary(t *testing.T) {
	split := weights("n/a", 100, 0)
	split.Matches = []mesh.RequestMatch{{Headers: []mesh.ValueMatch{mesh.NewValueMatch("x-team", mesh.MatchExact, "beta")}}}
	destination := &mesh.Destination{
		Endpoints: []mesh.Endpoint{endpoint("s1", "n/a", "s"), endpoint("k1", "n/a", "k")},
		Splits:    []mesh.Split{split},
	}
	matched := chooseRoute(newRoutes(mesh.Location{}), destination, withHeader("X-Team", "beta"), shares(0.1))
	require.Equal(t, revision{"n/a", "k"}, matched.drawn)
	require.Equal(t, [][]string{{"k1"}, {"s1"}}, addressesOf(matched.tiers))
	other := chooseRoute(newRoutes(mesh.Location{}), destination, withHeader("X-Team", "gamma"), shares(0.99))
	require.Equal(t, revision{"n/a", "s"}, other.drawn)
	require.Equal(t, [][]string{{"s1"}}, addressesOf(other.tiers), "the canary takes nothing unasked")

	destination.Endpoints = destination.Endpoints[:1]
	orphan := chooseRoute(newRoutes(mesh.Location{}), destination, withHeader("X-Team", "beta"), shares(0.1))
	require.Equal(t, revision{"n/a", "k"}, orphan.drawn, "it counts for the canary")
	require.Equal(t, [][]string{{}, {"s1"}}, addressesOf(orphan.tiers), "and stable serves it")
}

func TestMirrorOf(t *testing.T) {
	meshed := endpoint("k1", "n/a", "k")
	meshed.Identity = "spiffe://x/ns/n/sa/a"
	serving := []mesh.Endpoint{endpoint("s1", "n/a", "s"), meshed, endpoint("k2", "n/a", "k"), terminating(meshed)}
	get, post := withHeader("X", "y"), withHeader("X", "y")
	post.method = http.MethodPost
	for name, test := range map[string]struct {
		mirror  *mesh.Mirror
		request requestView
		drawn   string
		share   float64
		want    bool
	}{
		"no mirror":          {nil, get, "stable", 0, false},
		"drawn to be copied": {&mesh.Mirror{Percent: 10}, get, "stable", 0.09, true},
		"not drawn":          {&mesh.Mirror{Percent: 10}, get, "stable", 0.1, false},
		"all":                {&mesh.Mirror{Percent: 100}, get, "stable", 0.999, true},
		"the canary has it":  {&mesh.Mirror{Percent: 100}, get, "canary", 0, false},
		"unsafe":             {&mesh.Mirror{Percent: 100}, post, "stable", 0, false},
		"unsafe, allowed":    {&mesh.Mirror{Percent: 100, AllowUnsafe: true}, post, "stable", 0, true},
		"connection":         {&mesh.Mirror{Percent: 100, AllowUnsafe: true}, requestView{}, "stable", 0, false},
		"tunnels never":      {&mesh.Mirror{Percent: 100, AllowUnsafe: true}, requestView{method: "CONNECT", header: http.Header{}}, "stable", 0, false},
	} {
		t.Run(name, func(t *testing.T) {
			split := weights("n/a", 90, 10)
			split.Mirror = test.mirror
			got := mirrorOf(&split, serving, test.request, mesh.RevisionWeight{Name: test.drawn}, shares(test.share))
			if !test.want {
				require.Nil(t, got)
				return
			}
			require.Equal(t, [][]string{{"k1"}}, addressesOf([]tier{{endpoints: got.endpoints}}), "the ready canary pods with a proxy")
		})
	}
	split := weights("n/a", 90, 10)
	split.Mirror = &mesh.Mirror{Percent: 100}
	require.Nil(t, mirrorOf(&split, serving[:1], get, mesh.RevisionWeight{Name: "stable"}, shares(0)), "nowhere to copy to")
}
