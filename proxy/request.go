// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"net/url"
	"strings"

	"github.com/sluice-mesh/sluice/mesh"
	"github.com/sluice-mesh/sluice/proxy/http1"
)

// requestView is what the choice of a revision may look at in a request. That of a connection that is
// no HTTP is empty: it has no header.
type requestView struct {
	method string
	// path and query as they were sent, the query without its question mark.
	path, query string
	header      headerValues
}

// headerValues finds all values of a header, whose name may be in any case.
type headerValues interface {
	Values(name string) []string
}

// viewOf is a request with its method and target as the choice of a revision sees it.
func viewOf(request *http1.Request, method, target string) requestView {
	if _, rest, found := strings.Cut(target, "://"); found && target[0] != '/' {
		// A proxy's form, with a scheme and a host.
		target = ""
		if at := strings.IndexAny(rest, "/?"); at >= 0 {
			target = rest[at:]
		}
	}
	view := requestView{method: method, header: request}
	view.path, view.query, _ = strings.Cut(target, "?")
	return view
}

// matches says whether a split's matches mean a request.
func (r requestView) matches(list []mesh.RequestMatch) bool {
	if r.header == nil {
		return false
	}
	for i := range list {
		if r.matchesAll(&list[i]) {
			return true
		}
	}
	return false
}

func (r requestView) matchesAll(match *mesh.RequestMatch) bool {
	return (match.Method == "" || match.Method == r.method) && match.Path.HoldsPath(r.path) &&
		all(match.Headers, r.eachHeader) && all(match.Cookies, r.eachCookie) && all(match.QueryParams, r.eachParameter)
}

// each calls a function with the values of one name until it returns true.
type each func(name string, yes func(value string) bool)

func all(matches []mesh.ValueMatch, values each) bool {
	for i := range matches {
		match, there, holds := &matches[i], false, false
		values(match.Name, func(value string) bool {
			there = true
			holds = holds || match.Holds(value)
			return holds
		})
		if match.Kind == mesh.MatchAbsent {
			holds = !there
		}
		if !holds {
			return false
		}
	}
	return true
}

func (r requestView) eachHeader(name string, yes func(string) bool) {
	for _, value := range r.header.Values(name) {
		if yes(value) {
			return
		}
	}
}

func (r requestView) eachCookie(name string, yes func(string) bool) {
	for _, line := range r.header.Values("Cookie") {
		for pair := range strings.SplitSeq(line, ";") {
			key, value, found := strings.Cut(strings.TrimSpace(pair), "=")
			if found && key == name && yes(strings.Trim(value, `"`)) {
				return
			}
		}
	}
}

func (r requestView) eachParameter(name string, yes func(string) bool) {
	for pair := range strings.SplitSeq(r.query, "&") {
		key, value, _ := strings.Cut(pair, "=")
		if pair != "" && unescaped(key) == name && yes(unescaped(value)) {
			return
		}
	}
}

// unescaped is a part of a query; one that is not well formed is taken as it is.
func unescaped(text string) string {
	if !strings.ContainsAny(text, "%+") {
		return text
	}
	plain, err := url.QueryUnescape(text)
	if err != nil {
		return text
	}
	return plain
}

// firstHeader and firstCookie are empty when there is none.
func (r requestView) firstHeader(name string) string {
	return first(r.eachHeader, name)
}

func (r requestView) firstCookie(name string) string {
	return first(r.eachCookie, name)
}

func first(values each, name string) (found string) {
	values(name, func(value string) bool {
		found = value
		return true
	})
	return found
}
