// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/sluice-mesh/sluice/analysis/prometheus"
)

// prometheusOptions say where metrics are read and as whom.
type prometheusOptions struct {
	address     string
	credentials string
	headers     map[string]string
	tokenURL    string
	scopes      []string
}

func (o *prometheusOptions) bind(flags *pflag.FlagSet, address string) {
	flags.StringVar(&o.address, "prometheus-address", address, "where the gates' metrics are read")
	flags.StringVar(&o.credentials, "prometheus-credentials", "", "directory, such as that of a mounted Secret, with any of the files token, username, password, ca.crt, tls.crt, tls.key, client-id, client-secret, aws-region, aws-access-key-id, aws-secret-access-key and aws-session-token; they are read again before each request")
	flags.StringToStringVar(&o.headers, "prometheus-header", nil, "header that is sent to Prometheus, such as X-Scope-OrgID=shop; may be repeated")
	flags.StringVar(&o.tokenURL, "prometheus-token-url", "", "token server of OAuth2 client credentials, which are in the credentials' client-id and client-secret")
	flags.StringSliceVar(&o.scopes, "prometheus-token-scopes", nil, "scopes to ask of that token server")
}

// options for a source. Credentials that cannot be used are an error now.
func (o *prometheusOptions) options(ctx context.Context) (prometheus.Options, error) {
	options := prometheus.Options{Address: o.address, Access: o.access}
	access, err := o.access(ctx)
	if err == nil {
		err = access.Validate()
	}
	if err != nil {
		return options, fmt.Errorf("access to Prometheus: %w", err)
	}
	return options, nil
}

// open makes the source. Limits that are 0 are the source's own.
func (o *prometheusOptions) open(ctx context.Context, timeout time.Duration, maximumBytes int64) (*prometheus.Source, error) {
	options, err := o.options(ctx)
	if err != nil {
		return nil, err
	}
	options.Timeout, options.MaximumBytes = timeout, maximumBytes
	source, err := prometheus.New(options)
	if err != nil {
		return nil, err
	}
	return source, nil
}

// access is what the files hold now.
func (o *prometheusOptions) access(context.Context) (prometheus.Access, error) {
	access := prometheus.Access{Headers: o.headers, OAuth2: prometheus.OAuth2{TokenURL: o.tokenURL, Scopes: o.scopes}}
	if o.credentials == "" {
		return access, nil
	}
	if _, err := os.Stat(o.credentials); err != nil {
		return access, fmt.Errorf("look for the credentials' directory: %w", err)
	}
	for name, into := range map[string]*string{
		"token": &access.Token, "username": &access.Username, "password": &access.Password,
		"ca.crt": &access.CA, "tls.crt": &access.Certificate, "tls.key": &access.Key,
		"client-id": &access.OAuth2.ClientID, "client-secret": &access.OAuth2.ClientSecret,
		"aws-region": &access.SigV4.Region, "aws-access-key-id": &access.SigV4.AccessKeyID,
		"aws-secret-access-key": &access.SigV4.SecretAccessKey, "aws-session-token": &access.SigV4.SessionToken,
	} {
		content, err := os.ReadFile(filepath.Join(o.credentials, name))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return access, fmt.Errorf("read a file of the credentials' directory: %w", err)
		}
		*into = strings.TrimSpace(string(content))
	}
	return access, nil
}
