// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sluice-mesh/sluice/mesh"
	"github.com/sluice-mesh/sluice/proxy/http1"
)

// chooserTo is the chooser of a connection to an address.
func chooserTo(p *Proxy, address string) *chooser {
	choose := &chooser{}
	choose.begin(p, &outboundSide{proxy: p, address: address}, outboundUnknown(), openCount{connections: 1})
	return choose
}

func TestEndpointsThatFailByChanceAreTriedAgain(t *testing.T) {
	const chance, refused = true, false
	for name, test := range map[string]struct {
		// endpoints that fail by chance or refuse, by address.
		endpoints map[string]bool
		// tries that each gets.
		tries map[string]int
	}{
		"the only one, by chance":        {map[string]bool{"10.0.0.1:80": chance}, map[string]int{"10.0.0.1:80": 1 + secondChances}},
		"the only one, by refusal":       {map[string]bool{"10.0.0.1:80": refused}, map[string]int{"10.0.0.1:80": 1}},
		"who refuses is not tried again": {map[string]bool{"10.0.0.1:80": chance, "10.0.0.2:80": refused}, map[string]int{"10.0.0.1:80": 1 + secondChances, "10.0.0.2:80": 1}},
		"an address that nobody knows":   {nil, map[string]int{"10.9.9.9:80": 1 + secondChances}},
	} {
		t.Run(name, func(t *testing.T) {
			destination := &mesh.Destination{Address: "10.9.9.9:80"}
			for address := range test.endpoints {
				destination.Endpoints = append(destination.Endpoints, mesh.Endpoint{Address: address, Workload: "shop/shop", Ready: true})
			}
			p := New(Options{})
			p.config.set(&mesh.Snapshot{Destinations: map[string]*mesh.Destination{destination.Address: destination}})
			choose := chooserTo(p, destination.Address)
			tries := map[string]int{}
			var order []string
			for {
				to, ok := choose.next()
				if !ok {
					break
				}
				tries[to.address]++
				order = append(order, to.address)
				byChance, known := test.endpoints[to.address]
				choose.failed(to, &connectError{address: to.address, err: io.EOF, chance: byChance || !known})
			}
			require.Equal(t, test.tries, tries)
			for i := range len(test.endpoints) {
				require.NotContains(t, order[:i], order[i], "each is tried once before one is tried again")
			}
		})
	}
}

func TestAttemptsAreBounded(t *testing.T) {
	destination := &mesh.Destination{Address: "10.9.9.9:80"}
	for i := range 3 * attemptsMost {
		destination.Endpoints = append(destination.Endpoints, mesh.Endpoint{Address: fmt.Sprintf("10.0.0.%d:80", i), Ready: true})
	}
	p := New(Options{})
	p.config.set(&mesh.Snapshot{Destinations: map[string]*mesh.Destination{destination.Address: destination}})
	choose := chooserTo(p, destination.Address)
	for range attemptsMost {
		to, ok := choose.next()
		require.True(t, ok)
		choose.failed(to, &connectError{address: to.address, err: io.EOF, chance: true})
	}
	_, ok := choose.next()
	require.False(t, ok)
}

func TestWhatFailsByChance(t *testing.T) {
	for name, test := range map[string]struct {
		err  error
		want bool
	}{
		"a connect that took too long":   {&net.OpError{Op: "dial", Err: os.ErrDeadlineExceeded}, true},
		"a handshake that took too long": {fmt.Errorf("TLS handshake: %w", context.DeadlineExceeded), true},
		"an end within the handshake":    {fmt.Errorf("TLS handshake: %w", io.EOF), true},
		"half a record":                  {fmt.Errorf("TLS handshake: %w", io.ErrUnexpectedEOF), true},
		"an answer that is no TLS":       {fmt.Errorf("TLS handshake: %w", tls.RecordHeaderError{Msg: "no TLS"}), true},
		"refused":                        {&net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}, false},
		"reset":                          {fmt.Errorf("TLS handshake: %w", syscall.ECONNRESET), false},
		"somebody else":                  {errors.New("unexpected ID"), false},
		"another protocol":               {errNoMeshProtocol, false},
		"the proxy ends":                 {context.Canceled, false},
	} {
		t.Run(name, func(t *testing.T) { require.Equal(t, test.want, isChance(test.err)) })
	}
}

