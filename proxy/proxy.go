// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"sync"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/sluice-mesh/sluice/mesh"
	"github.com/sluice-mesh/sluice/mesh/identity"
	"github.com/sluice-mesh/sluice/proxy/accesslog"
	"github.com/sluice-mesh/sluice/proxy/http1"
	"github.com/sluice-mesh/sluice/proxy/tracing"
)

// Options are what a proxy is made of.
type Options struct {
	Listeners Listeners
	// PodIP is the pod's own address.
	PodIP netip.Addr
	// ID is the SPIFFE ID of the pod's service account.
	ID           spiffeid.ID
	Certificates identity.CertificateSource
	Bundles      identity.BundleSource
	// Discovery says where the control plane is; with nil, Snapshot is all that there will be.
	Discovery *DiscoveryOptions
	Snapshot  *mesh.Snapshot
	// StateFile is where the configuration is kept for the next start, which begins with it while the
	// control plane is away; nowhere when empty.
	StateFile string
	// Version of the proxy, for its metrics.
	Version string
	Log     *slog.Logger
	// LogLevel is that of Log, for /loglevel to show and to change.
	LogLevel *slog.LevelVar

	// AccessLog is what is written of requests, to AccessLogTo: nothing by default, and to the standard
	// output.
	AccessLog   mesh.AccessLog
	AccessLogTo io.Writer

	// Tracing is where spans of which requests are sent; nothing is traced by default.
	Tracing mesh.Tracing

	// HTTP is what is demanded of requests, and whether what is only odd passes; strict by default.
	HTTP http1.Rules
	// OriginalDestination says where an accepted connection was going; the kernel knows when nil.
	OriginalDestination func(net.Conn) (netip.AddrPort, error)
	// Dial opens connections to applications and peers; a plain dialer when nil.
	Dial func(ctx context.Context, address string) (net.Conn, error)
	// ConnectTime is how long a connect may take before it is tried again, elsewhere if it can; 1 s by
	// default.
	ConnectTime time.Duration
	// HeadTime is how long the head of a request may take from its first byte to its last; then the
	// client gets 408. 10 s by default.
	HeadTime time.Duration
	// DrainLinger and DrainDeadline bound how long the proxy goes on after it was told to stop.
	DrainLinger, DrainDeadline time.Duration
	// Now is the clock, time.Now when nil.
	Now func() time.Time
}

func (o *Options) setDefaults() {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.LogLevel == nil {
		o.LogLevel = &slog.LevelVar{}
	}
	if o.OriginalDestination == nil {
		o.OriginalDestination = OriginalDestination
	}
	if o.Dial == nil {
		dialer := &net.Dialer{}
		o.Dial = func(ctx context.Context, address string) (net.Conn, error) {
			return dialer.DialContext(ctx, "tcp", address)
		}
	}
	if o.AccessLogTo == nil {
		o.AccessLogTo = os.Stdout
	}
	if o.ConnectTime == 0 {
		o.ConnectTime = connectTime
	}
	if o.HeadTime == 0 {
		o.HeadTime = headTime
	}
	if o.DrainLinger == 0 {
		o.DrainLinger = drainLinger
	}
	if o.DrainDeadline == 0 {
		o.DrainDeadline = drainDeadline
	}
	if o.Certificates == nil {
		o.Certificates, o.Bundles = noIdentity{}, noIdentity{}
	}
	if o.Now == nil {
		o.Now = time.Now
	}
}

// closeGrace is how long requests that are just ending may take at the drain's deadline.
const closeGrace = time.Second

// Proxy is one sidecar.
type Proxy struct {
	options   Options
	log       *slog.Logger
	config    *Config
	saver     *saver // Nil when nothing is kept.
	counts    *openCounts
	balancer  *balancer
	budgets   *retryBudgets
	ejections *ejections
	metrics   *metrics
	accessLog *accesslog.Log    // Nil when none is written.
	tracer    *tracing.Exporter // Nil when nothing is traced.
	taps      taps
	upstreams *upstreams
	mirrors   *mirrors
	// handshakes are those of connections that other proxies make.
	handshakes *handshakes
	ports      *portMemory
	activity   *activity
	conns      *connSet
	admitted   *admittedSet
	rates      *rates
	overloads  overloads
	clients    *clientSet
	buffers    buffers
	pipes      *kernelPipes
	messages   http1.Buffers
	serverTLS  *tls.Config

	admin   *http.Server
	serving sync.WaitGroup
}

