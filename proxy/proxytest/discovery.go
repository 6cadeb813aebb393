// SPDX-License-Identifier: Apache-2.0

package proxytest

import (
	"context"
	"errors"
	"io"
	"net/http"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/stretchr/testify/require"

	"github.com/sluice-mesh/sluice/mesh"
	"github.com/sluice-mesh/sluice/mesh/meshpb"
)

// Discovery is a control plane that says what it was told.
type Discovery struct {
	mutex        sync.Mutex
	changed      *sync.Cond
	generation   uint64
	destinations map[string]stamped[*mesh.Destination]
	inbounds     map[string]stamped[mesh.Inbound]
	reports      map[string]*meshpb.Report
	tallies      map[string]*meshpb.Tally
	subscribed   map[string]map[string]bool
	// versions of the newest response that each pod was sent.
	versions map[string]uint64
	// sent is the newest generation that each pod was told of.
	sent map[string]uint64
}

type stamped[T any] struct {
	value      T
	generation uint64
}

// NewDiscovery returns a control plane that knows nothing.
func NewDiscovery() *Discovery {
	d := &Discovery{
		destinations: map[string]stamped[*mesh.Destination]{},
		inbounds:     map[string]stamped[mesh.Inbound]{},
		reports:      map[string]*meshpb.Report{},
		tallies:      map[string]*meshpb.Tally{},
		subscribed:   map[string]map[string]bool{},
		versions:     map[string]uint64{},
		sent:         map[string]uint64{},
	}
	d.changed = sync.NewCond(&d.mutex)
	return d
}

// SetDestination says where an address leads.
func (d *Discovery) SetDestination(destination mesh.Destination) {
	d.mutex.Lock()
	defer d.mutex.Unlock()
	d.generation++
	d.destinations[destination.Address] = stamped[*mesh.Destination]{&destination, d.generation}
	d.changed.Broadcast()
}

// SetInbound says what a pod's proxy serves.
func (d *Discovery) SetInbound(pod string, inbound mesh.Inbound) {
	d.mutex.Lock()
	defer d.mutex.Unlock()
	d.generation++
	d.inbounds[pod] = stamped[mesh.Inbound]{inbound, d.generation}
	d.changed.Broadcast()
}

// Report returns the newest report of a pod's proxy.
func (d *Discovery) Report(pod string) *meshpb.Report {
	d.mutex.Lock()
	defer d.mutex.Unlock()
	return d.reports[pod]
}

// Tally returns the newest tally of a pod's proxy.
func (d *Discovery) Tally(pod string) *meshpb.Tally {
	d.mutex.Lock()
	defer d.mutex.Unlock()
	return d.tallies[pod]
}

// Subscribed says whether a pod's proxy has subscribed to an address.
func (d *Discovery) Subscribed(pod, address string) bool {
	d.mutex.Lock()
	defer d.mutex.Unlock()
	return d.subscribed[pod][address]
}

// AwaitAcknowledged waits until a pod's proxy has acknowledged all that was said so far.
func (d *Discovery) AwaitAcknowledged(t testing.TB, pod string) *meshpb.Report {
	t.Helper()
	var report *meshpb.Report
	require.Eventually(t, func() bool {
		d.mutex.Lock()
		defer d.mutex.Unlock()
		report = d.reports[pod]
		return d.pending(pod, d.sent[pod]) == nil && report.GetVersion() == d.versions[pod] && d.versions[pod] > 0
	}, hangTime, time.Millisecond, "%s has not acknowledged", pod)
	return report
}

// Watch is the discovery stream.
func (d *Discovery) Watch(ctx context.Context, stream *connect.BidiStream[meshpb.WatchRequest, meshpb.WatchResponse]) error {
	first, err := stream.Receive()
	if err != nil {
		return err
	}
	pod := first.GetHello().GetPod()
	d.mutex.Lock()
	d.subscribed[pod], d.versions[pod] = map[string]bool{}, 0
	d.sent[pod] = 0
	d.mutex.Unlock()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stopWaking := context.AfterFunc(ctx, func() {
		d.mutex.Lock()
		defer d.mutex.Unlock()
		d.changed.Broadcast()
	})
	defer stopWaking()
	received := make(chan error, 1)
	go func() {
		defer cancel()
		received <- d.receive(stream, pod)
	}()
	for {
		response := d.next(ctx, pod)
		if response == nil {
			return <-received
		}
		if err := stream.Send(response); err != nil {
			return err
		}
	}
}

func (d *Discovery) receive(stream *connect.BidiStream[meshpb.WatchRequest, meshpb.WatchResponse], pod string) error {
	for {
		request, err := stream.Receive()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		d.mutex.Lock()
		for _, address := range request.GetSubscribe().GetDestinations() {
			d.subscribed[pod][address] = true
			if known, ok := d.destinations[address]; ok && known.generation <= d.sent[pod] {
				d.sent[pod] = known.generation - 1 // Say it (and what came since) again.
			} else if !ok {
				d.generation++
				unknown := &mesh.Destination{Address: address, Unknown: true}
				d.destinations[address] = stamped[*mesh.Destination]{unknown, d.generation}
			}
		}
		for _, address := range request.GetUnsubscribe().GetDestinations() {
			delete(d.subscribed[pod], address)
		}
		if report := request.GetReport(); report != nil {
			d.reports[pod] = report
		}
		if tally := request.GetTally(); tally != nil {
			d.tallies[pod] = tally
		}
		d.changed.Broadcast()
		d.mutex.Unlock()
	}
}

// next waits for something to say; it returns nil when the stream has ended.
func (d *Discovery) next(ctx context.Context, pod string) *meshpb.WatchResponse {
	d.mutex.Lock()
	defer d.mutex.Unlock()
	for ctx.Err() == nil {
		if response := d.pending(pod, d.sent[pod]); response != nil {
			d.versions[pod]++
			response.Version = d.versions[pod]
			d.sent[pod] = d.generation
			return response
		}
		d.changed.Wait()
	}
	return nil
}

// pending is what a pod has not been told since a generation.
func (d *Discovery) pending(pod string, since uint64) *meshpb.WatchResponse {
	response := &meshpb.WatchResponse{Tallies: true}
	if inbound, ok := d.inbounds[pod]; ok && inbound.generation > since {
		response.Inbound = meshpb.FromInbound(&inbound.value)
	}
	for address := range d.subscribed[pod] {
		if known, ok := d.destinations[address]; ok && known.generation > since {
			response.Destinations = append(response.Destinations, meshpb.FromDestination(known.value))
		}
	}
	if response.Inbound == nil && len(response.Destinations) == 0 {
		return nil
	}
	return response
}

// Get fetches a URL and returns status and body; the test fails when it cannot.
func Get(t testing.TB, client *http.Client, url string) (int, string) {
	t.Helper()
	response, err := client.Get(url)
	if err != nil {
		t.Errorf("GET %s: %v", url, err)
		return 0, ""
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Errorf("GET %s: body: %v", url, err)
	}
	return response.StatusCode, string(body)
}
