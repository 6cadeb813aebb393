// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// helloFor is what a client sends first to a server of a name.
func helloFor(t testing.TB, name string, protocols ...string) []byte {
	t.Helper()
	near, far := net.Pipe()
	go func() {
		config := &tls.Config{ServerName: name, InsecureSkipVerify: name == "", NextProtos: protocols, MinVersion: tls.VersionTLS12} //nolint:gosec // Nobody answers.
		_ = tls.Client(near, config).HandshakeContext(t.Context())
	}()
	defer near.Close()
	header := make([]byte, recordHeader)
	_, err := io.ReadFull(far, header)
	require.NoError(t, err)
	body := make([]byte, binary.BigEndian.Uint16(header[3:]))
	_, err = io.ReadFull(far, body)
	require.NoError(t, err)
	return append(header, body...)
}

// inRecords is a hello in records of a length.
func inRecords(hello []byte, length int) []byte {
	var records []byte
	for body := hello[recordHeader:]; len(body) > 0; {
		n := min(length, len(body))
		records = append(records, hello[:3]...)
		records = binary.BigEndian.AppendUint16(records, uint16(n))
		records = append(records, body[:n]...)
		body = body[n:]
	}
	return records
}

// watched is what is found in bytes that come in pieces of a length.
func watched(content []byte, length int) (names []string) {
	w := &helloWatch{tell: func(name string) { names = append(names, name) }}
	for len(content) > 0 {
		n := min(length, len(content))
		if !w.saw(content[:n]) {
			break
		}
		content = content[n:]
	}
	return names
}

func TestServerNamesAreFound(t *testing.T) {
	hello := helloFor(t, "Shop.Example")
	for name, test := range map[string]struct {
		content []byte
		want    []string
	}{
		"whole":                 {hello, []string{"shop.example"}},
		"with more":             {append(bytes.Clone(hello), "more"...), []string{"shop.example"}},
		"in records":            {inRecords(hello, 100), []string{"shop.example"}},
		"in very small records": {inRecords(hello, 1), []string{"shop.example"}},
		"without a name":        {helloFor(t, ""), []string{""}},
		"with a long name":      {helloFor(t, strings.Repeat("a.", 126)+"b"), []string{strings.Repeat("a.", 126) + "b"}},
		"with one that is none": {helloFor(t, "a\"b\n"), []string{""}},
		"a part":                {hello[:len(hello)-1], nil},
		"nothing":               {nil, nil},
		"no TLS":                {[]byte("GET key\r\n"), nil},
		"another record":        {append([]byte{0x17}, hello[1:]...), nil},
		"another message":       {append(append(bytes.Clone(hello[:5]), 2), hello[6:]...), nil},
		"an empty record":       {append([]byte{0x16, 3, 1, 0, 0}, hello...), nil},
		"an endless one":        {append([]byte{0x16, 3, 1, 0xff, 0xff, 1, 0xff, 0xff, 0xff}, make([]byte, 1<<20)...), nil},
	} {
		t.Run(name, func(t *testing.T) {
			for _, length := range []int{1, 7, 1024, 1 << 21} {
				require.Equal(t, test.want, watched(test.content, length), length)
			}
		})
	}
}

func TestServerNamesAreBounded(t *testing.T) {
	counts := noPassthrough()[directionInbound]
	for i := range serverNamesMost + 100 {
		counts.add(fmt.Sprintf("%d.example", i))
	}
	counts.add("0.example")
	copied := counts.copied()
	require.LessOrEqual(t, len(copied), serverNamesMost+1)
	require.EqualValues(t, 2, copied["0.example"])
	require.EqualValues(t, 101, copied[otherValue])
}

// wireOf is a connection on which bytes come in pieces of a length, then nothing.
type wireOf struct {
	net.Conn
	content *bytes.Reader
	length  int
}

func (w wireOf) Read(p []byte) (int, error) {
	n, err := w.content.Read(p[:min(len(p), w.length)])
	if err != nil {
		return n, os.ErrDeadlineExceeded
	}
	return n, nil
}

func (wireOf) SetReadDeadline(time.Time) error { return nil }

// FuzzHello: whatever comes, nothing of it is lost or held back, what is kept is bounded, and both ways
// to look at it find the same.
func FuzzHello(f *testing.F) {
	hello := helloFor(f, "shop.example", "h2", "sluice-h2")
	f.Add(hello, uint16(1024))
	f.Add(inRecords(hello, 50), uint16(3))
	f.Add(append(bytes.Clone(hello), "early data"...), uint16(7))
	f.Add([]byte{0x16, 3, 1, 0, 5, 'h', 'e', 'l', 'l', 'o'}, uint16(1))
	f.Add([]byte{0x16, 3, 1, 0xff, 0xff, 1, 0, 0xff, 0xff}, uint16(2))
	f.Fuzz(func(t *testing.T, content []byte, pieces uint16) {
		length := int(pieces) + 1
		first := content[:min(len(content), length)]
		wire := wireOf{content: bytes.NewReader(content[len(first):]), length: length}
		_, read, err := readHello(wire, first)
		require.NoError(t, err)
		rest, _ := io.ReadAll(wire.content)
		require.True(t, bytes.Equal(content, append(bytes.Clone(read), rest...)))

		var names []string
		w := &helloWatch{tell: func(name string) { names = append(names, name) }}
		for more := content; len(more) > 0; {
			n := min(length, len(more))
			if !w.saw(more[:n]) {
				break
			}
			more = more[n:]
		}
		require.LessOrEqual(t, len(w.seen), helloMost)
		require.LessOrEqual(t, len(names), 1)
		if len(names) == 1 && names[0] != "" {
			parsed := parseHello(bytes.NewReader(content))
			require.NotNil(t, parsed)
			require.Equal(t, strings.ToLower(parsed.ServerName), names[0])
		}
		if parsed := parseHello(bytes.NewReader(content)); parsed != nil && len(content) <= helloMost {
			require.Equal(t, []string{hostName(parsed.ServerName)}, names)
		}
	})
}
