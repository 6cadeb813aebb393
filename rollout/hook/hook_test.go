// SPDX-License-Identifier: Apache-2.0

package hook_test

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"
	clocktesting "k8s.io/utils/clock/testing"

	"github.com/sluice-mesh/sluice/rollout/hook"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func noon() time.Time { return time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC) }

// local allows the loopback, where the tests' servers are.
func local() *hook.Sender {
	return &hook.Sender{Now: noon, Rules: hook.Rules{Allowed: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}}
}

func request(url string) hook.Request {
	return hook.Request{URL: url, Body: []byte(`{"name":"app"}`), Key: "k1", Timeout: 5 * time.Second, HMAC: []byte("secret")}
}

func TestSendSigns(t *testing.T) {
	var body, signature, key string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		raw, _ := io.ReadAll(r.Body)
		body, signature, key = string(raw), r.Header.Get("sluice-signature"), r.Header.Get("idempotency-key")
		w.WriteHeader(http.StatusAccepted)
		fmt.Fprint(w, strings.Repeat("x", 1<<20))
	}))
	defer server.Close()
	code, err := local().Send(t.Context(), request(server.URL))
	require.NoError(t, err)
	require.Equal(t, http.StatusAccepted, code)
	mac := hmac.New(sha256.New, []byte("secret"))
	fmt.Fprintf(mac, "%d.%s", noon().Unix(), body)
	require.Equal(t, fmt.Sprintf("t=%d,v1=%s", noon().Unix(), hex.EncodeToString(mac.Sum(nil))), signature)
	require.Equal(t, "k1", key)
}

func TestSendTrustsTheSecretsAuthorityOnly(t *testing.T) {
	server := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer server.Close()
	asked := request(server.URL)
	_, err := local().Send(t.Context(), asked)
	require.ErrorContains(t, err, "certificate")
	asked.CA = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	code, err := local().Send(t.Context(), asked)
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, code)
	asked.CA = []byte("nonsense")
	_, err = local().Send(t.Context(), asked)
	require.ErrorContains(t, err, "holds no certificate")
}

// A redirect is an answer like any other: it must not lead to where the address itself may not.
func TestSendFollowsNoRedirect(t *testing.T) {
	hits := 0
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		hits++
		http.Redirect(w, r, "/elsewhere", http.StatusTemporaryRedirect)
	}))
	defer server.Close()
	code, err := local().Send(t.Context(), request(server.URL))
	require.NoError(t, err)
	require.Equal(t, http.StatusTemporaryRedirect, code)
	require.Equal(t, 1, hits)
}

func TestSendSaysLittle(t *testing.T) {
	blocked := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-blocked }))
	defer server.Close()
	defer close(blocked)
	slow := request(server.URL + "/?token=hidden")
	slow.Timeout = 50 * time.Millisecond
	_, err := local().Send(t.Context(), slow)
	require.EqualError(t, err, "no answer in time")
	_, err = local().Send(t.Context(), request("http://127.0.0.1:1/?token=hidden"))
	require.Error(t, err)
	require.NotContains(t, err.Error(), "hidden")
}

// What answers other than HTTP is not shown to who may only write a Canary.
func TestSendShowsNothingOfTheAnswer(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer listener.Close()
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			fmt.Fprint(conn, "-ERR secret banner\r\n\r\n")
			conn.Close()
		}
	}()
	for _, scheme := range []string{"http://", "https://"} {
		_, err := local().Send(t.Context(), request(scheme+listener.Addr().String()))
		require.Error(t, err)
		require.NotContains(t, err.Error(), "secret")
	}
	_, err = local().Send(t.Context(), request("http://hidden.invalid/"))
	require.EqualError(t, err, "the name of the host was not resolved")
}

// Tenants must not reach the controller's own host, credentials of the cloud or the API server through
// it (design review, finding 31), whatever name or form of address they write.
func TestAddressesThatAreRefused(t *testing.T) {
	sender := &hook.Sender{Now: noon, Rules: hook.Rules{Refused: []netip.Addr{netip.MustParseAddr("10.96.0.1")}}}
	for address, why := range map[string]string{
		"http://127.0.0.1:1/":               "loopback",
		"http://localhost:1/":               "loopback",
		"http://[::1]:1/":                   "loopback",
		"http://[::ffff:127.0.0.1]:1/":      "loopback",
		"http://[64:ff9b::7f00:1]:1/":       "loopback",
		"http://169.254.169.254/latest":     "link-local",
		"http://[fe80::1]:1/":               "link-local",
		"http://[fd00:ec2::254]/":           "metadata",
		"http://100.100.100.200/latest":     "metadata",
		"http://0.0.0.0:1/":                 "not an address",
		"http://0.1.2.3:1/":                 "not an address",
		"http://224.0.0.1:1/":               "link-local",
		"http://239.1.2.3:1/":               "multicast",
		"https://10.96.0.1/api":             "the API server",
		"https://[::ffff:10.96.0.1]/api":    "the API server",
		"ftp://example.com/":                "http:// or https://",
		"http://user:password@example.com/": "without a user",
		"/only/a/path":                      "http:// or https://",
		"http://%zz/":                       "http:// or https://",
	} {
		_, err := sender.Send(t.Context(), request(address))
		var refused *hook.RefusedError
		require.ErrorAs(t, err, &refused, address)
		require.Contains(t, err.Error(), why, address)
		require.NotContains(t, err.Error(), "password", address)
	}
}

// script answers with one status after the other, the last for ever.
type script struct {
	lock  sync.Mutex
	codes []int
	keys  []string
}

