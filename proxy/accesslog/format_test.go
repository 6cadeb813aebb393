// SPDX-License-Identifier: Apache-2.0

package accesslog

import (
	"bytes"
	"encoding/json"
	"net/netip"
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/sluice-mesh/sluice/mesh"
)

func request() *Entry {
	return &Entry{
		Received:  time.Date(2026, time.November, 22, 22, 3, 29, 123456789, time.UTC),
		Direction: "inbound",
		Client:    netip.MustParseAddrPort("10.1.2.3:41234"),
		ClientID:  "spiffe://cluster.local/ns/shop/sa/web",
		Method:    "POST", Host: "checkout:8080", Path: "/orders", Query: "token=hunter2", Version: "HTTP/1.1",
		UserAgent: "curl/8.5.0", Referer: "https://me:pw@shop.example/cart?session=hunter3#x",
		TraceID: "4bf92f3577b34da6a3ce929d0e0e4736",
		Status:  201, Endpoint: "10.1.2.9:8080", Hash: "7d4b9", RequestBytes: 12, ResponseBytes: 345,
		FirstByte: 2 * time.Millisecond, Total: 3 * time.Millisecond,
	}
}

func TestLines(t *testing.T) {
	for name, test := range map[string]struct {
		as     string
		change func(*Entry)
		want   string
	}{
		"JSON": {"json", nil, `{"timestamp":"2026-11-22T22:03:29.123456789Z","direction":"inbound",` +
			`"client.addr":"10.1.2.3:41234","client.id":"spiffe://cluster.local/ns/shop/sa/web","host":"checkout:8080",` +
			`"method":"POST","uri":"/orders","version":"HTTP/1.1","user_agent":"curl/8.5.0",` +
			`"trace_id":"4bf92f3577b34da6a3ce929d0e0e4736","request_bytes":12,"status":201,"response_bytes":345,` +
			`"first_byte_ns":2000000,"total_ns":3000000,"endpoint.addr":"10.1.2.9:8080","endpoint.pod_template_hash":"7d4b9"}`},
		"JSON of what was no request": {"json", func(e *Entry) {
			*e = Entry{Received: e.Received, Direction: "inbound", Client: e.Client, Status: 400, Error: "header_name"}
		}, `{"timestamp":"2026-11-22T22:03:29.123456789Z","direction":"inbound","client.addr":"10.1.2.3:41234",` +
			`"request_bytes":0,"status":400,"error":"header_name","response_bytes":0,"first_byte_ns":0,"total_ns":0}`},
		"Apache": {"apache", nil, `10.1.2.3 - spiffe://cluster.local/ns/shop/sa/web [22/Nov/2026:22:03:29 +0000] ` +
			`"POST /orders HTTP/1.1" 201 345 "https://shop.example/cart" "curl/8.5.0"`},
		"Apache with queries": {"apache+query", nil, `10.1.2.3 - spiffe://cluster.local/ns/shop/sa/web [22/Nov/2026:22:03:29 +0000] ` +
			`"POST /orders?token=hunter2 HTTP/1.1" 201 345 "https://me:pw@shop.example/cart?session=hunter3#x" "curl/8.5.0"`},
		"Apache of what was no request": {"apache", func(e *Entry) {
			*e = Entry{Received: e.Received, Status: 400}
		}, `- - - [22/Nov/2026:22:03:29 +0000] "-" 400 - "-" "-"`},
		"Apache has no place for the direction": {"apache", func(e *Entry) { e.Direction = "outbound" }, ""},
		"Apache escapes": {"apache", func(e *Entry) {
			*e = Entry{Received: e.Received, Status: 200, Method: "GET", Path: "/a b", Version: "HTTP/2.0", UserAgent: "a\"b\\c\nd\u009b"}
		}, `- - - [22/Nov/2026:22:03:29 +0000] "GET /a\x20b HTTP/2.0" 200 - "-" "a\"b\\c\x0ad\xc2\x9b"`},
	} {
		t.Run(name, func(t *testing.T) {
			as, err := mesh.ParseAccessLog(test.as)
			require.NoError(t, err)
			e := request()
			if test.change != nil {
				test.change(e)
			}
			want := test.want
			if want != "" {
				want += "\n"
			}
			require.Equal(t, want, string(appendLine(nil, e, as)))
		})
	}
}

func TestQueriesAreWrittenWhenAsked(t *testing.T) {
	require.NotContains(t, string(appendLine(nil, request(), mesh.AccessLog{Format: mesh.AccessLogJSON})), "hunter")
	line := string(appendLine(nil, request(), mesh.AccessLog{Format: mesh.AccessLogJSON, Query: true}))
	require.Contains(t, line, `"uri":"/orders?token=hunter2"`)
}

