// SPDX-License-Identifier: Apache-2.0

package http2

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	h2 "golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/sluice-mesh/sluice/proxy/http1"
)

// sentStream is a request as a client sends it in frames.
type sentStream struct {
	// fields and trailers are names and values in turn.
	fields, data, trailers []string
	// open says that the head does not end it, trailed that trailers do.
	open, trailed bool
}

// frames are the bytes of the connection, after its preface.
func (s sentStream) frames() []byte {
	var out, block bytes.Buffer
	encoder := hpack.NewEncoder(&block)
	framer := h2.NewFramer(&out, nil)
	framer.AllowIllegalWrites = true
	headers := func(fields []string, end bool) {
		block.Reset()
		for i := 0; i+1 < len(fields); i += 2 {
			_ = encoder.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]})
		}
		rest := block.Bytes()
		first := rest[:min(len(rest), frameMost)]
		rest = rest[len(first):]
		_ = framer.WriteHeaders(h2.HeadersFrameParam{StreamID: 1, BlockFragment: first, EndStream: end, EndHeaders: len(rest) == 0})
		for len(rest) > 0 {
			next := rest[:min(len(rest), frameMost)]
			rest = rest[len(next):]
			_ = framer.WriteContinuation(1, len(rest) == 0, next)
		}
	}
	_ = framer.WriteSettings()
	headers(s.fields, !s.open)
	if s.open {
		for i, piece := range s.data {
			_ = framer.WriteData(1, !s.trailed && i == len(s.data)-1, []byte(piece))
		}
		if s.trailed {
			headers(s.trailers, true)
		}
	}
	return out.Bytes()
}

// downgraded is what became of a request: what was written of it, and why it was refused.
type downgraded struct {
	written bytes.Buffer
	refused string
	whole   bool

	writer  *http1.Writer
	request *Downgraded
}

func downgradeAll(frames []byte) *downgraded {
	got := &downgraded{}
	var buffers http1.Buffers
	got.writer = http1.NewWriter(&got.written, &buffers)
	conn := &bytesConn{Reader: io.MultiReader(strings.NewReader(Preface), bytes.NewReader(frames))}
	NewServer(conn, Options{
		Refused: func(why MalformedError) { got.refused = string(why) },
		Request: func(s *Stream, h *Head, end bool) {
			s.Receive(got)
			var err error
			if got.request, err = h.Downgrade(end); err != nil {
				var why http1.Error
				errors.As(err, &why)
				got.refused, got.request = why.Name(), nil
				return
			}
			got.request.WriteHead(got.writer, false)
			got.whole = end
		},
	}).Serve()
	_ = got.writer.Flush()
	return got
}

func (d *downgraded) Head(h *Head, _ bool) { d.end(h.Fields) }
func (d *downgraded) Sent(int)             {}
func (d *downgraded) Ended(error)          {}
func (d *downgraded) Data(data []byte, end bool) {
	if d.request == nil {
		return
	}
	if !d.request.Asked().Connect { // What goes through a tunnel waits for the answer.
		_ = d.writer.Content(data)
	}
	if end {
		d.end(nil)
	}
}

func (d *downgraded) end(trailers []hpack.HeaderField) {
	if d.request != nil {
		d.request.WriteEnd(d.writer, trailers)
		d.whole = true
	}
}

// plain is a request as its recipient reads it. Its fields are without those that frame it.
type plain struct {
	method, target, host string
	fields, trailers     [][2]string
	body                 string
}

// meant is what a request says, read from what its client has sent.
func (s sentStream) meant() plain {
	m := plain{body: strings.Join(s.data, "")}
	cookie := -1
	for i := 0; i+1 < len(s.fields); i += 2 {
		name, value := s.fields[i], strings.Trim(s.fields[i+1], " \t")
		switch name {
		case ":method":
			m.method = value
		case ":path":
			m.target = value
		case ":authority", "host":
			m.host = value
		case ":scheme":
		case "cookie":
			switch {
			case cookie < 0:
				cookie = len(m.fields)
				m.fields = append(m.fields, [2]string{name, value})
			case value != "" && m.fields[cookie][1] != "":
				m.fields[cookie][1] += "; " + value
			case value != "":
				m.fields[cookie][1] = value
			}
		default:
			m.fields = append(m.fields, [2]string{name, value})
		}
	}
	if m.method == http.MethodConnect {
		m.target, m.body = m.host, ""
	}
	for i := 0; i+1 < len(s.trailers); i += 2 {
		m.trailers = append(m.trailers, [2]string{s.trailers[i], strings.Trim(s.trailers[i+1], " \t")})
	}
	m.fields = unframed(m.fields)
	return m
}

