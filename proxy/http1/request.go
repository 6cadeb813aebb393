// SPDX-License-Identifier: Apache-2.0

package http1

import "bytes"

// Request is the head of a request. It points into its reader's buffer and is valid until the next
// message is read. A Request may be used again and again.
type Request struct {
	head
	method, target span
	// authority is the host that the target names, if it names one.
	authority span
	// upgrade says that the client offers to go on with another protocol.
	upgrade bool
	// expects says that the client waits for 100 before it sends its content.
	expects bool
}

// Method is the method.
func (r *Request) Method() []byte { return r.method.of(r.data) }

// Target is the target as it came.
func (r *Request) Target() []byte { return r.target.of(r.data) }

// Host is the host, with its port if it has one; empty when the request names none.
func (r *Request) Host() []byte {
	if !r.authority.empty() {
		return r.authority.of(r.data)
	}
	return r.host.of(r.data)
}

// IsMethod says whether the request has a method.
func (r *Request) IsMethod(method string) bool { return string(r.Method()) == method }

// Version1 says that the client speaks HTTP/1.1 and not 1.0.
func (r *Request) Version1() bool { return r.minor == 1 }

// KeepsAlive says that the client will use its connection again.
func (r *Request) KeepsAlive() bool { return r.persists() }

// Upgrades says that the client offers to go on with another protocol, and that the offer is sent
// on. An offer of h2c is not: it would lead past whatever looks at requests.
func (r *Request) Upgrades() bool { return r.upgrade }

// ExpectsContinue says that the client waits for 100 before it sends its content.
func (r *Request) ExpectsContinue() bool { return r.expects }

// TakesTrailers says that the client wants the fields that come after content.
func (r *Request) TakesTrailers() bool { return r.trailers }

// Asked is what the request says about its response.
func (r *Request) Asked() Asked {
	return Asked{Head: r.IsMethod("HEAD"), Connect: r.IsMethod("CONNECT"), Upgrade: r.upgrade}
}

// ReadRequest reads the head of the next request. It returns a bare io.EOF when the connection has
// ended after the message before. The content of that must have been read.
func (r *Reader) ReadRequest(request *Request) error {
	if err := r.begin(&request.head); err != nil {
		return err
	}
	request.method, request.target, request.authority = span{}, span{}, span{}
	request.upgrade, request.expects = false, false
	if first := r.buffer[r.next]; !isTokenByte(first) && first != ' ' && first != '\r' && first != '\n' {
		// No end of a line has to be waited for: whoever speaks TLS here never sends one.
		return ErrMethod
	}
	line, err := r.headLine(0, ErrTargetLong)
	if err == nil && line.empty() {
		// One empty line may come first: old clients end content with it.
		r.message = r.next
		line, err = r.headLine(0, ErrTargetLong)
	}
	if err != nil {
		return err
	}
	if err := request.readLine(r.buffer[r.message:r.next], line, r.rules); err != nil {
		return err
	}
	if err := r.fieldLines(&request.head); err != nil {
		return err
	}
	if err := request.finish(r.rules); err != nil {
		return err
	}
	r.content.begin(&request.head)
	return nil
}

// readLine reads the request line.
func (r *Request) readLine(data []byte, line span, rules Rules) error {
	text := line.of(data)
	first := bytes.IndexByte(text, ' ')
	last := bytes.LastIndexByte(text, ' ')
	if first <= 0 || last <= first+1 {
		return ErrRequestLine
	}
	if err := r.readVersion(text[last+1:]); err != nil {
		return err
	}
	if !isToken(text[:first]) {
		return ErrMethod
	}
	if bytes.IndexByte(text[first+1:last], ' ') >= 0 {
		return ErrRequestLine
	}
	r.method = span{line.start, line.start + uint32(first)}
	r.target = span{line.start + uint32(first) + 1, line.start + uint32(last)}
	return r.readTarget(data, rules)
}

