// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"io"
	"net"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// looked is a connection whose bytes have to be looked at, as far as the proxy knows.
type looked struct{ net.Conn }

func (l looked) CloseWrite() error { return closeWrite(l.Conn) }

// BenchmarkPipe carries bytes between two plain connections, by the kernel and by copying, beside none at all.
// What the client and the server cost is in all three.
func BenchmarkPipe(b *testing.B) {
	for name, carry := range map[string]func(p *Proxy, client, upstream net.Conn){
		"direct": nil,
		"spliced": func(p *Proxy, client, upstream net.Conn) {
			p.pipe(&servedConn{Conn: client}, &upstreamConn{Conn: upstream}, 0)
		},
		"copied": func(p *Proxy, client, upstream net.Conn) {
			p.pipe(&servedConn{Conn: looked{client}}, &upstreamConn{Conn: looked{upstream}}, 0)
		},
	} {
		b.Run(name, func(b *testing.B) {
			listener, err := net.Listen("tcp", "127.0.0.1:0")
			require.NoError(b, err)
			defer listener.Close()
			client, near := connected(b, listener)
			defer client.Close()
			server := near
			ended := make(chan struct{})
			if carry == nil {
				close(ended)
			} else {
				p := New(Options{})
				upstream, far := connected(b, listener)
				server = far
				go func() {
					defer close(ended)
					carry(p, near, upstream)
					p.pipes.close()
				}()
			}
			const chunk = 1 << 20
			b.SetBytes(chunk)
			before, began := processorTime(b), time.Now()
			b.ResetTimer()
			go func() {
				data := make([]byte, chunk)
				for range b.N {
					_, _ = client.Write(data)
				}
				_ = closeWrite(client)
			}()
			buffer := make([]byte, 256<<10)
			for {
				if _, err := server.Read(buffer); err != nil {
					require.ErrorIs(b, err, io.EOF)
					break
				}
			}
			b.StopTimer()
			gigabytes := float64(b.N) * chunk / (1 << 30)
			b.ReportMetric(float64((processorTime(b)-before).Milliseconds())/gigabytes, "cpu-ms/GiB")
			b.ReportMetric(gigabytes*8*1.073741824/time.Since(began).Seconds(), "Gbit/s")
			_ = server.Close()
			<-ended
		})
	}
}

// connected are the two ends of a connection.
func connected(tb testing.TB, listener net.Listener) (near, far net.Conn) {
	tb.Helper()
	near, err := net.Dial("tcp", listener.Addr().String())
	require.NoError(tb, err)
	far, err = listener.Accept()
	require.NoError(tb, err)
	return near, far
}

// TestPipesAreBounded: stalled connections hold no more than a few, and the kernel is not asked at each byte.
func TestPipesAreBounded(t *testing.T) {
	now, asked := time.Unix(1000, 0), 0
	var refusal error
	pipes := newKernelPipes(func() time.Time { return now })
	pipes.open = func() (*kernelPipe, error) {
		asked++
		if refusal != nil {
			return nil, refusal
		}
		return openKernelPipe()
	}
	var taken []*kernelPipe
	for range pipesMost {
		taken = append(taken, pipes.take())
		require.NotNil(t, taken[len(taken)-1])
	}
	require.Nil(t, pipes.take())
	require.Equal(t, pipesMost, asked)
	pipes.drop(taken[0])
	refusal = syscall.EPERM
	require.Nil(t, pipes.take())
	refusal = nil
	require.Nil(t, pipes.take(), "it has just refused one")
	now = now.Add(pipesRefused)
	taken[0] = pipes.take()
	require.NotNil(t, taken[0])
	require.Equal(t, pipesMost+2, asked)
	for _, pipe := range taken[1:] {
		pipes.give(pipe)
	}
	require.Len(t, pipes.empty, pipesKept)
	pipes.close()
	require.Equal(t, 1, pipes.count, "one is in use")
	pipes.give(taken[0])
	require.Zero(t, pipes.count)
}

// TestSplicingGoesOnWithoutPipes: a proxy that has no descriptors left copies, and nothing is lost.
func TestSplicingGoesOnWithoutPipes(t *testing.T) {
	p := New(Options{})
	p.pipes.open = func() (*kernelPipe, error) { return nil, syscall.EMFILE }
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer listener.Close()
	client, near := connected(t, listener)
	upstream, server := connected(t, listener)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		p.pipe(&servedConn{Conn: near}, &upstreamConn{Conn: upstream}, 0)
	}()
	go func() {
		_, _ = io.Copy(server, server)
		_ = closeWrite(server)
	}()
	_, err = io.WriteString(client, "hello")
	require.NoError(t, err)
	require.NoError(t, closeWrite(client))
	got, err := io.ReadAll(client)
	require.NoError(t, err)
	require.Equal(t, "hello", string(got))
	<-ended
	require.NoError(t, client.Close())
	require.NoError(t, server.Close())
}
