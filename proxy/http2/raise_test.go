// SPDX-License-Identifier: Apache-2.0

package http2

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/http2/hpack"

	"github.com/sluice-mesh/sluice/proxy/http1"
)

// readAs reads fields as they come from a peer.
func readAs(fields []hpack.HeaderField) *block {
	read := &block{}
	for _, f := range fields {
		read.add(f, Limits{MaxHead: 1 << 20, MaxFields: 1000})
	}
	return read
}

func (h *Head) asRequest() []hpack.HeaderField {
	return append([]hpack.HeaderField{
		{Name: ":method", Value: h.Method}, {Name: ":scheme", Value: h.Scheme},
		{Name: ":authority", Value: h.Authority}, {Name: ":path", Value: h.Path},
	}, h.Fields...)
}

func TestRaise(t *testing.T) {
	for name, test := range map[string]struct {
		text   string
		path   string
		fields []hpack.HeaderField
	}{
		"plain": {text: "GET /a?b HTTP/1.1\r\nHost: shop\r\nX-A: 1\r\n\r\n", path: "/a?b", fields: []hpack.HeaderField{{Name: "x-a", Value: "1"}}},
		"a length": {
			text: "POST / HTTP/1.1\r\nHost: shop\r\nContent-Length: 5\r\n\r\nhello", path: "/",
			fields: []hpack.HeaderField{{Name: "content-length", Value: "5"}},
		},
		"chunks with trailers": {
			text: "POST / HTTP/1.1\r\nHost: shop\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n0\r\n\r\n", path: "/",
			fields: []hpack.HeaderField{{Name: "trailer", Value: "X-Sum"}},
		},
		"what belongs to the connection": {
			text: "GET / HTTP/1.1\r\nHost: shop\r\nConnection: X-A, TE, close\r\nX-A: 1\r\nKeep-Alive: 5\r\nProxy-Connection: close\r\nTE: trailers, deflate;q=0.5\r\n\r\n", path: "/",
			fields: []hpack.HeaderField{{Name: "te", Value: "trailers"}},
		},
		"an expectation": {
			text: "POST / HTTP/1.1\r\nHost: shop\r\nExpect: 100-Continue\r\nContent-Length: 1\r\n\r\na", path: "/",
			fields: []hpack.HeaderField{{Name: "content-length", Value: "1"}, {Name: "expect", Value: "100-continue"}},
		},
		"a whole target":      {text: "GET http://shop/a HTTP/1.1\r\nHost: shop\r\n\r\n", path: "/a"},
		"without a path":      {text: "GET http://shop HTTP/1.1\r\nHost: shop\r\n\r\n", path: "/"},
		"with a query alone":  {text: "GET http://shop?a=/b HTTP/1.1\r\nHost: shop\r\n\r\n", path: "/?a=/b"},
		"options of a server": {text: "OPTIONS http://shop HTTP/1.1\r\nHost: shop\r\n\r\n", path: "*"},
		"options of a path":   {text: "OPTIONS http://shop/ HTTP/1.1\r\nHost: shop\r\n\r\n", path: "/"},
	} {
		t.Run(name, func(t *testing.T) {
			var request http1.Request
			require.NoError(t, http1.NewReader(strings.NewReader(test.text), &http1.Buffers{}, http1.Rules{}).ReadRequest(&request))
			h := FromHTTP1Request(&request)
			require.Equal(t, "shop", h.Authority)
			require.Equal(t, test.path, h.Path)
			require.Equal(t, test.fields, h.Fields)
			require.NoError(t, readAs(h.asRequest()).wrong)
		})
	}
}

