// SPDX-License-Identifier: Apache-2.0

package discovery

import (
	"context"
	"net"
	"net/http"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/go-logr/logr"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"golang.org/x/sync/errgroup"

	"github.com/sluice-mesh/sluice/mesh/identity"
	"github.com/sluice-mesh/sluice/mesh/identity/identitytest"
	"github.com/sluice-mesh/sluice/mesh/meshpb"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// wired is a scene behind a real server: TLS, HTTP/2, gRPC.
type wired struct {
	*scene
	server    *Server
	authority *identitytest.CA
	url       string
}

func newWired(t *testing.T) *wired {
	t.Helper()
	s := newScene(t)
	w := &wired{scene: s, authority: identitytest.New(t)}
	w.server = NewServer(Options{TrustDomain: testDomain, Logger: logr.Discard()})
	w.server.registry = s.registry
	mux := http.NewServeMux()
	mux.Handle(w.server.Handler())
	mux.Handle(w.server.LiveHandler())
	address, _ := w.authority.ServeControlPlane(t, mux)
	w.url = "https://" + address
	return w
}

type clientStream = connect.BidiStreamForClientSimple[meshpb.WatchRequest, meshpb.WatchResponse]

// dial opens a stream with the certificate of a service account.
func (w *wired) dial(ctx context.Context, serviceAccount string) *clientStream {
	w.t.Helper()
	var source identity.CertificateSource
	if serviceAccount != "" {
		source = w.authority.Source(w.t, "shop", serviceAccount)
	}
	config := identity.ClientConfig(source, w.authority, w.authority.ControlPlaneID())
	config.NextProtos = []string{"h2"}
	transport := &http.Transport{TLSClientConfig: config, ForceAttemptHTTP2: true, DialContext: (&net.Dialer{}).DialContext}
	w.t.Cleanup(transport.CloseIdleConnections)
	client := meshpb.NewDiscoveryClient(&http.Client{Transport: transport}, w.url, connect.WithGRPC())
	stream, err := client.Watch(ctx)
	require.NoError(w.t, err)
	w.t.Cleanup(func() { end(stream) })
	return stream
}

// end ends a stream. A context that ends does not while the request is open: net/http waits for
// more of its body.
func end(stream *clientStream) {
	_ = stream.CloseRequest()
	_ = stream.CloseResponse()
}

func hello(pod string) *meshpb.WatchRequest {
	return &meshpb.WatchRequest{Message: &meshpb.WatchRequest_Hello{Hello: &meshpb.Hello{Namespace: "shop", Pod: pod}}}
}

func subscribe(addresses ...string) *meshpb.WatchRequest {
	return &meshpb.WatchRequest{Message: &meshpb.WatchRequest_Subscribe{Subscribe: &meshpb.Subscribe{Destinations: addresses}}}
}

func report(version uint64) *meshpb.WatchRequest {
	return &meshpb.WatchRequest{Message: &meshpb.WatchRequest_Report{Report: &meshpb.Report{Version: version}}}
}

func TestStreamOverTheWire(t *testing.T) {
	w := newWired(t)
	stream := w.dial(t.Context(), "client")
	require.NoError(t, stream.Send(hello("client-1")))
	require.NoError(t, stream.Send(subscribe(checkoutService)))

	// The subscription may come too late for the first response.
	var generation int64
	var version uint64
	inbounds := 0
	for generation == 0 {
		response, err := stream.Receive()
		require.NoError(t, err)
		version++
		require.Equal(t, version, response.GetVersion())
		if response.GetInbound() != nil {
			inbounds++
		}
		for _, destination := range response.GetDestinations() {
			generation = destination.GetSplits()[0].GetGeneration()
		}
	}
	require.Equal(t, int64(3), generation)
	require.Equal(t, 1, inbounds)
	require.NoError(t, stream.Send(report(version)))
	require.Eventually(t, func() bool { return w.counts(false).Acknowledged == 1 }, 5*time.Second, 5*time.Millisecond)

	w.setSplit(4, 60)
	w.requireCounts(1, 0, "shop/client-1")
	response, err := stream.Receive()
	require.NoError(t, err)
	require.Equal(t, uint32(60), response.GetDestinations()[0].GetSplits()[0].GetRevisions()[1].GetWeight())
	require.NoError(t, stream.Send(report(response.GetVersion())))
	require.Eventually(t, func() bool { return w.counts(false).Acknowledged == 1 }, 5*time.Second, 5*time.Millisecond)

	end(stream)
	require.Eventually(t, func() bool {
		w.registry.mu.Lock()
		defer w.registry.mu.Unlock()
		return len(w.registry.streams) == 0 && len(w.registry.destinations) == 0
	}, 5*time.Second, 5*time.Millisecond, "a stream that ends leaves nothing behind")
}

func TestAProxySpeaksOnlyForItsOwnPod(t *testing.T) {
	w := newWired(t)
	w.server.helloTimeout, w.server.podTimeout = 200*time.Millisecond, 200*time.Millisecond
	for name, c := range map[string]struct {
		account string
		first   *meshpb.WatchRequest
		want    connect.Code
	}{
		"no certificate":         {"", hello("client-1"), connect.CodeUnauthenticated},
		"another's pod":          {"client", hello("checkout-aaa-1"), connect.CodePermissionDenied},
		"not a hello":            {"client", subscribe(checkoutService), connect.CodeInvalidArgument},
		"nothing":                {"client", nil, connect.CodeDeadlineExceeded},
		"pod in other namespace": {"client", &meshpb.WatchRequest{Message: &meshpb.WatchRequest_Hello{Hello: &meshpb.Hello{Namespace: "bank", Pod: "client-1"}}}, connect.CodeNotFound},
	} {
		t.Run(name, func(t *testing.T) {
			stream := w.dial(t.Context(), c.account)
			if c.first != nil {
				_ = stream.Send(c.first) // The answer says what became of it.
			} else {
				require.NoError(t, stream.Send(nil)) // Headers only.
			}
			_, err := stream.Receive()
			require.Equal(t, c.want, connect.CodeOf(err), "%v", err)
		})
	}
}

func TestAPodThatTheCacheHasNotSeenIsWaitedFor(t *testing.T) {
	w := newWired(t)
	stream := w.dial(t.Context(), "client")
	require.NoError(t, stream.Send(hello("client-3")))
	w.addPod("client-3", "10.244.2.3")
	w.publish()
	response, err := stream.Receive()
	require.NoError(t, err)
	require.Equal(t, uint64(1), response.GetVersion())
}

func TestStreamsEndForAReason(t *testing.T) {
	w := newWired(t)
	open := func(pod string) *clientStream {
		stream := w.dial(t.Context(), "client")
		require.NoError(t, stream.Send(hello(pod)))
		_, err := stream.Receive()
		require.NoError(t, err)
		return stream
	}
	older := open("client-1")
	newer := open("client-1")
	_, err := older.Receive()
	require.Equal(t, connect.CodeAborted, connect.CodeOf(err), "%v", err)

	twice := open("client-2")
	require.NoError(t, twice.Send(hello("client-2")))
	_, err = twice.Receive()
	require.Equal(t, connect.CodeInvalidArgument, connect.CodeOf(err), "%v", err)

	close(w.server.stopped)
	_, err = newer.Receive()
	require.Equal(t, connect.CodeUnavailable, connect.CodeOf(err), "%v", err)
}

// TestManyProxiesAcknowledgeSoon has 200 real streams; each version must reach all and come back.
func TestManyProxiesAcknowledgeSoon(t *testing.T) {
	const proxies = 200
	w := newWired(t)
	source := w.authority.Source(t, "shop", "client")
	config := identity.ClientConfig(source, w.authority, w.authority.ControlPlaneID())
	config.NextProtos = []string{"h2"}
	transport := &http.Transport{TLSClientConfig: config, ForceAttemptHTTP2: true}
	t.Cleanup(transport.CloseIdleConnections)
	client := meshpb.NewDiscoveryClient(&http.Client{Transport: transport}, w.url, connect.WithGRPC())
	ctx, cancel := context.WithCancel(t.Context())
	var group errgroup.Group
	for at := range proxies {
		name := "many-" + string(rune('a'+at/26)) + string(rune('a'+at%26))
		w.addPod(name, "")
		group.Go(func() error {
			stream, err := client.Watch(ctx)
			if err != nil {
				return err
			}
			defer end(stream)
			defer context.AfterFunc(ctx, func() { end(stream) })()
			_ = stream.Send(hello(name))
			_ = stream.Send(subscribe(checkoutService))
			for {
				response, err := stream.Receive()
				if err != nil {
					return nil // The test ends it.
				}
				_ = stream.Send(report(response.GetVersion()))
			}
		})
	}
	w.publish()
	all := func() bool {
		counts := w.counts(false)
		return counts.Carrying == proxies && counts.Acknowledged == proxies
	}
	require.Eventually(t, all, 20*time.Second, 10*time.Millisecond)
	for generation := range int64(5) {
		began := time.Now()
		w.setSplit(10+generation, int32(generation))
		require.Eventually(t, all, 10*time.Second, time.Millisecond)
		t.Logf("%d proxies acknowledged generation %d in %s", proxies, 10+generation, time.Since(began))
	}
	cancel()
	require.NoError(t, group.Wait())
}
