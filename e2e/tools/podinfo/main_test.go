// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
)

func TestApplicationAnswersAsThatVersion(t *testing.T) {
	application, err := newApplication(options{appVersion: "v7", message: "hello"}, "pod-1", zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(named("v7", "pod-1", faults{}.inject("pod-1", application)))
	defer server.Close()

	resp, err := http.Get(server.URL + "/")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var answer struct{ Version, Hostname, Message string }
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
		t.Fatal(err)
	}
	if answer.Version != "v7" || answer.Hostname != "pod-1" || answer.Message != "hello" || resp.Header.Get("X-App-Version") != "v7" {
		t.Fatalf("got %+v, %v", answer, resp.Header)
	}
	for _, path := range []string{"/healthz", "/readyz", "/metrics"} {
		probe, err := http.Get(server.URL + path)
		if err != nil {
			t.Fatal(err)
		}
		probe.Body.Close()
		if probe.StatusCode != http.StatusOK {
			t.Errorf("%s: %s", path, probe.Status)
		}
	}
	posted, err := http.Post(server.URL+"/echo", "text/plain", strings.NewReader("body"))
	if err != nil {
		t.Fatal(err)
	}
	defer posted.Body.Close()
	if body, _ := io.ReadAll(posted.Body); string(body) != "body" || posted.StatusCode != http.StatusAccepted {
		t.Fatalf("echo: %s %q", posted.Status, body)
	}
}

func TestFaultsComeAtASteadyShare(t *testing.T) {
	ok := http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})
	handler := faults{errorPercent: 20}.inject("pod-1", ok)
	errors := 0
	for range 5000 {
		recorder := httptest.NewRecorder()
		handler.ServeHTTP(recorder, httptest.NewRequest("GET", "/", nil))
		if recorder.Code == http.StatusInternalServerError {
			errors++
		}
	}
	if errors < 850 || errors > 1150 { // 5 standard deviations
		t.Fatalf("%d of 5000", errors)
	}
	for _, path := range []string{"/healthz", "/readyz", "/metrics"} {
		recorder := httptest.NewRecorder()
		faults{errorPercent: 100}.inject("pod-1", ok).ServeHTTP(recorder, httptest.NewRequest("GET", path, nil))
		if recorder.Code != http.StatusOK {
			t.Errorf("%s is not spared", path)
		}
	}
}

func TestOnePodIsToldToFail(t *testing.T) {
	handler := faults{}.inject("pod-1", http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	for _, step := range []struct {
		method, path string
		code         int
	}{
		{"GET", "/", http.StatusOK},
		{"PUT", "/faults?pod=pod-1&error-percent=much", http.StatusBadRequest},
		{"PUT", "/faults?pod=pod-2&error-percent=100", http.StatusMisdirectedRequest},
		{"GET", "/faults?pod=pod-1&error-percent=100", http.StatusBadRequest},
		{"GET", "/", http.StatusOK},
		{"PUT", "/faults?pod=pod-1&error-percent=100", http.StatusOK},
		{"GET", "/", http.StatusInternalServerError},
		{"PUT", "/faults?pod=pod-1&error-percent=0", http.StatusOK},
		{"GET", "/", http.StatusOK},
	} {
		recorder := httptest.NewRecorder()
		handler.ServeHTTP(recorder, httptest.NewRequest(step.method, step.path, nil))
		if recorder.Code != step.code {
			t.Fatalf("%s %s: %d", step.method, step.path, recorder.Code)
		}
	}
}

// TestShutdownRefusesNothingInTheGracePeriod: kept-alive connections are answered and then closed by
// agreement, new ones are accepted.
func TestShutdownRefusesNothingInTheGracePeriod(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		done <- serve(ctx, listener, 500*time.Millisecond, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprint(w, "ok")
		}), grpc.NewServer())
	}()
	ask := func(c net.Conn, reader *bufio.Reader) *http.Response {
		fmt.Fprint(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
		resp, err := http.ReadResponse(reader, nil)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		return resp
	}
	dial := func() (net.Conn, *bufio.Reader) {
		c, err := net.Dial("tcp", listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		return c, bufio.NewReader(c)
	}
	kept, keptReader := dial()
	if ask(kept, keptReader).Close {
		t.Fatal("closed before the shutdown")
	}
	stop()
	if !ask(kept, keptReader).Close {
		t.Fatal("a kept-alive connection is asked to close")
	}
	if fresh, reader := dial(); !ask(fresh, reader).Close {
		t.Fatal("a fresh connection is answered and closed")
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

// TestShutdownFinishesStreams: a gRPC stream lasts until its client ends it.
func TestShutdownFinishesStreams(t *testing.T) {
	calls := grpc.NewServer()
	grpc_health_v1.RegisterHealthServer(calls, health.NewServer())
	listen := func() net.Listener {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		return listener
	}
	called := listen()
	go func() { _ = calls.Serve(called) }()
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- serve(ctx, listen(), time.Millisecond, http.NotFoundHandler(), calls) }()

	channel, err := grpc.NewClient(called.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer channel.Close()
	streaming, end := context.WithCancel(context.Background())
	defer end()
	stream, err := grpc_health_v1.NewHealthClient(channel).Watch(streaming, &grpc_health_v1.HealthCheckRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); err != nil {
		t.Fatal(err)
	}
	stop()
	select {
	case err := <-done:
		t.Fatalf("ended with a stream open: %v", err)
	case <-time.After(200 * time.Millisecond):
	}
	end()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}
