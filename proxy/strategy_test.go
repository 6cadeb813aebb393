// SPDX-License-Identifier: Apache-2.0

package proxy_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sluice-mesh/sluice/mesh"
	"github.com/sluice-mesh/sluice/proxy/proxytest"
)

// apply puts a split in force on both sides.
func (p *pair) apply(t *testing.T, destination mesh.Destination, split mesh.Split) {
	t.Helper()
	destination.Splits = []mesh.Split{split}
	p.Discovery.SetDestination(destination)
	proxytest.Get(t, p.caller.Client(), shop+"/") // Subscribes, the first time.
	p.Discovery.AwaitAcknowledged(t, "caller")
	p.setInbound(t, &split)
}

// ask sends a request, with headers as "name: value", and returns what answered.
func ask(t *testing.T, client *http.Client, method, path string, headers ...string) string {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, shop+path, nil)
	require.NoError(t, err)
	for _, header := range headers {
		name, value, _ := strings.Cut(header, ": ")
		request.Header.Set(name, value)
	}
	response, err := client.Do(request)
	require.NoError(t, err)
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, response.StatusCode)
	return string(body)
}

// A user is at one revision, whether its caller's proxy applies the split or the pod's own.
func TestStickyByHeaderIsTheSameOnBothSides(t *testing.T) {
	p, destination := newPair(t, []string{"s1", "k1"}, named)
	inside, stable, canary := p.caller.Client(), p.pods[0].OutsideClient(), p.pods[1].OutsideClient()
	const users = 200
	before := map[int]string{}
	for generation, weight := range []uint32{25, 50, 100} {
		weighted := split(100-weight, weight)
		weighted.Generation = int64(generation + 1)
		weighted.Stickiness = &mesh.Stickiness{Header: "x-customer"}
		p.apply(t, destination, weighted)
		moved := 0
		for user := range users {
			name := fmt.Sprintf("customer-%d", user)
			answer := ask(t, inside, http.MethodGet, "/", "X-Customer: "+name)
			require.Equal(t, answer, ask(t, stable, http.MethodGet, "/", "X-Customer: "+name))
			require.Equal(t, answer, ask(t, canary, http.MethodPost, "/x", "x-customer: "+name))
			if before[user] == "k1" {
				require.Equal(t, "k1", answer, "user %d moved back", user)
			}
			before[user] = answer
			if answer == "k1" {
				moved++
			}
		}
		require.InDelta(t, users*int(weight)/100, moved, users*0.15, "weight %d", weight)
	}
}

// A browser without a name is kept by a cookie, which it is given once.
func TestStickyByCookie(t *testing.T) {
	p, destination := newPair(t, []string{"s1", "k1"}, named)
	weighted := split(50, 50)
	weighted.Stickiness = &mesh.Stickiness{Cookie: "sluice-revision", CookieMaxAge: 3600}
	p.apply(t, destination, weighted)
	for name, client := range map[string]*http.Client{"meshed": p.caller.Client(), "unmeshed": p.pods[0].OutsideClient()} {
		t.Run(name, func(t *testing.T) {
			met := map[string]int{}
			for range 40 {
				jar, err := cookiejar.New(nil)
				require.NoError(t, err)
				client.Jar = jar
				given := 0
				var first string
				for range 5 {
					response, err := client.Get(shop + "/some/page")
					require.NoError(t, err)
					body, err := io.ReadAll(response.Body)
					require.NoError(t, err)
					require.NoError(t, response.Body.Close())
					given += len(response.Cookies())
					if first == "" {
						first = string(body)
					}
					require.Equal(t, first, string(body), "a browser stays where it is")
				}
				require.Equal(t, 1, given)
				met[first]++
			}
			require.NotZero(t, met["s1"])
			require.NotZero(t, met["k1"])
		})
	}
}

