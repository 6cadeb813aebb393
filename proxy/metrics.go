// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"crypto/tls"
	"maps"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sluice-mesh/sluice/mesh"
	"github.com/sluice-mesh/sluice/proxy/accesslog"
	"github.com/sluice-mesh/sluice/proxy/tracing"
)

// Values of labels, as Linkerd's dashboards and Flagger's queries know them.
const (
	directionInbound  = "inbound"
	directionOutbound = "outbound"
	tlsTrue           = "true"
	tlsNone           = "no_identity"
	peerSource        = "src"
	peerDestination   = "dst"

	// routeProbe is Linkerd's name for what the kubelet and scrapers ask a pod itself. Gates leave it
	// out: it says nothing of the requests of users, and on a quiet service it would outweigh them.
	routeProbe = "probe"
	// routeMirror is that of copies, which gates leave out as well: nobody waits for their answers.
	routeMirror = "mirror"

	classSuccess = "success"
	classFailure = "failure"
)

// Errors of requests that got no answer, or not all of one.
const (
	errorConnect     = "connect"     // No endpoint could be connected to, or none of the drawn revision.
	errorNoEndpoint  = "no_endpoint" // The drawn revision had no endpoint.
	errorReset       = "reset"       // The connection broke before an answer.
	errorCanceled    = "canceled"    // The client left before an answer.
	errorTruncated   = "truncated"   // The answer broke off.
	errorMalformed   = "malformed"   // The answer was no proper HTTP.
	errorHeadTime    = "head_timeout"
	errorOverload    = "overload"     // Too many connections to where it went were being opened.
	errorHTTP1Only   = "http1_only"   // gRPC was sent to an endpoint that speaks only HTTP/1.1.
	errorHTTP2Only   = "http2_only"   // What HTTP/2 has no word for was sent to an endpoint that speaks it.
	errorRateLimited = "rate_limited" // A RateLimit was exceeded.
	errorDenied      = "denied"       // No AccessPolicy lets the caller in.

	errorRequestTime = "request_timeout" // The request took longer than its TrafficPolicy allows.
	errorTryTime     = "try_timeout"     // No head of an answer came within the time of a try.
	errorIdleTime    = "idle_timeout"    // Nothing came or went for too long.
	errorCircuitOpen = "circuit_open"    // Its endpoints had as much open as its TrafficPolicy allows.
	errorShed        = "overload_shed"   // The application had as much open as it may for its priority.
)

// What happened to a request that arrived without a split having been applied.
const (
	unsplitShared = "shared"      // The split was applied here.
	unsplitOwn    = "own_address" // It meant this pod: a probe, a scrape.
)

// What became of a message that was no proper HTTP.
const (
	outcomeRefused = "refused"
	outcomePassed  = "passed" // In audit mode.
)

const (
	// seriesMost bounds the label sets of each metric; what is beyond is counted as "other".
	seriesMost = 2000
	otherValue = "other"
)

// trafficLabels are the labels of requests.
type trafficLabels struct {
	direction, tls, targetPort, routeName            string
	dstNamespace, dstDeployment, dstHash, dstService string
}

func (l trafficLabels) other() trafficLabels {
	return trafficLabels{
		direction: l.direction, tls: l.tls, targetPort: otherValue, routeName: l.routeName,
		dstNamespace: otherValue, dstDeployment: otherValue, dstHash: otherValue, dstService: otherValue,
	}
}

// tcpLabels are the labels of connections.
type tcpLabels struct {
	trafficLabels
	peer string
}

// metrics counts what the proxy does. The names are Linkerd's where Linkerd has one.
type metrics struct {
	options         Options
	mutex           sync.RWMutex
	traffic         map[trafficLabels]*trafficSeries
	connections     map[tcpLabels]*tcpSeries
	connectFailures map[trafficLabels]*atomic.Uint64
	unsplitRequests map[unsplitLabels]*atomic.Uint64
	retries         map[retryLabels]*atomic.Uint64
	ejections       map[ejectionLabels]*atomic.Uint64
	mirrored        map[string]*atomic.Uint64 // By outcome; the map does not change.
	malformedHTTP   map[malformedLabels]*atomic.Uint64
	overloads       map[overloadLabels]*atomic.Uint64
	handshakes      map[handshakeLabels]*atomic.Uint64 // The map does not change.
	authorizations  map[authzSeries]*atomic.Uint64
	// idleConnections are those that were closed because nothing moved on them.
	idleConnections atomic.Uint64
	accessLog       *accesslog.Log    // Nil when none is written.
	tracer          *tracing.Exporter // Nil when nothing is traced.
	taps            *taps
	passthrough     map[string]*nameCounts // By direction; the map does not change.
	// leftOut says how many endpoints are left out.
	leftOut func() map[mesh.Service]int
	started time.Time
}

