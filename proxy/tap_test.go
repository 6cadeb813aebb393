// SPDX-License-Identifier: Apache-2.0

package proxy_test

import (
	"bufio"
	"encoding/json"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sluice-mesh/sluice/mesh"
	"github.com/sluice-mesh/sluice/proxy/proxytest"
)

// tapped is what a listener is told.
type tapped struct {
	Direction string `json:"direction"`
	Method    string `json:"method"`
	URI       string `json:"uri"`
	Client    string `json:"client.id"`
	Status    int    `json:"status"`
	Hash      string `json:"endpoint.pod_template_hash"`
	End       string `json:"end"`
	Dropped   int    `json:"dropped"`
}

// listen begins to listen; next is what is told then.
func listen(t *testing.T, pod *proxytest.Pod, query string) (next func() tapped) {
	t.Helper()
	response, err := http.Get("http://" + pod.Admin + "/tap" + query)
	require.NoError(t, err)
	t.Cleanup(func() { _ = response.Body.Close() })
	require.Equal(t, http.StatusOK, response.StatusCode)
	require.Equal(t, "application/x-ndjson", response.Header.Get("Content-Type"))
	lines := bufio.NewScanner(response.Body)
	return func() (told tapped) {
		require.True(t, lines.Scan(), "%v", lines.Err())
		require.NotContains(t, lines.Text(), "secret")
		require.NoError(t, json.Unmarshal(lines.Bytes(), &told), lines.Text())
		return told
	}
}

func TestTap(t *testing.T) {
	g := newGuarded(t, "s1")
	pod := g.pods[0]
	pod.Serve(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodDelete {
			w.WriteHeader(http.StatusTeapot)
		}
	}))
	g.guard(t, pod, mesh.Inbound{})
	ask := func(client *http.Client, method, path string) {
		request, err := http.NewRequestWithContext(t.Context(), method, shop+path+"?token=secret", nil)
		require.NoError(t, err)
		request.Header.Set("Authorization", "Bearer secret")
		request.Header.Set("Cookie", "session=secret")
		request.Header.Set("Referer", "http://me:secret@here/?secret")
		response, err := client.Do(request)
		require.NoError(t, err)
		require.NoError(t, response.Body.Close())
	}
	for name, clientOf := range map[string]func(*proxytest.Pod) *http.Client{
		"HTTP/1.1": (*proxytest.Pod).Client, "HTTP/2": (*proxytest.Pod).HTTP2Client,
	} {
		t.Run(name, func(t *testing.T) {
			friend, stranger := clientOf(g.friend), clientOf(g.stranger)
			all := listen(t, pod, "?max=4&direction=inbound")
			below := listen(t, pod, "?max=1&path=/a/")
			from := listen(t, pod, "?max=1&client="+g.identity("stranger"))
			failed := listen(t, pod, "?max=1&status=4xx&method=DELETE")
			out := listen(t, g.friend, "?max=1&method=DELETE")
			ask(friend, http.MethodGet, "/")
			ask(friend, http.MethodGet, "/a/b")
			ask(stranger, http.MethodGet, "/c")
			ask(friend, http.MethodDelete, "/d")
			wanted := []tapped{
				{Method: "GET", URI: "/", Client: g.identity("friend"), Status: 200},
				{Method: "GET", URI: "/a/b", Client: g.identity("friend"), Status: 200},
				{Method: "GET", URI: "/c", Client: g.identity("stranger"), Status: 200},
				{Method: "DELETE", URI: "/d", Client: g.identity("friend"), Status: http.StatusTeapot},
			}
			var told []tapped
			for i := range wanted {
				wanted[i].Direction, wanted[i].Hash = "inbound", "s1"
				told = append(told, all())
			}
			// Who has the answer may ask for the next before the pod has noted the end of this one.
			require.ElementsMatch(t, wanted, told)
			require.Equal(t, tapped{End: "max"}, all())
			require.Equal(t, "/a/b", below().URI)
			require.Equal(t, "/c", from().URI)
			require.Equal(t, "/d", failed().URI)
			require.Equal(t, tapped{Direction: "outbound", Method: "DELETE", URI: "/d", Status: http.StatusTeapot, Hash: "s1"}, out())
		})
	}
	require.Equal(t, tapped{End: "seconds"}, listen(t, pod, "?seconds=1")())
}

func TestTapsAreBounded(t *testing.T) {
	m := proxytest.New(t)
	pod := m.Start(proxytest.PodSpec{Name: "shop", Workload: "shop/shop", Hash: "s1"})
	for _, query := range []string{
		"direction=up", "status=20", "status=6xx", "status=2x0", "sample=0", "sample=2", "sample=NaN", "max=0", "max=1000000", "seconds=0",
		"seconds=4000", "seconds=1h", "path=/a&path=/b", "header=cookie",
	} {
		status, text := pod.AdminGet("/tap?" + query)
		require.Equal(t, http.StatusBadRequest, status, query)
		require.NotEmpty(t, text)
	}
	for range 8 {
		listen(t, pod, "")
	}
	status, text := pod.AdminGet("/tap")
	require.Equal(t, http.StatusServiceUnavailable, status, text)
}

// TestTapsHoldUpNobody: a listener that does not read loses lines, which are counted, and once it has gone nobody is
// listening.
func TestTapsHoldUpNobody(t *testing.T) {
	p, _ := newPair(t, []string{"s1"}, named)
	response, err := http.Get("http://" + p.caller.Admin + "/tap?max=100000&seconds=3600")
	require.NoError(t, err)
	client := p.caller.Client()
	require.Eventually(t, func() bool {
		for range 500 {
			status, _ := proxytest.Get(t, client, shop+"/")
			require.Equal(t, http.StatusOK, status)
		}
		return p.caller.Metric("sluice_tap_dropped_total") > 0
	}, 2*time.Minute, time.Nanosecond)
	require.NoError(t, response.Body.Close())
	require.Eventually(t, func() bool {
		proxytest.Get(t, client, shop+"/")
		before := p.caller.Metric("sluice_tap_dropped_total")
		proxytest.Get(t, client, shop+"/")
		return p.caller.Metric("sluice_tap_dropped_total") == before
	}, time.Minute, time.Millisecond)
}
