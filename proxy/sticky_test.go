// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sluice-mesh/sluice/mesh"
)

func withHeader(name, value string) requestView {
	return requestView{method: http.MethodGet, path: "/", header: http.Header{http.CanonicalHeaderKey(name): {value}}}
}

// atWeights walks a user through a run's weights and returns the revisions that it met.
func atWeights(t *testing.T, sticky *mesh.Stickiness, request requestView, random *rand.Rand) []string {
	t.Helper()
	var met []string
	for _, weight := range []uint32{1, 5, 25, 50, 100} {
		split := weights("n/a", 100-weight, weight)
		split.Stickiness = sticky
		drawn, _ := drawRevision(&split, request, random.Float64)
		met = append(met, drawn.Name)
		// The callee's side, whose order of pods and of revisions is another, finds the same.
		split.Revisions[0], split.Revisions[1] = split.Revisions[1], split.Revisions[0]
		inbound := &mesh.Inbound{Workload: "n/a", PodTemplateHash: "s", Split: &split}
		there := (&inboundSide{own: "own", where: placeShared, request: request}).ways(&mesh.Snapshot{Inbound: *inbound}, newRoutes(mesh.Location{}), random.Float64)
		require.Equal(t, drawn.PodTemplateHash, there.drawn.hash, "both sides agree")
	}
	return met
}

// Of 10,000 users none moves back to stable as the weight grows, and as many are at the canary as the
// weight says.
func TestStickyUsersNeverMoveBack(t *testing.T) {
	const users = 10_000
	random := rand.New(rand.NewPCG(5, 6))
	for name, test := range map[string]struct {
		sticky  *mesh.Stickiness
		request func(user int) requestView
	}{
		"header": {
			&mesh.Stickiness{Header: "x-customer"},
			func(user int) requestView { return withHeader("X-Customer", fmt.Sprintf("customer-%d", user)) },
		},
		"header with numbers": {
			&mesh.Stickiness{Header: "x-till"},
			func(user int) requestView { return withHeader("X-Till", strconv.Itoa(user)) },
		},
		"cookie": {
			&mesh.Stickiness{Cookie: "sluice-revision"},
			func(user int) requestView {
				return withHeader("Cookie", fmt.Sprintf("a=b; sluice-revision=%d", user*10+user%7))
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			canary := make([]int, 5)
			for user := range users {
				met := atWeights(t, test.sticky, test.request(user), random)
				for i, revision := range met {
					if revision == "canary" {
						canary[i]++
					}
					if i > 0 && met[i-1] == "canary" {
						require.Equal(t, "canary", revision, "user %d moved back", user)
					}
				}
			}
			for i, weight := range []int{1, 5, 25, 50, 100} {
				require.InDelta(t, users*weight/100, canary[i], 200, "at weight %d", weight)
			}
			require.Equal(t, users, canary[4], "at 100 nobody is left behind")
		})
	}
}

// A cookie keeps a user where its first answer came from; what it says is not who it is.
func TestStickyCookieIsSetOnce(t *testing.T) {
	split := weights("n/a", 50, 50)
	split.Stickiness = &mesh.Stickiness{Cookie: "sluice-revision", CookieMaxAge: 60}
	random := rand.New(rand.NewPCG(7, 8))
	canary := 0
	for range 1000 {
		drawn, cookie := drawRevision(&split, withHeader("X", "y"), random.Float64)
		require.True(t, strings.HasSuffix(cookie, "; Path=/; Max-Age=60; HttpOnly; SameSite=Lax"), cookie)
		value, _, _ := strings.Cut(cookie, ";")
		again, cookie := drawRevision(&split, withHeader("Cookie", value), random.Float64)
		require.Equal(t, drawn, again)
		require.Empty(t, cookie, "it has one")
		if drawn.Name == "canary" {
			canary++
		}
	}
	require.InDelta(t, 500, canary, 80)
	for _, bad := range []string{"", "x", "-1", "100000", "1e3", "k"} {
		_, cookie := drawRevision(&split, withHeader("Cookie", "sluice-revision="+bad), random.Float64)
		require.NotEmpty(t, cookie, "%q says nothing", bad)
	}
	_, cookie := drawRevision(&split, requestView{}, random.Float64)
	require.Empty(t, cookie, "a connection keeps no cookies")
}

// Another run takes other users first.
func TestStickyUsersTakeTurns(t *testing.T) {
	for _, sticky := range []*mesh.Stickiness{{Header: "x-user"}, {Cookie: "place"}} {
		both := 0
		for user := range 10_000 {
			request := requestView{header: http.Header{"X-User": {strconv.Itoa(user)}, "Cookie": {fmt.Sprintf("place=%d", user*10)}}}
			first, second := weights("n/a", 90, 10), weights("n/a", 90, 10)
			first.Stickiness, second.Stickiness = sticky, sticky
			second.Revisions[1].PodTemplateHash = "k2"
			a, _ := drawRevision(&first, request, rand.Float64)
			b, _ := drawRevision(&second, request, rand.Float64)
			if a.Name == "canary" && b.Name == "canary" {
				both++
			}
		}
		require.Less(t, both, 500, "of 1,000 each; %+v", sticky)
	}
}

// Nothing of all this costs a request whose workload has none of it.
func TestDrawingByWeightDoesNotAllocate(t *testing.T) {
	split := weights("n/a", 75, 25)
	request := readRequest(t, "GET /api?x=1 HTTP/1.1\r\nHost: a\r\nX-User: 1\r\n\r\n")
	require.Zero(t, testing.AllocsPerRun(1000, func() {
		drawRevision(&split, viewOf(request, "GET", "/api?x=1"), rand.Float64)
		mirrorOf(&split, nil, viewOf(request, "GET", "/api?x=1"), split.Revisions[0], rand.Float64)
	}))
}
