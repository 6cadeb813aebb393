// SPDX-License-Identifier: Apache-2.0

//go:build linux && netns

package redirect_test

import (
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/sluice-mesh/sluice/mesh"
	"github.com/sluice-mesh/sluice/mesh/redirect"
)

// Addresses of the pod's namespace and of the outside, one veth pair between them.
const (
	podIPv4, outsideIPv4 = "198.18.0.2", "198.18.0.1"
	podIPv6, outsideIPv6 = "fd53:6c75::2", "fd53:6c75::1"
	dialTimeout          = 2 * time.Second
)

// namespace is a network namespace and the thread that lives in it.
type namespace struct {
	name string
	work chan func()
}

func newNamespace(t *testing.T, name string) *namespace {
	t.Helper()
	n := &namespace{name: fmt.Sprintf("sluice-%s-%d", name, os.Getpid()), work: make(chan func())}
	command(t, "ip", "netns", "add", n.name)
	t.Cleanup(func() { command(t, "ip", "netns", "del", n.name) })
	entered := make(chan error)
	go func() {
		// Never unlocked: the thread is not fit for anything else and ends with the goroutine.
		runtime.LockOSThread()
		handle, err := os.Open("/run/netns/" + n.name)
		if err == nil {
			err = unix.Setns(int(handle.Fd()), unix.CLONE_NEWNET)
			_ = handle.Close()
		}
		entered <- err
		for work := range n.work {
			work()
		}
	}()
	require.NoError(t, <-entered)
	t.Cleanup(func() { close(n.work) })
	return n
}

// do runs work on the namespace's thread.
func (n *namespace) do(work func()) {
	done := make(chan struct{})
	n.work <- func() { defer close(done); work() }
	<-done
}

func (n *namespace) command(t *testing.T, words ...string) string {
	t.Helper()
	return command(t, append([]string{"ip", "netns", "exec", n.name}, words...)...)
}

func command(t *testing.T, words ...string) string {
	t.Helper()
	output, err := exec.Command(words[0], words[1:]...).CombinedOutput()
	require.NoError(t, err, "%s: %s", strings.Join(words, " "), output)
	return string(output)
}

// serve answers every connection with name and the port that the caller dialled.
func (n *namespace) serve(t *testing.T, name string, port uint16) {
	t.Helper()
	network := "tcp"
	if _, err := os.Stat("/proc/net/if_inet6"); err != nil {
		network = "tcp4"
	}
	var listener net.Listener
	var err error
	n.do(func() { listener, err = net.Listen(network, fmt.Sprintf(":%d", port)) })
	require.NoError(t, err)
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			connection, err := listener.Accept()
			if err != nil {
				return
			}
			_, _ = io.WriteString(connection, name)
			_ = connection.Close()
		}
	}()
}

func ask(address string) (string, error) {
	connection, err := net.DialTimeout("tcp", address, dialTimeout)
	if err != nil {
		return "", err
	}
	defer func() { _ = connection.Close() }()
	if err := connection.SetDeadline(time.Now().Add(dialTimeout)); err != nil {
		return "", err
	}
	answer, err := io.ReadAll(connection)
	return string(answer), err
}

// ask dials from the namespace as the given user and returns who answered. The kernel's rule sees
// the file-system user of the thread that made the socket, which is a property of one thread.
func (n *namespace) ask(t *testing.T, uid int, address string) string {
	t.Helper()
	var answer string
	var err error
	n.do(func() {
		previous, _ := unix.SetfsuidRetUid(uid)
		defer func() { _, _ = unix.SetfsuidRetUid(previous) }()
		answer, err = ask(address)
	})
	require.NoError(t, err)
	return answer
}

// pair makes a pod's namespace and one outside, joined, with servers on both sides.
func pair(t *testing.T, ipv6 bool) (pod, outside *namespace) {
	t.Helper()
	pod, outside = newNamespace(t, "pod"), newNamespace(t, "out")
	command(t, "ip", "link", "add", "eth0", "netns", pod.name, "type", "veth", "peer", "name", "eth0", "netns", outside.name)
	for n, addresses := range map[*namespace][]string{pod: {podIPv4 + "/24", podIPv6 + "/64"}, outside: {outsideIPv4 + "/24", outsideIPv6 + "/64"}} {
		if !ipv6 {
			n.command(t, "sysctl", "-qw", "net.ipv6.conf.all.disable_ipv6=1", "net.ipv6.conf.default.disable_ipv6=1", "net.ipv6.conf.lo.disable_ipv6=1")
		}
		n.command(t, "ip", "link", "set", "lo", "up")
		n.command(t, "ip", "link", "set", "eth0", "up")
		n.command(t, "ip", "addr", "add", addresses[0], "dev", "eth0")
		if ipv6 {
			n.command(t, "ip", "addr", "add", addresses[1], "dev", "eth0", "nodad")
		}
	}
	pod.serve(t, "outbound", mesh.PortOutbound)
	pod.serve(t, "inbound", mesh.PortInbound)
	pod.serve(t, "admin", mesh.PortAdmin)
	pod.serve(t, "application", 8080)
	pod.serve(t, "skipped", 9050)
	outside.serve(t, "other", 80)
	outside.serve(t, "database", 5432)
	return pod, outside
}

