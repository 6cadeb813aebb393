// SPDX-License-Identifier: Apache-2.0

package load

import (
	"context"
	"net"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// grpcServer answers calls of the version as it is told to, and streams of the health service.
func grpcServer(t *testing.T, answer func(context.Context) (string, error)) (server *grpc.Server, address string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	server = grpc.NewServer(grpc.UnknownServiceHandler(func(_ any, stream grpc.ServerStream) error {
		if method, _ := grpc.MethodFromServerStream(stream); method != versionMethod {
			return status.Error(codes.Unimplemented, method)
		}
		if err := stream.RecvMsg(&emptypb.Empty{}); err != nil {
			return err
		}
		version, err := answer(stream.Context())
		if err != nil {
			return err
		}
		return stream.SendMsg(wrapperspb.String(version))
	}))
	healthpb.RegisterHealthServer(server, health.NewServer())
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	t.Cleanup(func() {
		server.Stop()
		require.NoError(t, <-served)
	})
	return server, listener.Addr().String()
}

// calls is a config of gRPC only.
func calls(t *testing.T, address string, callPercent int) Config {
	t.Helper()
	server := httptest.NewServer(application("v1"))
	t.Cleanup(server.Close)
	config := fast(server.URL)
	config.Rate, config.PostPercent = 50, 0
	config.GRPCAddress, config.CallPercent, config.WatchPercent = address, callPercent, 100-callPercent
	return config
}

func TestCalls(t *testing.T) {
	for name, test := range map[string]struct {
		answer func(context.Context) (string, error)
		class  Class
	}{
		"a version": {answer: func(context.Context) (string, error) { return "v1", nil }},
		"an error": {
			answer: func(context.Context) (string, error) { return "", status.Error(codes.NotFound, "") },
			class:  ClassStatus,
		},
		"nobody is there": {
			answer: func(context.Context) (string, error) { return "", status.Error(codes.Unavailable, "") },
			class:  ClassReset,
		},
		"no answer": {
			answer: func(ctx context.Context) (string, error) { <-ctx.Done(); return "", ctx.Err() },
			class:  ClassTimeout,
		},
	} {
		t.Run(name, func(t *testing.T) {
			_, address := grpcServer(t, test.answer)
			counts := drive(t, calls(t, address, 100), 5)
			if test.class == "" {
				require.Zero(t, counts.Failed, counts.Samples)
				require.Equal(t, counts.Requests, counts.Versions["v1"].OK)
				require.Equal(t, counts.OK, counts.Calls)
				return
			}
			require.Equal(t, map[Class]uint64{test.class: counts.Requests}, counts.Failures, counts.Samples)
		})
	}
}

// TestWatches: a stream that lasts is one answer, one that the server ends is a failure.
func TestWatches(t *testing.T) {
	server, address := grpcServer(t, nil)
	config := calls(t, address, 0)
	config.Timeout = Timeout
	counts := drive(t, config, 5)
	require.Zero(t, counts.Failed, counts.Samples)

	client, err := New(config)
	require.NoError(t, err)
	defer client.closeIdle()
	ended := make(chan result, 1)
	go func() { ended <- client.watch(t.Context(), request{kind: watch}, time.Now().Add(Timeout)) }()
	require.Eventually(t, func() bool { return client.channel.GetState().String() == "READY" }, Timeout, time.Millisecond)
	server.Stop()
	require.Contains(t, []Class{ClassTruncated, ClassReset}, (<-ended).class)
}
