// SPDX-License-Identifier: Apache-2.0

package http1

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// side says what a message is.
type side byte

const (
	sideRequest  side = 'q'
	sideResponse side = 'r'
	sideHead     side = 'h' // A response to HEAD.
)

// message is one as some parser has read it.
type message struct {
	method, target string
	status         int
	// fields are in the order in which they came, with names in small letters.
	fields, trailers [][2]string
	body             string
	framing          Framing
	keepsAlive       bool
	found            Errors
	// sent is the message as it is sent on; only ours has one.
	sent []byte
}

// read reads all messages of a connection with our own parser, until one is refused or the
// connection has ended, and writes each anew.
func read(data []byte, from side, rules Rules) ([]message, error) {
	var buffers Buffers
	reader := NewReader(bytes.NewReader(data), &buffers, rules)
	var messages []message
	for {
		var sent bytes.Buffer
		writer := NewWriter(&sent, &buffers)
		var request Request
		var response Response
		got := message{}
		var err error
		if from == sideRequest {
			err = reader.ReadRequest(&request)
		} else {
			err = reader.ReadResponse(&response, Asked{Head: from == sideHead, Upgrade: true})
		}
		if err != nil {
			return messages, ended(err)
		}
		if from == sideRequest {
			got.method, got.target = string(request.Method()), string(request.Target())
			got.framing, got.keepsAlive, got.found = request.Framing(), request.KeepsAlive(), request.Findings()
			got.fields = list(request.Fields)
			writer.Request(&request, Sending{Skip: Owned, Host: "original.example"})
		} else {
			got.status, got.framing, got.keepsAlive, got.found = response.Status(), response.Framing(), response.KeepsAlive(), response.Findings()
			got.fields = list(response.Fields)
			writer.Response(&response, Sending{Skip: Owned, Framing: response.FramingTo(true)})
		}
		writer.EndHead()
		for {
			data, err := reader.Next()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				return messages, err
			}
			got.body += string(data)
			if err := writer.Content(data); err != nil {
				return messages, err
			}
		}
		writer.EndContent(reader)
		got.trailers = list(reader.Trailers)
		if err := writer.Flush(); err != nil {
			return messages, err
		}
		got.sent = sent.Bytes()
		messages = append(messages, got)
		if got.method == http.MethodConnect || got.framing == Tunnel {
			return messages, nil // What follows is not ours to read.
		}
	}
}

