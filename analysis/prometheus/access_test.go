// SPDX-License-Identifier: Apache-2.0

package prometheus_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	signer "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluice-mesh/sluice/analysis/prometheus"
)

const emptyMatrix = `{"status":"success","data":{"resultType":"matrix","result":[]}}`

// accessed reads from a server as somebody.
func accessed(t *testing.T, address string, access prometheus.Access) error {
	t.Helper()
	source, err := prometheus.New(prometheus.Options{
		Address: address, Timeout: time.Minute,
		Access: func(context.Context) (prometheus.Access, error) { return access, nil },
	})
	require.NoError(t, err)
	t.Cleanup(source.Close)
	_, err = source.Rounds(t.Context(), query)
	return err
}

func TestAccessIsSent(t *testing.T) {
	var seen http.Header
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen = r.Header
		_, _ = w.Write([]byte(emptyMatrix))
	}))
	t.Cleanup(server.Close)
	require.NoError(t, accessed(t, server.URL, prometheus.Access{Token: "t0ken", Headers: map[string]string{"X-Scope-OrgID": "shop"}}))
	require.Equal(t, "Bearer t0ken", seen.Get("Authorization"))
	require.Equal(t, "shop", seen.Get("X-Scope-OrgID"))
	require.NoError(t, accessed(t, server.URL, prometheus.Access{Username: "me", Password: "pass"}))
	require.Equal(t, "Basic bWU6cGFzcw==", seen.Get("Authorization"))
	require.NoError(t, accessed(t, server.URL, prometheus.Access{}))
	require.Empty(t, seen.Get("Authorization"))
}

// A signature covers the query, the headers and the time. It is worked out again by what came.
func TestAccessBySignature(t *testing.T) {
	key := aws.Credentials{AccessKeyID: "AKID", SecretAccessKey: "s3cret", SessionToken: "session"}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		assert.NoError(t, err)
		assert.NotEmpty(t, body)
		signedAt, err := time.Parse("20060102T150405Z", r.Header.Get("X-Amz-Date"))
		assert.NoError(t, err)
		again, err := http.NewRequestWithContext(r.Context(), r.Method, "http://"+r.Host+r.URL.Path, bytes.NewReader(body))
		assert.NoError(t, err)
		for _, name := range []string{"Content-Type", "X-Scope-Orgid"} {
			again.Header.Set(name, r.Header.Get(name))
		}
		digest := sha256.Sum256(body)
		assert.NoError(t, signer.NewSigner().SignHTTP(r.Context(), key, again, hex.EncodeToString(digest[:]), "aps", "eu-central-1", signedAt))
		if r.Header.Get("Authorization") != again.Header.Get("Authorization") || r.Header.Get("X-Amz-Security-Token") != "session" {
			w.WriteHeader(http.StatusUnauthorized) // 403 would be asked again with GET
			return
		}
		_, _ = w.Write([]byte(emptyMatrix))
	}))
	t.Cleanup(server.Close)
	access := prometheus.Access{
		SigV4:   prometheus.SigV4{Region: "eu-central-1", AccessKeyID: "AKID", SecretAccessKey: "s3cret", SessionToken: "session"},
		Headers: map[string]string{"X-Scope-OrgID": "shop"},
	}
	require.NoError(t, accessed(t, server.URL, access))
	access.SigV4.SecretAccessKey = "another"
	require.ErrorIs(t, accessed(t, server.URL, access), prometheus.ErrUnavailable)
	access.SigV4.Region = ""
	require.ErrorContains(t, accessed(t, server.URL, access), "AWS signatures need a region")
}

func TestAccessByOAuth2(t *testing.T) {
	var asked atomic.Int64
	tokens := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		id, secret, _ := r.BasicAuth()
		if id != "sluice" || secret != "s3cret" || r.FormValue("grant_type") != "client_credentials" || r.FormValue("scope") != "read" {
			http.Error(w, `{"error":"invalid_client","error_description":"hidden"}`, http.StatusUnauthorized)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write([]byte(`{"access_token":"granted","token_type":"Bearer","expires_in":3600}`))
	}))
	t.Cleanup(tokens.Close)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer granted" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		_, _ = w.Write([]byte(emptyMatrix))
	}))
	t.Cleanup(server.Close)
	access := prometheus.Access{OAuth2: prometheus.OAuth2{TokenURL: tokens.URL, ClientID: "sluice", ClientSecret: "s3cret", Scopes: []string{"read"}}}
	require.NoError(t, accessed(t, server.URL, access))
	require.EqualValues(t, 1, asked.Load(), "the token is kept")
	access.OAuth2.ClientSecret = "wrong"
	err := accessed(t, server.URL, access)
	require.ErrorIs(t, err, prometheus.ErrUnavailable)
	require.ErrorContains(t, err, "the token server refused the client: 401")
	require.NotContains(t, err.Error(), "hidden")
}

