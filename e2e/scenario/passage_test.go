// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package scenario

import (
	"fmt"
	"io"
	"net"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/sluice-mesh/sluice/e2e/monitoring"
)

// passageNamespace has the Service that leads to the passage, at passageAddress.
const (
	passageNamespace = "metrics-away-bad"
	passageAddress   = "http://prometheus." + passageNamespace + ".svc:9090"
)

// passage carries connections to Prometheus while it is open: an outage for those alone who go by it.
type passage struct {
	address, target string

	mutex    sync.Mutex
	listener net.Listener
	carried  map[net.Conn]struct{}
	carriers sync.WaitGroup
}

// openPassage opens one, with a Service of the fixture's namespace that leads there. It is closed when
// the test ends.
func (f *fixture) openPassage() *passage {
	f.t.Helper()
	service, err := f.Kube.CoreV1().Services(monitoring.Namespace).Get(f.t.Context(), monitoring.Name, metav1.GetOptions{})
	require.NoError(f.t, err)
	p := &passage{address: f.Address + ":0", target: net.JoinHostPort(service.Spec.ClusterIP, "9090"), carried: map[net.Conn]struct{}{}}
	p.open(f.t)
	f.t.Cleanup(p.close)
	f.lead("prometheus", 9090, p.address)
	return p
}

// lead makes a Service of the fixture's namespace that leads to an address of this machine.
func (f *fixture) lead(name string, port int, address string) {
	f.t.Helper()
	host, target, err := net.SplitHostPort(address)
	require.NoError(f.t, err)
	_, err = f.Applier.Apply(f.t.Context(), fmt.Appendf(nil, `apiVersion: v1
kind: Service
metadata: {name: %[2]s, namespace: %[1]s}
spec:
  ports: [{name: http, port: %[3]d}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: %[2]s-outside, namespace: %[1]s, labels: {kubernetes.io/service-name: %[2]s}}
addressType: IPv4
endpoints: [{addresses: [%[4]s]}]
ports: [{name: http, port: %[5]s}]
`, f.namespace, name, port, host, target))
	require.NoError(f.t, err)
}

// open the passage, at the same address as before.
func (p *passage) open(t *testing.T) {
	t.Helper()
	listener, err := net.Listen("tcp", p.address)
	require.NoError(t, err)
	p.mutex.Lock()
	p.address, p.listener = listener.Addr().String(), listener
	p.mutex.Unlock()
	p.carriers.Go(func() {
		for {
			from, err := listener.Accept()
			if err != nil {
				return
			}
			p.carriers.Go(func() { p.carry(from) })
		}
	})
}

// close it, with all that it carries.
func (p *passage) close() {
	p.mutex.Lock()
	if p.listener != nil {
		_ = p.listener.Close()
	}
	p.listener = nil
	for connection := range p.carried {
		_ = connection.Close()
	}
	p.mutex.Unlock()
	p.carriers.Wait()
}

// keep a connection to close it, unless the passage is closed.
func (p *passage) keep(connection net.Conn) bool {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	if p.listener == nil {
		_ = connection.Close()
		return false
	}
	p.carried[connection] = struct{}{}
	return true
}

func (p *passage) leave(connection net.Conn) {
	_ = connection.Close()
	p.mutex.Lock()
	defer p.mutex.Unlock()
	delete(p.carried, connection)
}

func (p *passage) carry(from net.Conn) {
	if !p.keep(from) {
		return
	}
	defer p.leave(from)
	to, err := net.Dial("tcp", p.target)
	if err != nil || !p.keep(to) {
		return
	}
	defer p.leave(to)
	var back sync.WaitGroup
	back.Go(func() {
		_, _ = io.Copy(from, to)
		_ = from.Close()
	})
	_, _ = io.Copy(to, from)
	_ = to.Close()
	back.Wait()
}
