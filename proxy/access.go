// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"net"
	"net/http"
	"net/netip"
	"sync"

	"github.com/sluice-mesh/sluice/mesh"
)

// refusal is an answer in the proxy's own name to a request that does not get in; without a code it does.
type refusal struct {
	status     int
	code, text string
	// retryAfter is in how many seconds it may; 0 when that is not known.
	retryAfter int64
}

// isRefusal says that a code is that of a request that did not get in.
func isRefusal(code string) bool { return code == errorDenied || code == errorRateLimited }

// refusalOf is the code with which the proxy of an endpoint has kept a request from its application; empty
// where it has not. No application can say so: its proxy takes the field out of its answers.
func refusalOf(to *hop, code string) string {
	switch {
	case to.identity == "":
		return ""
	case code == errorDenied:
		return errorDenied
	case code == errorRateLimited:
		return errorRateLimited
	}
	return ""
}

func denied() refusal {
	return refusal{status: http.StatusForbidden, code: errorDenied, text: "the caller may not call this"}
}

// unknownAddress stands for an address in the field of a request that is passed on.
const unknownAddress = "unknown"

// isHandedOff says that a request was passed on by a peer of the own workload, which says for whom. Only a
// proxy that speaks in requests is believed: what another carries as bytes is its application's word.
func (p *Proxy) isHandedOff(info *connInfo, head *marks) bool {
	return info.inRequests && info.client == p.options.ID.String() && len(head.handoff) > 0
}

// isCounted says that a request is none of its caller's that a RateLimit has not met yet: the peer that has
// passed it on has counted it, or it is a copy, which nobody has asked for.
func (p *Proxy) isCounted(info *connInfo, head *marks) bool {
	return p.isHandedOff(info, head) || info.inRequests && info.client != "" && head.mirrored
}

// callerOf is who has sent a request. The peer that has passed one on has judged its caller; it is judged
// here again, as whom the peer says: the peer's own identity would let in whoever may not call, or refuse
// whoever may.
func (p *Proxy) callerOf(info *connInfo, head *marks) mesh.Caller {
	if !p.isHandedOff(info, head) {
		return mesh.Caller{Identity: info.client, Address: info.from}
	}
	address, _ := netip.ParseAddr(string(head.handoff)) // What is no address is of no network.
	return mesh.Caller{Identity: string(head.clientID), Address: address.Unmap()}
}

// handoffValue is how the next proxy is told where a caller is.
func handoffValue(from mesh.Caller) string {
	if !from.Address.IsValid() {
		return unknownAddress
	}
	return from.Address.String()
}

// addressOf is where a connection comes from.
func addressOf(conn net.Conn) netip.Addr {
	if tcp, ok := conn.RemoteAddr().(*net.TCPAddr); ok {
		return tcp.AddrPort().Addr().Unmap().WithZone("")
	}
	return netip.Addr{}
}

// admit says whether a request may come in.
func (p *Proxy) admit(info *connInfo, inbound *mesh.Inbound, from mesh.Caller, request requestView, head *marks) refusal {
	if inbound.Access == nil || info.destination.Port() == mesh.PortAdmin {
		return refusal{}
	}
	asked := mesh.Asked{Port: info.destination.Port(), Method: request.method, Path: request.path}
	verdict := inbound.Access.Judge(from, asked)
	p.metrics.access(authzHTTP, info.labels.targetPort, from, verdict)
	if !verdict.Allowed || verdict.Audited != "" {
		p.logVerdict(from, asked, verdict)
	}
	switch {
	case !verdict.Allowed:
		return denied()
	case verdict.Reason == mesh.AccessByProbe, p.isCounted(info, head):
		return refusal{}
	}
	if wait, ok := p.isWithin(inbound.Access, from, asked, info.labels.targetPort); !ok {
		return limited(wait)
	}
	return refusal{}
}

func (p *Proxy) logVerdict(from mesh.Caller, asked mesh.Asked, verdict mesh.AccessVerdict) {
	text, policy := "refused a caller", verdict.Policy
	if verdict.Allowed {
		text, policy = "a caller would be refused", verdict.Audited
	}
	p.log.Info(text, "client", from.Identity, "address", from.Address.String(), "port", asked.Port,
		"method", asked.Method, "path", asked.Path, "policy", policy, "reason", verdict.Reason)
}

// admitConn says whether a connection that is carried as bytes may come in. One that may is closed when a
// later configuration no longer lets it in; leave is called at its end.
func (p *Proxy) admitConn(conn *servedConn) (leave func(), ok bool) {
	held := &admitted{
		conn: conn, asked: mesh.Asked{Port: conn.info.destination.Port()},
		from: mesh.Caller{Identity: conn.info.client, Address: conn.info.from},
	}
	// In the set first: a configuration that comes in between finds it there.
	p.admitted.add(held)
	leave = func() { p.admitted.remove(held) }
	access := p.config.Snapshot().Inbound.Access
	if access == nil {
		return leave, true
	}
	verdict := access.Judge(held.from, held.asked)
	p.metrics.access(authzTCP, conn.info.labels.targetPort, held.from, verdict)
	if !verdict.Allowed || verdict.Audited != "" {
		p.logVerdict(held.from, held.asked, verdict)
	}
	ok = verdict.Allowed
	if ok {
		_, ok = p.isWithin(access, held.from, held.asked, conn.info.labels.targetPort)
	}
	if !ok {
		leave()
		reset(conn)
	}
	return leave, ok
}

// admitted is a connection that was let in.
type admitted struct {
	conn  *servedConn
	from  mesh.Caller
	asked mesh.Asked
}

// admittedSet holds the connections that are carried as bytes.
type admittedSet struct {
	mutex sync.Mutex
	conns map[*admitted]struct{}
}

func newAdmittedSet() *admittedSet { return &admittedSet{conns: map[*admitted]struct{}{}} }

func (s *admittedSet) add(one *admitted) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	s.conns[one] = struct{}{}
}

func (s *admittedSet) remove(one *admitted) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	delete(s.conns, one)
}

// judgeAnew closes the connections that a new configuration does not let in.
func (p *Proxy) judgeAnew(access *mesh.Access) {
	if access == nil {
		return
	}
	p.admitted.mutex.Lock()
	defer p.admitted.mutex.Unlock()
	for held := range p.admitted.conns {
		verdict := access.Judge(held.from, held.asked)
		if verdict.Allowed {
			continue
		}
		delete(p.admitted.conns, held)
		p.metrics.authz(authzTerminated, authzLabelsOf(held.conn.info.labels.targetPort, held.from, verdict))
		p.logVerdict(held.from, held.asked, verdict)
		reset(held.conn)
	}
}