type handshakeLabels struct{ direction, outcome string }

type malformedLabels struct{ reason, outcome string }

// What became of requests that an Overload bounds.
const (
	overloadAdmitted = "admitted"
	overloadShed     = "shed"
)

type overloadLabels struct {
	service string
	// priority of the request.
	priority mesh.Priority
	outcome  string
}

// overload is the count of one outcome, made with a zero the first time.
func (m *metrics) overload(outcome, service string, priority mesh.Priority) *atomic.Uint64 {
	labels := overloadLabels{service, priority, outcome}
	return bounded(m, m.overloads, labels, overloadLabels{otherValue, priority, outcome}, func() *atomic.Uint64 { return &atomic.Uint64{} })
}

type retryLabels struct {
	trafficLabels
	outcome string
}

type unsplitLabels struct{ targetPort, outcome string }

// trafficSeries are the counters of requests of one label set.
type trafficSeries struct {
	requests  atomic.Uint64
	mutex     sync.Mutex
	responses map[responseLabels]uint64
	latencies map[int]*histogram // By status code.
}

type responseLabels struct {
	status         int // 0 without an answer.
	classification string
	failure        string
	// grpcStatus is the number of gRPC's own status; empty where it has none.
	grpcStatus string
}

// failed says whether an answer is a failure of who gave it.
func (l responseLabels) failed() bool {
	return l.status >= 500 || l.failure != "" && !isRefusal(l.failure) || failedGRPC(l.grpcStatus)
}

// tcpSeries are the counters of connections of one label set. Its methods do nothing on nil.
type tcpSeries struct {
	opened, closed, bytesRead, bytesWritten atomic.Uint64
}

func (s *tcpSeries) open() {
	if s != nil {
		s.opened.Add(1)
	}
}

func (s *tcpSeries) close() {
	if s != nil {
		s.closed.Add(1)
	}
}

func (s *tcpSeries) read(n int) {
	if s != nil {
		s.bytesRead.Add(uint64(max(n, 0)))
	}
}

func (s *tcpSeries) wrote(n int) {
	if s != nil {
		s.bytesWritten.Add(uint64(max(n, 0)))
	}
}

func newMetrics(options Options) *metrics {
	return &metrics{
		options:         options,
		traffic:         map[trafficLabels]*trafficSeries{},
		connections:     map[tcpLabels]*tcpSeries{},
		connectFailures: map[trafficLabels]*atomic.Uint64{},
		unsplitRequests: map[unsplitLabels]*atomic.Uint64{},
		retries:         map[retryLabels]*atomic.Uint64{},
		ejections:       map[ejectionLabels]*atomic.Uint64{},
		mirrored:        map[string]*atomic.Uint64{mirrorAnswered: {}, mirrorFailed: {}, mirrorDropped: {}},
		malformedHTTP:   map[malformedLabels]*atomic.Uint64{},
		overloads:       map[overloadLabels]*atomic.Uint64{},
		handshakes:      noHandshakes(),
		passthrough:     noPassthrough(),
		authorizations:  map[authzSeries]*atomic.Uint64{},
		taps:            &taps{},
		started:         options.Now(),
	}
}

func noHandshakes() map[handshakeLabels]*atomic.Uint64 {
	none := map[handshakeLabels]*atomic.Uint64{{directionInbound, handshakeShed}: {}}
	for _, outcome := range []string{handshakeWhole, handshakeResumed, handshakeFailed} {
		none[handshakeLabels{directionInbound, outcome}] = &atomic.Uint64{}
		none[handshakeLabels{directionOutbound, outcome}] = &atomic.Uint64{}
	}
	return none
}

// handshake counts a handshake with another proxy by what became of it.
func (m *metrics) handshake(direction, outcome string) {
	m.handshakes[handshakeLabels{direction, outcome}].Add(1)
}

// handshaken counts one that has ended well, or failed when there is no connection.
func (m *metrics) handshaken(direction string, secured *tls.Conn) {
	switch {
	case secured == nil:
		m.handshake(direction, handshakeFailed)
	case secured.ConnectionState().DidResume:
		m.handshake(direction, handshakeResumed)
	default:
		m.handshake(direction, handshakeWhole)
	}
}