// headOf returns the head of a request.
func headOf(t *testing.T, text string) *http1.Request {
	t.Helper()
	var request http1.Request
	require.NoError(t, http1.NewReader(strings.NewReader(text), &http1.Buffers{}, http1.Rules{}).ReadRequest(&request))
	return &request
}

// TestChoosingMakesNoGarbage is for requests that are answered at once, whose like came before.
func TestChoosingMakesNoGarbage(t *testing.T) {
	const address, own = "10.9.9.9:80", "10.0.0.1:80"
	weights := mesh.Split{Workload: "shop/shop", Revisions: []mesh.RevisionWeight{
		{Name: stableRevision, PodTemplateHash: "s", Weight: 50}, {Name: canaryRevision, PodTemplateHash: "k", Weight: 50},
	}}
	endpoints := []mesh.Endpoint{
		{Address: own, Workload: "shop/shop", PodTemplateHash: "s", Identity: "spiffe://a/b", Ready: true},
		{Address: "10.0.0.2:80", Workload: "shop/shop", PodTemplateHash: "s", Identity: "spiffe://a/b", Ready: true},
		{Address: "10.0.0.3:80", Workload: "shop/shop", PodTemplateHash: "k", Identity: "spiffe://a/b"},
		{Address: "10.0.0.4:80", Workload: "shop/other", PodTemplateHash: "o", Ready: true},
	}
	inbound := mesh.Inbound{Workload: "shop/shop", PodTemplateHash: "s", Split: &weights}
	request := headOf(t, "GET /a?b HTTP/1.1\r\nHost: shop\r\nAccept: */*\r\n\r\n")
	view := viewOf(request, "GET", "/a?b")
	matched := weights
	matched.Matches = []mesh.RequestMatch{{Method: "POST"}}
	for name, test := range map[string]struct {
		from        side
		destination mesh.Destination
	}{
		"to a service":                    {&outboundSide{}, mesh.Destination{Endpoints: endpoints}},
		"to a service with a split":       {&outboundSide{request: view}, mesh.Destination{Endpoints: endpoints, Splits: []mesh.Split{weights}}},
		"to a service with matches":       {&outboundSide{request: view}, mesh.Destination{Endpoints: endpoints, Splits: []mesh.Split{matched}}},
		"to a pod":                        {&outboundSide{}, mesh.Destination{Address: own, PodAddress: true, Endpoints: endpoints}},
		"to a pod of a split workload":    {&outboundSide{}, mesh.Destination{Address: own, PodAddress: true, Endpoints: endpoints, Splits: []mesh.Split{weights}}},
		"to a pod that is meant":          {&outboundSide{meant: true}, mesh.Destination{Address: own, PodAddress: true, Endpoints: endpoints, Splits: []mesh.Split{weights}}},
		"to an address that nobody knows": {&outboundSide{}, mesh.Destination{Address: address, Unknown: true}},
		"at a pod, from the mesh":         {&inboundSide{own: own, where: placeAny, request: view}, mesh.Destination{}},
		"at a pod, from outside":          {&inboundSide{own: own, where: placeShared, request: view}, mesh.Destination{}},
		"at a pod, which is meant":        {&inboundSide{own: own, where: placeOwn, request: view}, mesh.Destination{}},
	} {
		t.Run(name, func(t *testing.T) {
			p := New(Options{})
			if out, ok := test.from.(*outboundSide); ok {
				out.proxy = p
				if out.address = test.destination.Address; out.address == "" {
					out.address = address
				}
			}
			p.config.set(&mesh.Snapshot{Inbound: inbound, Destinations: map[string]*mesh.Destination{address: &test.destination, own: &test.destination}})
			var choose chooser
			require.Zero(t, testing.AllocsPerRun(1000, func() {
				choose.begin(p, test.from, outboundUnknown(), openCount{requests: 1})
				to, ok := choose.next()
				if !ok {
					t.Fatal("nowhere to go")
				}
				to.release()
			}))
		})
	}
}