func ended(err error) error {
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

func list(all func(func(name, value []byte) bool)) [][2]string {
	var fields [][2]string
	all(func(name, value []byte) bool {
		fields = append(fields, [2]string{strings.ToLower(string(name)), string(value)})
		return true
	})
	return fields
}

// llhttp is Node's parser in a process of its own.
type llhttp struct {
	mutex  sync.Mutex
	input  io.Writer
	output *bufio.Reader
}

var node = sync.OnceValues(func() (*llhttp, error) {
	path, err := exec.LookPath("node")
	if err != nil {
		return nil, err
	}
	command := exec.Command(path, "--no-deprecation", "testdata/llhttp.js")
	input, err := command.StdinPipe() // Ends with this process, and the script with it.
	if err != nil {
		return nil, err
	}
	output, err := command.StdoutPipe()
	if err != nil {
		return nil, err
	}
	return &llhttp{input: input, output: bufio.NewReader(output)}, command.Start()
})

// startNode returns Node's parser and skips the test only where there is no Node.
func startNode(t testing.TB) *llhttp {
	started, err := node()
	if err != nil {
		t.Skipf("NOT COMPARED WITH llhttp: node cannot be started: %v", err)
	}
	return started
}

// nodeReading is what llhttp makes of a connection.
type nodeReading struct {
	Messages []struct {
		Method, Target   string
		Status           int
		Fields, Trailers [][2]string
		Body             string
		Complete         bool
		Upgrade          bool
		KeepAlive        bool
	}
	Error    string
	Consumed int
}

func (l *llhttp) read(t testing.TB, data []byte, from side) nodeReading {
	t.Helper()
	l.mutex.Lock()
	defer l.mutex.Unlock()
	question := binary.BigEndian.AppendUint32([]byte{byte(from)}, uint32(len(data)))
	_, err := l.input.Write(append(question, data...))
	require.NoError(t, err)
	var size [4]byte
	_, err = io.ReadFull(l.output, size[:])
	require.NoError(t, err)
	answer := make([]byte, binary.BigEndian.Uint32(size[:]))
	_, err = io.ReadFull(l.output, answer)
	require.NoError(t, err)
	var reading nodeReading
	require.NoError(t, json.Unmarshal(answer, &reading))
	return reading
}

// whole are the messages that llhttp has read to their end.
func (r nodeReading) whole() []message {
	var messages []message
	for _, m := range r.Messages {
		if m.Complete {
			messages = append(messages, message{
				method: m.Method, target: latin1(m.Target), status: m.Status, fields: lowered(m.Fields),
				trailers: lowered(m.Trailers), body: latin1(m.Body), keepsAlive: m.KeepAlive,
			})
		}
	}
	return messages
}

// latin1 turns characters back into the bytes that they stand for.
func latin1(text string) string {
	var out []byte
	for _, r := range text {
		out = append(out, byte(r))
	}
	return string(out)
}

func lowered(fields [][2]string) [][2]string {
	var all [][2]string
	for _, field := range fields {
		all = append(all, [2]string{strings.ToLower(latin1(field[0])), latin1(field[1])})
	}
	return all
}

// readStandard reads all messages with net/http.
func readStandard(data []byte, from side) ([]message, error) {
	reader := bufio.NewReader(bytes.NewReader(data))
	var messages []message
	for {
		if _, err := reader.Peek(1); errors.Is(err, io.EOF) {
			return messages, nil
		}
		var got message
		var header http.Header
		var trailer *http.Header // Filled when the content is read.
		var content io.ReadCloser
		if from == sideRequest {
			request, err := http.ReadRequest(reader)
			if err != nil {
				return messages, err
			}
			got.method, got.target = request.Method, request.RequestURI
			got.keepsAlive = !request.Close
			got.fields = [][2]string{{"host", request.Host}}
			header, trailer, content = request.Header, &request.Trailer, request.Body
			got.framing = framingOf(request.TransferEncoding, request.ContentLength)
			if request.Method == http.MethodConnect {
				got.fields = append(got.fields, flat(header)...)
				return append(messages, got), nil
			}
		} else {
			method := http.MethodGet
			if from == sideHead {
				method = http.MethodHead
			}
			response, err := http.ReadResponse(reader, &http.Request{Method: method})
			if err != nil {
				return messages, err
			}
			got.status, got.keepsAlive = response.StatusCode, !response.Close
			header, trailer, content = response.Header, &response.Trailer, response.Body
			got.framing = framingOf(response.TransferEncoding, response.ContentLength)
			if response.StatusCode == http.StatusSwitchingProtocols {
				return append(messages, got), nil
			}
		}
		body, err := io.ReadAll(content)
		if err != nil {
			return messages, err
		}
		got.body = string(body)
		got.fields = append(got.fields, flat(header)...)
		got.trailers = flat(*trailer)
		messages = append(messages, got)
	}
}

func framingOf(encoding []string, length int64) Framing {
	switch {
	case len(encoding) > 0:
		return ByChunks
	case length > 0:
		return ByLength
	}
	return NoContent
}

func flat(header http.Header) [][2]string {
	var fields [][2]string
	for name, values := range header {
		for _, value := range values {
			fields = append(fields, [2]string{strings.ToLower(name), value})
		}
	}
	return fields
}

// sorted is for comparison with net/http, which forgets the order and keeps some fields elsewhere.
func sorted(fields [][2]string) [][2]string {
	kept := slices.DeleteFunc(append([][2]string{}, fields...), func(field [2]string) bool {
		switch field[0] {
		case "transfer-encoding", "trailer", "content-length":
			return true
		}
		return false
	})
	slices.SortFunc(kept, func(a, b [2]string) int { return strings.Compare(a[0]+"\x00"+a[1], b[0]+"\x00"+b[1]) })
	return kept
}
