// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"bytes"
	"errors"
	"net"
	"os"
	"time"

	"github.com/sluice-mesh/sluice/proxy/http2"
)

const (
	// detectTime is how long the first bytes of a connection are waited for.
	detectTime = time.Second
	// sniffLimit is how much of a first line is looked at.
	sniffLimit = 8 << 10
	// lastLook is for bytes that came in time while this process had no processor to read them: a read
	// whose deadline has passed does not look.
	lastLook = 10 * time.Millisecond
	// recordHandshake is the first byte of a TLS connection.
	recordHandshake = 0x16
)

// spoken is what the first bytes of a connection say.
type spoken int

const (
	spokenUnclear spoken = iota // More bytes are needed.
	spokenHTTP1
	spokenHTTP2
	spokenTLS
	spokenOther
	spokenNothing // Nothing came in time.
)

// classify says what the first bytes of a client are. Only a whole request line of HTTP/1 is HTTP:
// "GET key" may as well be Redis. Empty lines before it change nothing: what reads requests decides
// about them, and who sends one shall not get past that.
func classify(first []byte) spoken {
	if length := min(len(first), len(http2.Preface)); string(first[:length]) == http2.Preface[:length] {
		return unlessPart(length < len(http2.Preface))
	}
	if first = bytes.TrimLeft(first, "\r\n"); len(first) == 0 {
		return spokenUnclear
	}
	if first[0] == recordHandshake {
		return spokenTLS
	}
	line, _, whole := bytes.Cut(first, []byte("\n"))
	method, rest, found := bytes.Cut(line, []byte(" "))
	if !isToken(method) || len(method) > 32 {
		return spokenOther
	}
	if !found {
		return unlessWhole(whole)
	}
	target, protocol, found := bytes.Cut(rest, []byte(" "))
	if bytes.ContainsAny(target, "\x00\t\r") || found && len(target) == 0 {
		return spokenOther
	}
	if !found {
		if len(first) >= sniffLimit {
			return spokenHTTP1 // A method and a target that is longer than anything else would send.
		}
		return unlessWhole(whole)
	}
	const version = "HTTP/1."
	if !bytes.HasPrefix(protocol, []byte(version)) && !bytes.HasPrefix([]byte(version), protocol) {
		return spokenOther
	}
	if len(protocol) < len(version) {
		return unlessWhole(whole)
	}
	return spokenHTTP1
}

// unlessPart is what begins with the preface of HTTP/2, or with a part of it.
func unlessPart(part bool) spoken {
	if part {
		return spokenUnclear
	}
	return spokenHTTP2
}

func unlessWhole(whole bool) spoken {
	if whole {
		return spokenOther
	}
	return spokenUnclear
}

// isToken says whether all bytes may be in a method. Methods in small letters are not seen in HTTP,
// but are the commands of many other protocols.
func isToken(method []byte) bool {
	for _, b := range method {
		if (b < 'A' || b > 'Z') && b != '-' && b != '_' {
			return false
		}
	}
	return len(method) > 0
}

// sniff reads until it is clear what is spoken, at most for the given time, and returns what it
// read.
func sniff(conn net.Conn, wait time.Duration) (spoken, []byte, error) {
	if err := conn.SetReadDeadline(time.Now().Add(wait)); err != nil {
		return spokenNothing, nil, err
	}
	var first []byte
	buffer := make([]byte, 1<<10)
	for looked := false; ; {
		n, err := conn.Read(buffer)
		first = append(first, buffer[:n]...)
		verdict := classify(first)
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded) && !looked:
			looked = true
			if err := conn.SetReadDeadline(time.Now().Add(lastLook)); err != nil {
				return spokenNothing, nil, err
			}
		case errors.Is(err, os.ErrDeadlineExceeded) && len(first) == 0:
			return spokenNothing, nil, conn.SetReadDeadline(time.Time{})
		case errors.Is(err, os.ErrDeadlineExceeded), verdict == spokenUnclear && len(first) >= sniffLimit:
			return settled(verdict), first, conn.SetReadDeadline(time.Time{})
		case verdict != spokenUnclear:
			return verdict, first, conn.SetReadDeadline(time.Time{})
		case err != nil && len(first) > 0:
			// A client that wrote little and ended its side, as TCP allows.
			return spokenOther, first, conn.SetReadDeadline(time.Time{})
		case err != nil:
			return spokenNothing, nil, err
		}
	}
}

// sniffHTTP looks at the first bytes on a port of HTTP. There is no hurry, as clients open connections
// for later, until the first byte has come. What is not clear then is HTTP/1: a client that sends its
// first line slowly must not get past what reads requests. On a port that is declared to be HTTP, so
// is whatever is neither TLS nor HTTP/2.
func sniffHTTP(conn net.Conn, declared bool, headTime time.Duration) (spoken, []byte, error) {
	if err := conn.SetReadDeadline(time.Now().Add(idleClient)); err != nil {
		return spokenNothing, nil, err
	}
	first := make([]byte, 1<<10)
	n, err := conn.Read(first)
	if n == 0 {
		return spokenNothing, nil, err
	}
	if err := conn.SetReadDeadline(time.Now().Add(headTime)); err != nil {
		return spokenNothing, nil, err
	}
	for n < len(http2.Preface) && bytes.HasPrefix([]byte(http2.Preface), first[:n]) {
		more, err := conn.Read(first[n:])
		n += more
		if more == 0 && err != nil {
			break // What reads requests will see it, too.
		}
	}
	verdict := classify(first[:n])
	if verdict == spokenUnclear || declared && verdict != spokenTLS && verdict != spokenHTTP2 {
		verdict = spokenHTTP1
	}
	return verdict, first[:n], conn.SetReadDeadline(time.Time{})
}

func settled(verdict spoken) spoken {
	if verdict == spokenUnclear {
		return spokenOther
	}
	return verdict
}
