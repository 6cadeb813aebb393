// SPDX-License-Identifier: Apache-2.0

package http1

import "bytes"

// IsHost says whether a text is a host with an optional port.
func IsHost(text []byte) bool {
	host, _, ok := splitHost(text)
	return ok && len(host) > 0
}

// splitHost splits a host and its port and says whether both are well formed. Both may be empty.
func splitHost(text []byte) (host, port []byte, ok bool) {
	host = text
	if len(text) > 0 && text[0] == '[' {
		end := bytes.IndexByte(text, ']')
		if end < 0 || !isAddress6(text[1:end]) {
			return nil, nil, false
		}
		host, text = text[:end+1], text[end+1:]
		if len(text) == 0 {
			return host, nil, true
		}
		if text[0] != ':' {
			return nil, nil, false
		}
		return host, text[1:], isPort(text[1:])
	}
	if colon := bytes.IndexByte(text, ':'); colon >= 0 {
		host, port = text[:colon], text[colon+1:]
	}
	for _, b := range host {
		if !inSet(b, hostLow, hostHigh) {
			return nil, nil, false
		}
	}
	return host, port, isPort(port)
}

// isAddress6 says whether only bytes of an IPv6 address are there.
func isAddress6(text []byte) bool {
	for _, b := range text {
		if !isDigit(b) && b != ':' && b != '.' && (lower(b) < 'a' || lower(b) > 'f') {
			return false
		}
	}
	return len(text) > 1
}

func isPort(text []byte) bool {
	if len(text) == 0 {
		return true
	}
	number, ok := decimal(text)
	return ok && len(text) <= 5 && number <= 1<<16-1
}

// authorityOf finds the authority in a target with a scheme of HTTP. It has no user: that could be
// taken for the host.
func authorityOf(target []byte) (from, to int, ok bool) {
	switch {
	case hasPrefixFold(target, "http://"):
		from = len("http://")
	case hasPrefixFold(target, "https://"):
		from = len("https://")
	default:
		return 0, 0, false
	}
	to = len(target)
	if end := bytes.IndexAny(target[from:], "/?"); end >= 0 {
		to = from + end
	}
	host, _, ok := splitHost(target[from:to])
	return from, to, ok && len(host) > 0
}

// sameHost compares Host with the target's authority. The target's scheme says what port is meant
// where none is written.
func sameHost(field, authority, target []byte) bool {
	if equalFold(field, authority) {
		return true
	}
	usual := ""
	switch {
	case hasPrefixFold(target, "http://"):
		usual = "80"
	case hasPrefixFold(target, "https://"):
		usual = "443"
	}
	fieldHost, fieldPort, _ := splitHost(field)
	host, port, _ := splitHost(authority)
	return equalFold(fieldHost, host) && samePort(fieldPort, port, usual)
}

func samePort(one, other []byte, usual string) bool {
	if len(one) == 0 {
		return len(other) == 0 || string(other) == usual
	}
	if len(other) == 0 {
		return string(one) == usual
	}
	return string(one) == string(other)
}
