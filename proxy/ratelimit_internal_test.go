// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/stretchr/testify/require"

	"github.com/sluice-mesh/sluice/mesh"
)

func atAddress(text string) mesh.Caller { return mesh.Caller{Address: netip.MustParseAddr(text)} }

func TestClientsAreToldApart(t *testing.T) {
	require.Equal(t, ratedAs(atAddress("fd00::1")), ratedAs(atAddress("fd00::2:3")), "one network of IPv6 is one client")
	require.NotEqual(t, ratedAs(atAddress("fd00::1")), ratedAs(atAddress("fd00:0:0:1::1")))
	require.NotEqual(t, ratedAs(atAddress("10.0.0.1")), ratedAs(atAddress("10.0.0.2")))
	require.NotEqual(t, ratedAs(mesh.Caller{}), ratedAs(atAddress("0.0.0.0")))
	require.Equal(t, ratedAs(mesh.Caller{Identity: "a", Address: netip.MustParseAddr("10.0.0.1")}), ratedAs(mesh.Caller{Identity: "a"}),
		"an identity is one client wherever it calls from")
}

// clocked are rates whose time a test sets.
type clocked struct {
	*rates
	at time.Time
}

func newClocked(limits ...mesh.RateLimit) *clocked {
	c := &clocked{at: time.Unix(1, 0)}
	c.rates = newRates(func() time.Time { return c.at })
	c.apply(&mesh.Access{Limits: limits})
	return c
}

// passes counts the requests of a client that get through.
func (c *clocked) passes(from mesh.Caller, requests int) (passed int) {
	for range requests {
		if c.take(from, mesh.Asked{Port: 80, Method: "GET", Path: "/"}).exceeded == "" {
			passed++
		}
	}
	return passed
}

func stranger(n int) mesh.Caller {
	return mesh.Caller{Address: netip.AddrFrom4([4]byte{10, byte(n >> 16), byte(n >> 8), byte(n)})}
}

// However many addresses an attacker has, what is kept of them is bounded; who was there before keeps its
// own allowance, members of the mesh theirs, and those who come later mostly find one.
func TestFloodsOfClients(t *testing.T) {
	const burst, attackers, late = 3, 2 * ratedMost, 1_000_000
	c := newClocked(mesh.RateLimit{Name: "a", Interval: time.Minute, Burst: burst})
	early := stranger(late - 1)
	require.Equal(t, 1, c.passes(early, 1))
	passed := 0
	for n := range attackers {
		passed += c.passes(stranger(n), 1)
	}
	require.Greater(t, passed, attackers*9/10, "few are on an allowance that is used up")
	of := c.limits[0]
	require.Equal(t, ratedMost, len(of.strangers.clients)) //nolint:testifylint // It would print them all.
	require.Equal(t, burst-1, c.passes(early, burst+1), "it keeps what it had, and gets no more")
	require.Equal(t, burst, c.passes(mesh.Caller{Identity: "member"}, burst+1))
	// 4097 requests of others share 4096 allowances with those who come now, of which each is good for three.
	found := 0
	for n := range 1000 {
		if c.passes(stranger(late+n), 1) == 1 {
			found++
		}
	}
	require.Greater(t, found, 800)
	require.Equal(t, ratedMost, len(of.strangers.clients)) //nolint:testifylint // As above.
	// Whoever has rested makes room, a few at a time.
	c.at = c.at.Add(time.Hour)
	passed = 0
	for n := range ratedMost {
		found := c.passes(stranger(2*late+n), burst+1)
		require.LessOrEqual(t, found, burst, "whether it shares or not")
		passed += found
	}
	require.Greater(t, passed, burst*ratedMost*8/10)
	require.LessOrEqual(t, len(of.strangers.clients), ratedMost)
	require.Len(t, of.members.clients, 1)
}

