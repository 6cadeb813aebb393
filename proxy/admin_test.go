// SPDX-License-Identifier: Apache-2.0

package proxy_test

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sluice-mesh/sluice/proxy/proxytest"
)

type connections struct {
	Open []struct {
		Direction, Client, Destination, Identity, ServerName string
		Since                                                time.Time
	}
	Idle []struct {
		Address, Identity string
		Count             int
	}
}

func connectionsOf(t *testing.T, pod *proxytest.Pod) connections {
	t.Helper()
	status, text := pod.AdminGet("/connections")
	require.Equal(t, 200, status)
	var shown connections
	require.NoError(t, json.Unmarshal([]byte(text), &shown), text)
	return shown
}

func TestConnectionsAreShown(t *testing.T) {
	p, destination := newPair(t, []string{"s1"}, named)
	status, _ := proxytest.Get(t, p.caller.Client(), shop+"/")
	require.Equal(t, 200, status)

	var caller connections
	require.Eventually(t, func() bool { // It is put back a moment after the answer.
		caller = connectionsOf(t, p.caller)
		return len(caller.Idle) == 1
	}, time.Minute, 5*time.Millisecond)
	require.Len(t, caller.Open, 1)
	require.Equal(t, "outbound", caller.Open[0].Direction)
	require.Equal(t, shopVIP, caller.Open[0].Destination)
	require.WithinDuration(t, time.Now(), caller.Open[0].Since, time.Hour)
	require.Equal(t, destination.Endpoints[0].Address, caller.Idle[0].Address)
	require.Equal(t, destination.Endpoints[0].Identity, caller.Idle[0].Identity)
	require.Equal(t, 1, caller.Idle[0].Count)

	callee := connectionsOf(t, p.pods[0])
	require.Len(t, callee.Open, 1)
	require.Equal(t, "inbound", callee.Open[0].Direction)
	require.Equal(t, destination.Endpoints[0].Address, callee.Open[0].Destination)
	require.Equal(t, "spiffe://cluster.local/ns/shop/sa/default", callee.Open[0].Identity)
}

func TestLogLevelIsChanged(t *testing.T) {
	p, _ := newPair(t, []string{"s1"}, named)
	put := func(level string) (int, string) {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodPut, "http://"+p.caller.Admin+"/loglevel", strings.NewReader(level))
		require.NoError(t, err)
		client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
		response, err := client.Do(request)
		require.NoError(t, err)
		defer response.Body.Close()
		text, err := io.ReadAll(response.Body)
		require.NoError(t, err)
		return response.StatusCode, string(text)
	}
	status, text := p.caller.AdminGet("/loglevel")
	require.Equal(t, 200, status)
	require.Equal(t, "INFO\n", text)
	status, text = put("debug\n")
	require.Equal(t, 200, status)
	require.Equal(t, "DEBUG\n", text)
	_, text = p.caller.AdminGet("/loglevel")
	require.Equal(t, "DEBUG\n", text)
	for _, wrong := range []string{"", "loud", strings.Repeat("x", 100)} {
		status, text = put(wrong)
		require.Equal(t, 400, status)
		require.Contains(t, text, "want debug, info, warn or error")
	}
	_, text = p.caller.AdminGet("/loglevel")
	require.Equal(t, "DEBUG\n", text)
}
