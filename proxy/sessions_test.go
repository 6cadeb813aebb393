// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/sluice-mesh/sluice/mesh"
	"github.com/sluice-mesh/sluice/mesh/identity/identitytest"
)

// someone is a workload whose certificate and anchors a test replaces.
type someone struct {
	certificate *tls.Certificate
	anchors     []*x509.Certificate
}

func (s *someone) Certificate() (*tls.Certificate, error) { return s.certificate, nil }

func (s *someone) Bundle() (*x509.CertPool, error) {
	pool := x509.NewCertPool()
	for _, anchor := range s.anchors {
		pool.AddCert(anchor)
	}
	return pool, nil
}

// meeting is a caller and a callee that handshake again and again.
type meeting struct {
	authority      *identitytest.CA
	caller, callee *someone
	// to is where the caller believes to go.
	to     linkKey
	now    time.Time
	client *upstreams
	server *tls.Config
}

func newMeeting(t testing.TB) *meeting {
	authority := identitytest.New(t)
	m := &meeting{authority: authority, now: time.Now()}
	of := func(account string) *someone {
		return &someone{authority.Source(t, "shop", account).TLS, []*x509.Certificate{authority.Root}}
	}
	m.caller, m.callee = of("caller"), of("callee")
	m.to = linkKey{"10.0.0.1:80", authority.ID("shop", "callee").String()}
	m.client = New(Options{Certificates: m.caller, Bundles: m.caller, Now: m.clock}).upstreams
	m.restartCallee()
	return m
}

func (m *meeting) clock() time.Time { return m.now }

func (m *meeting) restartCallee() {
	callee := New(Options{Certificates: m.callee, Bundles: m.callee, Now: m.clock, ID: m.authority.ID("shop", "callee")})
	m.server = callee.serverTLS
}

// rotate gives everybody another authority.
func (m *meeting) rotate(t *testing.T) {
	old := m.authority.Root
	m.authority = identitytest.New(t)
	for account, who := range map[string]*someone{"caller": m.caller, "callee": m.callee} {
		who.certificate = m.authority.Source(t, "shop", account).TLS
		who.anchors = []*x509.Certificate{m.authority.Root}
	}
	require.NotEqual(t, old.Raw, m.authority.Root.Raw)
}

// meet makes a handshake, passes a byte each way, by which a ticket comes along, and returns what each
// side says.
func (m *meeting) meet(t testing.TB) (resumed bool, clientErr, serverErr error) {
	near, far := wire(t)
	type met struct {
		client string
		err    error
	}
	done := make(chan met, 1)
	go func() {
		conn, client, _, err := acceptMesh(context.Background(), far, m.server)
		if err == nil {
			_, err = io.CopyN(conn, conn, 1)
		}
		_ = far.Close()
		done <- met{client, err}
	}()
	conn, clientErr := m.client.dialMesh(context.Background(), near, m.to, []string{mesh.ALPNHTTP1})
	if clientErr == nil {
		resumed = conn.(*tls.Conn).ConnectionState().DidResume
		if _, clientErr = conn.Write([]byte("x")); clientErr == nil {
			_, clientErr = io.ReadFull(conn, make([]byte, 1))
		}
	}
	_ = near.Close()
	other := <-done
	if other.err == nil {
		require.Equal(t, m.authority.ID("shop", "caller").String(), other.client, "a resumed session has the same peer")
	}
	return resumed, clientErr, other.err
}

// wire returns both ends of a connection.
func wire(t testing.TB) (near, far net.Conn) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer listener.Close()
	near, err = net.Dial("tcp", listener.Addr().String())
	require.NoError(t, err)
	far, err = listener.Accept()
	require.NoError(t, err)
	return near, far
}

func TestSessionsAreResumed(t *testing.T) {
	m := newMeeting(t)
	for i := range 4 {
		resumed, clientErr, serverErr := m.meet(t)
		require.NoError(t, clientErr)
		require.NoError(t, serverErr)
		require.Equal(t, i > 0, resumed)
	}
}

