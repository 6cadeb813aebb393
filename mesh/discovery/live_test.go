// SPDX-License-Identifier: Apache-2.0

package discovery

import (
	"fmt"
	"net"
	"net/http"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/stretchr/testify/require"

	"github.com/sluice-mesh/sluice/mesh/identity"
	"github.com/sluice-mesh/sluice/mesh/meshpb"
)

func tally(session, sequence, succeeded uint64, calls ...*meshpb.Called) *meshpb.WatchRequest {
	return &meshpb.WatchRequest{Message: &meshpb.WatchRequest_Tally{Tally: &meshpb.Tally{
		Session: session, Sequence: sequence, AgeMilliseconds: 1500,
		Served: &meshpb.Served{Succeeded: succeeded, Latencies: make([]uint64, 100)}, Called: calls,
	}}}
}

func calls(workload, hash string, answered, lost uint64) *meshpb.Called {
	return &meshpb.Called{Workload: workload, PodTemplateHash: hash, Answered: answered, Lost: lost}
}

// reader reads as a service account; as nobody with an empty one.
func (w *wired) reader(serviceAccount string) meshpb.LiveClient {
	w.t.Helper()
	var source identity.CertificateSource
	if serviceAccount != "" {
		source = w.authority.Source(w.t, "shop", serviceAccount)
	}
	config := identity.ClientConfig(source, w.authority, w.authority.ControlPlaneID())
	config.NextProtos = []string{"h2"}
	transport := &http.Transport{TLSClientConfig: config, ForceAttemptHTTP2: true, DialContext: (&net.Dialer{}).DialContext}
	w.t.Cleanup(transport.CloseIdleConnections)
	return meshpb.NewLiveClient(&http.Client{Transport: transport}, w.url, connect.WithGRPC())
}

// summary of what is known, a line per tally.
func summary(response *meshpb.ReadResponse) (lines []string) {
	for _, of := range response.GetTallies() {
		line := fmt.Sprintf("%s/%s is %q %q, served %d", of.GetNamespace(), of.GetPod(), of.GetWorkload(), of.GetPodTemplateHash(), of.GetTally().GetServed().GetSucceeded())
		for _, called := range of.GetTally().GetCalled() {
			line += fmt.Sprintf(", called %s %s %d-%d", called.GetWorkload(), called.GetPodTemplateHash(), called.GetAnswered(), called.GetLost())
		}
		lines = append(lines, line)
	}
	return lines
}

func TestOnlyTheReaderReads(t *testing.T) {
	w := newWired(t)
	request := &meshpb.ReadRequest{Workloads: []string{"shop/checkout"}}
	for account, code := range map[string]connect.Code{
		"": connect.CodeUnauthenticated, "client": connect.CodePermissionDenied, "checkout": connect.CodePermissionDenied, "controller": connect.CodePermissionDenied,
	} {
		_, err := w.reader(account).Read(t.Context(), request)
		require.Equal(t, code, connect.CodeOf(err), "%q, while nobody may: %v", account, err)
	}
	reader, err := identity.ForServiceAccount(testDomain, "shop", "controller")
	require.NoError(t, err)
	w.server.options.Reader = reader
	_, err = w.reader("client").Read(t.Context(), request)
	require.Equal(t, connect.CodePermissionDenied, connect.CodeOf(err))
	response, err := w.reader("controller").Read(t.Context(), request)
	require.NoError(t, err)
	require.Empty(t, response.GetTallies())
	require.NotEmpty(t, response.GetInstance())
	_, err = w.reader("controller").Read(t.Context(), &meshpb.ReadRequest{Workloads: make([]string, maxRead+1)})
	require.Equal(t, connect.CodeResourceExhausted, connect.CodeOf(err))
}

