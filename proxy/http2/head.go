// SPDX-License-Identifier: Apache-2.0

package http2

import (
	"net/http"
	"strconv"
	"strings"

	"golang.org/x/net/http2/hpack"

	"github.com/sluice-mesh/sluice/proxy/http1"
)

// Head is the head of a request or of an answer.
type Head struct {
	// Method, Scheme, Authority and Path are a request's. CONNECT has neither scheme nor path.
	Method, Scheme, Authority, Path string
	// Status is an answer's.
	Status int
	// Fields are the others, in their order, names in small letters.
	Fields []hpack.HeaderField
	// length is what Content-Length says, -1 when there is none.
	length int64
}

// Interim says that another head follows.
func (h *Head) Interim() bool { return h.Status/100 == 1 }

// Value returns the first value of a field, nothing when there is none. Its name is in small letters.
func (h *Head) Value(name string) string {
	for i := range h.Fields {
		if h.Fields[i].Name == name {
			return h.Fields[i].Value
		}
	}
	return ""
}

// Values returns all values of a field by its name in any case.
func (h *Head) Values(name string) []string {
	var values []string
	for i := range h.Fields {
		if strings.EqualFold(h.Fields[i].Name, name) {
			values = append(values, h.Fields[i].Value)
		}
	}
	return values
}

// block is a block of fields as it was read.
type block struct {
	pseudo [5]string // By index of pseudoName.
	seen   [5]bool
	fields []hpack.HeaderField
	// size counts as SETTINGS_MAX_HEADER_LIST_SIZE does.
	size int
	// wrong is the first thing that was wrong.
	wrong error
}

// Indices of pseudo-headers.
const (
	pseudoMethod = iota
	pseudoScheme
	pseudoAuthority
	pseudoPath
	pseudoStatus
)

func pseudoIndex(name string) int {
	switch name {
	case ":method":
		return pseudoMethod
	case ":scheme":
		return pseudoScheme
	case ":authority":
		return pseudoAuthority
	case ":path":
		return pseudoPath
	case ":status":
		return pseudoStatus
	}
	return -1
}

// add adds a field. It returns false when there is no need to look at more.
func (b *block) add(f hpack.HeaderField, limits Limits) bool {
	if b.size += len(f.Name) + len(f.Value) + 32; b.size > limits.MaxHead {
		b.wrong = ErrHeadLarge
		return false
	}
	if b.wrong != nil {
		return true
	}
	if strings.HasPrefix(f.Name, ":") {
		b.addPseudo(f)
		return true
	}
	if len(b.fields) == limits.MaxFields {
		b.wrong = ErrFieldsMany
		return false
	}
	f.Value = strings.Trim(f.Value, " \t")
	if err := checkField(f); err != nil {
		b.wrong = err
		return true
	}
	b.fields = append(b.fields, f)
	return true
}

func (b *block) addPseudo(f hpack.HeaderField) {
	index := pseudoIndex(f.Name)
	switch {
	case index < 0, len(b.fields) > 0, b.seen[index]:
		b.wrong = ErrPseudo
	case !validValue(f.Value):
		b.wrong = ErrFieldValue
	default:
		b.seen[index], b.pseudo[index] = true, f.Value
	}
}

// checkField refuses what RFC 9113 section 8.2 does, and what would mean something else to a
// recipient of HTTP/1.1.
func checkField(f hpack.HeaderField) error {
	if f.Name == "" {
		return ErrFieldName
	}
	for i := range len(f.Name) {
		if b := f.Name[i]; 'A' <= b && b <= 'Z' || !http1.IsTokenByte(b) {
			return ErrFieldName
		}
	}
	if !validValue(f.Value) {
		return ErrFieldValue
	}
	switch f.Name {
	case "connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade":
		return ErrConnection
	case "te":
		if !strings.EqualFold(f.Value, "trailers") {
			return ErrConnection
		}
	}
	return nil
}

func validValue(value string) bool {
	for i := range len(value) {
		if b := value[i]; b < ' ' && b != '\t' || b == 0x7f {
			return false
		}
	}
	return true
}