func TestManyMembersShareAllowances(t *testing.T) {
	c := newClocked(mesh.RateLimit{Name: "a", Interval: time.Hour, Burst: 1})
	for n := range ratedMost {
		require.Equal(t, 1, c.passes(mesh.Caller{Identity: fmt.Sprint(n)}, 2))
	}
	require.Nil(t, c.limits[0].members.shared)
	require.Equal(t, 1, c.passes(mesh.Caller{Identity: "late"}, 2))
	require.NotNil(t, c.limits[0].members.shared)
	require.Equal(t, ratedMost, len(c.limits[0].members.clients)) //nolint:testifylint // As above.
}

// A configuration that leaves a limit as it was does not give everybody a new allowance.
func TestLimitsGoOnCounting(t *testing.T) {
	from := mesh.Caller{Identity: "x"}
	a, b := mesh.RateLimit{Name: "a", Interval: time.Second, Burst: 1}, mesh.RateLimit{Name: "b", Interval: time.Second, Burst: 5}
	c := newClocked(a)
	require.Equal(t, 1, c.passes(from, 2))
	c.apply(&mesh.Access{Limits: []mesh.RateLimit{a, b}})
	verdict := c.take(from, mesh.Asked{})
	require.Equal(t, rateVerdict{exceeded: "a", wait: time.Second}, verdict)
	a.Burst = 5
	c.apply(&mesh.Access{Limits: []mesh.RateLimit{a, b}})
	require.Equal(t, 5, c.passes(from, 6))
	c.apply(nil)
	require.Equal(t, 6, c.passes(from, 6))
}

func TestSeveralLimits(t *testing.T) {
	from := mesh.Caller{Identity: "x"}
	all := mesh.RateLimit{Name: "all", Interval: time.Minute, Burst: 3}
	login := mesh.RateLimit{Name: "login", Interval: time.Hour, Burst: 1, Routes: []mesh.AccessRoute{{Path: mesh.NewValueMatch("", mesh.MatchExact, "/login")}}}
	tried := mesh.RateLimit{Name: "tried", Mode: mesh.AccessAudit, Interval: time.Hour, Burst: 1}
	c := newClocked(all, login, tried)
	ask := func(path string) rateVerdict { return c.take(from, mesh.Asked{Port: 80, Method: "GET", Path: path}) }
	require.Equal(t, rateVerdict{}, ask("/login"))
	require.Equal(t, rateVerdict{exceeded: "login", wait: time.Hour, audited: "tried"}, ask("/login"))
	// What was refused has counted for none.
	require.Equal(t, rateVerdict{audited: "tried"}, ask("/"))
	require.Equal(t, rateVerdict{audited: "tried"}, ask("/"))
	require.Equal(t, rateVerdict{exceeded: "all", wait: time.Minute, audited: "tried"}, ask("/"))
	require.Equal(t, "login", ask("/login").exceeded, "for which one has to wait longest")
	c.at = c.at.Add(time.Hour)
	require.Equal(t, rateVerdict{}, ask("/login"))
}

func TestRetryAfterIsRoundedUp(t *testing.T) {
	for wait, want := range map[time.Duration]int64{1: 1, time.Second: 1, time.Second + 1: 2, time.Minute: 60} {
		require.Equal(t, want, limited(wait).retryAfter)
	}
}

// admitter is a proxy with limits, or none, and what it is asked.
func admitter(access *mesh.Access, client, address string) (p *Proxy, admit func() refusal) {
	p = New(Options{})
	inbound := &mesh.Inbound{Access: access}
	p.rates.apply(access)
	info := &connInfo{destination: netip.MustParseAddrPort("10.1.1.1:8080"), client: client, from: netip.MustParseAddr(address), inRequests: true}
	info.labels = inboundLabels(8080, client)
	request := requestView{method: "POST", path: "/orders/a%20b"}
	head := &marks{}
	return p, func() refusal { return p.admit(info, inbound, p.callerOf(info, head), request, head) }
}

