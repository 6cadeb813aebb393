// SPDX-License-Identifier: Apache-2.0

package proxy_test

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sluice-mesh/sluice/mesh"
	"github.com/sluice-mesh/sluice/proxy/proxytest"
)

// plainWays are connections that are carried as bytes without TLS on either side: from outside the mesh to a
// pod's application, and from an application to one without a proxy.
func plainWays(t *testing.T, serve func(net.Conn), try func(t *testing.T, pod *proxytest.Pod, dial func() *net.TCPConn)) {
	t.Helper()
	t.Run("inbound", func(t *testing.T) {
		p, _ := newPair(t, []string{"s1"}, func(string) http.Handler { return nil })
		serveTCP(t, p.pods[0].Listen(), serve)
		p.setInboundProtocol(t, mesh.ProtocolTCP)
		try(t, p.pods[0], func() *net.TCPConn {
			conn, err := p.pods[0].DialOutside(t.Context())
			require.NoError(t, err)
			return patient(t, conn)
		})
	})
	t.Run("outbound", func(t *testing.T) {
		p, destination := newPair(t, []string{"s1"}, func(string) http.Handler { return nil })
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		serveTCP(t, listener, serve)
		destination.Protocol, destination.Timeouts = mesh.ProtocolTCP, mesh.Timeouts{Idle: 60_000}
		destination.Endpoints[0].Identity, destination.Endpoints[0].Address = "", listener.Addr().String()
		p.Discovery.SetDestination(destination)
		awaitKnown(t, p)
		try(t, p.caller, func() *net.TCPConn {
			conn, err := p.caller.DialApp(t.Context(), shopVIP)
			require.NoError(t, err)
			return patient(t, conn)
		})
	})
}

func patient(t *testing.T, conn net.Conn) *net.TCPConn {
	t.Helper()
	t.Cleanup(func() { _ = conn.Close() })
	require.NoError(t, conn.SetDeadline(time.Now().Add(time.Minute)))
	return conn.(*net.TCPConn)
}

// setInboundProtocol declares what the application of the first pod speaks.
func (p *pair) setInboundProtocol(t *testing.T, protocol mesh.Protocol) {
	t.Helper()
	pod := p.pods[0]
	p.Discovery.SetInbound(pod.Spec.Name, mesh.Inbound{
		Workload: pod.Spec.Workload, PodTemplateHash: pod.Spec.Hash, Protocols: map[uint16]mesh.Protocol{proxytest.AppPort: protocol},
	})
	p.Discovery.AwaitAcknowledged(t, pod.Spec.Name)
}

// readAndWritten is how many bytes calls of this process have copied from and to the kernel. Splicing copies
// none.
func readAndWritten(t *testing.T) (read, written int) {
	t.Helper()
	text, err := os.ReadFile("/proc/self/io")
	require.NoError(t, err)
	_, err = fmt.Sscanf(string(text), "rchar: %d\nwchar: %d", &read, &written)
	require.NoError(t, err)
	return read, written
}

// TestPlainBytesAreSpliced: what a proxy carries between plain connections it never sees. The client and the
// application are in this process, too, so that what they read and write themselves is expected.
func TestPlainBytesAreSpliced(t *testing.T) {
	const size = 64 << 20
	answer := bytes.Repeat([]byte("answer"), size/6)
	plainWays(t, func(conn net.Conn) {
		_, _ = io.Copy(io.Discard, conn)
		_, _ = conn.Write(answer)
	}, func(t *testing.T, pod *proxytest.Pod, dial func() *net.TCPConn) {
		isQuiet := func() bool { return pod.Metric("tcp_open_connections") == 0 }
		require.Eventually(t, isQuiet, time.Minute, time.Millisecond)
		counted := countedBytes(pod)
		conn := dial()
		read, written := readAndWritten(t)
		_, err := conn.Write(make([]byte, size))
		require.NoError(t, err)
		require.NoError(t, conn.CloseWrite())
		sum := sha256.New()
		n, err := io.Copy(sum, conn)
		require.NoError(t, err)
		require.EqualValues(t, len(answer), n)
		require.Equal(t, sha256.Sum256(answer), [sha256.Size]byte(sum.Sum(nil)))
		readLater, writtenLater := readAndWritten(t)
		require.Less(t, readLater-read, 2*size+size/4, "the two ends have read %d bytes", 2*size)
		require.Less(t, writtenLater-written, 2*size+size/4, "the two ends have written %d bytes", 2*size)
		require.Eventually(t, isQuiet, time.Minute, time.Millisecond)
		later := countedBytes(pod)
		for i, want := range []int{size, len(answer), len(answer), size} {
			require.InDelta(t, want, later[i]-counted[i], 0, "%d", i)
		}
	})
}

