// SPDX-License-Identifier: Apache-2.0

package load

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// versionMethod answers with a message whose first field is the version, a string: on the wire a
// StringValue, so that the application's own definitions are not needed.
const versionMethod = "/version.VersionService/Version"

// watchTime is how long a gRPC stream is kept open.
const watchTime = 2 * time.Second

// newChannel makes the one connection of gRPC calls; it dials when the first is made, and again when it
// is lost. Package grpc sends a call again by itself in one case: the server has said that it has not
// seen it. Every client that speaks gRPC does so.
func newChannel(address string) (*grpc.ClientConn, error) {
	channel, err := grpc.NewClient("passthrough:///"+address, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDisableRetry(),
		// Not grpc's 20 s, in which calls wait and fail one after the other for one lost packet.
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: backoff.DefaultConfig, MinConnectTimeout: Timeout}))
	if err != nil {
		return nil, fmt.Errorf("gRPC address %q: write host:port: %w", address, err)
	}
	return channel, nil
}

// call is one unary gRPC call.
func (c *Client) call(ctx context.Context, q request, deadline time.Time) result {
	ctx, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()
	res := q.result()
	var version wrapperspb.StringValue
	if err := c.channel.Invoke(ctx, versionMethod, &emptypb.Empty{}, &version); err != nil {
		return res.failed(callClass(err, ClassReset), fmt.Errorf("call: %w", err))
	}
	res.version = version.GetValue()
	return res
}

// watch is one gRPC stream of the server, which begins at once and lasts until the client ends it.
func (c *Client) watch(ctx context.Context, q request, deadline time.Time) result {
	ctx, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()
	res := q.result()
	feed, err := healthpb.NewHealthClient(c.channel).Watch(ctx, &healthpb.HealthCheckRequest{})
	if err != nil {
		return res.failed(callClass(err, ClassReset), fmt.Errorf("open a stream: %w", err))
	}
	if _, err := feed.Recv(); err != nil {
		return res.failed(callClass(err, ClassReset), fmt.Errorf("wait for the first message of a stream: %w", err))
	}
	ended := make(chan error, 1)
	go func() {
		for {
			if _, err := feed.Recv(); err != nil {
				ended <- err
				return
			}
		}
	}()
	timer := time.NewTimer(watchTime)
	defer timer.Stop()
	select {
	case err := <-ended:
		return res.failed(callClass(err, ClassTruncated), fmt.Errorf("wait for messages of a stream: %w", err))
	case <-timer.C:
	}
	cancel()
	<-ended
	return res
}

// callClass is the class of a failed call: ended is what it is when the connection was lost.
func callClass(err error, ended Class) Class {
	if errors.Is(err, io.EOF) {
		return ClassTruncated // The server ended a stream that has no end.
	}
	switch status.Code(err) {
	case codes.DeadlineExceeded:
		return ClassTimeout
	case codes.Unavailable:
		return ended
	case codes.Internal:
		return ClassCorrupt
	}
	return ClassStatus
}
