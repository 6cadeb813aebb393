// SPDX-License-Identifier: Apache-2.0

package http1

// Kind is what a field means to a proxy.
type Kind uint8

// The kinds of fields.
const (
	KindOther Kind = iota
	KindHost
	KindContentLength
	KindTransferEncoding
	KindConnection
	KindKeepAlive
	KindProxyConnection
	KindTE
	KindTrailer
	KindUpgrade
	KindExpect
	KindUserAgent
	KindClientID // sluice-client-id
	KindHandoff  // sluice-handoff
	KindOwned    // Another field whose name begins with sluice-.
	KindTraceParent
	KindTraceState
)

// ownedPrefix begins the names of fields that only the mesh may send.
const ownedPrefix = "sluice-"

// Kinds is a set of kinds.
type Kinds uint32

// Owned are all fields that only the mesh may send.
const Owned = Kinds(1<<KindClientID | 1<<KindHandoff | 1<<KindOwned)

// hop are the fields that belong to one connection, and those that are written from what was
// understood of them.
const hop = Kinds(1<<KindHost | 1<<KindContentLength | 1<<KindTransferEncoding | 1<<KindConnection |
	1<<KindKeepAlive | 1<<KindProxyConnection | 1<<KindTE | 1<<KindTrailer | 1<<KindUpgrade | 1<<KindExpect)

// Of returns the set of some kinds.
func Of(kinds ...Kind) Kinds {
	var set Kinds
	for _, kind := range kinds {
		set |= 1 << kind
	}
	return set
}

// Has says whether a kind is in the set.
func (k Kinds) Has(kind Kind) bool { return k.has(kind) }

func (k Kinds) has(kind Kind) bool { return k&(1<<kind) != 0 }

// KindOf is the kind of a field by its name, which is not empty.
func KindOf(name []byte) Kind { return kindOf(name) }

// MayTrail says whether a field, whose name is not empty, may come after content: whether no recipient
// would read the message, or what follows it, differently for it.
func MayTrail(name []byte) bool { return !hop.has(kindOf(name)) }

func kindOf(name []byte) Kind {
	if known, kind := candidate(name); known != "" && equalFold(name, known) {
		return kind
	}
	if hasPrefixFold(name, ownedPrefix) {
		return KindOwned
	}
	return KindOther
}

// candidate is the one known name that a name may be.
func candidate(name []byte) (string, Kind) {
	first := lower(name[0])
	switch len(name) {
	case 2:
		return "te", KindTE
	case 4:
		return "host", KindHost
	case 6:
		return "expect", KindExpect
	case 7:
		if first == 't' {
			return "trailer", KindTrailer
		}
		return "upgrade", KindUpgrade
	case 10:
		return candidateOf10(first)
	case 11:
		return "traceparent", KindTraceParent
	case 14:
		if first == 's' {
			return "sluice-handoff", KindHandoff
		}
		return "content-length", KindContentLength
	case 16:
		if first == 's' {
			return "sluice-client-id", KindClientID
		}
		return "proxy-connection", KindProxyConnection
	case 17:
		return "transfer-encoding", KindTransferEncoding
	}
	return "", KindOther
}

func candidateOf10(first byte) (string, Kind) {
	switch first {
	case 'c':
		return "connection", KindConnection
	case 'k':
		return "keep-alive", KindKeepAlive
	case 't':
		return "tracestate", KindTraceState
	}
	return "user-agent", KindUserAgent
}

// span is a part of a head: offsets from its first byte.
type span struct{ start, end uint32 }

func (s span) of(data []byte) []byte { return data[s.start:s.end] }

func (s span) empty() bool { return s.start == s.end }

// field is one field line.
type field struct {
	name, value span
	kind        Kind
	// dropped says that Connection names it, so that it goes no further.
	dropped bool
}

// splitField finds the name and the value of a field line, which begins at the given offset.
func splitField(line []byte, at uint32) (field, error) {
	colon := 0
	for colon < len(line) && isTokenByte(line[colon]) {
		colon++
	}
	if colon == len(line) || line[colon] != ':' {
		return field{}, badName(line[colon:])
	}
	if colon == 0 {
		return field{}, ErrFieldName
	}
	from, to := colon+1, len(line)
	for from < to && isBlank(line[from]) {
		from++
	}
	for to > from && isBlank(line[to-1]) {
		to--
	}
	return field{
		name:  span{at, at + uint32(colon)},
		value: span{at + uint32(from), at + uint32(to)},
		kind:  kindOf(line[:colon]),
	}, nil
}

// badName says what is wrong with a name that is followed by something else than a colon.
func badName(rest []byte) error {
	after := rest
	for len(after) > 0 && isBlank(after[0]) {
		after = after[1:]
	}
	if len(after) < len(rest) && len(after) > 0 && after[0] == ':' {
		return ErrFieldSpace
	}
	return ErrFieldName
}

// checkValue refuses what no field value may hold.
func checkValue(value []byte) error {
	control := false
	for _, b := range value {
		if b >= ' ' && b != 0x7f || b == '\t' {
			continue
		}
		if b == 0 || b == '\r' || b == '\n' {
			return ErrFieldValue
		}
		control = true
	}
	if control {
		return ErrFieldControl
	}
	return nil
}