func (s *script) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.lock.Lock()
	defer s.lock.Unlock()
	s.keys = append(s.keys, r.Header.Get(hook.HeaderIdempotency))
	code := s.codes[0]
	if len(s.codes) > 1 {
		s.codes = s.codes[1:]
	}
	w.WriteHeader(code)
}

func start(t *testing.T, ticking clock.WithTicker, codes ...int) (*hook.Runner, *script, string) {
	t.Helper()
	answers := &script{codes: codes}
	server := httptest.NewServer(answers)
	runner := hook.NewRunner(local(), ticking)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- runner.Start(ctx) }()
	t.Cleanup(func() {
		cancel()
		require.NoError(t, <-ended)
		server.Close()
	})
	return runner, answers, server.URL
}

func call(url, key string) hook.Call {
	asked := request(url)
	asked.Key = key
	return hook.Call{Request: asked, Owner: owner(), Run: "app-1"}
}

func owner() types.NamespacedName { return types.NamespacedName{Namespace: "shop", Name: "app"} }

func answered(t *testing.T, runner *hook.Runner, key string) hook.Answer {
	t.Helper()
	var answer hook.Answer
	require.Eventually(t, func() bool {
		answer = runner.Answers(owner(), "app-1")[key]
		return !answer.Pending && !answer.At.IsZero()
	}, 30*time.Second, 5*time.Millisecond)
	return answer
}

func TestRunnerKeepsAnswers(t *testing.T) {
	runner, answers, url := start(t, clock.RealClock{}, 503, 200)
	require.NoError(t, runner.Ask(call(url, "q"), 1))
	first := answered(t, runner, "q")
	require.Equal(t, 503, first.Code)
	require.False(t, first.Good())
	require.NoError(t, runner.Ask(call(url, "q"), 2))
	second := answered(t, runner, "q")
	require.True(t, second.Good())
	require.Equal(t, int32(2), second.Attempt)
	require.Equal(t, []string{"q", "q"}, answers.keys, "the key tells the receiver that it is the same question")
	require.Empty(t, runner.Answers(types.NamespacedName{Name: "other"}, "app-1"))
	require.Empty(t, runner.Answers(owner(), "app-2"), "another run forgets")
	require.Empty(t, runner.Answers(owner(), "app-1"))
}

func TestRunnerAsksOnceWhileOneIsOnItsWay(t *testing.T) {
	runner := hook.NewRunner(local(), clock.RealClock{})
	for range 3 {
		require.NoError(t, runner.Ask(call("http://127.0.0.1:1", "q"), 1))
	}
	require.True(t, runner.Answers(owner(), "app-1")["q"].Pending)
	runner.Refuse(call("", "secret"), "the Secret cannot be read")
	require.True(t, runner.Answers(owner(), "app-1")["secret"].Refused)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.NoError(t, runner.Start(ctx))
}

func TestRunnerTellsUntilItIsTaken(t *testing.T) {
	fake := clocktesting.NewFakeClock(noon())
	runner, answers, url := start(t, fake, 500, 500, 200)
	told := call(url, "t")
	told.Retries = 2
	done := make(chan error, 1)
	told.Done = func(err error) { done <- err }
	require.NoError(t, runner.Tell(told))
	var failed error
	require.Eventually(t, func() bool {
		fake.Step(time.Second)
		select {
		case failed = <-done:
			return true
		default:
			return false
		}
	}, 30*time.Second, 5*time.Millisecond)
	require.NoError(t, failed)
	require.Len(t, answers.keys, 3)
	require.Empty(t, runner.Answers(owner(), "app-1"), "nobody waits for it")
}

func TestRunnerGivesUp(t *testing.T) {
	runner, _, url := start(t, clock.RealClock{}, 404)
	told := call(url, "t")
	done := make(chan error, 1)
	told.Done = func(err error) { done <- err }
	require.NoError(t, runner.Tell(told))
	require.EqualError(t, <-done, "the answer was 404")
}

// One namespace's receivers that never answer hold up nobody else's.
func TestRunnerIsFair(t *testing.T) {
	blocked := make(chan struct{})
	slow := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-blocked }))
	defer slow.Close()
	defer close(blocked)
	runner, _, url := start(t, clock.RealClock{}, 200)
	full := error(nil)
	for i := 0; full == nil; i++ {
		stuck := call(slow.URL, fmt.Sprintf("stuck-%d", i))
		stuck.Owner.Namespace, stuck.Timeout = "greedy", 5*time.Minute
		full = runner.Ask(stuck, 1)
		require.Less(t, i, 10_000)
	}
	require.ErrorIs(t, full, hook.ErrFull)
	require.NoError(t, runner.Ask(call(url, "q"), 1))
	require.True(t, answered(t, runner, "q").Good())
}

// What was forgotten makes room again, and an answer that comes too late is nobody's.
func TestRunnerForgets(t *testing.T) {
	runner := hook.NewRunner(local(), clock.RealClock{})
	fill := func() (asked int) {
		for runner.Ask(call("http://127.0.0.1:1", fmt.Sprintf("q-%d", asked)), 1) == nil {
			asked++
		}
		return asked
	}
	first := fill()
	require.Positive(t, first)
	runner.Forget(owner())
	require.Empty(t, runner.Answers(owner(), "app-1"))
	require.Equal(t, first, fill())
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.NoError(t, runner.Start(ctx))
}

func TestBackoff(t *testing.T) {
	require.Equal(t, time.Second, hook.Backoff(1))
	require.Equal(t, 4*time.Second, hook.Backoff(3))
	require.Equal(t, time.Minute, hook.Backoff(100))
}
