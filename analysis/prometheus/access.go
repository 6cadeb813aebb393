// SPDX-License-Identifier: Apache-2.0

package prometheus

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/textproto"
	"net/url"
	"slices"
	"time"

	"golang.org/x/net/http/httpguts"
	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"
)

// Access is what a server wants to know of who asks. Everything is optional.
type Access struct {
	// Token is sent as a bearer token.
	Token string
	// Username and Password are sent as basic authorization.
	Username, Password string
	// OAuth2 gets the bearer token from a token server.
	OAuth2 OAuth2
	// SigV4 signs requests with a key of AWS.
	SigV4 SigV4
	// Headers are sent along, such as X-Scope-OrgID, by which Thanos, Mimir and others tell tenants apart.
	Headers map[string]string
	// CA, in PEM, is trusted alone; without it the system's are.
	CA string
	// Certificate and Key, in PEM, are shown to servers that ask for them.
	Certificate, Key string
}

// OAuth2 is the client credentials grant of RFC 6749, section 4.4.
type OAuth2 struct {
	TokenURL, ClientID, ClientSecret string
	Scopes                           []string
}

// reserved headers are part of the protocol or have a field of their own.
func reserved(name string) bool {
	return slices.Contains([]string{
		"Authorization", "Connection", "Content-Encoding", "Content-Length", "Content-Type", "Host", "Te", "Trailer", "Transfer-Encoding", "Upgrade",
	}, textproto.CanonicalMIMEHeaderKey(name))
}

// Validate says what is wrong, and never shows a secret.
func (a Access) Validate() error {
	ways := 0
	for _, used := range []bool{a.Token != "", a.Username != "" || a.Password != "", a.OAuth2.TokenURL != "", a.SigV4 != (SigV4{})} {
		if used {
			ways++
		}
	}
	switch {
	case ways > 1:
		return errors.New("more than one of a token, a user, OAuth2 and a key of AWS: write one")
	case (a.Certificate == "") != (a.Key == ""):
		return errors.New("a client certificate and its key go together: one is missing")
	case !httpguts.ValidHeaderFieldValue(a.Token):
		return errors.New("the token holds characters that no header may hold")
	}
	for _, name := range slices.Sorted(maps.Keys(a.Headers)) {
		switch {
		case !httpguts.ValidHeaderFieldName(name) || !httpguts.ValidHeaderFieldValue(a.Headers[name]):
			return fmt.Errorf("the header %q is none that HTTP allows", name)
		case reserved(name):
			return fmt.Errorf("the header %s is not to be set by hand", name)
		}
	}
	if server := a.OAuth2.TokenURL; server != "" {
		if err := checkURL(server); err != nil {
			return fmt.Errorf("the token server's address: %w", err)
		}
		if a.OAuth2.ClientID == "" || a.OAuth2.ClientSecret == "" {
			return errors.New("OAuth2 needs a client's ID and its secret")
		}
	}
	return a.SigV4.validate()
}

// tls is the configuration of connections.
func (a Access) tls() (*tls.Config, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if a.CA != "" {
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM([]byte(a.CA)) {
			return nil, errors.New("the CA holds no certificate in PEM")
		}
	}
	if a.Certificate != "" {
		pair, err := tls.X509KeyPair([]byte(a.Certificate), []byte(a.Key))
		if err != nil {
			return nil, errors.New("the client certificate and its key cannot be used together")
		}
		config.Certificates = []tls.Certificate{pair}
	}
	return config, nil
}

// authorize makes requests carry what the Access holds.
func (a Access) authorize(base http.RoundTripper) http.RoundTripper {
	if a.OAuth2.TokenURL != "" {
		config := clientcredentials.Config{
			ClientID: a.OAuth2.ClientID, ClientSecret: a.OAuth2.ClientSecret, TokenURL: a.OAuth2.TokenURL, Scopes: a.OAuth2.Scopes,
		}
		ctx := context.WithValue(context.Background(), oauth2.HTTPClient, &http.Client{
			Transport: base, CheckRedirect: noRedirect, Timeout: defaultTimeout,
		})
		base = &oauth2.Transport{Source: config.TokenSource(ctx), Base: base}
	}
	return headersTransport{base, a}
}

// headersTransport adds the headers and the authorization that need no token server.
type headersTransport struct {
	base   http.RoundTripper
	access Access
}

// RoundTrip leaves errors as they are, as http.Client needs them.
func (t headersTransport) RoundTrip(request *http.Request) (*http.Response, error) {
	request = request.Clone(request.Context())
	for name, value := range t.access.Headers {
		request.Header.Set(name, value)
	}
	switch {
	case t.access.Token != "":
		request.Header.Set("Authorization", "Bearer "+t.access.Token)
	case t.access.Username != "" || t.access.Password != "":
		request.SetBasicAuth(t.access.Username, t.access.Password)
	case t.access.SigV4 != (SigV4{}):
		if err := t.access.SigV4.sign(request, time.Now()); err != nil {
			return nil, err
		}
	}
	return t.base.RoundTrip(request)
}

// checkURL says what is wrong with a base URL.
func checkURL(text string) error {
	address, err := url.Parse(text)
	if err != nil || (address.Scheme != "http" && address.Scheme != "https") || address.Host == "" {
		return fmt.Errorf("%q is no http or https URL with a host", text)
	}
	if address.User != nil || address.RawQuery != "" || address.Fragment != "" {
		return fmt.Errorf("the URL with host %s must hold no credentials, query or fragment", address.Host)
	}
	return nil
}