// FuzzRaise has requests that are read strictly sent on as HTTP/2: whoever reads that strictly takes it, and
// as HTTP/1.1 it would be the same again.
func FuzzRaise(f *testing.F) {
	f.Add([]byte("GET /a?b HTTP/1.1\r\nHost: shop\r\nX-A: 1\r\n\r\n"))
	f.Add([]byte("POST http://shop?b HTTP/1.1\r\nHost: shop\r\nTransfer-Encoding: chunked\r\nTE: trailers\r\nConnection: TE\r\nTrailer: a, b\r\n\r\n"))
	f.Add([]byte("OPTIONS * HTTP/1.1\r\nHost: [::1]:80\r\nExpect: 100-continue\r\nContent-Length: 3\r\nCookie: a=b\r\nCookie: c=\xff\r\n\r\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		var request http1.Request
		reader := http1.NewReader(bytes.NewReader(data), &http1.Buffers{}, http1.Rules{})
		if reader.ReadRequest(&request) != nil || request.Asked().Connect {
			return
		}
		h := FromHTTP1Request(&request)
		if h.Authority == "" {
			h.Authority = "shop" // Requests may come without, but not to a server of ours.
		}
		read := readAs(h.asRequest())
		if read.wrong != nil {
			t.Fatalf("%q became %+v: %v", data, h, read.wrong)
		}
		again, err := read.request()
		if err != nil {
			t.Fatalf("%q became %+v: %v", data, h, err)
		}
		requireSafe(t, again)
	})
}

// FuzzLower has answers that are read strictly sent on as HTTP/1.1, and read again.
func FuzzLower(f *testing.F) {
	f.Add("200", "content-length\n5", "hello", "", false)
	f.Add("200", "trailer\nx-sum\ncontent-length\n5", "hello", "x-sum\n5", false)
	f.Add("304", "content-length\n5\netag\n\"a\"", "", "", false)
	f.Add("204", "", "", "", true)
	f.Add("103", "link\n<a>", "", "", false)
	f.Add("200", "set-cookie\na\nset-cookie\nb\nkeep-alive\n5", "", "content-length\n7", true)
	f.Fuzz(func(t *testing.T, status, fields, content, trailers string, head bool) {
		read := readAs(append([]hpack.HeaderField{{Name: ":status", Value: status}}, pairsOf(fields)...))
		h, err := read.response()
		tail := readAs(pairsOf(trailers))
		if read.wrong != nil || tail.wrong != nil || err != nil {
			return
		}
		if h.length >= 0 || head || h.Interim() || h.Status == 204 || h.Status == 304 {
			content = content[:min(len(content), int(max(0, min(h.length, 1<<20))))]
			if int64(len(content)) != max(h.length, 0) && !head {
				return // The stream would have been broken off.
			}
		}
		var out bytes.Buffer
		var buffers http1.Buffers
		w := http1.NewWriter(&out, &buffers)
		framing := h.WriteHTTP1(w, head, content == "" && len(tail.fields) == 0)
		if framing != http1.NoContent {
			_ = w.Content([]byte(content)) // A buffer takes all.
		}
		EndHTTP1(w, framing, tail.fields)
		require.NoError(t, w.Flush())
		reader := http1.NewReader(&out, &buffers, http1.Rules{MaxFields: 1000})
		var response http1.Response
		if err := reader.ReadResponse(&response, http1.Asked{Head: head}); err != nil {
			t.Fatalf("%+v is refused: %v", h, err)
		}
		require.Equal(t, h.Status, response.Status())
		var got []byte
		for !response.Interim() {
			data, err := reader.Next()
			if errors.Is(err, io.EOF) {
				break
			}
			require.NoError(t, err, "%+v", h)
			got = append(got, data...)
		}
		if framing != http1.NoContent {
			require.Equal(t, content, string(got))
		}
		require.Zero(t, reader.Buffered()+out.Len(), "nothing is left over")
	})
}

// pairsOf are names and values, a line each.
func pairsOf(text string) (fields []hpack.HeaderField) {
	lines := strings.Split(text, "\n")
	for i := 0; i+1 < len(lines); i += 2 {
		fields = append(fields, hpack.HeaderField{Name: lines[i], Value: lines[i+1]})
	}
	return fields
}