func (n *namespace) apply(t *testing.T, config redirect.Config) []string {
	t.Helper()
	var families []string
	var err error
	n.do(func() { families, err = redirect.Apply(config) })
	require.NoError(t, err)
	return families
}

func TestNetnsRedirect(t *testing.T) {
	for _, ipv6 := range []bool{true, false} {
		t.Run(fmt.Sprintf("ipv6=%t", ipv6), func(t *testing.T) {
			pod, outside := pair(t, ipv6)
			require.Equal(t, "application", outside.ask(t, 0, podIPv4+":8080"), "before there are rules")
			pod.apply(t, cases(t)["skip"])
			families := map[string][2]string{"4": {podIPv4, outsideIPv4}}
			if ipv6 {
				families["6"] = [2]string{"[" + podIPv6 + "]", "[" + outsideIPv6 + "]"}
			}
			for family, addresses := range families {
				podIP, outsideIP := addresses[0], addresses[1]
				for _, test := range []struct {
					name    string
					from    *namespace
					uid     int
					address string
					want    string
				}{
					{"to the application", outside, 0, podIP + ":8080", "inbound"},
					{"to a port where nothing listens", outside, 0, podIP + ":8081", "inbound"},
					{"to the proxy's admin port", outside, 0, podIP + ":4191", "admin"},
					{"to a skipped port", outside, 0, podIP + ":9050", "skipped"},
					{"from the application", pod, 1000, outsideIP + ":80", "outbound"},
					{"from root in the pod", pod, 0, outsideIP + ":80", "outbound"},
					{"to an address that leads nowhere", pod, 1000, outsideIP + ":81", "outbound"},
					{"to a skipped port of others", pod, 1000, outsideIP + ":5432", "database"},
					{"from the proxy", pod, mesh.ProxyUID, outsideIP + ":80", "other"},
					{"from the pod to itself", pod, 1000, podIP + ":8080", "application"},
					{"from the proxy to the application", pod, mesh.ProxyUID, podIP + ":8080", "application"},
				} {
					t.Run(test.name+" over IPv"+family, func(t *testing.T) {
						require.Equal(t, test.want, test.from.ask(t, test.uid, test.address))
					})
				}
			}
			require.Equal(t, "application", pod.ask(t, 1000, "127.0.0.1:8080"))
		})
	}
}

func TestNetnsApplyReplaces(t *testing.T) {
	if _, err := exec.LookPath("nft"); err != nil {
		t.Skip("the program nft is not installed")
	}
	pod := newNamespace(t, "replace")
	// Rules of others in the namespace must survive.
	pod.command(t, "nft", "add", "table", "inet", "theirs")
	for _, name := range []string{"skip", "skip", "other", "default", "skip"} {
		config := cases(t)[name]
		require.Equal(t, []string{"inet"}, pod.apply(t, config))
		require.Equal(t, redirect.Text("inet", redirect.Rules(config)),
			pod.command(t, "nft", "list", "table", "inet", redirect.TableName))
	}
	require.Contains(t, pod.command(t, "nft", "list", "tables"), "theirs")
}

// TestNetnsApplyIsAtomic re-applies the rules again and again while connections
// come in: none may slip past the proxy between two sets of rules.
func TestNetnsApplyIsAtomic(t *testing.T) {
	pod, outside := pair(t, false)
	pod.apply(t, redirect.DefaultConfig())
	const rounds = 200
	finished := make(chan error, 1)
	go pod.do(func() {
		for range rounds {
			if _, err := redirect.Apply(redirect.DefaultConfig()); err != nil {
				finished <- err
				return
			}
		}
		finished <- nil
	})
	for {
		var answer string
		var err error
		outside.do(func() { answer, err = ask(podIPv4 + ":8080") })
		require.NoError(t, err)
		require.Equal(t, "inbound", answer)
		select {
		case err := <-finished:
			require.NoError(t, err)
			return
		default:
		}
	}
}
