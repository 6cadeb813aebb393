// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"sync/atomic"
	"time"

	"connectrpc.com/connect"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"google.golang.org/protobuf/proto"

	"github.com/sluice-mesh/sluice/mesh/identity"
	"github.com/sluice-mesh/sluice/mesh/meshpb"
)

const (
	// reportInterval is the least time between two reports that only tell of changed counts.
	reportInterval = 200 * time.Millisecond
	reconnectFirst = 100 * time.Millisecond
	reconnectMost  = 5 * time.Second
)

// DiscoveryOptions says where the control plane is and who asks.
type DiscoveryOptions struct {
	// ControlPlane is the host:port of the control plane.
	ControlPlane string
	// ControlPlaneID is the SPIFFE ID that it must prove.
	ControlPlaneID spiffeid.ID
	// Namespace and Pod are the proxy's own.
	Namespace, Pod string
	// Version of the proxy.
	Version string
	// Ready is closed when there is a certificate to show; nil when there is one from the start.
	Ready <-chan struct{}
}

// discovery keeps one stream to the control plane open: subscriptions and reports go up,
// configuration comes down.
type discovery struct {
	options DiscoveryOptions
	config  *Config
	counts  *openCounts
	tallies *tallier
	// asked is whether the control plane wants tallies, by its last response.
	asked  atomic.Bool
	client *http.Client
	log    *slog.Logger
}

type watchStream = connect.BidiStreamForClientSimple[meshpb.WatchRequest, meshpb.WatchResponse]

func newDiscovery(options DiscoveryOptions, p *Proxy) *discovery {
	tlsConfig := identity.ClientConfig(p.options.Certificates, p.options.Bundles, options.ControlPlaneID)
	tlsConfig.NextProtos = []string{"h2"}
	return &discovery{
		options: options,
		config:  p.config,
		counts:  p.counts,
		tallies: &tallier{metrics: p.metrics},
		log:     p.log,
		client: &http.Client{Transport: &http.Transport{
			DialContext:       (&net.Dialer{Timeout: reconnectMost}).DialContext,
			TLSClientConfig:   tlsConfig,
			ForceAttemptHTTP2: true,
			// A control plane whose node vanished closes nothing; a ping finds out.
			HTTP2: &http.HTTP2Config{SendPingTimeout: 10 * time.Second, PingTimeout: 5 * time.Second},
		}},
	}
}

// run keeps the stream open until the context ends.
func (d *discovery) run(ctx context.Context) {
	defer d.client.CloseIdleConnections()
	if d.options.Ready != nil {
		select {
		case <-d.options.Ready:
		case <-ctx.Done():
			return
		}
	}
	limit := reconnectFirst
	for ctx.Err() == nil {
		answered, err := d.stream(ctx)
		d.config.setConnected(false)
		if ctx.Err() != nil {
			return
		}
		if answered {
			limit = reconnectFirst
		}
		wait := limit/2 + rand.N(limit/2)
		limit = min(2*limit, reconnectMost)
		d.log.Warn("control plane is away; what it last said stays in force", "after", wait, "error", err)
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
		}
	}
}

// stream runs one stream until it breaks; answered says that the control plane said something.
func (d *discovery) stream(ctx context.Context) (answered bool, _ error) {
	ctx, cancel := context.WithCancel(ctx)
	client := meshpb.NewDiscoveryClient(d.client, "https://"+d.options.ControlPlane,
		connect.WithGRPC(), connect.WithAcceptCompression("gzip", nil, nil))
	stream, err := client.Watch(ctx)
	if err != nil {
		cancel()
		return false, fmt.Errorf("open the discovery stream: %w", err)
	}
	applied := make(chan uint64, 1)
	sent := make(chan error, 1)
	go func() {
		err := d.send(ctx, stream, applied)
		cancel()
		// Ends Receive: net/http heeds the context only once the request's body has ended.
		_ = stream.CloseRequest()
		sent <- err
	}()
	receiveError := d.receive(stream, applied, &answered)
	cancel()
	sendError := <-sent
	_ = stream.CloseResponse() // The stream is broken or cancelled already.
	if sendError != nil && !answered {
		return answered, fmt.Errorf("send to the control plane: %w", sendError)
	}
	return answered, fmt.Errorf("receive from the control plane: %w", receiveError)
}

