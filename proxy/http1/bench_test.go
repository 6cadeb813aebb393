// SPDX-License-Identifier: Apache-2.0

package http1

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
)

// endless gives the same bytes again and again.
type endless struct {
	data []byte
	at   int
}

func (e *endless) Read(p []byte) (int, error) {
	n := copy(p, e.data[e.at:])
	e.at = (e.at + n) % len(e.data)
	return n, nil
}

const (
	benchRequest = "GET /api/v1/orders/4711?expand=items HTTP/1.1\r\nHost: orders.shop.svc.cluster.local:8080\r\n" +
		"User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36\r\nAccept: application/json\r\n" +
		"Accept-Encoding: gzip, deflate\r\nAccept-Language: en\r\nX-Request-Id: 4f9c1c8e-7f1a-4d2e-9d53-0f6a9f0c2a11\r\n" +
		"traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\nConnection: keep-alive\r\n\r\n"
	benchResponse = "HTTP/1.1 200 OK\r\nServer: app\r\nDate: Sun, 22 Nov 2026 05:00:00 GMT\r\nContent-Type: application/json\r\n" +
		"Content-Length: 1024\r\nConnection: keep-alive\r\n\r\n"
)

// carryRequest and carryResponse read one message and write it anew.
func carryRequest(reader *Reader, writer *Writer, request *Request) error {
	if err := reader.ReadRequest(request); err != nil {
		return err
	}
	writer.Request(request, Sending{Skip: Owned})
	writer.Field("sluice-client-id", "spiffe://cluster.local/ns/shop/sa/default")
	writer.EndHead()
	return carryContent(reader, writer)
}

func carryResponse(reader *Reader, writer *Writer, response *Response) error {
	if err := reader.ReadResponse(response, Asked{}); err != nil {
		return err
	}
	writer.Response(response, Sending{Skip: Owned, Framing: response.FramingTo(true)})
	writer.EndHead()
	return carryContent(reader, writer)
}

func carryContent(reader *Reader, writer *Writer) error {
	for {
		data, err := reader.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		if err := writer.Content(data); err != nil {
			return err
		}
	}
	writer.EndContent(reader)
	return writer.Flush()
}

type carrier struct {
	name string
	data string
	once func(*Reader, *Writer) error
}

func carriers() []carrier {
	var request Request
	var response Response
	ofResponse := func(r *Reader, w *Writer) error { return carryResponse(r, w, &response) }
	chunk := "400\r\n" + strings.Repeat("x", 1<<10) + "\r\n"
	return []carrier{
		{"request", benchRequest, func(r *Reader, w *Writer) error { return carryRequest(r, w, &request) }},
		{"response-1KB", benchResponse + strings.Repeat("x", 1<<10), ofResponse},
		{"response-100KB", "HTTP/1.1 200 OK\r\nContent-Length: 102400\r\n\r\n" + strings.Repeat("x", 100<<10), ofResponse},
		{"response-100KB-chunked", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + strings.Repeat(chunk, 100) + "0\r\nX-Sum: 1\r\n\r\n", ofResponse},
	}
}

func BenchmarkCarry(b *testing.B) {
	for _, test := range carriers() {
		b.Run(test.name, func(b *testing.B) {
			var buffers Buffers
			reader, writer := NewReader(&endless{data: []byte(test.data)}, &buffers, Rules{}), NewWriter(io.Discard, &buffers)
			b.SetBytes(int64(len(test.data)))
			b.ReportAllocs()
			for b.Loop() {
				if err := test.once(reader, writer); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkRefuse(b *testing.B) {
	data := []byte("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n")
	var buffers Buffers
	var request Request
	source := bytes.NewReader(nil)
	b.ReportAllocs()
	for b.Loop() {
		source.Reset(data)
		reader := NewReader(source, &buffers, Rules{})
		if reader.ReadRequest(&request) == nil {
			b.Fatal("accepted")
		}
		reader.Release()
	}
}