func unframed(fields [][2]string) [][2]string {
	var kept [][2]string // nil when there are none, to be compared.
	for _, f := range fields {
		switch f[0] {
		case "host", "te", "connection", "expect", "content-length", "transfer-encoding", "trailer":
		default:
			kept = append(kept, f)
		}
	}
	return kept
}

// readOurs reads one message with our own reader, and says how many there are.
func readOurs(data []byte) (got plain, chunked bool, messages int, _ error) {
	var buffers http1.Buffers
	reader := http1.NewReader(bytes.NewReader(data), &buffers, http1.Rules{MaxFields: 1000})
	for {
		var request http1.Request
		if err := reader.ReadRequest(&request); err != nil {
			if errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
				err = nil
			}
			return got, chunked, messages, err
		}
		got = plain{method: string(request.Method()), target: string(request.Target()), host: string(request.Host())}
		chunked = request.Framing() == http1.ByChunks
		for name, value := range request.Fields {
			got.fields = append(got.fields, [2]string{strings.ToLower(string(name)), string(value)})
		}
		got.fields = unframed(got.fields)
		for {
			content, err := reader.Next()
			if errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
				break
			}
			if err != nil {
				return got, chunked, messages, err
			}
			got.body += string(content)
		}
		for name, value := range reader.Trailers {
			got.trailers = append(got.trailers, [2]string{strings.ToLower(string(name)), string(value)})
		}
		messages++
	}
}

// readTheirs reads one message with net/http; nothing may follow it.
func readTheirs(t testing.TB, data []byte) (got plain) {
	t.Helper()
	reader := bufio.NewReader(bytes.NewReader(data))
	request, err := http.ReadRequest(reader)
	require.NoError(t, err, "net/http: %q", data)
	body, err := io.ReadAll(request.Body)
	require.NoError(t, err, "net/http: %q", data)
	_, err = reader.ReadByte()
	require.ErrorIs(t, err, io.EOF, "net/http sees something behind the message: %q", data)
	got = plain{method: request.Method, target: request.RequestURI, host: request.Host, body: string(body)}
	got.fields, got.trailers = unframed(flatten(request.Header)), flatten(request.Trailer)
	return got
}

func flatten(header http.Header) [][2]string {
	var fields [][2]string
	for name, values := range header {
		for _, value := range values {
			fields = append(fields, [2]string{strings.ToLower(name), value})
		}
	}
	return fields
}

func ordered(fields [][2]string) [][2]string {
	fields = slices.Clone(fields)
	slices.SortFunc(fields, func(a, b [2]string) int { return strings.Compare(a[0]+"\x00"+a[1], b[0]+"\x00"+b[1]) })
	if len(fields) == 0 {
		return nil
	}
	return fields
}

// judge demands that a request was refused, or that both recipients read the one that was meant in what
// was written. Of what is refused when its head has been written, they read no more than that one.
func (s sentStream) judge(t testing.TB, got *downgraded) {
	t.Helper()
	data := got.written.Bytes()
	ours, chunked, messages, err := readOurs(data)
	if got.refused != "" || !got.whole {
		require.LessOrEqual(t, messages, 1, "%q", data)
		if messages == 0 && len(data) > 0 {
			require.ErrorIs(t, err, io.ErrUnexpectedEOF, "%q", data)
		}
		return
	}
	require.NoError(t, err, "%q", data)
	require.Equal(t, 1, messages, "%q", data)
	meant := s.meant()
	if !chunked {
		meant.trailers = nil // A length leaves no room for them.
	}
	require.Equal(t, meant, ours, "%q", data)
	if meant.method == http.MethodConnect {
		return // What follows is not HTTP.
	}
	theirs := readTheirs(t, data)
	meant.fields, meant.trailers = ordered(meant.fields), ordered(meant.trailers)
	theirs.fields, theirs.trailers = ordered(theirs.fields), ordered(theirs.trailers)
	if slices.Contains(meant.fields, [2]string{"pragma", "no-cache"}) {
		implied := [2]string{"cache-control", "no-cache"} // net/http adds it.
		if !slices.ContainsFunc(meant.fields, func(f [2]string) bool { return f[0] == implied[0] }) {
			theirs.fields = ordered(slices.DeleteFunc(theirs.fields, func(f [2]string) bool { return f == implied }))
		}
	}
	require.Equal(t, meant, theirs, "net/http: %q", data)
}

