// SPDX-License-Identifier: Apache-2.0

package load

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"sync"
	"time"

	"google.golang.org/grpc"
)

// Timeout is how long an answer may take before the request counts as failed.
const Timeout = 5 * time.Second

// Config says what a client sends.
type Config struct {
	// URL of the application; its path is that of the GET requests.
	URL string
	// PostPath is where bodies are posted to; it must answer with the body it got.
	PostPath string
	// Rate is requests per second.
	Rate float64
	// Connections kept alive; more are opened while answers are outstanding, and closed afterwards.
	Connections int
	// FreshPercent of the requests go over a connection of their own.
	FreshPercent int
	// PostPercent of the requests are POST.
	PostPercent int
	// BodySize of POST requests, in bytes.
	BodySize int
	// StreamPercent of the requests are for StreamPath, whose answer begins at once and ends later.
	StreamPercent int
	StreamPath    string
	// SocketPercent of the requests are WebSocket sessions at SocketPath, which must answer with each
	// message as the msg of a JSON object, among others.
	SocketPercent int
	SocketPath    string
	// GRPCAddress is where the application speaks gRPC, as host:port. CallPercent of the requests are
	// calls there and WatchPercent are streams of two seconds; none when it is empty.
	GRPCAddress  string
	CallPercent  int
	WatchPercent int
	// Timeout overrides the package's, for tests.
	Timeout time.Duration
}

// Default is 100 requests/s, a quarter of them POST, a fifth over fresh connections; one in a hundred
// is a stream of two seconds, and one a WebSocket session. Where the target speaks gRPC, four more are
// calls and one is a gRPC stream.
func Default(target string) Config {
	return Config{
		URL: target, PostPath: "/echo", Rate: 100, Connections: 16,
		FreshPercent: 20, PostPercent: 25, BodySize: 2048, Timeout: Timeout,
		StreamPercent: 1, StreamPath: "/chunked/2", SocketPercent: 1, SocketPath: "/ws/echo",
		CallPercent: 4, WatchPercent: 1,
	}
}

// Client sends requests and counts.
type Client struct {
	config   Config
	target   *url.URL
	recorder *recorder
	bodies   []byte
	resolve  *resolver
	channel  *grpc.ClientConn // of gRPC calls; nil without

	mu   sync.Mutex
	idle []*connection // oldest first, so that all are in use in turn
}

// New checks the configuration and makes a client; Run starts it.
func New(config Config) (*Client, error) {
	target, err := url.Parse(config.URL)
	switch {
	case err != nil:
		return nil, fmt.Errorf("parse the URL: %w", err)
	case target.Scheme != "http" || target.Host == "":
		return nil, fmt.Errorf("URL %q: write http://host:port/path", config.URL)
	case config.Rate <= 0 || config.Rate > 100_000:
		return nil, fmt.Errorf("rate %v: write a number of requests per second above 0", config.Rate)
	}
	if err := config.checkShares(); err != nil {
		return nil, err
	}
	if target.Path == "" {
		target.Path = "/"
	}
	if config.Timeout == 0 {
		config.Timeout = Timeout
	}
	port := target.Port()
	if port == "" {
		port = "80"
	}
	random := rand.New(rand.NewPCG(1, 2))
	bodies := make([]byte, 2*config.BodySize+1024)
	for i := range bodies {
		bodies[i] = byte(random.Uint32())
	}
	client := &Client{
		config: config, target: target, bodies: bodies,
		recorder: newRecorder(time.Now()),
		resolve:  &resolver{host: target.Hostname(), port: port},
	}
	if config.GRPCAddress != "" {
		if client.channel, err = newChannel(config.GRPCAddress); err != nil {
			return nil, err
		}
	}
	return client, nil
}

// Counts is what was seen so far.
func (c *Client) Counts() Counts { return c.recorder.snapshot() }

// Reset starts counting from nothing. Requests that are under way do not count.
func (c *Client) Reset() { c.recorder.reset(time.Now()) }

// WaitForTarget returns when the target has answered once; nothing of it is counted. A client that
// starts before the application must not count its own haste.
func (c *Client) WaitForTarget(ctx context.Context) error {
	ticker := time.NewTicker(200 * time.Millisecond)
	defer ticker.Stop()
	for {
		last := c.once(ctx, request{method: http.MethodGet, path: c.target.RequestURI(), host: c.target.Host, fresh: true})
		if last.class == "" {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for %s: %w (last: %s)", c.config.URL, context.Cause(ctx), last.detail)
		case <-ticker.C:
		}
	}
}