// What is nobody's own request does not count: what a peer has counted, and copies. Only a proxy that speaks
// in requests is believed.
func TestWhatDoesNotCount(t *testing.T) {
	own := "spiffe://cluster.local/ns/shop/sa/shop"
	for name, test := range map[string]struct {
		info connInfo
		head marks
		want bool
	}{
		"a request":              {connInfo{client: own, inRequests: true}, marks{}, false},
		"passed on":              {connInfo{client: own, inRequests: true}, marks{handoff: []byte("10.0.0.1")}, true},
		"passed on, as bytes":    {connInfo{client: own}, marks{handoff: []byte("10.0.0.1")}, false},
		"passed on by another":   {connInfo{client: own + "2", inRequests: true}, marks{handoff: []byte("10.0.0.1")}, false},
		"a copy":                 {connInfo{client: own + "2", inRequests: true}, marks{mirrored: true}, true},
		"a copy, as bytes":       {connInfo{client: own + "2"}, marks{mirrored: true}, false},
		"a copy of an outsider":  {connInfo{}, marks{mirrored: true}, false},
		"a copy, plain requests": {connInfo{inRequests: true}, marks{mirrored: true}, false},
	} {
		t.Run(name, func(t *testing.T) {
			p := New(Options{ID: spiffeid.RequireFromString(own)})
			require.Equal(t, test.want, p.isCounted(&test.info, &test.head))
		})
	}
}

// TestAdmittingMakesNoGarbage: neither without RateLimits, nor with them, nor for who is refused.
func TestAdmittingMakesNoGarbage(t *testing.T) {
	often := mesh.RateLimit{Name: "often", Interval: 1, Burst: mesh.MostBurst}
	route := often
	route.Name, route.Ports = "route", []uint16{8080}
	route.Routes = []mesh.AccessRoute{{Methods: []string{"POST"}, Path: mesh.NewValueMatch("", mesh.MatchPrefix, "/orders")}}
	never := mesh.RateLimit{Name: "never", Interval: time.Hour, Burst: 1}
	tried := never
	tried.Mode = mesh.AccessAudit
	for name, test := range map[string]struct {
		access *mesh.Access
		want   int
	}{
		"nobody asks":     {nil, 0},
		"without limits":  {&mesh.Access{Default: mesh.AccessAllow}, 0},
		"with limits":     {&mesh.Access{Default: mesh.AccessAllow, Limits: []mesh.RateLimit{often, route}}, 0},
		"in audit mode":   {&mesh.Access{Default: mesh.AccessAllow, Limits: []mesh.RateLimit{often, tried}}, 0},
		"above the limit": {&mesh.Access{Default: mesh.AccessAllow, Limits: []mesh.RateLimit{often, never}}, 429},
	} {
		for client, address := range map[string]string{"spiffe://cluster.local/ns/web/sa/frontend": "10.0.0.1", "": "fd00::1"} {
			t.Run(name+" "+address, func(t *testing.T) {
				p, admit := admitter(test.access, client, address)
				require.Zero(t, admit().status)
				require.Zero(t, testing.AllocsPerRun(1000, func() { admit() }))
				require.Equal(t, test.want, admit().status)
				for i := range p.rates.limits {
					require.Len(t, p.rates.limits[i].strangers.clients, map[bool]int{true: 1}[client == ""])
				}
			})
		}
	}
}

// BenchmarkAdmit is what limits cost a request, and one more client whom a full table has no place for.
func BenchmarkAdmit(b *testing.B) {
	often := mesh.RateLimit{Name: "often", Interval: 1, Burst: mesh.MostBurst}
	for name, access := range map[string]*mesh.Access{
		"without": {Default: mesh.AccessAllow},
		"with":    {Default: mesh.AccessAllow, Limits: []mesh.RateLimit{often}},
	} {
		b.Run(name, func(b *testing.B) {
			_, admit := admitter(access, "", "10.0.0.1")
			b.ReportAllocs()
			for b.Loop() {
				admit()
			}
		})
	}
	b.Run("flood", func(b *testing.B) {
		c := newClocked(mesh.RateLimit{Name: "a", Interval: time.Hour, Burst: 2})
		n := 0
		b.ReportAllocs()
		for b.Loop() {
			n++
			c.take(stranger(n%(1<<24)), mesh.Asked{Port: 80, Method: "GET", Path: "/"})
		}
	})
}
