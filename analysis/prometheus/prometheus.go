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
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/prometheus/client_golang/api"
	v1 "github.com/prometheus/client_golang/api/prometheus/v1"
	"github.com/prometheus/common/model"

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
	// Timeout of one read; 5 s by default.
	Timeout time.Duration
	// MaximumBytes of one answer; 32 MiB by default.
	MaximumBytes int64
}

// Source is an analysis.Source.
type Source struct {
	client  *http.Client
	api     v1.API
	timeout time.Duration

	mutex sync.Mutex
	// edges at which the latencies of a run are compared, by what asks for them.
	edges map[string][2]time.Duration
}

var _ analysis.Source = (*Source)(nil)

// New makes a Source. It does not connect.
func New(options Options) (*Source, error) {
	address, err := url.Parse(options.Address)
	if err != nil || (address.Scheme != "http" && address.Scheme != "https") || address.Host == "" {
		return nil, fmt.Errorf("the Prometheus address %q is no http or https URL with a host", options.Address)
	}
	if address.User != nil || address.RawQuery != "" || address.Fragment != "" {
		return nil, fmt.Errorf("the Prometheus address of host %s must hold no credentials, query or fragment", address.Host)
	}
	if options.Timeout <= 0 {
		options.Timeout = defaultTimeout
	}
	if options.MaximumBytes <= 0 {
		options.MaximumBytes = defaultMaximumBytes
	}
	client := newClient(options.MaximumBytes)
	apiClient, err := api.NewClient(api.Config{Address: options.Address, Client: client})
	if err != nil {
		return nil, fmt.Errorf("make a Prometheus client: %w", err)
	}
	return &Source{client: client, api: v1.NewAPI(apiClient), timeout: options.Timeout, edges: map[string][2]time.Duration{}}, nil
}

// Close drops idle connections.
func (s *Source) Close() {
	s.client.CloseIdleConnections()
}

// Rounds reads what both revisions did since the run's start, but at most in the last hour.
func (s *Source) Rounds(ctx context.Context, query analysis.Query) ([]analysis.Round, error) {
	answer := s.RoundsOf(ctx, []analysis.Query{query})[0]
	return answer.Rounds, answer.Err
}

// read asks one query and takes no answer that is not whole.
func (s *Source) read(ctx context.Context, query string, at time.Time) (model.Value, error) {
	value, warnings, err := s.api.Query(ctx, query, at, v1.WithTimeout(s.timeout))
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
	switch {
	case errors.Is(err, errTooLarge):
		return errTooLarge
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
