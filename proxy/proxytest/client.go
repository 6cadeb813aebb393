// SPDX-License-Identifier: Apache-2.0

package proxytest

import (
	"context"
	"net"
	"net/http"
	"net/netip"
)

// DialApp opens a connection as the pod's application would: through its outbound proxy.
func (p *Pod) DialApp(ctx context.Context, address string) (net.Conn, error) {
	return p.mesh.dialRedirected(ctx, p.out, netip.MustParseAddrPort(address))
}

// DialOutside opens a connection to the pod as a caller without a proxy would.
func (p *Pod) DialOutside(ctx context.Context) (net.Conn, error) {
	return p.mesh.dialRedirected(ctx, p.inbound, netip.AddrPortFrom(p.IP, AppPort))
}

// HTTP2Client is like Client, but speaks HTTP/2 without TLS.
func (p *Pod) HTTP2Client() *http.Client { return overHTTP2(p.Client()) }

// OutsideHTTP2Client is like OutsideClient, but speaks HTTP/2 without TLS.
func (p *Pod) OutsideHTTP2Client() *http.Client { return overHTTP2(p.OutsideClient()) }

func overHTTP2(client *http.Client) *http.Client {
	protocols := &http.Protocols{}
	protocols.SetUnencryptedHTTP2(true)
	client.Transport.(*http.Transport).Protocols = protocols
	return client
}

// Client is an HTTP client of the pod's application: whatever it dials goes through the proxy.
func (p *Pod) Client() *http.Client {
	return p.mesh.client(func(ctx context.Context, address string) (net.Conn, error) { return p.DialApp(ctx, address) })
}

// OutsideClient is an HTTP client without a proxy whose connections all come to this pod.
func (p *Pod) OutsideClient() *http.Client {
	return p.mesh.client(func(ctx context.Context, _ string) (net.Conn, error) { return p.DialOutside(ctx) })
}

func (m *Mesh) client(dial func(context.Context, string) (net.Conn, error)) *http.Client {
	transport := &http.Transport{
		DialContext:         func(ctx context.Context, _, address string) (net.Conn, error) { return dial(ctx, address) },
		DisableCompression:  true,
		MaxIdleConnsPerHost: 64,
	}
	m.t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: hangTime}
}
