// SPDX-License-Identifier: Apache-2.0

package proxy_test

import (
	"bufio"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sluice-mesh/sluice/mesh"
)

// slow never answers /slow, begins and never ends /part, and answers the rest.
func slow(w http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body)
	switch r.URL.Path {
	case "/part":
		w.Header().Set("Content-Type", r.Header.Get("Content-Type"))
		_, _ = io.WriteString(w, "part")
		_ = http.NewResponseController(w).Flush()
	case "/slow":
	default:
		_, _ = io.WriteString(w, "quick")
		return
	}
	<-r.Context().Done()
}

// limitedClients are ways to a pod whose application is slow.
type limitedClient struct {
	*pair
	destination mesh.Destination
	client      *http.Client
}

func limitedClients(t *testing.T, try func(t *testing.T, c limitedClient)) {
	t.Helper()
	t.Run("HTTP/1.1", func(t *testing.T) {
		p, destination := newPair(t, []string{"s1"}, only(slow))
		try(t, limitedClient{p, destination, p.caller.Client()})
	})
	t.Run("HTTP/2", func(t *testing.T) {
		p, destination := newPair(t, []string{"s1"}, only(slow))
		try(t, limitedClient{p, destination, p.caller.HTTP2Client()})
	})
	t.Run("HTTP/2 to HTTP/1.1", func(t *testing.T) {
		p, destination := newPair(t, []string{"s1"}, func(string) http.Handler { return nil })
		p.pods[0].ServeHTTP1(http.HandlerFunc(slow))
		destination.Endpoints[0].Identity = "" // The outbound proxy itself speaks HTTP/1.1.
		destination.Endpoints[0].Address = outsideApp(t, p)
		try(t, limitedClient{p, destination, p.caller.HTTP2Client()})
	})
}

// outsideApp is an application without a proxy that speaks only HTTP/1.1.
func outsideApp(t *testing.T, p *pair) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	p.ServeHTTP1On(listener, http.HandlerFunc(slow))
	return listener.Addr().String()
}

// limit puts timeouts in force.
func (c limitedClient) limit(t *testing.T, timeouts mesh.Timeouts) {
	t.Helper()
	c.destination.Timeouts = timeouts
	c.Discovery.SetDestination(c.destination)
	awaitKnown(t, c.pair)
	c.client.CloseIdleConnections() // One may be from before the address was known.
}

func (c limitedClient) get(t *testing.T, path, kind string) (*http.Response, string, error) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, shop+path, strings.NewReader("content"))
	require.NoError(t, err)
	request.Header.Set("Content-Type", kind)
	response, err := c.client.Do(request)
	require.NoError(t, err)
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	return response, string(body), err
}

func TestTimeouts(t *testing.T) {
	for name, timeouts := range map[string]mesh.Timeouts{
		"request_timeout": {Request: 20, Try: 60_000, Idle: 60_000},
		"try_timeout":     {Request: 60_000, Try: 20, Idle: 60_000},
		"idle_timeout":    {Request: 60_000, Try: 60_000, Idle: 20},
	} {
		t.Run(name, func(t *testing.T) {
			limitedClients(t, func(t *testing.T, c limitedClient) {
				c.limit(t, timeouts)
				response, body, err := c.get(t, "/slow", "text/plain")
				require.NoError(t, err)
				require.Equal(t, http.StatusGatewayTimeout, response.StatusCode, body)
				require.Equal(t, name, response.Header.Get("Sluice-Error"))
				if response.ProtoMajor == 2 && c.destination.Endpoints[0].Identity != "" { // HTTP/1.1 carries no gRPC.
					response, _, err = c.get(t, "/slow", "application/grpc")
					require.NoError(t, err)
					require.Equal(t, "4", response.Header.Get("Grpc-Status"))
				}
				require.Positive(t, c.caller.Metric("response_total", `error="`+name+`"`, `classification="failure"`))
				c.limit(t, mesh.Timeouts{})
				_, body, err = c.get(t, "/quick", "text/plain")
				require.NoError(t, err)
				require.Equal(t, "quick", body, "the next request has its own time")
			})
		})
	}
}

// TestTimeoutsCutAnswers: an answer that has begun must not look whole when its time is up.
func TestTimeoutsCutAnswers(t *testing.T) {
	for name, timeouts := range map[string]mesh.Timeouts{
		"request_timeout": {Request: 200},
		"idle_timeout":    {Idle: 200},
	} {
		t.Run(name, func(t *testing.T) {
			limitedClients(t, func(t *testing.T, c limitedClient) {
				c.limit(t, timeouts)
				cut := func(kind string) (*http.Response, error) {
					for {
						response, body, err := c.get(t, "/part", kind)
						if response.Header.Get("Sluice-Error") == "" {
							require.Equal(t, http.StatusOK, response.StatusCode)
							require.Equal(t, "part", body)
							return response, err
						}
						// Processors were so short that nothing had come by then.
						require.Equal(t, name, response.Header.Get("Sluice-Error"))
					}
				}
				_, err := cut("text/plain")
				require.Error(t, err)
				require.Positive(t, c.caller.Metric("response_total", `error="`+name+`"`, `status_code="200"`))
				if c.client.Transport.(*http.Transport).Protocols != nil && c.destination.Endpoints[0].Identity != "" {
					response, err := cut("application/grpc")
					require.NoError(t, err)
					require.Equal(t, "4", response.Trailer.Get("Grpc-Status"))
				}
			})
		})
	}
}

