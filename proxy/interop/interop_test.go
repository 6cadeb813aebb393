// SPDX-License-Identifier: Apache-2.0

// Package interop_test has gRPC's own client and server speak through proxies, by the cases that gRPC
// implementations are tried on each other with.
package interop_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/encoding/gzip"
	pb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/sluice-mesh/sluice/mesh"
	"github.com/sluice-mesh/sluice/proxy/proxytest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	shopVIP     = "10.99.0.1:80"
	initialKey  = "x-grpc-test-echo-initial"
	trailingKey = "x-grpc-test-echo-trailing-bin"
)

// server is the service of the interoperability tests.
type server struct {
	pb.UnimplementedTestServiceServer
}

func (server) EmptyCall(context.Context, *pb.Empty) (*pb.Empty, error) { return &pb.Empty{}, nil }

func payload(size int32) *pb.Payload { return &pb.Payload{Body: make([]byte, size)} }

// echoMetadata sends back what a client asks to be sent back.
func echoMetadata(ctx context.Context, header, trailer func(metadata.MD)) {
	incoming, _ := metadata.FromIncomingContext(ctx)
	if values := incoming.Get(initialKey); len(values) > 0 {
		header(metadata.Pairs(initialKey, values[0]))
	}
	if values := incoming.Get(trailingKey); len(values) > 0 {
		trailer(metadata.Pairs(trailingKey, values[0]))
	}
}

func (server) UnaryCall(ctx context.Context, request *pb.SimpleRequest) (*pb.SimpleResponse, error) {
	echoMetadata(ctx, func(md metadata.MD) { _ = grpc.SetHeader(ctx, md) }, func(md metadata.MD) { _ = grpc.SetTrailer(ctx, md) })
	if asked := request.GetResponseStatus(); asked.GetCode() != 0 {
		return nil, status.Error(codes.Code(asked.GetCode()), asked.GetMessage())
	}
	return &pb.SimpleResponse{Payload: payload(request.GetResponseSize())}, nil
}

func (server) StreamingOutputCall(request *pb.StreamingOutputCallRequest, stream grpc.ServerStreamingServer[pb.StreamingOutputCallResponse]) error {
	for _, asked := range request.GetResponseParameters() {
		if err := stream.Send(&pb.StreamingOutputCallResponse{Payload: payload(asked.GetSize())}); err != nil {
			return err
		}
	}
	return nil
}

func (server) StreamingInputCall(stream grpc.ClientStreamingServer[pb.StreamingInputCallRequest, pb.StreamingInputCallResponse]) error {
	sum := 0
	for {
		request, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return stream.SendAndClose(&pb.StreamingInputCallResponse{AggregatedPayloadSize: int32(sum)})
		}
		if err != nil {
			return err
		}
		sum += len(request.GetPayload().GetBody())
	}
}

func (server) FullDuplexCall(stream grpc.BidiStreamingServer[pb.StreamingOutputCallRequest, pb.StreamingOutputCallResponse]) error {
	echoMetadata(stream.Context(), func(md metadata.MD) { _ = stream.SetHeader(md) }, stream.SetTrailer)
	for {
		request, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if asked := request.GetResponseStatus(); asked.GetCode() != 0 {
			return status.Error(codes.Code(asked.GetCode()), asked.GetMessage())
		}
		for _, asked := range request.GetResponseParameters() {
			if err := stream.Send(&pb.StreamingOutputCallResponse{Payload: payload(asked.GetSize())}); err != nil {
				return err
			}
		}
	}
}