// A proxy speaks for its own pod, whatever it says, and of others only as their caller.
func TestTalliesOverTheWire(t *testing.T) {
	w := newWired(t)
	reader, err := identity.ForServiceAccount(testDomain, "shop", "controller")
	require.NoError(t, err)
	w.server.options.Reader = reader
	live := w.reader("controller")
	read := func(after uint64, instance string) *meshpb.ReadResponse {
		t.Helper()
		response, err := live.Read(t.Context(), &meshpb.ReadRequest{Workloads: []string{"shop/checkout", "shop/nothing"}, After: after, Instance: instance})
		require.NoError(t, err)
		return response
	}
	stream := w.dial(t.Context(), "client")
	require.NoError(t, stream.Send(hello("client-1")))
	everything := []*meshpb.Called{
		calls("shop/checkout", "aaa", 5, 1), calls("shop/checkout", "bbb", 2, 0), calls("shop/checkout", "zzz", 9, 9), calls("other/victim", "aaa", 0, 99), calls("shop/checkout", "aaa", 500, 100),
	}
	require.NoError(t, stream.Send(tally(7, 1, 1_000_000, everything...)))
	require.NoError(t, stream.Send(subscribe(checkoutService)))
	version := uint64(0)
	for told := false; !told; {
		response, err := stream.Receive()
		require.NoError(t, err)
		version, told = response.GetVersion(), len(response.GetDestinations()) > 0
	}
	require.Empty(t, summary(read(0, "")), "it had not been told of the workload, and is none of its pods")
	require.NoError(t, stream.Send(report(version)))
	require.NoError(t, stream.Send(tally(0, 2, 1, everything...)), "no session")
	require.NoError(t, stream.Send(tally(7, 3, 1_000_000, everything...)))
	var response *meshpb.ReadResponse
	require.Eventually(t, func() bool {
		response = read(0, "")
		return len(response.GetTallies()) == 1
	}, 5*time.Second, 5*time.Millisecond)
	require.Equal(t, []string{`shop/client-1 is "" "", served 0, called shop/checkout aaa 5-1, called shop/checkout bbb 2-0`}, summary(response))
	require.Equal(t, w.now.UnixMilli(), response.GetTallies()[0].GetReceivedMilliseconds())
	require.Len(t, response.GetCarriers(), 1)
	require.Contains(t, response.GetCarriers()[0].GetPods(), "shop/client-1")
	require.Len(t, response.GetCarriers()[0].GetRevisions(), 2)

	require.Empty(t, summary(read(response.GetSerial(), response.GetInstance())), "nothing new")
	require.Len(t, summary(read(response.GetSerial(), "another")), 1, "serials of another process mean nothing")
	w.setSplit(0, 0)
	require.NoError(t, stream.Send(tally(7, 4, 1, everything...)))
	require.Eventually(t, func() bool { return len(read(0, "").GetTallies()) == 0 }, 5*time.Second, 5*time.Millisecond, "nobody runs a canary")
}

// A pod's own counts are those of the workload and revision that the cluster says it is of.
func TestTallyOfAPod(t *testing.T) {
	s := newScene(t)
	own := ""
	for key, pod := range s.registry.index.pods {
		if pod.workload == "shop/checkout" && pod.hash == "bbb" {
			own = key
		}
	}
	require.NotEmpty(t, own)
	stream := s.registry.join(own)
	s.registry.tally(stream, tally(3, 1, 42).GetTally())
	response := s.registry.read([]string{"shop/checkout"}, 0)
	require.Equal(t, []string{own + ` is "shop/checkout" "bbb", served 42`}, summary(response))
	require.Len(t, response.GetTallies()[0].GetTally().GetServed().GetLatencies(), latencyBuckets)

	again := s.registry.join(own)
	s.registry.tally(stream, tally(3, 2, 43).GetTally())
	require.Equal(t, []string{own + ` is "shop/checkout" "bbb", served 42`}, summary(s.registry.read([]string{"shop/checkout"}, 0)), "that stream is over")
	s.registry.tally(again, tally(3, 2, 44).GetTally())
	require.Equal(t, []string{own + ` is "shop/checkout" "bbb", served 44`}, summary(s.registry.read([]string{"shop/checkout"}, response.GetSerial())))
	s.registry.leave(again)
	require.Len(t, s.registry.read([]string{"shop/checkout"}, 0).GetTallies(), 1, "its last words stay while the pod is there")
	s.inputs.Pods = nil
	s.publish()
	require.Empty(t, s.registry.read([]string{"shop/checkout"}, 0).GetTallies())
}

// Where nobody may read them, proxies are not asked for tallies, and one that sends some all the same is
// not listened to.
func TestTalliesNobodyAskedFor(t *testing.T) {
	for _, wanted := range []bool{false, true} {
		s := newScene(t)
		index := s.registry.index
		s.registry = newRegistry(func() time.Time { return s.now }, wanted)
		s.registry.publish(index)
		for key, pod := range index.pods {
			if pod.workload != "shop/checkout" {
				continue
			}
			stream := s.registry.join(key)
			response := s.registry.next(stream)
			require.Equal(t, wanted, response.GetTallies())
			s.registry.tally(stream, tally(3, 1, 42).GetTally())
		}
		require.Equal(t, wanted, len(s.registry.read([]string{"shop/checkout"}, 0).GetTallies()) > 0)
	}
}
