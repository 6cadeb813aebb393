// SPDX-License-Identifier: Apache-2.0

package http2

import (
	"net/http"
	"strconv"
	"strings"

	"golang.org/x/net/http2/hpack"

	"github.com/sluice-mesh/sluice/proxy/http1"
)

// Downgraded is a request of HTTP/2 that is sent on as HTTP/1.1. What it writes is read as one message
// by whoever reads it: a field that says how content is framed is never copied, but written from what
// is known of the content.
type Downgraded struct {
	head    *Head
	target  string
	framing http1.Framing
	// trailers says that the client takes them, expects that it waits for 100 before it sends content.
	trailers, expects bool
}

// Downgrade makes a request one of HTTP/1.1. whole says that it has ended with its head. What HTTP/1.1
// has no way to say, or a recipient would not take, is refused with the http1.Error that reading it
// would end with.
func (h *Head) Downgrade(whole bool) (*Downgraded, error) {
	d := &Downgraded{head: h, target: h.Path}
	if h.Method == http.MethodConnect {
		d.target = h.Authority
	}
	if err := http1.CheckLine(h.Method, d.target); err != nil {
		return nil, err
	}
	announced, err := d.readFields(whole)
	if err != nil {
		return nil, err
	}
	switch h.Method {
	case http.MethodConnect:
		d.framing = http1.Tunnel
	case http.MethodTrace:
		d.framing = http1.NoContent
	default:
		d.framing = h.framing(whole, announced)
		return d, nil
	}
	if h.length >= 0 || h.Method == http.MethodTrace && !whole {
		return nil, http1.ErrContent
	}
	return d, nil
}

// readFields reads what fields say of the exchange, and says whether trailers are announced.
func (d *Downgraded) readFields(whole bool) (announced bool, _ error) {
	for _, f := range d.head.Fields {
		switch http1.KindOf([]byte(f.Name)) {
		case http1.KindTE:
			d.trailers = true // It says nothing else, or was refused.
		case http1.KindExpect:
			if !strings.EqualFold(f.Value, "100-continue") {
				return false, http1.ErrExpect
			}
			d.expects = !whole && d.head.length != 0 && d.head.Method != http.MethodConnect
		case http1.KindTrailer:
			for name := range strings.SplitSeq(f.Value, ",") {
				name = strings.Trim(name, " \t")
				if !isToken(name) || !http1.MayTrail([]byte(name)) {
					return false, http1.ErrTrailer
				}
			}
			announced = true
		}
	}
	return announced, nil
}

// framing is how content is sent. Only chunks can be followed by trailers, so that a length gives way
// to trailers that are announced; those that are not are left out behind a length.
func (h *Head) framing(whole, announced bool) http1.Framing {
	switch {
	case whole && h.length < 0:
		switch h.Method {
		case http.MethodPost, http.MethodPut, http.MethodPatch:
			return http1.ByLength // Many servers want to be told that there is nothing.
		}
		return http1.NoContent
	case h.length >= 0 && (whole || !announced):
		return http1.ByLength
	}
	return http1.ByChunks
}

// Asked is what the request says about its response.
func (d *Downgraded) Asked() http1.Asked {
	return http1.Asked{Head: d.head.Method == http.MethodHead, Connect: d.head.Method == http.MethodConnect}
}

// ExpectsContinue says that the client waits for 100 before it sends content.
func (d *Downgraded) ExpectsContinue() bool { return d.expects }

// WriteHead writes the head; single says that the connection ends after the answer. Content follows it
// with Writer.Content.
func (d *Downgraded) WriteHead(w *http1.Writer, single bool) {
	h := d.head
	w.RequestLine(h.Method, d.target, h.Authority, d.framing)
	crumbed := false
	for _, f := range h.Fields {
		switch kind := http1.KindOf([]byte(f.Name)); {
		case f.Name == "cookie":
			// HTTP/2 may cut cookies into crumbs; HTTP/1.1 has but one field of them.
			if !crumbed {
				w.Field(f.Name, h.cookies())
			}
			crumbed = true
		case kind == http1.KindTrailer && d.framing == http1.ByChunks, http1.MayTrail([]byte(f.Name)):
			w.Field(f.Name, f.Value)
		}
	}
	if d.expects {
		w.Field("Expect", "100-continue")
	}
	if single {
		w.Field("Connection", "close")
	}
	if d.trailers {
		w.Field("Connection", "TE")
		w.Field("TE", "trailers")
	}
	switch d.framing {
	case http1.ByLength:
		w.Field("Content-Length", strconv.FormatInt(max(h.length, 0), 10))
	case http1.ByChunks:
		w.Field("Transfer-Encoding", "chunked")
	}
	w.EndHead()
}

// cookies joins the crumbs of cookies.
func (h *Head) cookies() string {
	var crumbs []string
	for _, f := range h.Fields {
		if f.Name == "cookie" && f.Value != "" {
			crumbs = append(crumbs, f.Value)
		}
	}
	return strings.Join(crumbs, "; ")
}

// WriteEnd ends the content, with trailers where there can be some.
func (d *Downgraded) WriteEnd(w *http1.Writer, trailers []hpack.HeaderField) {
	if d.framing != http1.ByChunks {
		return
	}
	w.LastChunk()
	for _, f := range trailers {
		w.Field(f.Name, f.Value)
	}
	w.EndHead()
}

// FromHTTP1 is the head of an answer of HTTP/1.1 as HTTP/2 has it.
func FromHTTP1(r *http1.Response) (*Head, error) {
	if r.Findings().Has(http1.ErrFieldControl) {
		return nil, http1.ErrFieldControl // HTTP/2 has no audit mode: the client would break off.
	}
	h := &Head{Status: r.Status(), length: r.StatedLength()}
	for name, value := range r.Onward {
		h.Fields = append(h.Fields, lowered(name, value))
	}
	if h.length >= 0 {
		h.Fields = append(h.Fields, hpack.HeaderField{Name: "content-length", Value: strconv.FormatInt(h.length, 10)})
	}
	return h, nil
}

// TrailersFromHTTP1 are the fields after the content that a reader has read to its end.
func TrailersFromHTTP1(r *http1.Reader) []hpack.HeaderField {
	var fields []hpack.HeaderField
	for name, value := range r.Trailers {
		fields = append(fields, lowered(name, value))
	}
	return fields
}

func lowered(name, value []byte) hpack.HeaderField {
	return hpack.HeaderField{Name: strings.ToLower(string(name)), Value: string(value)}
}
