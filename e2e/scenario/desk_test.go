// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package scenario

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// desk is a service of the users': webhooks ask it and notifiers tell it. It takes what is signed.
type desk struct {
	key     string
	address string

	mutex sync.Mutex
	heard []heard
	// agrees to what it is asked.
	agrees bool
}

// heard is a request that was signed.
type heard struct {
	Path string `json:"-"`
	Key  string `json:"-"` // of idempotency
	// Of webhooks.
	Type, Outcome string
	// Of notifiers.
	Canary, Reason string
	// Of both.
	Run string
}

// openDesk opens one that agrees to nothing yet. It is closed when the test ends.
func openDesk(t *testing.T, address, key string) *desk {
	t.Helper()
	listener, err := net.Listen("tcp", address+":0")
	require.NoError(t, err)
	d := &desk{key: key, address: listener.Addr().String()}
	server := httptest.NewUnstartedServer(d)
	require.NoError(t, server.Listener.Close())
	server.Listener = listener
	server.Start()
	t.Cleanup(server.Close)
	return d
}

func (d *desk) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(io.LimitReader(r.Body, 1<<20))
	if err != nil || !d.isSigned(r.Header.Get("sluice-signature"), body) {
		http.Error(w, "not signed", http.StatusUnauthorized)
		return
	}
	said := heard{Path: r.URL.Path, Key: r.Header.Get("idempotency-key")}
	if err := json.Unmarshal(body, &said); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	d.mutex.Lock()
	defer d.mutex.Unlock()
	d.heard = append(d.heard, said)
	if said.Type == "confirm-rollout" && !d.agrees {
		http.Error(w, "not yet", http.StatusConflict)
	}
}

// isSigned follows docs/webhooks.md and nothing else, as a user's service would.
func (d *desk) isSigned(signature string, body []byte) bool {
	at, sum, found := strings.Cut(signature, ",v1=")
	at, timed := strings.CutPrefix(at, "t=")
	if !found || !timed {
		return false
	}
	wanted := hmac.New(sha256.New, []byte(d.key))
	wanted.Write([]byte(at + "." + string(body)))
	got, err := hex.DecodeString(sum)
	return err == nil && hmac.Equal(got, wanted.Sum(nil))
}

func (d *desk) agree() {
	d.mutex.Lock()
	defer d.mutex.Unlock()
	d.agrees = true
}

// has returns what was heard of which something holds, in order.
func (d *desk) has(holds func(heard) bool) []heard {
	d.mutex.Lock()
	defer d.mutex.Unlock()
	var found []heard
	for _, one := range d.heard {
		if holds(one) {
			found = append(found, one)
		}
	}
	return found
}