// start has two pods of a workload serve, and returns clients of it by how they reach it.
func start(t *testing.T) (m *proxytest.Mesh, clients map[string]*grpc.ClientConn, pods []*proxytest.Pod) {
	t.Helper()
	m = proxytest.New(t)
	caller := m.Start(proxytest.PodSpec{Name: "caller", Workload: "shop/caller", Hash: "c1"})
	// It is declared what is spoken: a client that is starved for a second would else be carried as bytes.
	destination := mesh.Destination{
		Address: shopVIP, Service: mesh.Service{Namespace: "shop", Name: "shop", Port: 80}, Protocol: mesh.ProtocolHTTP1,
	}
	for _, name := range []string{"shop-a", "shop-b"} {
		pod := m.Start(proxytest.PodSpec{
			Name: name, Workload: "shop/shop", Hash: "s1", Deadline: time.Minute,
			Inbound: mesh.Inbound{Protocols: map[uint16]mesh.Protocol{proxytest.AppPort: mesh.ProtocolHTTP1}},
		})
		served := grpc.NewServer(grpc.MaxRecvMsgSize(64 << 20))
		pb.RegisterTestServiceServer(served, server{})
		listener := pod.Listen()
		done := make(chan struct{})
		go func() {
			defer close(done)
			_ = served.Serve(listener)
		}()
		t.Cleanup(func() {
			served.Stop()
			<-done
		})
		destination.Endpoints = append(destination.Endpoints, pod.Endpoint())
		pods = append(pods, pod)
	}
	m.Discovery.SetDestination(destination)
	dial := func(dial func(context.Context) (net.Conn, error)) *grpc.ClientConn {
		conn, err := grpc.NewClient("passthrough:///shop",
			grpc.WithTransportCredentials(insecure.NewCredentials()),
			grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return dial(ctx) }),
			grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(64<<20)))
		require.NoError(t, err)
		t.Cleanup(func() { _ = conn.Close() })
		return conn
	}
	return m, map[string]*grpc.ClientConn{
		"meshed":   dial(func(ctx context.Context) (net.Conn, error) { return caller.DialApp(ctx, shopVIP) }),
		"unmeshed": dial(pods[0].DialOutside),
	}, pods
}

func TestInterop(t *testing.T) {
	_, conns, pods := start(t)
	for way, conn := range conns {
		client := pb.NewTestServiceClient(conn)
		for name, try := range map[string]func(context.Context, *testing.T, pb.TestServiceClient){
			"empty_unary":                 emptyUnary,
			"large_unary":                 func(ctx context.Context, t *testing.T, c pb.TestServiceClient) { largeUnary(ctx, t, c) },
			"client_compressed_unary":     compressedUnary,
			"very_large_unary":            veryLargeUnary,
			"client_streaming":            clientStreaming,
			"server_streaming":            serverStreaming,
			"ping_pong":                   pingPong,
			"empty_stream":                emptyStream,
			"timeout_on_sleeping_server":  timeoutOnSleepingServer,
			"cancel_after_begin":          cancelAfterBegin,
			"cancel_after_first_response": cancelAfterFirstResponse,
			"custom_metadata":             customMetadata,
			"status_code_and_message":     statusCodeAndMessage,
			"special_status_message":      specialStatusMessage,
			"unimplemented_method":        unimplementedMethod,
		} {
			t.Run(way+"/"+name, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				try(ctx, t, client)
			})
		}
	}
	require.NotZero(t, pods[1].Metric("response_total", `direction="inbound"`, `grpc_status="0"`), "calls of one connection are shared")
	require.NotZero(t, pods[0].Metric("response_total", `direction="inbound"`, `grpc_status="2"`, `classification="failure"`)+
		pods[1].Metric("response_total", `direction="inbound"`, `grpc_status="2"`, `classification="failure"`))
}

// TestEmptyStreamFirst: the end of a request may come while the connection to its endpoint is made.
func TestEmptyStreamFirst(t *testing.T) {
	_, conns, _ := start(t)
	for way, conn := range conns {
		t.Run(way, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			emptyStream(ctx, t, pb.NewTestServiceClient(conn))
		})
	}
}

func emptyUnary(ctx context.Context, t *testing.T, c pb.TestServiceClient) {
	_, err := c.EmptyCall(ctx, &pb.Empty{})
	require.NoError(t, err)
}