// readTarget checks that the target has a form that fits its method.
func (r *Request) readTarget(data []byte, rules Rules) error {
	target := r.target.of(data)
	if err := r.allow(checkTarget(target), rules); err != nil {
		return err
	}
	method := string(r.method.of(data))
	switch {
	case method == "CONNECT":
		r.authority = r.target
		if host, port, ok := splitHost(target); !ok || len(host) == 0 || len(port) == 0 {
			return ErrTarget
		}
	case target[0] == '/':
	case len(target) == 1 && target[0] == '*' && method == "OPTIONS":
	default:
		from, to, ok := authorityOf(target)
		if !ok {
			return ErrTarget
		}
		r.authority = span{r.target.start + uint32(from), r.target.start + uint32(to)}
	}
	return nil
}

// CheckLine refuses a method and a target that may not stand in a request line, with the error that
// reading them would end with.
func CheckLine(method, target string) error {
	if !isToken([]byte(method)) {
		return ErrMethod
	}
	if target == "" {
		return ErrTarget
	}
	var r Request
	data := []byte(method + target)
	r.data = data
	r.method, r.target = span{0, uint32(len(method))}, span{uint32(len(method)), uint32(len(data))}
	return r.readTarget(data, Rules{})
}

// checkTarget refuses bytes that no target may hold. A fragment is for clients alone; a recipient
// that cuts it off would see another path.
func checkTarget(target []byte) error {
	encode, query := false, false
	for i, b := range target {
		switch {
		case b <= ' ' || b == 0x7f || b == '#':
			return ErrTarget
		case b == '?':
			query = true
		case b >= 0x80, b == '%' && !query && !isEscape(target[i:]):
			encode = true
		}
	}
	if encode {
		return ErrTargetByte
	}
	return nil
}

func isEscape(text []byte) bool {
	if len(text) < 3 {
		return false
	}
	_, high := hexadecimal(text[1])
	_, low := hexadecimal(text[2])
	return high && low
}

// finish checks what can be said when all fields are known.
func (r *Request) finish(rules Rules) error {
	if err := r.readHost(rules); err != nil {
		return err
	}
	if err := r.readFraming(); err != nil {
		return err
	}
	if err := r.readConnection(); err != nil {
		return err
	}
	connect := r.IsMethod("CONNECT")
	if r.framing != NoContent && (connect || r.IsMethod("TRACE")) {
		return ErrContent
	}
	r.upgrade = r.upgrades && r.minor == 1 && r.framing == NoContent && !connect && r.offersUpgrade()
	return r.readExpect(rules)
}

func (r *Request) readHost(rules Rules) error {
	switch {
	case r.hosts > 1:
		return ErrHostTwice
	case r.hosts == 0 && r.minor == 1:
		return r.allow(ErrHostMissing, rules)
	case r.hosts == 0:
		return nil
	}
	host := r.host.of(r.data)
	if _, _, ok := splitHost(host); !ok {
		return ErrHost
	}
	if !r.authority.empty() && !sameHost(host, r.authority.of(r.data), r.target.of(r.data)) {
		return ErrHostMismatch
	}
	return nil
}

// offersUpgrade says whether the Upgrade fields may be sent on.
func (r *Request) offersUpgrade() bool {
	offers := false
	for i := range r.fields {
		if r.fields[i].kind != KindUpgrade {
			continue
		}
		value := r.fields[i].value.of(r.data)
		for len(value) > 0 {
			var protocol []byte
			protocol, value = nextElement(value)
			if equalFold(protocol, "h2c") {
				return false
			}
			offers = offers || len(protocol) > 0
		}
	}
	return offers
}

func (r *Request) readExpect(rules Rules) error {
	for i := range r.fields {
		if r.fields[i].kind != KindExpect {
			continue
		}
		if !equalFold(r.fields[i].value.of(r.data), "100-continue") {
			if err := r.allow(ErrExpect, rules); err != nil {
				return err
			}
			continue
		}
		// HTTP/1.0 knows no 100, and without content there is nothing to wait with.
		r.expects = r.minor == 1 && (r.framing == ByChunks || r.contentLength > 0)
	}
	return nil
}