// request makes a block the head of a request.
func (b *block) request() (*Head, error) {
	if b.wrong != nil {
		return nil, b.wrong
	}
	h := &Head{
		Method: b.pseudo[pseudoMethod], Scheme: b.pseudo[pseudoScheme],
		Authority: b.pseudo[pseudoAuthority], Path: b.pseudo[pseudoPath],
		Fields: b.fields,
	}
	connect := h.Method == http.MethodConnect
	if b.seen[pseudoStatus] || b.seen[pseudoScheme] == connect || b.seen[pseudoPath] == connect {
		return nil, ErrPseudo
	}
	if !isToken(h.Method) {
		return nil, ErrMethod
	}
	if !connect {
		if !isScheme(h.Scheme) {
			return nil, ErrScheme
		}
		if !isPath(h.Path, h.Method) {
			return nil, ErrPath
		}
	}
	if err := h.readHost(b.seen[pseudoAuthority]); err != nil {
		return nil, err
	}
	return h, h.readLength()
}

// readHost takes the host out of the fields: :authority says it. An older client, or a gateway from
// HTTP/1.1, may say it with Host alone.
func (h *Head) readHost(named bool) error {
	hosts := 0
	kept := h.Fields[:0]
	for _, f := range h.Fields {
		if f.Name != "host" {
			kept = append(kept, f)
			continue
		}
		hosts++
		if named && !strings.EqualFold(f.Value, h.Authority) || hosts > 1 {
			return ErrHost
		}
		h.Authority = f.Value
	}
	h.Fields = kept
	if h.Authority == "" || !http1.IsHost([]byte(h.Authority)) {
		return ErrAuthority
	}
	if h.Method == http.MethodConnect && !strings.Contains(h.Authority, ":") {
		return ErrAuthority
	}
	return nil
}

// response makes a block the head of an answer.
func (b *block) response() (*Head, error) {
	if b.wrong != nil {
		return nil, b.wrong
	}
	for index := range pseudoStatus {
		if b.seen[index] {
			return nil, ErrPseudo
		}
	}
	text := b.pseudo[pseudoStatus]
	status, err := strconv.Atoi(text)
	if err != nil || len(text) != 3 || status < 100 || status == 101 {
		return nil, ErrStatus
	}
	h := &Head{Status: status, Fields: b.fields}
	return h, h.readLength()
}

// trailers makes a block the fields after content.
func (b *block) trailers() ([]hpack.HeaderField, error) {
	if b.wrong != nil {
		return nil, b.wrong
	}
	for _, seen := range b.seen {
		if seen {
			return nil, ErrPseudo
		}
	}
	for _, f := range b.fields {
		if !http1.MayTrail([]byte(f.Name)) {
			return nil, ErrTrailer // Some recipients would merge it with the head.
		}
	}
	return b.fields, nil
}

func (h *Head) readLength() error {
	h.length = -1
	for i := range h.Fields {
		if h.Fields[i].Name != "content-length" {
			continue
		}
		length, err := strconv.ParseUint(h.Fields[i].Value, 10, 63)
		if err != nil || h.length >= 0 || h.Fields[i].Value[0] == '+' {
			return ErrLength
		}
		h.length = int64(length)
	}
	return nil
}

func isToken(text string) bool {
	for i := range len(text) {
		if !http1.IsTokenByte(text[i]) {
			return false
		}
	}
	return text != ""
}

func isScheme(text string) bool {
	for i := range len(text) {
		b := text[i] | 0x20
		letter := 'a' <= b && b <= 'z'
		if !letter && (i == 0 || !strings.ContainsRune("0123456789+-.", rune(text[i]))) {
			return false
		}
	}
	return text != ""
}

// isPath says whether a path and its query may be sent on. A fragment is for clients alone; a
// recipient that cuts it off would see another path.
func isPath(path, method string) bool {
	if path == "*" {
		return method == "OPTIONS"
	}
	if path == "" || path[0] != '/' {
		return false
	}
	for i := range len(path) {
		if b := path[i]; b <= ' ' || b >= 0x7f || b == '#' {
			return false
		}
	}
	return true
}