func largeUnary(ctx context.Context, t *testing.T, c pb.TestServiceClient, options ...grpc.CallOption) {
	for range 20 {
		answer, err := c.UnaryCall(ctx, &pb.SimpleRequest{ResponseSize: 314159, Payload: payload(271828)}, options...)
		require.NoError(t, err)
		require.Len(t, answer.GetPayload().GetBody(), 314159)
	}
}

func compressedUnary(ctx context.Context, t *testing.T, c pb.TestServiceClient) {
	largeUnary(ctx, t, c, grpc.UseCompressor(gzip.Name))
}

func veryLargeUnary(ctx context.Context, t *testing.T, c pb.TestServiceClient) {
	answer, err := c.UnaryCall(ctx, &pb.SimpleRequest{ResponseSize: 20 << 20, Payload: payload(20 << 20)})
	require.NoError(t, err)
	require.Len(t, answer.GetPayload().GetBody(), 20<<20)
}

func clientStreaming(ctx context.Context, t *testing.T, c pb.TestServiceClient) {
	stream, err := c.StreamingInputCall(ctx)
	require.NoError(t, err)
	for _, size := range []int32{27182, 8, 1828, 45904} {
		require.NoError(t, stream.Send(&pb.StreamingInputCallRequest{Payload: payload(size)}))
	}
	answer, err := stream.CloseAndRecv()
	require.NoError(t, err)
	require.EqualValues(t, 74922, answer.GetAggregatedPayloadSize())
}

func serverStreaming(ctx context.Context, t *testing.T, c pb.TestServiceClient) {
	sizes := []int32{31415, 9, 2653, 58979}
	request := &pb.StreamingOutputCallRequest{}
	for _, size := range sizes {
		request.ResponseParameters = append(request.ResponseParameters, &pb.ResponseParameters{Size: size})
	}
	stream, err := c.StreamingOutputCall(ctx, request)
	require.NoError(t, err)
	for _, size := range sizes {
		answer, err := stream.Recv()
		require.NoError(t, err)
		require.Len(t, answer.GetPayload().GetBody(), int(size))
	}
	_, err = stream.Recv()
	require.ErrorIs(t, err, io.EOF)
}

func exchangeOne(t *testing.T, stream pb.TestService_FullDuplexCallClient, ask, answer int32) {
	require.NoError(t, stream.Send(&pb.StreamingOutputCallRequest{
		Payload: payload(ask), ResponseParameters: []*pb.ResponseParameters{{Size: answer}},
	}))
	got, err := stream.Recv()
	require.NoError(t, err)
	require.Len(t, got.GetPayload().GetBody(), int(answer))
}

func pingPong(ctx context.Context, t *testing.T, c pb.TestServiceClient) {
	stream, err := c.FullDuplexCall(ctx)
	require.NoError(t, err)
	for i, size := range []int32{27182, 8, 1828, 45904} {
		exchangeOne(t, stream, size, []int32{31415, 9, 2653, 58979}[i])
	}
	require.NoError(t, stream.CloseSend())
	_, err = stream.Recv()
	require.ErrorIs(t, err, io.EOF)
}

func emptyStream(ctx context.Context, t *testing.T, c pb.TestServiceClient) {
	stream, err := c.FullDuplexCall(ctx)
	require.NoError(t, err)
	require.NoError(t, stream.CloseSend())
	_, err = stream.Recv()
	require.ErrorIs(t, err, io.EOF)
}

func timeoutOnSleepingServer(ctx context.Context, t *testing.T, c pb.TestServiceClient) {
	ctx, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
	defer cancel()
	stream, err := c.FullDuplexCall(ctx)
	if err == nil {
		_ = stream.Send(&pb.StreamingOutputCallRequest{Payload: payload(27182)})
		_, err = stream.Recv()
	}
	require.Equal(t, codes.DeadlineExceeded, status.Code(err))
}

func cancelAfterBegin(ctx context.Context, t *testing.T, c pb.TestServiceClient) {
	ctx, cancel := context.WithCancel(ctx)
	stream, err := c.StreamingInputCall(ctx)
	require.NoError(t, err)
	cancel()
	_, err = stream.CloseAndRecv()
	require.Equal(t, codes.Canceled, status.Code(err))
}