// readDowngrades reads testdata/downgrade.txt, which says how it is written.
func readDowngrades(t testing.TB) (cases []sentStream, verdicts []string, lines []int) {
	t.Helper()
	text, err := os.ReadFile("testdata/downgrade.txt")
	require.NoError(t, err)
	number := 0
	for line := range strings.Lines(string(text)) {
		number++
		if line = strings.TrimSpace(line); line == "" || line[0] == '#' {
			continue
		}
		verdict, rest, _ := strings.Cut(line, " ")
		var s sentStream
		into := &s.fields
		for rest = strings.TrimSpace(rest); rest != ""; rest = strings.TrimSpace(rest) {
			word, after, _ := strings.Cut(rest, " ")
			switch {
			case rest[0] == '"':
				quoted, err := strconv.QuotedPrefix(rest)
				require.NoError(t, err, "line %d", number)
				value, err := strconv.Unquote(quoted)
				require.NoError(t, err, "line %d", number)
				// A text may be repeated: "x"*1000.
				after = rest[len(quoted):]
				if count, found := strings.CutPrefix(after, "*"); found {
					count, after, _ = strings.Cut(count, " ")
					times, err := strconv.Atoi(count)
					require.NoError(t, err, "line %d", number)
					value = strings.Repeat(value, times)
				}
				*into = append(*into, value)
			case word == "|" && !s.open:
				s.open, into = true, &s.data
			case word == "|":
				s.trailed, into = true, &s.trailers
			case word == "many":
				for i := range 300 {
					*into = append(*into, "x-"+strconv.Itoa(i), "y")
				}
			default:
				s.fields = append(s.fields, ":method", strings.ToUpper(word), ":scheme", "http", ":authority", "shop", ":path", "/")
			}
			rest = after
		}
		cases, verdicts, lines = append(cases, s), append(verdicts, verdict), append(lines, number)
	}
	return cases, verdicts, lines
}

func TestDowngrade(t *testing.T) {
	cases, verdicts, lines := readDowngrades(t)
	require.GreaterOrEqual(t, len(cases), 80)
	for i, s := range cases {
		t.Run(strconv.Itoa(lines[i]), func(t *testing.T) {
			got := downgradeAll(s.frames())
			verdict := got.refused
			switch {
			case verdict == "" && got.whole:
				verdict = "ok"
			case verdict == "":
				verdict = "ended"
			}
			require.Equal(t, verdicts[i], verdict, "%q", got.written.String())
			s.judge(t, got)
		})
	}
}

// FuzzDowngrade takes fields and trailers as names and values in turn, between bytes of 255.
func FuzzDowngrade(f *testing.F) {
	cases, _, _ := readDowngrades(f)
	const between = "\xff"
	for _, s := range cases {
		if size := len(strings.Join(s.fields, "")) + len(strings.Join(s.trailers, "")); size < 4<<10 {
			f.Add(strings.Join(s.fields, between), strings.Join(s.data, between), strings.Join(s.trailers, between), s.open, s.trailed)
		}
	}
	pairs := func(text string) []string {
		parts := strings.Split(text, between)
		return parts[:len(parts)/2*2]
	}
	f.Fuzz(func(t *testing.T, fields, data, trailers string, open, trailed bool) {
		s := sentStream{fields: pairs(fields), open: open, trailed: open && trailed}
		if open {
			s.data = strings.Split(data, between)
		}
		if s.trailed {
			s.trailers = pairs(trailers)
		}
		s.judge(t, downgradeAll(s.frames()))
	})
}
