// SPDX-License-Identifier: Apache-2.0

package tracing

import (
	"encoding/hex"
	"math/rand/v2"

	"github.com/sluice-mesh/sluice/proxy/accesslog"
)

// sampledFlag of a traceparent says that its sender has recorded a span.
const sampledFlag = 1

// Context is the place of a span in a trace.
type Context struct {
	Trace [16]byte
	// Span is the span's own ID, Parent that of the one before; zero for the first of a trace.
	Span, Parent [8]byte
	// Fresh says that the trace was begun here.
	Fresh bool
}

// parent is what a traceparent says.
type parent struct {
	trace [16]byte
	span  [8]byte
	flags byte
}

// parse reads a traceparent strictly. What a later version adds behind the flags is not read.
func parse(traceparent string) (parsed parent, ok bool) {
	id := accesslog.TraceID(traceparent)
	if id == "" {
		return parent{}, false
	}
	var flags [1]byte
	_, _ = hex.Decode(parsed.trace[:], []byte(id))                // That it is hexadecimal has been looked at.
	_, _ = hex.Decode(parsed.span[:], []byte(traceparent[36:52])) // As above.
	_, _ = hex.Decode(flags[:], []byte(traceparent[53:55]))       // As above.
	parsed.flags = flags[0]
	return parsed, true
}

// Begin decides whether a request is traced, by its parent's flag or else by the ratio. Values are those of the
// request's traceparent: more than one is none.
func Begin(values []string, ratio float64, draw func() float64) (Context, bool) {
	if len(values) == 1 {
		if from, ok := parse(values[0]); ok {
			return Context{Trace: from.trace, Span: newSpan(), Parent: from.span}, from.flags&sampledFlag != 0
		}
	}
	if ratio == 0 || draw() >= ratio {
		return Context{}, false
	}
	return Context{Trace: newTrace(), Span: newSpan(), Fresh: true}, true
}

// Traceparent is what the next hop is told.
func (c *Context) Traceparent() string {
	text := make([]byte, 0, 55)
	text = append(text, "00-"...)
	text = hex.AppendEncode(text, c.Trace[:])
	text = append(text, '-')
	text = hex.AppendEncode(text, c.Span[:])
	return string(append(text, "-01"...))
}

// TraceID is the trace's ID as text.
func (c *Context) TraceID() string { return hex.EncodeToString(c.Trace[:]) }

// newTrace and newSpan are never zero, which stands for none.
func newTrace() (id [16]byte) {
	for id == [16]byte{} {
		fill(id[:8])
		fill(id[8:])
	}
	return id
}

func newSpan() (id [8]byte) {
	for id == [8]byte{} {
		fill(id[:])
	}
	return id
}

// fill draws eight bytes. IDs need not be secret.
func fill(id []byte) {
	drawn := rand.Uint64() //nolint:gosec // As above.
	for i := range 8 {
		id[i] = byte(drawn >> (8 * i))
	}
}