// of returns the series of a label set, made with zeros the first time: a rate needs a counter that
// was there before the first failure.
func (m *metrics) of(labels trafficLabels) *trafficSeries {
	m.mutex.RLock()
	series, ok := m.traffic[labels]
	m.mutex.RUnlock()
	if ok {
		return series
	}
	return bounded(m, m.traffic, labels, labels.other(), func() *trafficSeries {
		zero := &trafficSeries{responses: map[responseLabels]uint64{}, latencies: map[int]*histogram{200: {}}}
		zero.responses[responseLabels{status: 200, classification: classSuccess}] = 0
		zero.responses[responseLabels{status: 500, classification: classFailure}] = 0
		if labels.direction == directionOutbound {
			zero.responses[responseLabels{classification: classFailure, failure: errorConnect}] = 0
		}
		return zero
	})
}

func (m *metrics) tcp(labels tcpLabels) *tcpSeries {
	m.mutex.RLock()
	series, ok := m.connections[labels]
	m.mutex.RUnlock()
	if ok {
		return series
	}
	return bounded(m, m.connections, labels, tcpLabels{labels.other(), labels.peer}, func() *tcpSeries { return &tcpSeries{} })
}

// bounded returns the series of a label set, or of other when there are too many.
func bounded[K comparable, V any](m *metrics, all map[K]*V, labels, other K, fresh func() *V) *V {
	m.mutex.Lock()
	defer m.mutex.Unlock()
	if known, ok := all[labels]; ok {
		return known
	}
	if len(all) >= seriesMost {
		labels = other
		if known, ok := all[labels]; ok {
			return known
		}
	}
	made := fresh()
	all[labels] = made
	return made
}

// request counts a request.
func (m *metrics) request(labels trafficLabels) { m.of(labels).requests.Add(1) }

// response counts an answer with the time until its first byte. Failure says why it is not whole.
func (m *metrics) response(labels trafficLabels, status int, latency time.Duration, failure string) {
	m.responseOf(labels, responseLabels{status: status, failure: failure}, latency)
}

// responseOf counts an answer, whose class follows from the rest.
func (m *metrics) responseOf(labels trafficLabels, came responseLabels, latency time.Duration) {
	came.classification = classSuccess
	came.grpcStatus = knownGRPC(came.grpcStatus)
	if came.failed() {
		came.classification = classFailure
	}
	series := m.of(labels)
	series.mutex.Lock()
	defer series.mutex.Unlock()
	series.responses[came]++
	if series.latencies[came.status] == nil {
		series.latencies[came.status] = &histogram{}
	}
	series.latencies[came.status].observe(latency)
}

// failure counts a request that got no answer.
func (m *metrics) failure(labels trafficLabels, failure string) {
	series := m.of(labels)
	series.requests.Add(1)
	series.mutex.Lock()
	defer series.mutex.Unlock()
	series.responses[responseLabels{classification: classFailure, failure: failure}]++
}

// connectFailure counts one attempt that could not connect, whatever came of its request.
func (m *metrics) connectFailure(labels trafficLabels) {
	m.of(labels)
	bounded(m, m.connectFailures, labels, labels.other(), func() *atomic.Uint64 { return &atomic.Uint64{} }).Add(1)
}

// unsplit counts a request or connection to which no other proxy had applied the split.
func (m *metrics) unsplit(port uint16, outcome string) {
	labels := unsplitLabels{strconv.Itoa(int(port)), outcome}
	bounded(m, m.unsplitRequests, labels, unsplitLabels{otherValue, outcome}, func() *atomic.Uint64 { return &atomic.Uint64{} }).Add(1)
}

// mirror counts a copy by what became of it.
func (m *metrics) mirror(outcome string) { m.mirrored[outcome].Add(1) }

// malformed counts a message that was no proper HTTP by the name of what was wrong.
func (m *metrics) malformed(reason, outcome string) {
	bounded(m, m.malformedHTTP, malformedLabels{reason, outcome}, malformedLabels{otherValue, outcome}, func() *atomic.Uint64 { return &atomic.Uint64{} }).Add(1)
}

// expect makes the series that a snapshot will need, with zeros.
func (m *metrics) expect(snapshot *mesh.Snapshot) {
	m.expectAccess(&snapshot.Inbound)
	for _, port := range slicesOfPorts(snapshot.Inbound.Protocols) {
		m.of(inboundLabels(port, ""))
		m.of(inboundLabels(port, "any"))
	}
	for _, destination := range snapshot.Destinations {
		m.expectEjections(destination)
		for i := range destination.Endpoints {
			m.of(outboundLabels(&destination.Endpoints[i], destination.Service))
		}
	}
}

func slicesOfPorts(protocols map[uint16]mesh.Protocol) []uint16 {
	var ports []uint16
	for port, protocol := range maps.All(protocols) {
		if protocol != mesh.ProtocolTCP {
			ports = append(ports, port)
		}
	}
	return ports
}
