// SPDX-License-Identifier: Apache-2.0

package mesh

import (
	"fmt"
	"strings"
)

// AccessLogFormat is how a line of an access log is written.
type AccessLogFormat string

// Formats of access logs. None is the zero value.
const (
	AccessLogJSON   AccessLogFormat = "json"
	AccessLogApache AccessLogFormat = "apache"
)

// AccessLog is what a proxy writes of the requests that it has carried: nothing when it is zero.
type AccessLog struct {
	Format AccessLogFormat
	// Query says that targets are written with their query, in which people send secrets.
	Query bool
}

// withQuery after a format asks for queries.
const withQuery = "+query"

// ParseAccessLog reads what people write: a format, with or without the query.
func ParseAccessLog(text string) (AccessLog, error) {
	format, query := strings.CutSuffix(text, withQuery)
	switch parsed := (AccessLog{Format: AccessLogFormat(format), Query: query}); parsed.Format {
	case AccessLogJSON, AccessLogApache:
		return parsed, nil
	}
	return AccessLog{}, fmt.Errorf("%q is none of json, apache, json+query, apache+query", text)
}

// String is what ParseAccessLog reads.
func (a AccessLog) String() string {
	if a.Query {
		return string(a.Format) + withQuery
	}
	return string(a.Format)
}
