// SPDX-License-Identifier: Apache-2.0

// Package prometheus reads rounds of counter increments from Prometheus over its HTTP API.
//
// It reads raw samples with their scrape times and finds resets, births and gaps itself, because
// rate and increase extrapolate, lose a new series' first sample and hide how old a sample is. An
// empty, partial or odd answer gives no round; it must never turn what is not known into a count.
package prometheus

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/url"
	"sync"
	"time"

	v1 "github.com/prometheus/client_golang/api/prometheus/v1"
	"github.com/prometheus/common/model"
	"golang.org/x/oauth2"

	"github.com/sluice-mesh/sluice/analysis"
)

// ErrUnavailable is wrapped by errors which say that Prometheus could not be asked or did not answer
// in full. The text names what went wrong and holds nothing of what was answered.
var ErrUnavailable = errors.New("prometheus unavailable")

const (
	defaultTimeout = 5 * time.Second
	// defaultMaximumBytes is an hour of 20 pods scraped every second; what is larger would rather
	// exhaust the controller's memory than help to decide.
	defaultMaximumBytes = 32 << 20
)

// Options of a Source.
type Options struct {
	// Address is the base URL, such as http://prometheus.monitoring.svc:9090.
	Address string
	// Access that the server asks for, asked for before each request; nil is none.
	Access func(context.Context) (Access, error)
	// Timeout of one read; 5 s by default.
	Timeout time.Duration
	// MaximumBytes of one answer; 32 MiB by default.
	MaximumBytes int64
}

// Source is an analysis.Source.
type Source struct {
	address      string
	access       func(context.Context) (Access, error)
	maximumBytes int64
	timeout      time.Duration
	turns        chan struct{}

	mutex      sync.Mutex
	connection *connection
	// edges at which the latencies of a run are compared, by what asks for them.
	edges map[string][2]time.Duration
}

var _ analysis.Source = (*Source)(nil)

// New makes a Source. It does not connect.
func New(options Options) (*Source, error) {
	if err := checkURL(options.Address); err != nil {
		return nil, fmt.Errorf("the Prometheus address: %w", err)
	}
	if options.Timeout <= 0 {
		options.Timeout = defaultTimeout
	}
	if options.MaximumBytes <= 0 {
		options.MaximumBytes = defaultMaximumBytes
	}
	return &Source{
		address: options.Address, access: options.Access, maximumBytes: options.MaximumBytes, timeout: options.Timeout,
		turns: make(chan struct{}, concurrent), edges: map[string][2]time.Duration{},
	}, nil
}

// Close drops idle connections.
func (s *Source) Close() {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	if s.connection != nil {
		s.connection.client.CloseIdleConnections()
	}
}

// Rounds reads what both revisions did since the run's start, but at most in the last hour.
func (s *Source) Rounds(ctx context.Context, query analysis.Query) ([]analysis.Round, error) {
	answer := s.RoundsOf(ctx, []analysis.Query{query})[0]
	return answer.Rounds, answer.Err
}

// read asks one query and takes no answer that is not whole.
func (s *Source) read(ctx context.Context, query string, at time.Time) (model.Value, error) {
	release, err := s.turn(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	connection, err := s.connected(ctx)
	if err != nil {
		return nil, err
	}
	value, warnings, err := connection.api.Query(ctx, query, at, v1.WithTimeout(s.timeout))
	if err != nil {
		return nil, withoutBody(err)
	}
	if len(warnings) > 0 {
		return nil, fmt.Errorf("the answer is partial: it came with %d warnings", len(warnings))
	}
	return value, nil
}

// withoutBody keeps of an error what is ours to say. Errors of the API quote the answer, which may be
// anything that the address serves, and what is said here ends in a status that tenants read.
func withoutBody(err error) error {
	var ofAPI *v1.Error
	var ofTransport *url.Error
	var ofNetwork *net.OpError
	var ofCertificate *tls.CertificateVerificationError
	var ofAlert tls.AlertError
	var ofTokens *oauth2.RetrieveError
	switch {
	case errors.Is(err, errTooLarge):
		return errTooLarge
	case errors.As(err, &ofTokens): // Its text quotes the answer.
		return fmt.Errorf("the token server refused the client: %d", ofTokens.Response.StatusCode)
	case errors.As(err, &ofAlert):
		return fmt.Errorf("the server refused the connection: %w", ofAlert)
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled),
		errors.As(err, &ofNetwork), errors.As(err, &ofCertificate):
		return err
	case errors.As(err, &ofTransport):
		return errors.New("the address does not answer as a server of HTTP should")
	case errors.As(err, &ofAPI) && (ofAPI.Type == v1.ErrClient || ofAPI.Type == v1.ErrServer):
		return errors.New(ofAPI.Msg) // "server error: 503"
	case errors.As(err, &ofAPI) && ofAPI.Type == v1.ErrBadResponse:
		return errors.New("the answer is not one of Prometheus's API; check the address")
	case errors.As(err, &ofAPI):
		return fmt.Errorf("the query was refused: %.20q", string(ofAPI.Type))
	default:
		return errors.New("the answer cannot be read as one of Prometheus's API; check the address")
	}
}
