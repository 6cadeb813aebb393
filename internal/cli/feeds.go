// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"sigs.k8s.io/controller-runtime/pkg/manager"

	"github.com/sluice-mesh/sluice/analysis"
	"github.com/sluice-mesh/sluice/analysis/prometheus"
	"github.com/sluice-mesh/sluice/api/v1alpha1"
)

// allowedPrometheus is an address that Canaries may name, and as whom it is asked. Whoever writes a
// Canary chooses among addresses and nothing else: an address of their own could be one that only the
// controller can reach, and would be sent what the operator's servers are sent.
type allowedPrometheus struct {
	Address     string            `json:"address"`
	Credentials string            `json:"credentials,omitempty"`
	Headers     map[string]string `json:"headers,omitempty"`
	TokenURL    string            `json:"tokenURL,omitempty"`
	TokenScopes []string          `json:"tokenScopes,omitempty"`
}

// parseAllowed reads the values of --prometheus-allow.
func parseAllowed(values []string) ([]prometheusOptions, error) {
	var allowed []prometheusOptions
	for _, value := range values {
		decoder := json.NewDecoder(strings.NewReader(value))
		decoder.DisallowUnknownFields()
		var read allowedPrometheus
		err := decoder.Decode(&read)
		if err == nil && !errors.Is(decoder.Decode(&struct{}{}), io.EOF) {
			err = errors.New("more follows")
		}
		if err != nil {
			return nil, fmt.Errorf(`--prometheus-allow %.200q: write one object of JSON such as {"address": "https://mimir.example.com/prometheus"}: %w`, value, err)
		}
		allowed = append(allowed, prometheusOptions{
			address: read.Address, credentials: read.Credentials, headers: read.Headers, tokenURL: read.TokenURL, scopes: read.TokenScopes,
		})
	}
	return allowed, nil
}

// baseURL is how an address is compared. Nothing but a last slash may differ.
func baseURL(address string) string { return strings.TrimSuffix(address, "/") }

// feeds read the servers of metrics: that of Canaries which name none, and those that may be named.
type feeds struct {
	own   *prometheus.Feed
	named map[string]*prometheus.Feed
}

// newFeeds opens the servers; closing ends their connections. What is not used is not asked.
func newFeeds(ctx context.Context, own prometheusOptions, allowed []prometheusOptions, news analysis.News) (_ *feeds, closing func(), _ error) {
	made := &feeds{named: map[string]*prometheus.Feed{}}
	var sources []*prometheus.Source
	closing = func() {
		for _, source := range sources {
			source.Close()
		}
	}
	open := func(options prometheusOptions) error {
		source, err := options.open(ctx, 0, 0)
		if err != nil {
			return err
		}
		sources = append(sources, source)
		made.named[baseURL(options.address)] = prometheus.NewFeed(source, prometheus.SystemClock(), news)
		return nil
	}
	err := open(own)
	if err != nil {
		err = fmt.Errorf("flags --prometheus-*: %w", err)
	}
	made.own = made.named[baseURL(own.address)]
	for i, options := range allowed {
		if err != nil {
			break
		}
		if made.named[baseURL(options.address)] != nil {
			err = fmt.Errorf("%s is there twice, or is the --prometheus-address", options.address)
		} else {
			err = open(options)
		}
		if err != nil { // An address that is wrong may hold a password: it is not shown.
			err = fmt.Errorf("value %d of --prometheus-allow: %w", i+1, err)
		}
	}
	if err != nil {
		closing()
		return nil, nil, err
	}
	return made, closing, nil
}

// add the feeds to what runs.
func (f *feeds) add(to manager.Manager) error {
	for _, feed := range f.named {
		if err := to.Add(feed); err != nil {
			return fmt.Errorf("add a reader of metrics: %w", err)
		}
	}
	return nil
}

// of the server that a Canary names.
func (f *feeds) of(canary *v1alpha1.Canary) (analysis.Source, error) {
	named := canary.Spec.Gate.Prometheus
	if named == nil {
		return f.own, nil
	}
	feed, ok := f.named[baseURL(named.Address)]
	if !ok {
		return nil, fmt.Errorf("spec.gate.prometheus.address: %s is none of the addresses that this installation allows; "+
			"leave it out, or have it added to the chart's prometheus.allowed", named.Address)
	}
	return feed, nil
}