func TestLongTextsAreCut(t *testing.T) {
	e := request()
	e.UserAgent = strings.Repeat("é", textMost)
	var line struct {
		UserAgent string `json:"user_agent"`
	}
	require.NoError(t, json.Unmarshal(appendLine(nil, e, mesh.AccessLog{Format: mesh.AccessLogJSON}), &line))
	require.Equal(t, strings.Repeat("é", textMost/2), line.UserAgent)
}

// apacheLine is a line of the combined format, in whose quotes a quote is always escaped.
func apacheLine() *regexp.Regexp {
	word, quoted := `(?:[^ "\\]|\\.)+`, `"(?:[^"\\]|\\.)*"`
	return regexp.MustCompile(`^\S+ - \S+ \[[^\]]+\] "(?:-|` + word + ` ` + word + ` ` + word + `)" (?:\d+|-) (?:\d+|-) ` + quoted + ` ` + quoted + `$`)
}

// FuzzLines: whatever clients send, a line stays one line of its format, shows nothing that acts upon a
// terminal, and JSON tells what was sent.
func FuzzLines(f *testing.F) {
	for _, text := range []string{
		"plain", "quote\" and \\ backslash", "line\r\nfeed", "nul\x00", "\x1b[2J\x1b]0;title\x07", "\u009b2J", "\u2028\u2029\u202e",
		"\xff\xfe", "\xed\xa0\x80", "😀\U000e0001", `","status":200,"x":"`, `" 200 1 "-" "-`, strings.Repeat("\x01", 3000), "é\xc3",
	} {
		f.Add(text, text)
	}
	lines := apacheLine()
	f.Fuzz(func(t *testing.T, one, other string) {
		e := request()
		e.Host, e.Method, e.UserAgent, e.ClientID, e.TraceID = one, other, one, other, other
		e.Path, e.Query, e.Version, e.Referer, e.GRPCStatus, e.Error = other, one, one, other, one, other
		for _, query := range []bool{false, true} {
			line := appendLine(nil, e, mesh.AccessLog{Format: mesh.AccessLogJSON, Query: query})
			requireOneLine(t, line)
			var read map[string]any
			require.NoError(t, json.Unmarshal(line, &read))
			require.Equal(t, 201.0, read["status"])
			if one != "" && len(one) <= textMost {
				require.Equal(t, toValid(one), read["user_agent"])
			}
			line = appendLine(nil, e, mesh.AccessLog{Format: mesh.AccessLogApache, Query: query})
			requireOneLine(t, line)
			require.Regexp(t, lines, string(bytes.TrimSuffix(line, []byte("\n"))))
		}
	})
}

func requireOneLine(t *testing.T, line []byte) {
	t.Helper()
	text, ended := strings.CutSuffix(string(line), "\n")
	require.True(t, ended)
	require.True(t, utf8.ValidString(text))
	for _, r := range text {
		require.True(t, unicode.IsPrint(r), "%q", text)
	}
}

// toValid is a text with U+FFFD for each byte that is none of a rune.
func toValid(text string) string {
	var valid strings.Builder
	for _, r := range text {
		valid.WriteRune(r)
	}
	return valid.String()
}

func TestTraceID(t *testing.T) {
	const id = "4bf92f3577b34da6a3ce929d0e0e4736"
	for traceparent, want := range map[string]string{
		"00-" + id + "-00f067aa0ba902b7-01":                      id,
		"00-" + id + "-00f067aa0ba902b7-00":                      id,
		"01-" + id + "-00f067aa0ba902b7-01-more":                 id,
		"01-" + id + "-00f067aa0ba902b7-01":                      id,
		"":                                                       "",
		"00-" + id + "-00f067aa0ba902b7-01-more":                 "",
		"01-" + id + "-00f067aa0ba902b7-01more":                  "",
		"ff-" + id + "-00f067aa0ba902b7-01":                      "",
		"0g-" + id + "-00f067aa0ba902b7-01":                      "",
		"00-" + strings.ToUpper(id) + "-00f067aa0ba902b7-01":     "",
		"00-" + strings.Repeat("0", 32) + "-00f067aa0ba902b7-01": "",
		"00-" + id + "-0000000000000000-01":                      "",
		"00-" + id + "-00f067aa0ba902b7-0":                       "",
		"00-" + id + "-00f067aa0ba902b7_01":                      "",
		"00_" + id + "-00f067aa0ba902b7-01":                      "",
		"00-" + id[1:] + "--00f067aa0ba902b7-01":                 "",
	} {
		require.Equal(t, want, TraceID(traceparent), traceparent)
	}
}
