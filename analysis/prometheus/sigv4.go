// SPDX-License-Identifier: Apache-2.0

package prometheus

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	signer "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
)

// managedPrometheus is how AWS calls the service that is asked.
const managedPrometheus = "aps"

// SigV4 is a key of AWS that signs each request (Signature Version 4), for Amazon's managed Prometheus.
type SigV4 struct {
	Region, AccessKeyID, SecretAccessKey string
	// SessionToken goes along with a key that was lent for a time.
	SessionToken string
}

func (s SigV4) validate() error {
	if s != (SigV4{}) && (s.Region == "" || s.AccessKeyID == "" || s.SecretAccessKey == "") {
		return errors.New("AWS signatures need a region, an access key's ID and its secret")
	}
	return nil
}

// sign a request as it is: what is added to it later is not signed.
func (s SigV4) sign(request *http.Request, now time.Time) error {
	digest := sha256.New()
	if request.GetBody != nil {
		body, err := request.GetBody()
		if err != nil {
			return fmt.Errorf("read the request to sign it: %w", err)
		}
		if _, err := io.Copy(digest, body); err != nil {
			return fmt.Errorf("read the request to sign it: %w", err)
		}
	}
	// A header without a value tells net/http something and is not sent, so it must not be signed.
	sent := request.Clone(request.Context())
	maps.DeleteFunc(sent.Header, func(_ string, values []string) bool { return len(values) == 0 })
	key := aws.Credentials{AccessKeyID: s.AccessKeyID, SecretAccessKey: s.SecretAccessKey, SessionToken: s.SessionToken}
	err := signer.NewSigner().SignHTTP(request.Context(), key, sent, hex.EncodeToString(digest.Sum(nil)), managedPrometheus, s.Region, now)
	if err != nil {
		return fmt.Errorf("sign the request: %w", err)
	}
	maps.Copy(request.Header, sent.Header)
	return nil
}
