// SPDX-License-Identifier: Apache-2.0

package proxy_test

import (
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sluice-mesh/sluice/proxy/proxytest"
)

// drainer starts a pod that drains slowly enough to be looked at.
func drainer(t *testing.T, linger, deadline time.Duration, handler http.Handler) *proxytest.Pod {
	t.Helper()
	m := proxytest.New(t)
	pod := m.Start(proxytest.PodSpec{Name: "shop", Workload: "shop/shop", Hash: "s1", Linger: linger, Deadline: deadline})
	pod.Serve(handler)
	return pod
}

func TestDrainingGoesOnAccepting(t *testing.T) {
	pod := drainer(t, time.Second, 10*time.Second, named("s1"))
	client := pod.OutsideClient()
	response, err := client.Get(shop + "/")
	require.NoError(t, err)
	_, err = io.Copy(io.Discard, response.Body)
	require.NoError(t, err)
	require.NoError(t, response.Body.Close())
	require.False(t, response.Close)
	pod.Drain()
	require.Eventually(t, func() bool {
		response, err := client.Get(shop + "/")
		if err != nil {
			t.Error(err)
			return true
		}
		_, _ = io.Copy(io.Discard, response.Body)
		_ = response.Body.Close()
		return response.Close // Clients are asked to go elsewhere.
	}, 5*time.Second, 5*time.Millisecond)
	status, body := proxytest.Get(t, pod.OutsideClient(), shop+"/")
	require.Equal(t, 200, status, "new connections are still served")
	require.Equal(t, "s1", body)
	status, _ = pod.AdminGet("/ready")
	require.Equal(t, 200, status)
	select {
	case <-pod.Ended():
	case <-time.After(8 * time.Second):
		t.Fatal("nothing is open and the proxy has not left")
	}
}

func TestDrainingWaitsForWhatIsOpen(t *testing.T) {
	entered, release := make(chan struct{}), make(chan struct{})
	pod := drainer(t, 10*time.Millisecond, 10*time.Second, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		close(entered)
		<-release
		_, _ = io.WriteString(w, "late")
	}))
	got := make(chan string, 1)
	go func() {
		_, body := proxytest.Get(t, pod.OutsideClient(), shop+"/")
		got <- body
	}()
	<-entered
	pod.Drain()
	select {
	case <-pod.Ended():
		t.Fatal("the proxy left a request behind")
	case <-time.After(200 * time.Millisecond):
	}
	close(release)
	require.Equal(t, "late", <-got)
	<-pod.Ended()
}

func TestDrainingEndsAtTheDeadline(t *testing.T) {
	entered := make(chan struct{})
	pod := drainer(t, 10*time.Millisecond, 100*time.Millisecond, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		close(entered)
		<-r.Context().Done()
	}))
	failed := make(chan error, 1)
	go func() {
		response, err := pod.OutsideClient().Get(shop + "/")
		if err == nil {
			err = response.Body.Close()
		}
		failed <- err
	}()
	<-entered
	pod.Drain()
	<-pod.Ended()
	require.Error(t, <-failed)
}