// Run sends until ctx ends, then waits for the answers that are still due.
func (c *Client) Run(ctx context.Context) error {
	var under sync.WaitGroup
	defer c.closeIdle()
	defer under.Wait()
	if err := c.resolve.refresh(ctx); err != nil {
		return err
	}
	background, stop := context.WithCancel(ctx)
	defer stop()
	under.Go(func() { c.resolve.keep(background) })

	random := rand.New(rand.NewPCG(3, 4))
	interval := time.Duration(float64(time.Second) / c.config.Rate)
	timer := time.NewTimer(0)
	defer timer.Stop()
	// Requests outlive ctx: they are finished, not cut.
	detached := context.WithoutCancel(ctx)
	for due := time.Now(); ; due = due.Add(interval) {
		timer.Reset(time.Until(due))
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		}
		q := c.next(random)
		c.recorder.begin()
		lag := time.Since(due)
		under.Go(func() {
			began := time.Now()
			res := c.once(detached, q)
			res.took, res.lag = time.Since(began), max(0, lag)
			c.recorder.finish(res, began)
		})
	}
}

// next draws a request.
func (c *Client) next(random *rand.Rand) request {
	q := request{method: http.MethodGet, path: c.target.RequestURI(), host: c.target.Host}
	q.fresh = random.IntN(100) < c.config.FreshPercent
	q.kind = c.config.kindOf(random.IntN(100))
	switch q.kind {
	case post:
		at := random.IntN(len(c.bodies) - c.config.BodySize)
		q.method, q.path, q.body = http.MethodPost, c.config.PostPath, c.bodies[at:at+c.config.BodySize]
	case stream:
		q.path = c.config.StreamPath
	case session:
		q.path = c.config.SocketPath
	case call, watch:
		q.method, q.fresh = "gRPC", false
	}
	return q
}

// once sends one request, once.
func (c *Client) once(ctx context.Context, q request) result {
	deadline := time.Now().Add(c.config.Timeout)
	switch q.kind {
	case session:
		return c.session(ctx, q, deadline)
	case call:
		return c.call(ctx, q, deadline)
	case watch:
		return c.watch(ctx, q, deadline)
	}
	var conn *connection
	if !q.fresh {
		conn = c.takeIdle()
	}
	if conn == nil {
		address, err := c.resolve.address(ctx)
		if err == nil {
			conn, err = dial(ctx, address, deadline)
		}
		if err != nil {
			class := ClassConnect
			if timedOut(err) {
				class = ClassTimeout
			}
			return q.result().failed(class, err)
		}
	}
	res, reusable := conn.exchange(q, deadline)
	if !reusable || !c.giveBack(conn) {
		conn.close()
	}
	return res
}

// takeIdle returns a connection that the server has not closed, or nil.
func (c *Client) takeIdle() *connection {
	for {
		c.mu.Lock()
		if len(c.idle) == 0 {
			c.mu.Unlock()
			return nil
		}
		conn := c.idle[0]
		c.idle = c.idle[1:]
		c.mu.Unlock()
		if conn.alive() {
			return conn
		}
		conn.close()
	}
}

func (c *Client) giveBack(conn *connection) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.idle) >= c.config.Connections {
		return false
	}
	c.idle = append(c.idle, conn)
	return true
}

func (c *Client) closeIdle() {
	if c.channel != nil {
		_ = c.channel.Close() // Nothing is under way.
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, conn := range c.idle {
		conn.close()
	}
	c.idle = nil
}

// resolver knows the target's addresses. Looking names up is not what is measured, so it happens in
// the background and the last good answer is kept.
type resolver struct {
	host, port string
	mu         sync.Mutex
	addresses  []string
}

func (r *resolver) address(ctx context.Context) (string, error) {
	r.mu.Lock()
	known := r.addresses
	r.mu.Unlock()
	if len(known) == 0 {
		if err := r.refresh(ctx); err != nil {
			return "", err
		}
		r.mu.Lock()
		known = r.addresses
		r.mu.Unlock()
	}
	return net.JoinHostPort(known[rand.IntN(len(known))], r.port), nil
}

func (r *resolver) refresh(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, Timeout)
	defer cancel()
	found, err := net.DefaultResolver.LookupHost(ctx, r.host)
	if err != nil {
		return fmt.Errorf("look up %s: %w", r.host, err)
	}
	r.mu.Lock()
	r.addresses = found
	r.mu.Unlock()
	return nil
}

func (r *resolver) keep(ctx context.Context) {
	ticker := time.NewTicker(5 * time.Second)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			_ = r.refresh(ctx) // the last good answer stays in use
		}
	}
}