// TestSessionsEndWithWhatWasProved: whatever a session was made under changes, the next handshake is a
// whole one, and decides as one that had no session to offer.
func TestSessionsEndWithWhatWasProved(t *testing.T) {
	expiring := func(who func(*meeting) *someone, account string) func(*testing.T, *meeting) {
		return func(t *testing.T, m *meeting) {
			leaf := identitytest.Leaf(m.authority.ID("shop", account))
			leaf.NotAfter = time.Now().Add(time.Minute)
			who(m).certificate = m.authority.Sign(t, leaf)
		}
	}
	caller := func(m *meeting) *someone { return m.caller }
	callee := func(m *meeting) *someone { return m.callee }
	nothing := func(*testing.T, *meeting) {}
	for name, test := range map[string]struct {
		before, between func(*testing.T, *meeting)
		refused         bool
	}{
		"the caller's certificate is renewed": {nothing, func(t *testing.T, m *meeting) {
			m.caller.certificate = m.authority.Source(t, "shop", "caller").TLS
		}, false},
		"the authority is another": {nothing, func(t *testing.T, m *meeting) { m.rotate(t) }, false},
		"the authority is another for the caller alone": {nothing, func(t *testing.T, m *meeting) {
			m.caller.anchors = []*x509.Certificate{identitytest.New(t).Root}
		}, true},
		"the authority is another for the callee alone": {nothing, func(t *testing.T, m *meeting) {
			m.callee.anchors = []*x509.Certificate{identitytest.New(t).Root}
		}, true},
		"an anchor is added": {nothing, func(t *testing.T, m *meeting) {
			m.callee.anchors = append(m.callee.anchors, identitytest.New(t).Root)
		}, false},
		"somebody else is demanded": {nothing, func(_ *testing.T, m *meeting) {
			m.to.identity = m.authority.ID("shop", "cart").String()
		}, true},
		"the address is another":      {nothing, func(_ *testing.T, m *meeting) { m.to.address = "10.0.0.2:80" }, false},
		"the callee has started anew": {nothing, func(_ *testing.T, m *meeting) { m.restartCallee() }, false},
		"the callee's was about to expire": {expiring(callee, "callee"), func(t *testing.T, m *meeting) {
			m.now = m.now.Add(2 * time.Minute)
			m.callee.certificate = m.authority.Source(t, "shop", "callee").TLS
		}, false},
		"the caller's was about to expire": {expiring(caller, "caller"), func(_ *testing.T, m *meeting) {
			m.now = m.now.Add(2 * time.Minute) // The caller offers the session, the callee does not take it.
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMeeting(t)
			test.before(t, m)
			_, clientErr, serverErr := m.meet(t)
			require.NoError(t, clientErr)
			require.NoError(t, serverErr)
			test.between(t, m)
			resumed, clientErr, serverErr := m.meet(t)
			require.False(t, resumed)
			if test.refused {
				require.Error(t, clientErr)
				require.Error(t, serverErr)
				return
			}
			require.NoError(t, clientErr)
			require.NoError(t, serverErr)
		})
	}
}

// TestResumedPeersAreVerified: even a session that is kept by mistake proves nothing to who demands
// somebody else.
func TestResumedPeersAreVerified(t *testing.T) {
	m := newMeeting(t)
	_, clientErr, _ := m.meet(t)
	require.NoError(t, clientErr)
	other := linkKey{m.to.address, m.authority.ID("shop", "cart").String()}
	m.client.sessions.kept[other] = m.client.sessions.kept[m.to]
	callee := m.to
	m.to = other
	_, clientErr, _ = m.meet(t)
	require.ErrorContains(t, clientErr, "wrong peer")
	require.True(t, isChance(clientErr), "the next handshake is a whole one, and may do")
	require.NotContains(t, m.client.sessions.kept, other)
	m.to = callee
	resumed, clientErr, _ := m.meet(t)
	require.NoError(t, clientErr)
	require.True(t, resumed)
}

func TestSessionsAreBounded(t *testing.T) {
	s := newSessions(time.Now)
	for i := range sessionsMost + 10 {
		slot := &sessionSlot{sessions: s, key: linkKey{address: string(rune(i))}}
		slot.Put("", &tls.ClientSessionState{})
		slot.Put("", &tls.ClientSessionState{})
		require.Contains(t, s.kept, slot.key)
	}
	require.Len(t, s.kept, sessionsMost)
}

// BenchmarkHandshake is both sides of a handshake and a byte each way.
func BenchmarkHandshake(b *testing.B) {
	for name, forget := range map[string]bool{"whole": true, "resumed": false} {
		b.Run(name, func(b *testing.B) {
			m := newMeeting(b)
			_, _, _ = m.meet(b)
			b.ReportAllocs()
			before := processorTime(b)
			for b.Loop() {
				if forget {
					clear(m.client.sessions.kept)
				}
				resumed, clientErr, serverErr := m.meet(b)
				if clientErr != nil || serverErr != nil || resumed == forget {
					b.Fatal(resumed, clientErr, serverErr)
				}
			}
			b.ReportMetric(float64((processorTime(b)-before).Microseconds())/float64(b.N), "processor-us/op")
		})
	}
}

// processorTime is what this process has used. On a busy machine it tells more than how long it took.
func processorTime(b *testing.B) time.Duration {
	var used unix.Rusage
	require.NoError(b, unix.Getrusage(unix.RUSAGE_SELF, &used))
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}

// TestUnusedLinksToProxiesAreKept: the ticket that comes with a handshake is not taken for the end of a
// link that nobody has used yet.
func TestUnusedLinksToProxiesAreKept(t *testing.T) {
	m := newMeeting(t)
	near, far := wire(t)
	done := make(chan error, 1)
	go func() {
		_, _, _, err := acceptMesh(context.Background(), far, m.server)
		done <- err
	}()
	m.client.dial = func(context.Context, string) (net.Conn, error) { return near, nil }
	l, err := m.client.open(t.Context(), &hop{address: m.to.address, identity: m.to.identity})
	require.NoError(t, err)
	defer l.close()
	require.NoError(t, <-done)
	require.Eventually(t, func() bool {
		come := false
		_ = l.raw.Control(func(descriptor uintptr) { come = isReady(descriptor, unix.POLLIN) })
		return come
	}, time.Minute, time.Millisecond)
	m.client.pool.put(l, time.Now())
	later := time.Now().Add(time.Second)
	require.Same(t, l, m.client.pool.take(keyOf(&hop{address: m.to.address, identity: m.to.identity}), later))
	require.NoError(t, far.Close())
	require.Eventually(t, func() bool { return !l.alive(later) }, time.Minute, time.Millisecond)
}
