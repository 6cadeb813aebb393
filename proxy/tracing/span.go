// SPDX-License-Identifier: Apache-2.0

package tracing

import (
	"net/http"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/sluice-mesh/sluice/proxy/accesslog"
)

const (
	// textMost bounds each text that a client has sent.
	textMost = 2 << 10

	kindServer, kindClient = 2, 3
	statusError            = 2
	directionInbound       = "inbound"
)

// Attribute is a name and a text.
type Attribute struct{ Name, Value string }

// The numbers of fields are those of opentelemetry/proto/trace/v1/trace.proto and its imports.

// appendSpan encodes a span as an element of a ScopeSpans.
func appendSpan(to []byte, at *Context, e *accesslog.Entry) []byte {
	var span []byte
	span = appendBytes(span, 1, at.Trace[:])
	span = appendBytes(span, 2, at.Span[:])
	if at.Parent != [8]byte{} {
		span = appendBytes(span, 4, at.Parent[:])
	}
	kind := uint64(kindClient)
	if e.Direction == directionInbound {
		kind = kindServer
	}
	method := knownMethod(e.Method)
	name := method
	if method == otherMethod {
		name = "HTTP"
	}
	span = appendText(span, 5, name)
	span = appendNumber(span, 6, kind)
	span = appendTime(span, 7, uint64(max(e.Received.UnixNano(), 0)))
	span = appendTime(span, 8, uint64(max(e.Received.Add(e.Total).UnixNano(), 0)))
	for _, of := range attributesOf(e, method) {
		span = appendBytes(span, 9, textAttribute(of))
	}
	if e.Status != 0 {
		span = appendBytes(span, 9, numberAttribute("http.response.status_code", uint64(e.Status)))
	}
	if isError(e, kind) {
		span = appendBytes(span, 15, appendNumber(nil, 3, statusError))
	}
	span = protowire.AppendFixed32(protowire.AppendTag(span, 16, protowire.Fixed32Type), sampledFlag)
	return appendBytes(to, 2, span)
}

// attributesOf have the names of OpenTelemetry's conventions for HTTP where these have one. No query, and of
// fields only the host.
func attributesOf(e *accesslog.Entry, method string) []Attribute {
	list := []Attribute{
		{"http.request.method", method}, {"url.path", e.Path}, {"server.address", e.Host},
		{"network.protocol.version", strings.TrimSuffix(strings.TrimPrefix(e.Version, "HTTP/"), ".0")},
		{"sluice.client.id", e.ClientID}, {"sluice.endpoint", e.Endpoint}, {"sluice.pod_template_hash", e.Hash},
		{"rpc.grpc.status_code", e.GRPCStatus}, {"error.type", e.Error},
	}
	if e.Version == "HTTP/1.0" {
		list[3].Value = "1.0"
	}
	if e.Client.IsValid() {
		list = append(list, Attribute{"client.address", e.Client.Addr().String()})
	}
	if e.Error == "" && e.Status >= http.StatusInternalServerError {
		list = append(list, Attribute{"error.type", strconv.Itoa(e.Status)})
	}
	return slices.DeleteFunc(list, func(of Attribute) bool { return of.Value == "" })
}

// isError follows the conventions: to who has asked, 4xx is an error as well.
func isError(e *accesslog.Entry, kind uint64) bool {
	return e.Error != "" || e.Status >= http.StatusInternalServerError || kind == kindClient && e.Status >= http.StatusBadRequest
}

// otherMethod is the conventions' word for a method that is not known.
const otherMethod = "_OTHER"

func knownMethod(method string) string {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete,
		http.MethodConnect, http.MethodOptions, http.MethodTrace:
		return method
	}
	return otherMethod
}

// request encodes spans, which are encoded already, with who sends them.
func request(resource []Attribute, version string, spans []byte) []byte {
	var from []byte
	for _, of := range resource {
		from = appendBytes(from, 1, textAttribute(of))
	}
	scope := appendText(appendText(nil, 1, "sluice-proxy"), 2, version)
	ofScope := append(appendBytes(nil, 1, scope), spans...)
	ofResource := appendBytes(appendBytes(nil, 1, from), 2, ofScope)
	return appendBytes(nil, 1, ofResource)
}

func textAttribute(of Attribute) []byte {
	return appendBytes(appendText(nil, 1, of.Name), 2, appendText(nil, 1, of.Value))
}

func numberAttribute(name string, value uint64) []byte {
	return appendBytes(appendText(nil, 1, name), 2, appendNumber(nil, 3, value))
}

func appendBytes(to []byte, field protowire.Number, value []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(to, field, protowire.BytesType), value)
}

// appendText encodes what a client may have sent: protobuf's texts are UTF-8.
func appendText(to []byte, field protowire.Number, text string) []byte {
	text = text[:min(len(text), textMost)]
	if !utf8.ValidString(text) {
		text = strings.ToValidUTF8(text, "\uFFFD")
	}
	return protowire.AppendString(protowire.AppendTag(to, field, protowire.BytesType), text)
}

func appendNumber(to []byte, field protowire.Number, value uint64) []byte {
	return protowire.AppendVarint(protowire.AppendTag(to, field, protowire.VarintType), value)
}

func appendTime(to []byte, field protowire.Number, value uint64) []byte {
	return protowire.AppendFixed64(protowire.AppendTag(to, field, protowire.Fixed64Type), value)
}
