// SPDX-License-Identifier: Apache-2.0

package http2

import (
	"net/http"
	"strconv"
	"strings"

	"golang.org/x/net/http2/hpack"

	"github.com/sluice-mesh/sluice/proxy/http1"
)

// FromHTTP1Request is the head of a request of HTTP/1.1 as HTTP/2 has it. The request has been read strictly
// and is no CONNECT; what belongs to its connection stays there.
func FromHTTP1Request(r *http1.Request) *Head {
	h := &Head{Method: string(r.Method()), Scheme: "http", length: -1}
	if host := r.Host(); http1.IsHost(host) {
		h.Authority = string(host) // HTTP/1.1 has Host empty where nobody knows it.
	}
	h.Path = pathOf(h.Method, string(r.Target()))
	for name, value := range r.Onward {
		h.Fields = append(h.Fields, lowered(name, value))
	}
	if r.Framing() == http1.ByLength {
		h.length = r.ContentLength()
		h.Fields = append(h.Fields, hpack.HeaderField{Name: "content-length", Value: strconv.FormatInt(h.length, 10)})
	}
	if r.Framing() == http1.ByChunks {
		for _, names := range r.Values("trailer") {
			h.Fields = append(h.Fields, hpack.HeaderField{Name: "trailer", Value: names})
		}
	}
	if r.ExpectsContinue() {
		h.Fields = append(h.Fields, hpack.HeaderField{Name: "expect", Value: "100-continue"})
	}
	if r.TakesTrailers() {
		h.Fields = append(h.Fields, hpack.HeaderField{Name: "te", Value: "trailers"})
	}
	return h
}

// pathOf is the path and query of a target in any of its forms but that of CONNECT.
func pathOf(method, target string) string {
	_, rest, found := strings.Cut(target, "://")
	if !found || target[0] == '/' {
		return target
	}
	at := strings.IndexAny(rest, "/?")
	switch {
	case at < 0 && method == http.MethodOptions:
		return "*" // RFC 9112 section 3.2.4.
	case at < 0:
		return "/"
	case rest[at] == '?':
		return "/" + rest[at:]
	}
	return rest[at:]
}

// WriteHTTP1 writes an answer's head as HTTP/1.1 has it. end says that the answer ends with it, head that it
// is one to HEAD. Content follows it with Writer.Content, and then EndHTTP1. How content is framed is never
// copied, but written from what is known of it.
func (h *Head) WriteHTTP1(w *http1.Writer, head, end bool) http1.Framing {
	framing := h.framingToHTTP1(head, end)
	w.Status(h.Status, http.StatusText(h.Status), framing)
	for i := range h.Fields {
		f := &h.Fields[i]
		kind := http1.KindOf([]byte(f.Name))
		if kind == http1.KindTrailer && framing == http1.ByChunks || http1.MayTrail([]byte(f.Name)) {
			w.Field(f.Name, f.Value)
		}
	}
	switch {
	case framing == http1.ByChunks:
		w.Field("Transfer-Encoding", "chunked")
	case framing == http1.ByLength:
		w.Field("Content-Length", strconv.FormatInt(max(h.length, 0), 10))
	case h.length >= 0 && !h.Interim() && h.Status != http.StatusNoContent && (head || h.Status == http.StatusNotModified):
		w.Field("Content-Length", strconv.FormatInt(h.length, 10)) // What a GET would have had.
	}
	w.EndHead()
	return framing
}

// framingToHTTP1 is how content is sent. A length gives way to trailers that are announced.
func (h *Head) framingToHTTP1(head, end bool) http1.Framing {
	switch {
	case head, h.Interim(), h.Status == http.StatusNoContent, h.Status == http.StatusNotModified:
		return http1.NoContent
	case end, h.length >= 0 && h.Value("trailer") == "":
		return http1.ByLength
	}
	return http1.ByChunks
}

// EndHTTP1 ends content, with trailers where there can be some.
func EndHTTP1(w *http1.Writer, framing http1.Framing, trailers []hpack.HeaderField) {
	if framing != http1.ByChunks {
		return
	}
	w.LastChunk()
	for i := range trailers {
		if http1.MayTrail([]byte(trailers[i].Name)) {
			w.Field(trailers[i].Name, trailers[i].Value)
		}
	}
	w.EndHead()
}
