// SPDX-License-Identifier: Apache-2.0

package http1

import (
	"bytes"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// judge holds what we read and send on against net/http and llhttp. It fails when we accept what
// both refuse, when they read another message than we do, and when they read what we send on
// differently from what we meant.
func judge(t testing.TB, data []byte, from side) {
	t.Helper()
	ours, _ := read(data, from, Rules{})
	if len(ours) == 0 {
		return
	}
	oracle := startNode(t)
	if from == sideRequest {
		// RFC 9112 section 2.2 wants one empty line before a request to be ignored; net/http does not.
		data = bytes.TrimPrefix(data, []byte("\r\n"))
	}
	theirs := oracle.read(t, data, from)
	standard, standardError := readStandard(data, from)
	llhttpReads, standardReads := len(theirs.whole()) > 0, len(standard) > 0
	if !llhttpReads && !standardReads && !onlyTolerated(ours[0], theirs, standardError) {
		t.Fatalf("accepted what both refuse (llhttp %s, net/http %v): %q", theirs.Error, standardError, data)
	}
	if llhttpReads {
		sameMessage(t, ours[0], theirs.whole()[0], "llhttp", data)
	}
	if standardReads {
		sameMessage(t, ours[0], standard[0], "net/http", data)
	}
	for _, m := range ours {
		judgeSent(t, oracle, m, from)
	}
}

// onlyTolerated says that a message which both others refuse is one of the few that the
// specification allows and each of them refuses for a reason of its own.
func onlyTolerated(ours message, theirs nodeReading, standardError error) bool {
	// llhttp has a list of methods. net/http knows none of them by name.
	return theirs.Error == "HPE_INVALID_METHOD" && standardError == nil ||
		// llhttp takes an upgrade, or a CONNECT, for the end.
		ours.framing == Tunnel || ours.method == http.MethodConnect
}

// sameMessage compares what a recipient acts on.
func sameMessage(t testing.TB, ours, theirs message, who string, data []byte) {
	t.Helper()
	require.Equal(t, ours.method, theirs.method, "method by %s of %q", who, data)
	require.Equal(t, ours.target, theirs.target, "target by %s of %q", who, data)
	require.Equal(t, ours.status, theirs.status, "status by %s of %q", who, data)
	if ours.framing != Tunnel && ours.method != http.MethodConnect {
		require.Equal(t, ours.body, theirs.body, "content by %s of %q", who, data)
	}
}

// judgeSent demands that all three read one message in what is sent on, the one that was meant.
func judgeSent(t testing.TB, oracle *llhttp, m message, from side) {
	t.Helper()
	again, err := read(m.sent, from, Rules{})
	require.NoError(t, err, "%q", m.sent)
	require.Len(t, again, 1, "%q", m.sent)
	sameMessage(t, m, again[0], "ourselves", m.sent)
	require.Equal(t, string(m.sent), string(again[0].sent), "sending on changes nothing any more")
	standard, err := readStandard(m.sent, from)
	require.NoError(t, err, "net/http: %q", m.sent)
	require.Len(t, standard, 1, "net/http: %q", m.sent)
	sameMessage(t, m, standard[0], "net/http", m.sent)
	if m.status != http.StatusSwitchingProtocols {
		sent := again[0].fields
		if from == sideRequest && strings.Contains(m.target, "://") {
			sent = withHost(sent, standard[0].fields[0][1])
		}
		require.Equal(t, sorted(sent), sorted(standard[0].fields), "fields by net/http of %q", m.sent)
		require.Equal(t, sorted(again[0].trailers), sorted(standard[0].trailers), "trailers by net/http of %q", m.sent)
	}
	for _, field := range append(again[0].fields, again[0].trailers...) {
		require.False(t, strings.HasPrefix(field[0], ownedPrefix), "%q goes on", field[0])
	}
	theirs := oracle.read(t, m.sent, from)
	if theirs.Error == "HPE_INVALID_METHOD" {
		return
	}
	require.Empty(t, theirs.Error, "llhttp: %q", m.sent)
	whole := theirs.whole()
	require.Len(t, whole, 1, "llhttp: %q", m.sent)
	sameMessage(t, m, whole[0], "llhttp", m.sent)
	require.Equal(t, again[0].fields, whole[0].fields, "fields by llhttp of %q", m.sent)
	require.Equal(t, again[0].trailers, whole[0].trailers, "trailers by llhttp of %q", m.sent)
}

// withHost replaces Host: of an absolute target net/http reports the target's host, which is the same
// but for case and the usual port.
func withHost(fields [][2]string, host string) [][2]string {
	var all [][2]string
	for _, field := range fields {
		if field[0] == "host" {
			field[1] = host
		}
		all = append(all, field)
	}
	return all
}

func addCorpus(f *testing.F, sides ...side) {
	for _, test := range readCorpus(f) {
		for _, from := range sides {
			if test.from == from {
				f.Add(test.data)
			}
		}
	}
}

func FuzzRequest(f *testing.F) {
	addCorpus(f, sideRequest)
	f.Fuzz(func(t *testing.T, data []byte) { judge(t, data, sideRequest) })
}

func FuzzResponse(f *testing.F) {
	addCorpus(f, sideResponse)
	f.Fuzz(func(t *testing.T, data []byte) { judge(t, data, sideResponse) })
}

func FuzzResponseToHead(f *testing.F) {
	addCorpus(f, sideHead, sideResponse)
	f.Fuzz(func(t *testing.T, data []byte) { judge(t, data, sideHead) })
}

// FuzzChunks is FuzzRequest behind a head that is right, so that no time is lost on heads.
func FuzzChunks(f *testing.F) {
	const head = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
	for _, test := range readCorpus(f) {
		if content, ok := strings.CutPrefix(string(test.data), head); ok {
			f.Add([]byte(content))
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) { judge(t, append([]byte(head), data...), sideRequest) })
}
