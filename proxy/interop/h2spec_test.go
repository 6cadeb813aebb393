// SPDX-License-Identifier: Apache-2.0

package interop_test

import (
	"encoding/xml"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sluice-mesh/sluice/proxy/proxytest"
)

// h2specExceptions are the cases that the proxy does not pass, each with the sentence of the RFC that
// allows what it does.
func h2specExceptions() map[string]string {
	const minimal = "RFC 9113 section 5.1: An endpoint can perform this minimal processing for all streams that are in the \"closed\" state."
	return map[string]string{
		// A connection that does not begin with the preface is not HTTP/2: where nothing is declared it
		// is carried as bytes, where HTTP is it gets 400 or 505.
		"http2/3.5 Sends invalid connection preface": "RFC 9113 section 3.4: A GOAWAY frame (Section 6.8) MAY be omitted in this case, since an invalid preface indicates that the peer is not using HTTP/2.",
		// The proxy does not remember which streams it has reset itself, so each gets RST_STREAM.
		"http2/5.1 closed: Sends a HEADERS frame": minimal,
		// Nor which were passed over; those are closed as well.
		"http2/5.1.1 Sends stream identifier that is numerically smaller than previous": minimal,
	}
}

// h2specReport is what h2spec writes.
type h2specReport struct {
	Suites []struct {
		Cases []struct {
			Package string    `xml:"package,attr"`
			Name    string    `xml:"classname,attr"`
			Failure *struct{} `xml:"failure"`
			Error   *struct{} `xml:"error"`
		} `xml:"testcase"`
	} `xml:"testsuite"`
}

// TestH2Spec runs h2spec against the inbound side of a proxy, in front of an application of net/http.
func TestH2Spec(t *testing.T) {
	program := os.Getenv("SLUICE_H2SPEC")
	if program == "" {
		t.Skip("make conformance-h2 runs it")
	}
	m := proxytest.New(t)
	pod := m.Start(proxytest.PodSpec{Name: "shop", Workload: "shop/shop", Hash: "s1"})
	pod.Serve(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		_, _ = io.WriteString(w, "some content that h2spec can ask for in pieces")
	}))
	address := forward(t, pod)
	file := filepath.Join(t.TempDir(), "h2spec.xml")
	// It fails when a case does, which the report tells better.
	output, _ := exec.CommandContext(t.Context(), program,
		"-h", "127.0.0.1", "-p", strconv.Itoa(address.Port), "-o", "5", "-j", file).CombinedOutput()
	text, err := os.ReadFile(file)
	require.NoError(t, err, string(output))
	var report h2specReport
	require.NoError(t, xml.Unmarshal(text, &report))
	failed, cases := map[string]bool{}, 0
	for _, suite := range report.Suites {
		for _, one := range suite.Cases {
			cases++
			if one.Failure != nil || one.Error != nil {
				failed[one.Package+" "+one.Name] = true
			}
		}
	}
	require.Greater(t, cases, 140, string(output))
	allowed := h2specExceptions()
	for name := range failed {
		require.Contains(t, allowed, name, string(output))
	}
	for name := range allowed {
		require.True(t, failed[name], "%s passes: it is no exception any more", name)
	}
	t.Logf("%d cases, %d exceptions", cases, len(failed))
}

// forward has a port lead to a pod as a caller without a proxy reaches it.
func forward(t *testing.T, pod *proxytest.Pod) *net.TCPAddr {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	var copies sync.WaitGroup
	t.Cleanup(copies.Wait)
	t.Cleanup(func() { _ = listener.Close() })
	copies.Go(func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			proxy, err := pod.DialOutside(t.Context())
			if err != nil {
				_ = client.Close()
				continue
			}
			join := func(to, from net.Conn) {
				_, _ = io.Copy(to, from)
				_ = to.Close()
				_ = from.Close()
			}
			copies.Go(func() { join(proxy, client) })
			copies.Go(func() { join(client, proxy) })
		}
	})
	return listener.Addr().(*net.TCPAddr)
}