// leaf is a self-signed certificate with its key, in PEM.
func leaf(t *testing.T) (certificate, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "sluice"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}, IsCA: true, BasicConstraintsValid: true,
	}
	raw, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	require.NoError(t, err)
	encoded, err := x509.MarshalPKCS8PrivateKey(private)
	require.NoError(t, err)
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: raw})), string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: encoded}))
}

// requireNoEntry: who shows no certificate to a server of TLS 1.3 is told by an alert, which a reset may
// overtake: he has sent his query by then.
func requireNoEntry(t *testing.T, err error) {
	t.Helper()
	require.ErrorIs(t, err, prometheus.ErrUnavailable)
	require.Regexp(t, "certificate required|connection reset by peer|broken pipe", err.Error())
}

func TestAccessByCertificate(t *testing.T) {
	certificate, key := leaf(t)
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(emptyMatrix)) }))
	pool := x509.NewCertPool()
	require.True(t, pool.AppendCertsFromPEM([]byte(certificate)))
	server.TLS = &tls.Config{ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: pool, MinVersion: tls.VersionTLS13}
	server.StartTLS()
	t.Cleanup(server.Close)
	trusted := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}))

	require.NoError(t, accessed(t, server.URL, prometheus.Access{CA: trusted, Certificate: certificate, Key: key}))
	requireNoEntry(t, accessed(t, server.URL, prometheus.Access{CA: trusted}))
	require.ErrorContains(t, accessed(t, server.URL, prometheus.Access{Certificate: certificate, Key: key}), "certificate signed by unknown authority")
}

// Renewed credentials are used without a restart, and what cannot be read is a hold.
func TestAccessIsReadAgain(t *testing.T) {
	var seen string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen = r.Header.Get("Authorization")
		_, _ = w.Write([]byte(emptyMatrix))
	}))
	t.Cleanup(server.Close)
	var access prometheus.Access
	var unreadable error
	source, err := prometheus.New(prometheus.Options{
		Address: server.URL, Access: func(context.Context) (prometheus.Access, error) { return access, unreadable },
	})
	require.NoError(t, err)
	t.Cleanup(source.Close)
	for _, token := range []string{"first", "second"} {
		access.Token = token
		_, err = source.Rounds(t.Context(), query)
		require.NoError(t, err)
		require.Equal(t, "Bearer "+token, seen)
	}
	unreadable = errors.New("no such secret")
	_, err = source.Rounds(t.Context(), query)
	require.ErrorIs(t, err, prometheus.ErrUnavailable)
}

func TestAccessProblems(t *testing.T) {
	certificate, key := leaf(t)
	_, otherKey := leaf(t)
	cases := map[string]prometheus.Access{
		"write one":                      {Token: "a", Username: "b"},
		"one is missing":                 {Certificate: certificate},
		"cannot be used together":        {Certificate: certificate, Key: otherKey},
		"holds no certificate in PEM":    {CA: key},
		"no header may hold":             {Token: "a\r\nHost: b"},
		`the header "X Y" is none`:       {Headers: map[string]string{"X Y": "a"}},
		`the header "X-Y" is none`:       {Headers: map[string]string{"X-Y": "a\nb"}},
		"authorization is not to be set": {Headers: map[string]string{"authorization": "a"}},
		"no http or https URL":           {OAuth2: prometheus.OAuth2{TokenURL: "ftp://tokens"}},
		"a client's ID and its secret":   {OAuth2: prometheus.OAuth2{TokenURL: "https://tokens"}},
		"must hold no credentials":       {OAuth2: prometheus.OAuth2{TokenURL: "https://a:b@tokens", ClientID: "c", ClientSecret: "d"}},
	}
	for want, access := range cases {
		require.ErrorContains(t, accessed(t, "http://127.0.0.1:1", access), want)
	}
}
