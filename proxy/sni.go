// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"bytes"
	"encoding/binary"
	"maps"
	"strings"
	"sync"
)

const (
	// helloMost is how much of a connection is kept to find its ClientHello.
	helloMost = 16 << 10
	// serverNamesMost bounds the names that are counted in one direction. Who calls decides about them.
	serverNamesMost = 200
	serverNameMost  = 253

	recordHeader    = 5
	handshakeHeader = 4
)

// helloWatch looks at what a client sends on a connection that is carried as bytes, and finds the name of
// the server that its ClientHello asks for. It holds nothing back and waits for nothing: it sees what has
// been read. One goroutine reads.
type helloWatch struct {
	seen []byte
	tell func(name string)
}

// saw is told of bytes in their order. It returns false when nothing more is of interest.
func (w *helloWatch) saw(p []byte) bool {
	if len(p) == 0 {
		return true
	}
	w.seen = append(w.seen, p[:min(len(p), helloMost-len(w.seen))]...)
	switch length, isHello := helloLength(w.seen); {
	case !isHello:
		return false
	case length <= len(w.seen):
		w.tell(serverNameIn(w.seen[:length]))
		return false
	}
	return len(w.seen) < helloMost
}

// helloLength is how many bytes a connection needs for its ClientHello to be whole, as far as can be said
// now: more than there are while there are too few. It is false for what does not begin with one.
func helloLength(seen []byte) (length int, isHello bool) {
	if seen[0] != recordHandshake {
		return 0, false
	}
	at, message := 0, make([]byte, 0, handshakeHeader)
	for have, want := 0, handshakeHeader; have < want; {
		if len(seen) < at+recordHeader {
			return at + recordHeader, true
		}
		content := int(binary.BigEndian.Uint16(seen[at+3:]))
		if seen[at] != recordHandshake || content == 0 {
			return 0, false
		}
		body := seen[at+recordHeader : min(len(seen), at+recordHeader+content)]
		message = append(message, body[:min(len(body), handshakeHeader-len(message))]...)
		if len(message) > 0 && message[0] != 1 {
			return 0, false
		}
		if len(message) == handshakeHeader {
			want = handshakeHeader + int(message[1])<<16 + int(message[2])<<8 + int(message[3])
		}
		have += content
		at += recordHeader + content
		if at > len(seen) {
			return at, true
		}
	}
	return at, true
}

// serverNameIn is the name that a whole ClientHello asks for; empty when it asks for none.
func serverNameIn(hello []byte) string {
	parsed := parseHello(bytes.NewReader(hello))
	if parsed == nil {
		return ""
	}
	return hostName(parsed.ServerName)
}

// hostName is a name as DNS compares it; empty for what is none.
func hostName(name string) string {
	if len(name) > serverNameMost {
		return ""
	}
	for i := range len(name) {
		switch b := name[i]; {
		case b >= 'a' && b <= 'z', b >= 'A' && b <= 'Z', b >= '0' && b <= '9', b == '-', b == '.', b == '_':
		default:
			return ""
		}
	}
	return strings.ToLower(name)
}

// watchHello has the name of the server that the client asks for counted and shown, if it speaks TLS.
func (p *Proxy) watchHello(conn *servedConn, direction string) {
	conn.hello = &helloWatch{tell: func(name string) {
		p.metrics.passthrough[direction].add(name)
		if tracked := trackedUnder(conn.Conn); tracked != nil {
			tracked.asksFor(name)
		}
	}}
}

// nameCounts counts by names that somebody else chooses.
type nameCounts struct {
	mutex  sync.Mutex
	counts map[string]uint64
}

func (n *nameCounts) add(name string) {
	n.mutex.Lock()
	defer n.mutex.Unlock()
	if _, known := n.counts[name]; !known && len(n.counts) >= serverNamesMost {
		name = otherValue
	}
	n.counts[name]++
}

func (n *nameCounts) copied() map[string]uint64 {
	n.mutex.Lock()
	defer n.mutex.Unlock()
	return maps.Clone(n.counts)
}

// noPassthrough has no names yet, but a zero for connections that ask for none.
func noPassthrough() map[string]*nameCounts {
	return map[string]*nameCounts{
		directionInbound:  {counts: map[string]uint64{"": 0}},
		directionOutbound: {counts: map[string]uint64{"": 0}},
	}
}
