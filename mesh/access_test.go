// SPDX-License-Identifier: Apache-2.0

package mesh_test

import (
	"net/netip"
	"net/url"
	"path"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sluice-mesh/sluice/mesh"
)

const (
	frontend = "spiffe://cluster.local/ns/web/sa/frontend"
	batch    = "spiffe://cluster.local/ns/jobs/sa/batch"
	// lookalike begins as the namespace web does, but for the slash.
	lookalike = "spiffe://cluster.local/ns/web-evil/sa/frontend"
)

func TestJudge(t *testing.T) {
	byIdentity := mesh.AccessRule{Identities: []string{frontend}}
	byNamespace := mesh.AccessRule{Namespaces: []string{"spiffe://cluster.local/ns/web/sa/"}}
	byNetwork := mesh.AccessRule{Networks: []netip.Prefix{netip.MustParsePrefix("10.1.0.0/16"), netip.MustParsePrefix("fd00::/8")}}
	reading := mesh.AccessRule{Identities: []string{batch}, Routes: []mesh.AccessRoute{
		{Methods: []string{"GET", "HEAD"}, Path: mesh.NewValueMatch("", mesh.MatchPrefix, "/public")},
		{Path: mesh.NewValueMatch("", mesh.MatchExact, "/report")},
	}}
	onePort := mesh.AccessRule{Identities: []string{batch}, Ports: []uint16{9090}}
	enforced := func(rules ...mesh.AccessRule) mesh.AccessPolicy {
		return mesh.AccessPolicy{Name: "enforced", Mode: mesh.AccessEnforce, Rules: rules}
	}
	audited := func(rules ...mesh.AccessRule) mesh.AccessPolicy {
		return mesh.AccessPolicy{Name: "audited", Mode: mesh.AccessAudit, Rules: rules}
	}
	policies := func(list ...mesh.AccessPolicy) *mesh.Access {
		return &mesh.Access{Default: mesh.AccessAllow, Policies: list, Probes: []mesh.Probe{{Port: 8080, Method: "GET", Path: "/healthz"}}}
	}
	in := func(policy string) mesh.AccessVerdict { return mesh.AccessVerdict{Allowed: true, Policy: policy} }
	out := func(policy string) mesh.AccessVerdict { return mesh.AccessVerdict{Policy: policy} }
	byDefault := func(allowed bool) mesh.AccessVerdict {
		return mesh.AccessVerdict{Allowed: allowed, Reason: mesh.AccessByDefault}
	}
	get := mesh.Asked{Port: 8080, Method: "GET", Path: "/"}
	asked := func(method, path string) mesh.Asked { return mesh.Asked{Port: 8080, Method: method, Path: path} }
	bytes := mesh.Asked{Port: 8080}
	nobody := mesh.Caller{Address: netip.MustParseAddr("192.168.1.1")}
	for name, test := range map[string]struct {
		access *mesh.Access
		from   mesh.Caller
		asked  mesh.Asked
		want   mesh.AccessVerdict
	}{
		"nothing said":                         {nil, nobody, get, byDefault(true)},
		"allow":                                {&mesh.Access{Default: mesh.AccessAllow}, nobody, bytes, byDefault(true)},
		"meshed, by one who is":                {&mesh.Access{Default: mesh.AccessMeshed}, mesh.Caller{Identity: batch}, get, byDefault(true)},
		"meshed, by one who is not":            {&mesh.Access{Default: mesh.AccessMeshed}, nobody, get, byDefault(false)},
		"deny":                                 {&mesh.Access{Default: mesh.AccessDeny}, mesh.Caller{Identity: batch}, get, byDefault(false)},
		"a default that is not known":          {&mesh.Access{Default: "most"}, mesh.Caller{Identity: batch}, get, byDefault(false)},
		"no default":                           {&mesh.Access{}, mesh.Caller{Identity: batch}, get, byDefault(false)},
		"no rules":                             {policies(enforced()), mesh.Caller{Identity: frontend}, get, out("enforced")},
		"identity":                             {policies(enforced(byIdentity)), mesh.Caller{Identity: frontend}, get, in("enforced")},
		"identity, as bytes":                   {policies(enforced(byIdentity)), mesh.Caller{Identity: frontend}, bytes, in("enforced")},
		"another identity":                     {policies(enforced(byIdentity)), mesh.Caller{Identity: batch}, get, out("enforced")},
		"no identity":                          {policies(enforced(byIdentity)), nobody, get, out("enforced")},
		"namespace":                            {policies(enforced(byNamespace)), mesh.Caller{Identity: frontend}, get, in("enforced")},
		"a namespace that begins so":           {policies(enforced(byNamespace)), mesh.Caller{Identity: lookalike}, get, out("enforced")},
		"an empty namespace":                   {policies(enforced(mesh.AccessRule{Namespaces: []string{""}})), mesh.Caller{Identity: frontend}, get, out("enforced")},
		"network":                              {policies(enforced(byNetwork)), mesh.Caller{Address: netip.MustParseAddr("10.1.2.3")}, get, in("enforced")},
		"network of six":                       {policies(enforced(byNetwork)), mesh.Caller{Address: netip.MustParseAddr("fd12::1")}, bytes, in("enforced")},
		"network, with an identity":            {policies(enforced(byNetwork)), mesh.Caller{Identity: batch, Address: netip.MustParseAddr("10.1.2.3")}, get, in("enforced")},
		"another network":                      {policies(enforced(byNetwork)), nobody, get, out("enforced")},
		"a network that cannot be read":        {policies(enforced(mesh.AccessRule{Networks: []netip.Prefix{{}}})), nobody, get, out("enforced")},
		"an address that is not known":         {policies(enforced(mesh.AccessRule{Networks: []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0")}})), mesh.Caller{}, get, out("enforced")},
		"route":                                {policies(enforced(reading)), mesh.Caller{Identity: batch}, asked("GET", "/public/a"), in("enforced")},
		"exact route":                          {policies(enforced(reading)), mesh.Caller{Identity: batch}, asked("POST", "/report"), in("enforced")},
		"another method":                       {policies(enforced(reading)), mesh.Caller{Identity: batch}, asked("POST", "/public/a"), out("enforced")},
		"a method in small letters":            {policies(enforced(reading)), mesh.Caller{Identity: batch}, asked("get", "/public/a"), out("enforced")},
		"another path":                         {policies(enforced(reading)), mesh.Caller{Identity: batch}, asked("GET", "/publicity"), out("enforced")},
		"a path that leads out":                {policies(enforced(reading)), mesh.Caller{Identity: batch}, asked("GET", "/public/../admin"), out("enforced")},
		"a path that leads out escaped":        {policies(enforced(reading)), mesh.Caller{Identity: batch}, asked("GET", "/public/%2E./admin"), out("enforced")},
		"bytes where routes are named":         {policies(enforced(reading)), mesh.Caller{Identity: batch}, bytes, out("enforced")},
		"a kind of path that is not known":     {policies(enforced(mesh.AccessRule{Identities: []string{batch}, Routes: []mesh.AccessRoute{{Path: mesh.NewValueMatch("", "nothing", "/")}}})), mesh.Caller{Identity: batch}, get, out("enforced")},
		"port":                                 {policies(enforced(onePort)), mesh.Caller{Identity: batch}, mesh.Asked{Port: 9090}, in("enforced")},
		"another port":                         {policies(enforced(onePort)), mesh.Caller{Identity: batch}, get, out("enforced")},
		"a probe, whoever asks":                {policies(enforced()), nobody, asked("GET", "/healthz"), mesh.AccessVerdict{Allowed: true, Reason: mesh.AccessByProbe}},
		"a probe's path by another method":     {policies(enforced()), nobody, asked("POST", "/healthz"), out("enforced")},
		"a probe's path at another port":       {policies(enforced()), nobody, mesh.Asked{Port: 9090, Method: "GET", Path: "/healthz"}, out("enforced")},
		"policies add up":                      {policies(enforced(byIdentity), enforced(byNetwork)), mesh.Caller{Address: netip.MustParseAddr("10.1.2.3")}, get, in("enforced")},
		"a mode that is not known":             {policies(mesh.AccessPolicy{Name: "odd", Mode: "hope"}), nobody, get, out("odd")},
		"audit refuses nothing":                {policies(audited(byIdentity)), nobody, get, mesh.AccessVerdict{Allowed: true, Reason: mesh.AccessByDefault, Audited: "audited"}},
		"audit, let in":                        {policies(audited(byIdentity)), mesh.Caller{Identity: frontend}, get, byDefault(true)},
		"audit adds nobody":                    {policies(enforced(byIdentity), audited(byNetwork)), mesh.Caller{Address: netip.MustParseAddr("10.1.2.3")}, get, out("enforced")},
		"audit of what a policy lets in":       {policies(enforced(byIdentity), audited(byNetwork)), mesh.Caller{Identity: frontend}, get, mesh.AccessVerdict{Allowed: true, Policy: "enforced", Audited: "audited"}},
		"audit does not lift the default":      {&mesh.Access{Default: mesh.AccessDeny, Policies: []mesh.AccessPolicy{audited(byIdentity)}}, mesh.Caller{Identity: frontend}, get, byDefault(false)},
		"an enforced policy lifts the default": {&mesh.Access{Default: mesh.AccessDeny, Policies: []mesh.AccessPolicy{enforced(byIdentity)}}, mesh.Caller{Identity: frontend}, get, in("enforced")},
	} {
		t.Run(name, func(t *testing.T) { require.Equal(t, test.want, test.access.Judge(test.from, test.asked)) })
	}
}

func TestIsPlainPath(t *testing.T) {
	for _, plain := range []string{
		"/", "/a", "/a/", "/a//b", "/.well-known/x", "/a.b", "/...", "/a..b", "/a%20b", "/%C3%A9", "/a;v=1/b", "/a;../b", "/pkg.Service/Method",
	} {
		require.True(t, mesh.IsPlainPath(plain), plain)
	}
	for _, odd := range []string{
		"", "*", "a", "host:443", "/.", "/..", "/a/../b", "/a/./b", "/a/..", "/%2e%2e/b", "/a/.%2E/b", "/a/..;x=1/b", "/a/..;/b", "/a/.;/b",
		"/a%2fb", "/a%2Fb", "/a%5cb", `/a\b`, `/a/..\b`, "/a%252e", "/a%", "/a%4", "/a%zz", "/a%00", "/a%0a", "/a/..%20/b", "/a/.%20./b", "/a%c0%af../b",
	} {
		require.False(t, mesh.IsPlainPath(odd), odd)
	}
}

// FuzzPlainPath reads paths as servers do, in one way more than the last, none of which may lead out of where
// the path as it was sent is.
func FuzzPlainPath(f *testing.F) {
	for _, seed := range []string{"/public/a", "/public/../admin", "/public/%2e%2e/admin", "/public/..;/admin", "/public/%252e%252e/admin", `/public\..\admin`, "/public//a/;x"} {
		f.Add(seed)
	}
	parameters := regexp.MustCompile(`;[^/]*`)
	const prefix = "/public"
	public := mesh.NewValueMatch("", mesh.MatchPrefix, prefix)
	f.Fuzz(func(t *testing.T, sent string) {
		if !mesh.IsPlainPath(sent) || !public.HoldsPath(sent) {
			return
		}
		read := sent
		for range 3 {
			for _, seen := range []string{read, parameters.ReplaceAllString(read, ""), strings.ReplaceAll(read, `\`, "/")} {
				cleaned := path.Clean(seen)
				require.True(t, cleaned == prefix || strings.HasPrefix(cleaned, prefix+"/"), "%q is read as %q", sent, cleaned)
			}
			unescaped, err := url.PathUnescape(read)
			if err != nil {
				return
			}
			read = unescaped
		}
	})
}
