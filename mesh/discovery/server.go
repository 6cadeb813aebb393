// SPDX-License-Identifier: Apache-2.0

package discovery

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"time"

	"connectrpc.com/connect"
	"github.com/go-logr/logr"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"golang.org/x/sync/errgroup"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/sluice-mesh/sluice/mesh"
	"github.com/sluice-mesh/sluice/mesh/identity"
	"github.com/sluice-mesh/sluice/mesh/meshpb"
)

const (
	// helloTimeout is how long a stream may take to say whose it is.
	helloTimeout = 10 * time.Second
	// podTimeout is how long a pod's proxy may be ahead of our view of the cluster.
	podTimeout = 10 * time.Second
	// maxMessageBytes bounds a message of a proxy: some thousand subscriptions.
	maxMessageBytes = 1 << 20
	// maxSubscriptions bounds what one proxy can make us keep.
	maxSubscriptions = 20_000
	// defaultSettle is longer than proxies wait before they connect again.
	defaultSettle = 10 * time.Second
)

// Options of a Server.
type Options struct {
	// Cache reads the cluster; CacheByObject keeps it small.
	Cache cache.Cache
	// Client writes the status of TrafficSplits.
	Client      client.Client
	TrustDomain spiffeid.TrustDomain
	// Reader is who may read what proxies count twice a second. The zero ID is nobody: proxies are then not
	// asked for it.
	Reader spiffeid.ID
	// DefaultAccess is who may call pods where neither an AccessPolicy nor their namespace says it; everybody
	// when empty.
	DefaultAccess mesh.AccessDefault
	Logger        logr.Logger
	// Settle is how long after its start the server writes no status: proxies that were connected
	// to its predecessor must have had the time to come, or all of none would have acknowledged.
	// 10 s when 0, none when negative.
	Settle time.Duration
	// Now is the clock, time.Now when nil.
	Now func() time.Time
}

// Server is the Discovery service.
type Server struct {
	options  Options
	registry *registry
	stopped  chan struct{}
	// helloTimeout and podTimeout are the constants, but in tests of them.
	helloTimeout, podTimeout time.Duration
}

// NewServer returns the Discovery service. It answers nobody before Start has seen the cluster.
func NewServer(options Options) *Server {
	if options.Now == nil {
		options.Now = time.Now
	}
	if options.DefaultAccess == "" {
		options.DefaultAccess = mesh.AccessAllow
	}
	if options.Settle == 0 {
		options.Settle = defaultSettle
	}
	options.Logger = options.Logger.WithName("discovery")
	return &Server{
		options:      options,
		registry:     newRegistry(options.Now, !options.Reader.IsZero()),
		stopped:      make(chan struct{}),
		helloTimeout: helloTimeout,
		podTimeout:   podTimeout,
	}
}

// NeedLeaderElection is false: every replica serves.
func (s *Server) NeedLeaderElection() bool { return false }

// Start watches the cluster and writes statuses until the context ends; then it ends all streams,
// so that proxies go to another replica.
func (s *Server) Start(ctx context.Context) error {
	defer close(s.stopped)
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		return newWatcher(s.options.Logger).run(ctx, s.options.Cache, func(inputs Inputs) {
			inputs.DefaultAccess = s.options.DefaultAccess
			s.registry.publish(Build(s.options.TrustDomain, inputs))
		})
	})
	group.Go(func() error {
		if !s.settle(ctx) {
			return nil
		}
		newStatusWriter(s.registry, s.options.Client, s.options.Logger).run(ctx)
		return nil
	})
	return group.Wait()
}

