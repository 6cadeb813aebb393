// SPDX-License-Identifier: Apache-2.0

package proxy_test

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sluice-mesh/sluice/mesh"
	"github.com/sluice-mesh/sluice/proxy/proxytest"
)

// sayName answers each connection's first bytes with a name.
func sayName(t *testing.T, pod *proxytest.Pod) {
	t.Helper()
	serveTCP(t, pod.Listen(), func(conn net.Conn) {
		if _, err := conn.Read(make([]byte, 1)); err == nil {
			_, _ = io.WriteString(conn, pod.Spec.Hash)
		}
	})
}

// askName opens a connection and returns who answers.
func askName(t *testing.T, conn net.Conn, err error) string {
	t.Helper()
	require.NoError(t, err)
	defer conn.Close()
	require.NoError(t, conn.SetDeadline(time.Now().Add(time.Minute)))
	_, err = conn.Write([]byte{1})
	require.NoError(t, err)
	answer, err := io.ReadAll(conn)
	require.NoError(t, err)
	return string(answer)
}

func TestTCPConnectionsFollowTheWeights(t *testing.T) {
	p, destination := newPair(t, []string{"s1", "k1"}, func(string) http.Handler { return nil })
	for _, pod := range p.pods {
		sayName(t, pod)
	}
	half := split(50, 50)
	destination.Splits = []mesh.Split{half}
	p.Discovery.SetDestination(destination)
	p.setInbound(t, &half)
	for name, dial := range map[string]func() (net.Conn, error){
		"meshed":   func() (net.Conn, error) { return p.caller.DialApp(t.Context(), shopVIP) },
		"unmeshed": func() (net.Conn, error) { return p.pods[0].DialOutside(t.Context()) },
	} {
		t.Run(name, func(t *testing.T) {
			canary := 0
			for range 100 {
				conn, err := dial()
				if askName(t, conn, err) == "k1" {
					canary++
				}
			}
			require.InDelta(t, 50, canary, 25)
		})
	}
}

func TestTCPLeavesPodsWhoseApplicationRefuses(t *testing.T) {
	p, _ := newPair(t, []string{"s1", "s1"}, func(string) http.Handler { return nil })
	sayName(t, p.pods[1])
	for range 20 {
		conn, err := p.caller.DialApp(t.Context(), shopVIP)
		require.Equal(t, "s1", askName(t, conn, err), "the handshake waits for the application")
	}
}

func TestTCPWithoutEndpointsIsReset(t *testing.T) {
	p, _ := newPair(t, []string{"s1"}, func(string) http.Handler { return nil })
	conn, err := p.caller.DialApp(t.Context(), shopVIP)
	require.NoError(t, err)
	defer conn.Close()
	require.NoError(t, conn.SetDeadline(time.Now().Add(time.Minute)))
	_, err = conn.Write([]byte{1})
	require.NoError(t, err)
	_, err = io.ReadAll(conn)
	require.Error(t, err, "not an empty answer")
	require.InDelta(t, 1, p.caller.Metric("response_total", `error="connect"`, `dst_pod_template_hash="s1"`), 0)
}

func TestConnectionsForLaterAreStillHTTP(t *testing.T) {
	p, destination := newPair(t, []string{"s1", "k1"}, named)
	destination.Splits = []mesh.Split{split(100, 0)}
	p.Discovery.SetDestination(destination)
	proxytest.Get(t, p.caller.Client(), shop+"/") // The port speaks HTTP.
	conn, err := p.caller.DialApp(t.Context(), shopVIP)
	require.NoError(t, err)
	defer conn.Close()
	require.NoError(t, conn.SetReadDeadline(time.Now().Add(1200*time.Millisecond)))
	_, err = conn.Read(make([]byte, 1))
	require.ErrorContains(t, err, "timeout", "nothing is said for longer than detection waits")
	require.NoError(t, conn.SetDeadline(time.Now().Add(time.Minute)))
	destination.Splits = []mesh.Split{split(0, 100)}
	p.Discovery.SetDestination(destination)
	p.Discovery.AwaitAcknowledged(t, "caller")
	_, err = io.WriteString(conn, "GET / HTTP/1.1\r\nHost: shop\r\n\r\n")
	require.NoError(t, err)
	response, err := http.ReadResponse(bufio.NewReader(conn), nil)
	require.NoError(t, err)
	body, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	require.Equal(t, "k1", string(body))
}