// countedBytes are those that were read and written on the client's side and on the server's.
func countedBytes(pod *proxytest.Pod) (counted []float64) {
	for _, peer := range []string{`peer="src"`, `peer="dst"`} {
		counted = append(counted, pod.Metric("tcp_read_bytes_total", peer), pod.Metric("tcp_write_bytes_total", peer))
	}
	return counted
}

// TestSplicedBytesWait: a client that does not read holds up the application and not the proxy, and a side
// that has ended leaves the other open.
func TestSplicedBytesWait(t *testing.T) {
	const size = 32 << 20
	began, ended := make(chan struct{}, 1), make(chan error, 1)
	plainWays(t, func(conn net.Conn) {
		said, err := io.ReadAll(conn) // Until the client has ended its side.
		if len(said) == 0 {
			return // It has only made the address known.
		}
		half := make([]byte, size/2)
		if err == nil {
			_, err = conn.Write(half[:1])
		}
		began <- struct{}{}
		for range 2 {
			if err == nil {
				_, err = conn.Write(half)
			}
		}
		ended <- err
	}, func(t *testing.T, _ *proxytest.Pod, dial func() *net.TCPConn) {
		conn := dial()
		_, err := io.WriteString(conn, "go on")
		require.NoError(t, err)
		require.NoError(t, conn.CloseWrite())
		<-began
		select {
		case err := <-ended:
			t.Fatalf("all of it was taken though nobody reads: %v", err)
		case <-time.After(100 * time.Millisecond):
		}
		n, err := io.Copy(io.Discard, conn)
		require.NoError(t, err)
		require.EqualValues(t, size+1, n)
		require.NoError(t, <-ended)
	})
}

// TestSplicedConnectionsAreNotIdleWhileBytesGo: one byte now and then keeps one open, whichever way it goes.
func TestSplicedConnectionsAreNotIdleWhileBytesGo(t *testing.T) {
	p, destination := newPair(t, []string{"s1"}, func(string) http.Handler { return nil })
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	serveTCP(t, listener, func(conn net.Conn) { _, _ = io.Copy(conn, conn) })
	destination.Protocol, destination.Timeouts = mesh.ProtocolTCP, mesh.Timeouts{Idle: 1000}
	destination.Endpoints[0].Identity, destination.Endpoints[0].Address = "", listener.Addr().String()
	p.Discovery.SetDestination(destination)
	awaitKnown(t, p)
	conn := patient(t, dialApp(t, p))
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for range 40 { // Twice as long as it may be idle.
		_, err := io.WriteString(conn, ".")
		require.NoError(t, err)
		_, err = io.ReadFull(conn, make([]byte, 1))
		require.NoError(t, err)
		<-tick.C
	}
	_, err = conn.Read(make([]byte, 1))
	require.ErrorIs(t, err, io.EOF)
	require.Positive(t, p.caller.Metric("sluice_tcp_idle_timeouts_total"))
}

// TestManyConnectionsShareFewPipes: a connection that moves nothing holds none.
func TestManyConnectionsShareFewPipes(t *testing.T) {
	plainWays(t, func(conn net.Conn) {
		_, _ = io.Copy(struct{ io.Writer }{conn}, conn) // Not the two as they are: Go would splice them itself.
	}, func(t *testing.T, _ *proxytest.Pod, dial func() *net.TCPConn) {
		before := pipesOpen(t)
		var asking sync.WaitGroup
		conns := make([]*net.TCPConn, 100)
		for i := range conns {
			conns[i] = dial()
			asking.Go(func() {
				if _, err := io.WriteString(conns[i], "hello"); err != nil {
					t.Error(err)
				}
				if _, err := io.ReadFull(conns[i], make([]byte, 5)); err != nil {
					t.Error(err)
				}
			})
		}
		asking.Wait()
		require.Eventually(t, func() bool { return pipesOpen(t)-before <= 4 }, time.Minute, time.Millisecond, "ends of pipes")
	})
}

// pipesOpen counts the ends of pipes that this process has.
func pipesOpen(t *testing.T) (count int) {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	require.NoError(t, err)
	for _, entry := range entries {
		if target, err := os.Readlink("/proc/self/fd/" + entry.Name()); err == nil && strings.HasPrefix(target, "pipe:") {
			count++
		}
	}
	return count
}