// New returns a proxy that does nothing until Run.
func New(options Options) *Proxy {
	options.setDefaults()
	p := &Proxy{
		options:  options,
		log:      options.Log,
		counts:   newOpenCounts(),
		balancer: newBalancer(options.Now),
		budgets:  newRetryBudgets(),
		metrics:  newMetrics(options),
		ports:    newPortMemory(options.Log),
		activity: newActivity(options.Now),
		conns:    newConnSet(options.Now),
		clients:  newClientSet(),
		admitted: newAdmittedSet(),
		rates:    newRates(options.Now),
		pipes:    newKernelPipes(options.Now),
	}
	if options.AccessLog != (mesh.AccessLog{}) {
		p.accessLog = accesslog.New(options.AccessLogTo, options.AccessLog)
		p.metrics.accessLog = p.accessLog
	}
	if options.Tracing != (mesh.Tracing{}) {
		p.tracer = p.newTracer()
		p.metrics.tracer = p.tracer
	}
	if options.StateFile != "" && options.Discovery != nil {
		p.saver = newSaver(options.StateFile, options.Log)
	}
	p.ejections = newEjections(p.metrics, options.Log)
	p.metrics.leftOut = func() map[mesh.Service]int { return p.ejections.left(options.Now()) }
	p.metrics.taps = &p.taps
	p.config = newConfig(options.Now, func(snapshot *mesh.Snapshot) {
		p.metrics.expect(snapshot)
		p.counts.applied(snapshot)
		p.judgeAnew(snapshot.Inbound.Access)
		p.rates.apply(snapshot.Inbound.Access)
		p.overloads.apply(snapshot.Inbound.Overloads, p.metrics)
		if p.saver != nil {
			p.saver.note()
		}
	})
	p.config.ejections = p.ejections
	p.handshakes = newHandshakes()
	p.upstreams = newUpstreams(options, p.metrics)
	p.upstreams.trunks = newTrunkPool(p)
	p.mirrors = newMirrors(p)
	p.serverTLS = p.meshServerConfig()
	p.admin = p.newAdmin()
	return p
}

// Run carries traffic until the context ends, then drains and returns. The listeners are closed
// then.
func (p *Proxy) Run(ctx context.Context) error {
	// What was begun goes on while the proxy drains.
	serveContext, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	if p.options.Snapshot != nil {
		p.config.set(p.options.Snapshot)
	}
	if p.saver != nil {
		p.saver.config = p.config
		p.saver.load() // Before the first connection is accepted.
		p.serving.Go(func() { p.saver.run(serveContext) })
	}
	if p.accessLog != nil {
		defer p.accessLog.Start()() // The last lines are those of what is cut below.
	}
	if p.tracer != nil {
		defer p.tracer.Start()() // As above.
	}
	failed := make(chan error, 1)
	p.serving.Go(func() { p.accept(serveContext, directionOutbound, p.options.Listeners.Outbound, p.serveOutbound) })
	p.serving.Go(func() { p.accept(serveContext, directionInbound, p.options.Listeners.Inbound, p.serveInbound) })
	p.serving.Go(func() { failed <- ignoreClosed(p.admin.Serve(p.options.Listeners.Admin)) })
	if p.options.Discovery != nil {
		stream := newDiscovery(*p.options.Discovery, p)
		p.serving.Go(func() { stream.run(serveContext) })
	}
	p.serving.Go(func() { p.tidy(serveContext) })
	p.serving.Go(func() { p.mirrors.run(serveContext) })
	p.serving.Go(func() { p.upstreams.pool.run(serveContext) })
	p.serving.Go(func() { p.upstreams.trunks.run(serveContext) })
	p.log.Info("proxy started", "outbound", p.options.Listeners.Outbound.Addr().String(),
		"inbound", p.options.Listeners.Inbound.Addr().String(), "admin", p.options.Listeners.Admin.Addr().String())

	var err error
	left := closeGrace
	select {
	case <-ctx.Done():
		left = p.drain(serveContext)
	case err = <-failed:
	}
	p.close(left)
	stop()
	p.serving.Wait()
	p.pipes.close()
	return err
}

// close ends everything. Idle connections end in good order, by which the proxy on the other side
// knows that what it sends at this moment was not read; what has begun has the time that is left. What
// is open then is cut below TLS, so that it does not look the same.
func (p *Proxy) close(left time.Duration) {
	p.clients.closeIdle() // First: what is accepted until nobody listens any more is not acted upon.
	p.options.Listeners.close()
	p.clients.await(left)
	p.conns.closeAll()
	p.clients.cutAll()
	p.upstreams.pool.close()
	p.upstreams.trunks.close()
	_ = p.admin.Close() // As above.
}

// tidy forgets what is no longer used.
func (p *Proxy) tidy(ctx context.Context) {
	every(ctx, time.Minute, func(time.Time) {
		p.config.dropUnused()
		p.budgets.forget(p.config.Snapshot())
		p.ejections.forget(p.config.Snapshot())
		known := knownEndpoints(p.config.Snapshot())
		p.balancer.forget(func(address string) bool { return known[address] })
	})
}

// every does something again and again until the context ends.
func every(ctx context.Context, pause time.Duration, do func(now time.Time)) {
	tick := time.NewTicker(pause)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			do(now)
		}
	}
}

func knownEndpoints(snapshot *mesh.Snapshot) map[string]bool {
	known := map[string]bool{}
	for _, destination := range snapshot.Destinations {
		for _, endpoint := range destination.Endpoints {
			known[endpoint.Address] = true
		}
	}
	for _, peer := range snapshot.Inbound.Peers {
		known[peer.Address] = true
	}
	return known
}

func (p *Proxy) ownRevision() revision {
	inbound := p.config.Snapshot().Inbound
	return revision{inbound.Workload, inbound.PodTemplateHash}
}

func ignoreClosed(err error) error {
	if errors.Is(err, http.ErrServerClosed) || errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// quietLog is for what net/http says about clients that misbehave.
func quietLog(logger *slog.Logger) *log.Logger {
	return slog.NewLogLogger(logger.Handler(), slog.LevelDebug)
}