func cancelAfterFirstResponse(ctx context.Context, t *testing.T, c pb.TestServiceClient) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := c.FullDuplexCall(ctx)
	require.NoError(t, err)
	exchangeOne(t, stream, 27182, 31415)
	cancel()
	_, err = stream.Recv()
	require.Equal(t, codes.Canceled, status.Code(err))
}

func customMetadata(ctx context.Context, t *testing.T, c pb.TestServiceClient) {
	binary := string([]byte{0xab, 0xab, 0x00, '\r', '\n'})
	ctx = metadata.AppendToOutgoingContext(ctx, initialKey, "test_initial_metadata_value", trailingKey, binary)
	var header, trailer metadata.MD
	_, err := c.UnaryCall(ctx, &pb.SimpleRequest{ResponseSize: 1, Payload: payload(1)}, grpc.Header(&header), grpc.Trailer(&trailer))
	require.NoError(t, err)
	require.Equal(t, []string{"test_initial_metadata_value"}, header.Get(initialKey))
	require.Equal(t, []string{binary}, trailer.Get(trailingKey))
	stream, err := c.FullDuplexCall(ctx)
	require.NoError(t, err)
	exchangeOne(t, stream, 1, 1)
	header, err = stream.Header()
	require.NoError(t, err)
	require.Equal(t, []string{"test_initial_metadata_value"}, header.Get(initialKey))
	require.NoError(t, stream.CloseSend())
	_, err = stream.Recv()
	require.ErrorIs(t, err, io.EOF)
	require.Equal(t, []string{binary}, stream.Trailer().Get(trailingKey))
}

func requireStatus(ctx context.Context, t *testing.T, c pb.TestServiceClient, message string) {
	asked := &pb.EchoStatus{Code: int32(codes.Unknown), Message: message}
	_, err := c.UnaryCall(ctx, &pb.SimpleRequest{ResponseStatus: asked})
	require.Equal(t, codes.Unknown, status.Code(err))
	require.Equal(t, message, status.Convert(err).Message())
	stream, err := c.FullDuplexCall(ctx)
	require.NoError(t, err)
	require.NoError(t, stream.Send(&pb.StreamingOutputCallRequest{ResponseStatus: asked}))
	_, err = stream.Recv()
	require.Equal(t, codes.Unknown, status.Code(err))
	require.Equal(t, message, status.Convert(err).Message())
}

func statusCodeAndMessage(ctx context.Context, t *testing.T, c pb.TestServiceClient) {
	requireStatus(ctx, t, c, "test status message")
}

func specialStatusMessage(ctx context.Context, t *testing.T, c pb.TestServiceClient) {
	requireStatus(ctx, t, c, "\t\ntest with whitespace\r\nand Unicode BMP ☺ and non-BMP 😈\t\n")
}

func unimplementedMethod(ctx context.Context, t *testing.T, c pb.TestServiceClient) {
	_, err := c.UnimplementedCall(ctx, &pb.Empty{})
	require.Equal(t, codes.Unimplemented, status.Code(err))
}

// TestPodsThatLeave: calls and streams go on while a pod's proxy drains; none fails.
func TestPodsThatLeave(t *testing.T) {
	m, conns, pods := start(t)
	client := pb.NewTestServiceClient(conns["meshed"])
	ctx := t.Context()
	destination := mesh.Destination{Address: shopVIP, Protocol: mesh.ProtocolHTTP1, Endpoints: []mesh.Endpoint{pods[1].Endpoint()}}
	content := bytes.Repeat([]byte("x"), 1000)
	for i := range 300 {
		switch i {
		case 100:
			pods[0].Drain()
		case 200:
			m.Discovery.SetDestination(destination)
		}
		_, err := client.UnaryCall(ctx, &pb.SimpleRequest{ResponseSize: 1000, Payload: &pb.Payload{Body: content}})
		require.NoError(t, err, "call %d", i)
	}
}
