// SPDX-License-Identifier: Apache-2.0

package mesh

import (
	"errors"
	"fmt"
	"net/url"
	"strconv"
)

// Tracing is where a proxy sends spans of requests, and of which: of none when it is zero.
type Tracing struct {
	// Collector is the URL that spans are posted to, by OTLP over HTTP.
	Collector string
	// Ratio of the requests that come without a trace for which one is begun, from 0 to 1.
	Ratio float64
}

// tracesPath is that of OTLP over HTTP.
const tracesPath = "/v1/traces"

var errTracing = errors.New("write the collector and the ratio of requests, such as http://collector.observability:4318?ratio=0.01")

// ParseTracing reads what people write: the URL of a collector with a ratio.
func ParseTracing(text string) (Tracing, error) {
	written, err := url.Parse(text)
	if err != nil || written.Scheme != "http" && written.Scheme != "https" || written.Hostname() == "" || written.User != nil || written.Fragment != "" {
		return Tracing{}, fmt.Errorf("%q is no collector: %w", text, errTracing)
	}
	query, err := url.ParseQuery(written.RawQuery)
	if err != nil || len(query) != 1 || len(query["ratio"]) != 1 {
		return Tracing{}, fmt.Errorf("%q has not one ratio: %w", text, errTracing)
	}
	ratio, err := strconv.ParseFloat(query.Get("ratio"), 64)
	if err != nil || !(ratio >= 0 && ratio <= 1) {
		return Tracing{}, fmt.Errorf("ratio %q is no number from 0 to 1: %w", query.Get("ratio"), errTracing)
	}
	written.RawQuery = ""
	if written.Path == "" || written.Path == "/" {
		written.Path = tracesPath
	}
	return Tracing{Collector: written.String(), Ratio: ratio}, nil
}

// String is what ParseTracing reads.
func (t Tracing) String() string {
	return t.Collector + "?ratio=" + strconv.FormatFloat(t.Ratio, 'g', -1, 64)
}
