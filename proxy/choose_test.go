// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sluice-mesh/sluice/mesh"
)

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
			choose := p.outboundChooser(netip.MustParseAddrPort(destination.Address), "", requestView{})
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
	choose := p.outboundChooser(netip.MustParseAddrPort(destination.Address), "", requestView{})
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
