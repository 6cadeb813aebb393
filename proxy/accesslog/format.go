// SPDX-License-Identifier: Apache-2.0

package accesslog

import (
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/sluice-mesh/sluice/mesh"
)

// directionOutbound of an Entry. Apache's format has no place for it: who counts its lines counts what
// came to the pod.
const directionOutbound = "outbound"

// apacheTime is the time as Apache writes it.
const apacheTime = "02/Jan/2006:15:04:05 -0700"

// appendLine appends a whole line, or nothing where the format has none.
func appendLine(to []byte, e *Entry, as mesh.AccessLog) []byte {
	target := targetOf(e.Path, e.Query, as.Query)
	if as.Format == mesh.AccessLogJSON {
		return appendJSONLine(to, e, target)
	}
	if e.Direction == directionOutbound {
		return to
	}
	return appendApacheLine(to, e, target, as.Query)
}

// AppendJSON appends the line that a log in JSON without queries has.
func AppendJSON(to []byte, e *Entry) []byte {
	return appendLine(to, e, mesh.AccessLog{Format: mesh.AccessLogJSON})
}

func targetOf(path, query string, withQuery bool) string {
	if withQuery && query != "" {
		return path + "?" + query
	}
	return path
}

// object appends the members of a JSON object, without those that say nothing.
type object struct{ line []byte }

func (o *object) name(name string) {
	if o.line[len(o.line)-1] != '{' {
		o.line = append(o.line, ',')
	}
	o.line = append(o.line, '"')
	o.line = append(o.line, name...) // Ours: nothing to escape.
	o.line = append(o.line, '"', ':')
}

func (o *object) text(name, value string) {
	if value != "" {
		o.name(name)
		o.line = appendJSON(o.line, value)
	}
}

func (o *object) number(name string, value int64) {
	o.name(name)
	o.line = strconv.AppendInt(o.line, value, 10)
}

func (o *object) address(name string, value netip.AddrPort) {
	if value.IsValid() {
		o.name(name)
		o.line = append(o.line, '"')
		o.line = value.AppendTo(o.line)
		o.line = append(o.line, '"')
	}
}

// appendJSONLine uses Linkerd's names where Linkerd has one.
func appendJSONLine(to []byte, e *Entry, target string) []byte {
	o := object{append(to, '{')}
	o.name("timestamp")
	o.line = append(o.line, '"')
	o.line = e.Received.UTC().AppendFormat(o.line, time.RFC3339Nano)
	o.line = append(o.line, '"')
	o.text("direction", e.Direction)
	o.address("client.addr", e.Client)
	o.text("client.id", e.ClientID)
	o.text("host", e.Host)
	o.text("method", e.Method)
	o.text("uri", target)
	o.text("version", e.Version)
	o.text("user_agent", e.UserAgent)
	o.text("trace_id", e.TraceID)
	o.number("request_bytes", e.RequestBytes)
	o.number("status", int64(e.Status))
	o.text("grpc_status", e.GRPCStatus)
	o.text("error", e.Error)
	o.number("response_bytes", e.ResponseBytes)
	o.number("first_byte_ns", e.FirstByte.Nanoseconds())
	o.number("total_ns", e.Total.Nanoseconds())
	o.text("endpoint.addr", e.Endpoint)
	o.text("endpoint.pod_template_hash", e.Hash)
	return append(o.line, '}', '\n')
}

// appendApacheLine is the combined format. The user is the SPIFFE ID of the client's proxy.
func appendApacheLine(to []byte, e *Entry, target string, withQuery bool) []byte {
	if e.Client.IsValid() {
		to = e.Client.Addr().AppendTo(to)
	} else {
		to = append(to, '-')
	}
	to = append(to, " - "...)
	to = appendWord(to, e.ClientID)
	to = append(to, " ["...)
	to = e.Received.UTC().AppendFormat(to, apacheTime)
	to = append(to, `] "`...)
	if e.Method == "" {
		to = append(to, '-')
	} else {
		to = appendWord(to, e.Method)
		to = append(to, ' ')
		to = appendWord(to, target)
		to = append(to, ' ')
		to = appendWord(to, e.Version)
	}
	to = append(to, `" `...)
	to = appendCount(to, int64(e.Status))
	to = append(to, ' ')
	to = appendCount(to, e.ResponseBytes)
	to = append(to, ` "`...)
	to = appendQuoted(to, refererOf(e.Referer, withQuery))
	to = append(to, `" "`...)
	to = appendQuoted(to, e.UserAgent)
	return append(to, '"', '\n')
}

// appendCount is a number as Apache writes one that may be absent.
func appendCount(to []byte, count int64) []byte {
	if count == 0 {
		return append(to, '-')
	}
	return strconv.AppendInt(to, count, 10)
}

// refererOf is where a client was before. Its query, its fragment and its user are as secret as the
// request's own query.
func refererOf(referer string, withQuery bool) string {
	if withQuery {
		return referer
	}
	if end := strings.IndexAny(referer, "?#"); end >= 0 {
		referer = referer[:end]
	}
	scheme, rest, found := strings.Cut(referer, "//")
	if !found {
		return referer
	}
	host, path, _ := strings.Cut(rest, "/")
	if at := strings.LastIndexByte(host, '@'); at >= 0 {
		return strings.TrimSuffix(scheme+"//"+host[at+1:]+"/"+path, "/")
	}
	return referer
}
