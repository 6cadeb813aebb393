// SPDX-License-Identifier: Apache-2.0

package load

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"
)

// sessions is a config of sessions only.
func sessions(url string) Config {
	config := Default(url)
	config.Rate, config.PostPercent, config.StreamPercent, config.SocketPercent = 50, 0, 0, 100
	return config
}

// socketServer accepts sessions and does with each message what it is told to.
func socketServer(t *testing.T, answer func(socket *websocket.Conn, r *http.Request, nth int, message string) error) string {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set(HeaderVersion, "v1")
		socket, err := websocket.Accept(w, r, nil)
		if err != nil {
			return
		}
		defer socket.CloseNow() // The client judges.
		for nth := 0; ; nth++ {
			_, message, err := socket.Read(r.Context())
			if err != nil || answer(socket, r, nth, string(message)) != nil {
				return
			}
		}
	}))
	t.Cleanup(server.Close)
	return server.URL
}

func say(socket *websocket.Conn, r *http.Request, what map[string]string) error {
	content, err := json.Marshal(what)
	if err != nil {
		return err
	}
	return socket.Write(r.Context(), websocket.MessageText, content)
}

func TestSessions(t *testing.T) {
	for name, test := range map[string]struct {
		answer func(*websocket.Conn, *http.Request, int, string) error
		class  Class
	}{
		"an echo, and more": {func(s *websocket.Conn, r *http.Request, _ int, message string) error {
			if err := say(s, r, map[string]string{"server": "pod"}); err != nil {
				return err
			}
			return say(s, r, map[string]string{"msg": message})
		}, ""},
		"another message": {func(s *websocket.Conn, r *http.Request, _ int, _ string) error {
			return say(s, r, map[string]string{"msg": "something else"})
		}, ClassCorrupt},
		"the connection ends": {func(s *websocket.Conn, r *http.Request, nth int, message string) error {
			if nth == 1 {
				return s.CloseNow()
			}
			return say(s, r, map[string]string{"msg": message})
		}, ClassTruncated},
		"a farewell before the end": {func(s *websocket.Conn, _ *http.Request, _ int, _ string) error {
			return s.Close(websocket.StatusGoingAway, "")
		}, ClassTruncated},
	} {
		t.Run(name, func(t *testing.T) {
			counts := drive(t, sessions(socketServer(t, test.answer)), 3)
			require.Equal(t, counts.Requests, counts.Versions["v1"].Requests)
			if test.class == "" {
				require.Zero(t, counts.Failed, counts.Samples)
				require.Zero(t, counts.P99, "sessions have no latency")
				return
			}
			require.Equal(t, map[Class]uint64{test.class: counts.Requests}, counts.Failures, counts.Samples)
		})
	}
}

func TestSessionThatIsRefused(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set(HeaderVersion, "v2")
		w.WriteHeader(http.StatusInternalServerError)
	}))
	defer server.Close()
	counts := drive(t, sessions(server.URL), 5)
	require.Equal(t, counts.Requests, counts.Versions["v2"].Failures[ClassStatus])
}

func TestStreams(t *testing.T) {
	end := false
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = w.Write([]byte("{"))
		_ = http.NewResponseController(w).Flush()
		wait := time.NewTimer(20 * time.Millisecond)
		defer wait.Stop()
		select {
		case <-wait.C:
		case <-r.Context().Done():
		}
		if end {
			panic(http.ErrAbortHandler)
		}
		_, _ = w.Write([]byte("}"))
	}))
	defer server.Close()
	config := Default(server.URL)
	config.PostPercent, config.SocketPercent, config.StreamPercent = 0, 0, 100
	counts := drive(t, config, 5)
	require.Zero(t, counts.Failed, counts.Samples)
	require.Zero(t, counts.P99, "streams have no latency")
	end = true
	counts = drive(t, config, 5)
	require.Equal(t, map[Class]uint64{ClassTruncated: counts.Requests}, counts.Failures)
}