// TestTimeoutsCutAnswersThatEndWithTheirConnection: their end in good order would look like that of the
// content.
func TestTimeoutsCutAnswersThatEndWithTheirConnection(t *testing.T) {
	p, destination := newPair(t, []string{"s1"}, func(string) http.Handler { return nil })
	serveTCP(t, p.pods[0].Listen(), func(conn net.Conn) {
		if _, err := http.ReadRequest(bufio.NewReader(conn)); err == nil {
			_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\n\r\npart")
		}
		_, _ = io.Copy(io.Discard, conn)
	})
	destination.Protocol, destination.Timeouts = mesh.ProtocolHTTP1, mesh.Timeouts{Request: 200}
	p.Discovery.SetDestination(destination)
	awaitKnown(t, p)
	for late := true; late; {
		conn := dialApp(t, p)
		_, err := io.WriteString(conn, "GET / HTTP/1.0\r\nHost: shop\r\n\r\n")
		require.NoError(t, err)
		got, err := io.ReadAll(conn)
		late = strings.HasPrefix(string(got), "HTTP/1.1 504 ") // Processors were too short for the head.
		if !late {
			require.ErrorIs(t, err, syscall.ECONNRESET, "%q looks whole", got)
		}
	}
}

// TestTimeoutsNeverLoseARequest: whatever comes just when the time is up is answered whole, or as too
// late, or breaks off after its head; no request fails without an answer, on connections that are used
// again and again.
func TestTimeoutsNeverLoseARequest(t *testing.T) {
	limitedClients(t, func(t *testing.T, c limitedClient) {
		c.limit(t, mesh.Timeouts{Request: 3, Try: 3, Idle: 3})
		var clients sync.WaitGroup
		for range 4 {
			clients.Go(func() {
				for range 100 {
					path := []string{"/quick", "/part", "/slow"}[rand.N(3)]
					request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, shop+path, strings.NewReader("content"))
					if err != nil {
						t.Error(err)
						return
					}
					response, err := c.client.Do(request)
					if err != nil {
						t.Errorf("%s was not answered: %v", path, err)
						return
					}
					body, err := io.ReadAll(response.Body)
					_ = response.Body.Close()
					late := strings.HasSuffix(response.Header.Get("Sluice-Error"), "_timeout")
					switch {
					case late && response.StatusCode == http.StatusGatewayTimeout && err == nil:
					case late, response.StatusCode != http.StatusOK:
						t.Errorf("%s: %d %q %v", path, response.StatusCode, body, err)
					case path == "/quick" && err == nil && string(body) != "quick":
						t.Errorf("%q looks whole", body)
					case path == "/part" && err == nil:
						t.Error("a part looks whole")
					}
				}
			})
		}
		clients.Wait()
		c.limit(t, mesh.Timeouts{})
		require.Eventually(t, func() bool {
			return len(c.Discovery.Report("caller").GetOpen()) == 0
		}, time.Minute, time.Millisecond, "nothing stays open")
	})
}

// TestIdleConnectionsAreClosed: those that are carried as bytes, and what an Upgrade has made of one.
func TestIdleConnectionsAreClosed(t *testing.T) {
	const upgrade = "GET / HTTP/1.1\r\nHost: shop\r\nConnection: Upgrade\r\nUpgrade: bytes\r\n\r\n"
	for name, test := range map[string]struct {
		protocol     mesh.Protocol
		says, answer string
		timeouts     mesh.Timeouts
	}{
		"TCP":     {mesh.ProtocolTCP, "hello", "hello", mesh.Timeouts{Idle: 100}},
		"Upgrade": {mesh.ProtocolHTTP1, upgrade, "HTTP/1.1 101 Switching Protocols", mesh.Timeouts{Request: 60_000, Idle: 100}},
	} {
		t.Run(name, func(t *testing.T) {
			p, destination := newPair(t, []string{"s1"}, func(string) http.Handler { return nil })
			serveTCP(t, p.pods[0].Listen(), func(conn net.Conn) {
				if test.protocol == mesh.ProtocolTCP {
					_, _ = io.Copy(conn, conn)
					return
				}
				if _, err := http.ReadRequest(bufio.NewReader(conn)); err == nil {
					_, _ = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: bytes\r\n\r\n")
				}
				_, _ = io.Copy(io.Discard, conn)
			})
			destination.Protocol, destination.Timeouts = test.protocol, test.timeouts
			p.Discovery.SetDestination(destination)
			awaitKnown(t, p)
			for answered := false; !answered; {
				conn := dialApp(t, p)
				_, err := io.WriteString(conn, test.says)
				require.NoError(t, err)
				got, err := readToEnd(conn)
				require.NoError(t, err)
				if answered = strings.HasPrefix(got, test.answer); !answered {
					late := got == "" || strings.HasPrefix(got, "HTTP/1.1 504 ")
					require.True(t, late, "%q", got) // Processors were too short for the answer.
				}
			}
			require.Positive(t, p.caller.Metric("sluice_tcp_idle_timeouts_total"))
		})
	}
}

// readToEnd reads until the connection ends, or an answer in the proxy's own name does.
func readToEnd(conn net.Conn) (string, error) {
	var got strings.Builder
	buffer := make([]byte, 1<<10)
	for {
		n, err := conn.Read(buffer)
		got.Write(buffer[:n])
		if errors.Is(err, io.EOF) || err == nil && strings.Contains(got.String(), "too long\n") {
			return got.String(), nil
		}
		if err != nil {
			return got.String(), err
		}
	}
}

// awaitKnown has the caller's proxy learn where the Service's address leads.
func awaitKnown(t *testing.T, p *pair) {
	t.Helper()
	require.NoError(t, dialApp(t, p).Close())
	require.Eventually(t, func() bool { return p.Discovery.Subscribed("caller", shopVIP) }, time.Minute, time.Millisecond)
	p.Discovery.AwaitAcknowledged(t, "caller")
}
