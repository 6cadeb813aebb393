// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"sync"
	"time"

	"github.com/sluice-mesh/sluice/mesh/identity"
)

const (
	// sessionsMost bounds the sessions that are kept; each holds the peer's certificates.
	sessionsMost = 1024
	// sessionMark begins what a proxy adds to its tickets: the end of the client's certificates, in Unix
	// seconds.
	sessionMark = "sluice/1 "
)

// sessions are those of TLS with proxies that this one has connected to. By one of them the next
// connection costs no signature on either side. What was proved is proved still: a session is offered
// only while the own certificate and the trust anchors are those under which it was made and no
// certificate of the peer's chain has expired, and whose it is is verified again, as with any
// connection (see package identity). Keys are agreed upon anew each time.
type sessions struct {
	mutex sync.Mutex
	kept  map[linkKey]session
	now   func() time.Time
}

// session is one with all that it depends on.
type session struct {
	state   *tls.ClientSessionState
	own     *tls.Certificate
	anchors *x509.CertPool
	until   time.Time
}

func newSessions(now func() time.Time) *sessions {
	return &sessions{kept: map[linkKey]session{}, now: now}
}

// sessionSlot is the place of one connection's session; it is the connection's tls.ClientSessionCache.
type sessionSlot struct {
	sessions *sessions
	key      linkKey
	made     session
	// offered says that the handshake was begun with a session.
	offered bool
}

// use has a connection to a peer resume a session and leave one behind. Without a certificate of its own
// it does neither.
func (s *sessions) use(config *tls.Config, key linkKey, certificates identity.CertificateSource, bundles identity.BundleSource) *sessionSlot {
	slot := &sessionSlot{sessions: s, key: key}
	own, err := certificates.Certificate()
	if err != nil {
		return slot
	}
	anchors, err := bundles.Bundle()
	if err != nil {
		return slot
	}
	slot.made = session{own: own, anchors: anchors}
	config.ClientSessionCache = slot
	verify := config.VerifyConnection
	config.VerifyConnection = func(state tls.ConnectionState) error {
		slot.made.until = firstEnd(state.PeerCertificates)
		return verify(state)
	}
	return slot
}

// firstEnd is when the first of some certificates expires.
func firstEnd(certificates []*x509.Certificate) time.Time {
	var first time.Time
	for _, each := range certificates {
		if first.IsZero() || each.NotAfter.Before(first) {
			first = each.NotAfter
		}
	}
	return first
}

// Get returns the session to offer.
func (s *sessionSlot) Get(string) (*tls.ClientSessionState, bool) {
	s.sessions.mutex.Lock()
	defer s.sessions.mutex.Unlock()
	kept, ok := s.sessions.kept[s.key]
	if !ok {
		return nil, false
	}
	if kept.own != s.made.own || !kept.anchors.Equal(s.made.anchors) || !s.sessions.now().Before(kept.until) {
		delete(s.sessions.kept, s.key)
		return nil, false
	}
	s.offered = true
	return kept.state, true
}

// Put keeps a session that the peer has given, or forgets the one that is kept.
func (s *sessionSlot) Put(_ string, state *tls.ClientSessionState) {
	if state == nil {
		s.forget()
		return
	}
	s.sessions.mutex.Lock()
	defer s.sessions.mutex.Unlock()
	_, known := s.sessions.kept[s.key]
	for key := range s.sessions.kept {
		if known || len(s.sessions.kept) < sessionsMost {
			break
		}
		delete(s.sessions.kept, key) // Whichever: a handshake is all that it saves.
	}
	made := s.made
	made.state = state
	s.sessions.kept[s.key] = made
}

func (s *sessionSlot) forget() {
	s.sessions.mutex.Lock()
	defer s.sessions.mutex.Unlock()
	delete(s.sessions.kept, s.key)
}

// giveTickets has a server give and take tickets for sessions. It takes none that was given under other
// anchors, or when a certificate of the client's chain has expired since: such a client proves anew
// who it is, and is not refused for what it has proved before. What it takes is verified again.
func giveTickets(config *tls.Config, bundles identity.BundleSource, now func() time.Time) {
	tickets := &ticketKeys{bundles: bundles}
	config.SessionTicketsDisabled = false
	config.WrapSession = func(state tls.ConnectionState, made *tls.SessionState) ([]byte, error) {
		until := binary.BigEndian.AppendUint64([]byte(sessionMark), uint64(firstEnd(state.PeerCertificates).Unix()))
		made.Extra = append(made.Extra, until)
		return tickets.current().EncryptTicket(state, made)
	}
	config.UnwrapSession = func(ticket []byte, state tls.ConnectionState) (*tls.SessionState, error) {
		made, err := tickets.current().DecryptTicket(ticket, state)
		if err != nil || made == nil || !ticketHolds(made, now()) {
			return nil, err
		}
		return made, nil
	}
}

func ticketHolds(made *tls.SessionState, now time.Time) bool {
	for _, extra := range made.Extra {
		if end, ok := bytes.CutPrefix(extra, []byte(sessionMark)); ok && len(end) == 8 {
			return now.Unix() < int64(binary.BigEndian.Uint64(end))
		}
	}
	return false
}

// ticketKeys are the keys of tickets under the trust anchors in force. They are replaced with those.
type ticketKeys struct {
	bundles identity.BundleSource

	mutex   sync.Mutex
	anchors *x509.CertPool
	// keys is used for nothing but its keys, which crypto/tls makes and renews by itself.
	keys *tls.Config
}

func (k *ticketKeys) current() *tls.Config {
	anchors, err := k.bundles.Bundle()
	k.mutex.Lock()
	defer k.mutex.Unlock()
	if err != nil || k.keys == nil || !anchors.Equal(k.anchors) {
		k.anchors, k.keys = anchors, &tls.Config{MinVersion: tls.VersionTLS13}
	}
	return k.keys
}