// Before it has any weight the canary gets what matches, from inside and outside of the mesh.
func TestMatchesReachTheCanaryFromWeightZero(t *testing.T) {
	p, destination := newPair(t, []string{"s1", "k1"}, named)
	preview := split(100, 0)
	preview.Matches = []mesh.RequestMatch{
		{Headers: []mesh.ValueMatch{mesh.NewValueMatch("x-preview", mesh.MatchExact, "yes")}, Method: http.MethodGet},
		{Path: mesh.NewValueMatch("", mesh.MatchPrefix, "/beta"), QueryParams: []mesh.ValueMatch{mesh.NewValueMatch("on", mesh.MatchPresent, "")}},
	}
	p.apply(t, destination, preview)
	for name, client := range map[string]*http.Client{
		"meshed": p.caller.Client(), "stable's pod": p.pods[0].OutsideClient(), "canary's pod": p.pods[1].OutsideClient(),
	} {
		t.Run(name, func(t *testing.T) {
			for range 10 {
				require.Equal(t, "k1", ask(t, client, http.MethodGet, "/", "X-Preview: yes"))
				require.Equal(t, "s1", ask(t, client, http.MethodPost, "/", "X-Preview: yes"))
				require.Equal(t, "s1", ask(t, client, http.MethodGet, "/", "X-Preview: no"))
				require.Equal(t, "k1", ask(t, client, http.MethodGet, "/beta/x?on"))
				require.Equal(t, "s1", ask(t, client, http.MethodGet, "/beta/x?off"))
				require.Equal(t, "s1", ask(t, client, http.MethodGet, "/betas?on"))
			}
		})
	}
}

// recorder remembers requests.
type recorder struct {
	mutex sync.Mutex
	got   []recorded
}

type recorded struct {
	method, target, mirrored, client, body string
}

func (r *recorder) ServeHTTP(w http.ResponseWriter, request *http.Request) {
	body, _ := io.ReadAll(request.Body)
	r.mutex.Lock()
	defer r.mutex.Unlock()
	r.got = append(r.got, recorded{
		request.Method, request.RequestURI, request.Header.Get("Sluice-Mirrored"), request.Header.Get("Sluice-Client-Id"), string(body),
	})
	w.WriteHeader(http.StatusInternalServerError)
}

// below are the requests below a path.
func (r *recorder) below(path string) []recorded {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	var found []recorded
	for _, got := range r.got {
		if strings.HasPrefix(got.target, path) {
			found = append(found, got)
		}
	}
	return found
}

// The canary gets copies, which are marked, and nobody notices how it answers them: not the caller,
// and not the gate.
func TestMirrorCopiesSafeRequests(t *testing.T) {
	copies := &recorder{}
	p, destination := newPair(t, []string{"s1", "k1"}, func(hash string) http.Handler {
		if hash == "k1" {
			return copies
		}
		return named(hash)
	})
	mirrored := split(100, 0)
	mirrored.Mirror = &mesh.Mirror{Percent: 100}
	p.apply(t, destination, mirrored)
	const requests = 20
	callers := map[string]*http.Client{"meshed": p.caller.Client(), "unmeshed": p.pods[0].OutsideClient()}
	for name, client := range callers {
		for i := range requests {
			// What a client marks itself is no copy.
			require.Equal(t, "s1", ask(t, client, http.MethodGet, fmt.Sprintf("/%s?n=%d", name, i), "Sluice-Mirrored: true"))
			require.Equal(t, "s1", ask(t, client, http.MethodPost, "/order"))
		}
		require.Eventually(t, func() bool { return len(copies.below("/"+name)) == requests }, time.Minute, 5*time.Millisecond)
	}
	for _, got := range copies.below("/") {
		require.Equal(t, http.MethodGet, got.method, "what may change something is not copied")
		require.Equal(t, "true", got.mirrored)
		if strings.HasPrefix(got.target, "/unmeshed") {
			require.Empty(t, got.client)
		} else {
			require.Equal(t, "spiffe://cluster.local/ns/shop/sa/default", got.client)
		}
	}
	canary := p.pods[1]
	require.Eventually(t, func() bool {
		// One more is the request that subscribed.
		return p.caller.Metric("sluice_mirrored_requests_total", `outcome="answered"`) == requests+1 &&
			canary.Metric("response_total", `direction="inbound"`, `route_name="mirror"`, `status_code="500"`) == 2*requests+1
	}, time.Minute, 5*time.Millisecond)
	for _, pod := range []*proxytest.Pod{p.caller, p.pods[0]} {
		require.Zero(t, pod.Metric("response_total", `dst_pod_template_hash="k1"`), "copies count for nobody who called")
		require.Zero(t, pod.Metric("response_total", `classification="failure"`))
	}
	require.Equal(t, canary.Metric("response_total", `direction="inbound"`), canary.Metric("response_total", `direction="inbound"`, `route_name="mirror"`),
		"nor are they requests of users where they arrive")
}