// settle waits for the first Index and then for the proxies; false when the context has ended.
func (s *Server) settle(ctx context.Context) bool {
	for {
		index, published := s.registry.current()
		if index != nil {
			break
		}
		select {
		case <-ctx.Done():
			return false
		case <-published:
		}
	}
	timer := time.NewTimer(max(0, s.options.Settle))
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

// call is what the HTTP layer knows of a stream.
type call struct {
	tls        *tls.ConnectionState
	controller *http.ResponseController
}

type callKey struct{}

// Handler returns the path to mount the service on and the service. It must be served over TLS with
// identity.BootstrapServerConfig or identity.ServerConfig: who calls is read from the connection.
func (s *Server) Handler() (string, http.Handler) {
	path, handler := meshpb.NewDiscoveryHandler(s, connect.WithReadMaxBytes(maxMessageBytes))
	return path, known(handler)
}

// known lets a service see the call that serves it.
func known(handler http.Handler) http.Handler {
	return http.HandlerFunc(func(writer http.ResponseWriter, request *http.Request) {
		made := call{tls: request.TLS, controller: http.NewResponseController(writer)}
		handler.ServeHTTP(writer, request.WithContext(context.WithValue(request.Context(), callKey{}, made)))
	})
}

type watchStream = connect.BidiStream[meshpb.WatchRequest, meshpb.WatchResponse]

// Watch serves one proxy.
func (s *Server) Watch(ctx context.Context, wire *watchStream) error {
	made, ok := ctx.Value(callKey{}).(call)
	if !ok {
		return connect.NewError(connect.CodeInternal, errors.New("served without Handler"))
	}
	peer, err := identity.PeerID(made.tls)
	if err != nil {
		return connect.NewError(connect.CodeUnauthenticated, err)
	}
	hello, err := s.readHello(wire, made.controller)
	if err != nil {
		return err
	}
	if err := s.admit(ctx, peer, hello); err != nil {
		return err
	}
	pod := hello.GetNamespace() + "/" + hello.GetPod()
	logger := s.options.Logger.WithValues("pod", pod, "proxyVersion", hello.GetProxyVersion())
	joined := s.registry.join(pod)
	defer s.registry.leave(joined)
	logger.V(1).Info("proxy connected")
	received := make(chan error, 1)
	go func() { received <- s.receive(wire, joined) }()
	receiving, err := s.send(ctx, wire, joined, received)
	if receiving {
		// The stream may not be touched once this function has returned: end what still reads.
		_ = made.controller.SetReadDeadline(time.Unix(1, 0)) // Fails only when there is nothing to end.
		<-received
	}
	logger.V(1).Info("proxy disconnected", "reason", fmt.Sprint(err))
	return err
}

func (s *Server) readHello(wire *watchStream, controller *http.ResponseController) (*meshpb.Hello, error) {
	if err := controller.SetReadDeadline(time.Now().Add(s.helloTimeout)); err != nil {
		return nil, connect.NewError(connect.CodeInternal, fmt.Errorf("set the deadline of the hello: %w", err))
	}
	first, err := wire.Receive()
	if err != nil {
		return nil, connect.NewError(connect.CodeDeadlineExceeded, fmt.Errorf("read the hello: %w", err))
	}
	if err := controller.SetReadDeadline(time.Time{}); err != nil {
		return nil, connect.NewError(connect.CodeInternal, fmt.Errorf("lift the deadline of the hello: %w", err))
	}
	if first.GetHello() == nil {
		return nil, connect.NewError(connect.CodeInvalidArgument, errors.New("the first message must be a hello"))
	}
	return first.GetHello(), nil
}

// admit checks that the pod named in the hello exists and runs under the caller's identity: a proxy
// may speak for no other pod.
func (s *Server) admit(ctx context.Context, peer spiffeid.ID, hello *meshpb.Hello) error {
	namespace, account, err := identity.ServiceAccount(peer)
	if err != nil {
		return connect.NewError(connect.CodePermissionDenied, err)
	}
	ctx, cancel := context.WithTimeout(ctx, s.podTimeout)
	defer cancel()
	for {
		index, published := s.registry.current()
		if index != nil {
			found := index.pods[hello.GetNamespace()+"/"+hello.GetPod()]
			if found != nil && found.namespace == namespace && found.serviceAccount == account {
				return nil
			}
			if found != nil {
				return connect.NewError(connect.CodePermissionDenied, fmt.Errorf(
					"%s may not speak for pod %s/%s", peer, hello.GetNamespace(), hello.GetPod()))
			}
		}
		select {
		case <-published:
		case <-s.stopped:
			return errStopping()
		case <-ctx.Done():
			return connect.NewError(connect.CodeNotFound, fmt.Errorf(
				"pod %s/%s is not known", hello.GetNamespace(), hello.GetPod()))
		}
	}
}

// receive takes a proxy's messages until its stream ends.
func (s *Server) receive(wire *watchStream, from *stream) error {
	for {
		request, err := wire.Receive()
		if err != nil {
			return err
		}
		switch message := request.GetMessage().(type) {
		case *meshpb.WatchRequest_Subscribe:
			if !s.registry.subscribe(from, message.Subscribe.GetDestinations()) {
				return connect.NewError(connect.CodeResourceExhausted, fmt.Errorf("more than %d subscriptions", maxSubscriptions))
			}
		case *meshpb.WatchRequest_Unsubscribe:
			s.registry.unsubscribe(from, message.Unsubscribe.GetDestinations())
		case *meshpb.WatchRequest_Report:
			s.registry.report(from, message.Report)
		case *meshpb.WatchRequest_Tally:
			s.registry.tally(from, message.Tally)
		case *meshpb.WatchRequest_Hello:
			return connect.NewError(connect.CodeInvalidArgument, errors.New("a second hello"))
		default:
			// A newer proxy may say more than this version understands.
		}
	}
}

// send tells a proxy what changes until its stream ends. It returns whether receive still runs, and
// why the stream ended.
func (s *Server) send(ctx context.Context, wire *watchStream, to *stream, received <-chan error) (receiving bool, _ error) {
	for {
		select {
		case <-to.wake:
		case err := <-received:
			return false, err
		case <-ctx.Done():
			return true, ctx.Err()
		case <-to.superseded:
			return true, connect.NewError(connect.CodeAborted, errors.New("the pod's proxy has connected again"))
		case <-s.stopped:
			return true, errStopping()
		}
		if response := s.registry.next(to); response != nil {
			if err := wire.Send(response); err != nil {
				return true, err
			}
		}
	}
}

func errStopping() error {
	return connect.NewError(connect.CodeUnavailable, errors.New("the control plane is stopping"))
}