func (d *discovery) receive(stream *watchStream, applied chan uint64, answered *bool) error {
	for {
		response, err := stream.Receive()
		if err != nil {
			return err
		}
		if !*answered {
			*answered = true
			d.config.setConnected(true)
			d.log.Info("control plane connected", "address", d.options.ControlPlane)
		}
		d.config.apply(response)
		d.asked.Store(response.GetTallies())
		select { // Only the newest version matters.
		case <-applied:
		default:
		}
		applied <- response.GetVersion()
	}
}

// send is the only writer of a stream.
func (d *discovery) send(ctx context.Context, stream *watchStream, applied <-chan uint64) error {
	hello := &meshpb.Hello{Namespace: d.options.Namespace, Pod: d.options.Pod, ProxyVersion: d.options.Version}
	if err := stream.Send(&meshpb.WatchRequest{Message: &meshpb.WatchRequest_Hello{Hello: hello}}); err != nil {
		return err
	}
	subscribed := map[string]bool{}
	if err := d.sendSubscriptions(stream, subscribed); err != nil {
		return err
	}
	return d.sendReports(ctx, stream, subscribed, applied)
}

// sendReports acknowledges each version at once and reports changed counts at most five times a
// second. It also sends the tallies and keeps the subscriptions, as nobody else may write to the stream.
func (d *discovery) sendReports(ctx context.Context, stream *watchStream, subscribed map[string]bool, applied <-chan uint64) error {
	var last *meshpb.Report
	var lastLooked time.Time
	var version uint64
	// Either the changes are waited for or, after one, the time to report it: a proxy under load
	// does not wake up here for each request.
	changed := (<-chan struct{})(d.counts.changed)
	var due, tally <-chan time.Time
	for {
		if tally == nil && d.tallies.wanted(d.asked.Load(), d.config.Snapshot(), time.Now()) {
			tally = time.After(tallyInterval)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-d.config.wantsChanged:
			if err := d.sendSubscriptions(stream, subscribed); err != nil {
				return err
			}
			continue
		case <-tally:
			tally = nil
			if err := d.sendTally(stream); err != nil {
				return err
			}
			continue
		case <-changed:
			due = time.After(max(0, reportInterval-time.Since(lastLooked)))
			changed = nil
			continue
		case <-due:
			due, changed = nil, d.counts.changed
		case version = <-applied:
			last = nil // A version is acknowledged even when no count has changed.
		}
		report := d.counts.report(version, d.config.Snapshot())
		lastLooked = time.Now()
		if version == 0 || proto.Equal(report, last) {
			continue
		}
		if err := stream.Send(&meshpb.WatchRequest{Message: &meshpb.WatchRequest_Report{Report: report}}); err != nil {
			return err
		}
		last = report
	}
}

// sendTally tells what was counted, if anybody still wants to know.
func (d *discovery) sendTally(stream *watchStream) error {
	snapshot, now := d.config.Snapshot(), time.Now()
	if !d.tallies.wanted(d.asked.Load(), snapshot, now) {
		return nil
	}
	message := &meshpb.WatchRequest_Tally{Tally: d.tallies.tally(snapshot, now)}
	return stream.Send(&meshpb.WatchRequest{Message: message})
}

// sendSubscriptions makes the stream's subscriptions those that are wanted.
func (d *discovery) sendSubscriptions(stream *watchStream, subscribed map[string]bool) error {
	wanted := d.config.wantedAddresses()
	var added, removed []string
	for address := range wanted {
		if !subscribed[address] {
			subscribed[address] = true
			added = append(added, address)
		}
	}
	for address := range subscribed {
		if !wanted[address] {
			delete(subscribed, address)
			removed = append(removed, address)
		}
	}
	if len(added) > 0 {
		slices.Sort(added)
		message := &meshpb.WatchRequest_Subscribe{Subscribe: &meshpb.Subscribe{Destinations: added}}
		if err := stream.Send(&meshpb.WatchRequest{Message: message}); err != nil {
			return err
		}
	}
	if len(removed) > 0 {
		slices.Sort(removed)
		message := &meshpb.WatchRequest_Unsubscribe{Unsubscribe: &meshpb.Unsubscribe{Destinations: removed}}
		if err := stream.Send(&meshpb.WatchRequest{Message: message}); err != nil {
			return err
		}
	}
	return nil
}