func TestMirrorCopiesBodiesWhenAllowed(t *testing.T) {
	copies := &recorder{}
	p, destination := newPair(t, []string{"s1", "k1"}, func(hash string) http.Handler {
		if hash == "k1" {
			return copies
		}
		return echo(hash)
	})
	mirrored := split(100, 0)
	mirrored.Mirror = &mesh.Mirror{Percent: 100, AllowUnsafe: true}
	p.apply(t, destination, mirrored)
	for _, body := range []string{"order", strings.Repeat("x", 60<<10), strings.Repeat("y", 100<<10)} {
		response, err := p.caller.Client().Post(shop+"/order", "text/plain", strings.NewReader(body))
		require.NoError(t, err)
		got, err := io.ReadAll(response.Body)
		require.NoError(t, err)
		require.NoError(t, response.Body.Close())
		require.Equal(t, body, string(got))
	}
	// What becomes of a copy is counted after the answer has gone.
	require.Eventually(t, func() bool {
		return len(copies.below("/order")) == 2 && p.caller.Metric("sluice_mirrored_requests_total", `outcome="dropped"`) == 1
	}, time.Minute, 5*time.Millisecond, "a large body is not kept for a copy")
	sizes := map[int]bool{}
	for _, got := range copies.below("/order") {
		require.Equal(t, http.MethodPost, got.method)
		sizes[len(got.body)] = true
	}
	require.Equal(t, map[int]bool{5: true, 60 << 10: true}, sizes)
}

// A canary that answers no copy holds nobody up, and no more copies than are allowed wait for it.
func TestMirrorDelaysNobody(t *testing.T) {
	release := make(chan struct{})
	p, destination := newPair(t, []string{"s1", "k1"}, func(hash string) http.Handler {
		if hash == "k1" {
			return http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-release })
		}
		return named(hash)
	})
	t.Cleanup(func() { close(release) })
	mirrored := split(100, 0)
	mirrored.Mirror = &mesh.Mirror{Percent: 100}
	p.apply(t, destination, mirrored)
	client := p.caller.Client()
	for range 200 {
		require.Equal(t, "s1", ask(t, client, http.MethodGet, "/"))
	}
	require.Zero(t, p.caller.Metric("sluice_mirrored_requests_total", `outcome="answered"`))
	require.GreaterOrEqual(t, p.caller.Metric("sluice_mirrored_requests_total", `outcome="dropped"`), 100.0)
}

// The control plane hears how many requests no caller's proxy has split, from each split's beginning.
func TestUnsplitRequestsAreReported(t *testing.T) {
	p, _ := newPair(t, []string{"s1", "k1"}, named)
	outside, name := p.pods[0].OutsideClient(), p.pods[0].Spec.Name
	weights := split(75, 25)
	p.setInbound(t, &weights)
	for range 7 {
		proxytest.Get(t, outside, shop+"/")
	}
	reported := func(want uint64) func() bool {
		return func() bool { return p.Discovery.Report(name).GetUnsplit() == want }
	}
	require.Eventually(t, reported(7), time.Minute, 5*time.Millisecond)
	p.setInbound(t, nil)
	proxytest.Get(t, outside, shop+"/")
	p.setInbound(t, &weights)
	proxytest.Get(t, outside, shop+"/")
	require.Eventually(t, reported(1), time.Minute, 5*time.Millisecond)
}
