// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/pprof"
	"time"
)

// newAdmin returns the server of the admin port. Readiness, liveness and metrics are for everyone;
// what tells of the cluster or costs processor time is for those in the pod.
func (p *Proxy) newAdmin() *http.Server {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /ready", p.serveReady)
	mux.HandleFunc("GET /live", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("live\n")) })
	mux.HandleFunc("GET /metrics", p.serveMetrics)
	mux.Handle("GET /config_dump", loopbackOnly(p.serveConfig))
	mux.Handle("GET /connections", loopbackOnly(p.serveConnections))
	mux.Handle("GET /tap", loopbackOnly(p.serveTap))
	mux.Handle("GET /loglevel", loopbackOnly(p.serveLogLevel))
	mux.Handle("PUT /loglevel", loopbackOnly(p.setLogLevel))
	mux.Handle("/debug/pprof/", loopbackOnly(pprof.Index))
	mux.Handle("/debug/pprof/profile", loopbackOnly(pprof.Profile))
	mux.Handle("/debug/pprof/trace", loopbackOnly(pprof.Trace))
	mux.Handle("/debug/pprof/symbol", loopbackOnly(pprof.Symbol))
	return &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute, ErrorLog: quietLog(p.log)}
}

// serveReady says whether the pod can take part in the mesh: it has a certificate and knows what its
// own pod is. It stays ready from then on: neither a control plane that goes away nor draining makes
// it unable to carry traffic.
func (p *Proxy) serveReady(w http.ResponseWriter, _ *http.Request) {
	if _, err := p.options.Certificates.Certificate(); err != nil && p.options.Discovery != nil {
		http.Error(w, "no certificate yet: "+err.Error(), http.StatusServiceUnavailable)
		return
	}
	select {
	case <-p.config.inboundKnown:
		_, _ = w.Write([]byte("ready\n"))
	default:
		http.Error(w, "no configuration from the control plane yet", http.StatusServiceUnavailable)
	}
}

func (p *Proxy) serveMetrics(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
	_, _ = w.Write(p.metrics.exposition()) // Whoever scraped has gone if it fails.
}

// configDump is the snapshot with what is not in it.
type configDump struct {
	// Stale says that the control plane is away.
	Stale    bool `json:"stale"`
	Open     any  `json:"open"`
	Snapshot any  `json:"snapshot"`
}

func (p *Proxy) serveConfig(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	snapshot := p.config.Snapshot()
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	_ = encoder.Encode(configDump{ // Whoever asked has gone if it fails.
		Stale:    p.options.Discovery != nil && !p.config.isConnected(),
		Open:     p.counts.open(snapshot),
		Snapshot: snapshot,
	})
}

func (p *Proxy) serveLogLevel(w http.ResponseWriter, _ *http.Request) {
	_, _ = fmt.Fprintln(w, p.options.LogLevel.Level()) // Whoever asked has gone if it fails.
}

// setLogLevel takes the level as the content of the request. It holds until the proxy ends.
func (p *Proxy) setLogLevel(w http.ResponseWriter, r *http.Request) {
	text, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 64))
	if err == nil {
		err = p.options.LogLevel.UnmarshalText(bytes.TrimSpace(text))
	}
	if err != nil {
		http.Error(w, "want debug, info, warn or error: "+err.Error(), http.StatusBadRequest)
		return
	}
	p.serveLogLevel(w, r)
}

func loopbackOnly(handler http.HandlerFunc) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host, _, err := net.SplitHostPort(r.RemoteAddr)
		if err != nil || !net.ParseIP(host).IsLoopback() {
			http.Error(w, "only from inside the pod, for example with kubectl port-forward", http.StatusForbidden)
			return
		}
		handler(w, r)
	})
}
