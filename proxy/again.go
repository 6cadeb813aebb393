// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"net/http"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	h2 "golang.org/x/net/http2"

	"github.com/sluice-mesh/sluice/mesh"
	"github.com/sluice-mesh/sluice/proxy/http2"
)

// retries are those of one request.
type retries struct {
	// policy is nil for none.
	policy *mesh.Retries
	budget *retryBudget
	made   uint32
}

// retriesOf takes the policy of a request's destination.
func (p *Proxy) retriesOf(to *mesh.Destination) retries {
	if to.Retries == nil {
		return retries{}
	}
	return retries{policy: to.Retries, budget: p.budgets.begin(p.options.Now(), to)}
}

// wants says whether an answer is one after which a request is sent again.
func (r *retries) wants(method string, status int) bool {
	return r.policy != nil && r.made < r.policy.Attempts &&
		slices.Contains(r.policy.Codes, uint32(status)) && //nolint:gosec // Three digits.
		slices.Contains(r.policy.Methods, method)
}

// wantsGRPC is the same for a call of gRPC that was answered with its status only.
func (r *retries) wantsGRPC(status string) bool {
	number, err := strconv.ParseUint(status, 10, 8)
	return err == nil && r.policy != nil && r.made < r.policy.Attempts && slices.Contains(r.policy.GRPCCodes, uint32(number))
}

// What became of answers after which a request is to be sent again.
const (
	retrySent     = "sent"
	retryNoBudget = "no_budget"
)

// other finds where to send a request again: to another endpoint of the revision that has answered, if it
// has one, or to the same. It is claimed. The budget is asked last.
func (r *retries) other(choose *chooser, answered *hop) (*hop, bool) {
	p := choose.proxy
	to, ok := choose.again(answered)
	if !ok {
		return nil, false
	}
	if !r.budget.take(p.options.Now(), r.policy) {
		p.metrics.retry(choose.labelsOfFailure(answered), retryNoBudget)
		to.release()
		return nil, false
	}
	return to, true
}

// again is next for a request that a hop of some revision has answered. No other revision stands in for
// it: users would not see what it answers, and neither would the gate.
func (c *chooser) again(answered *hop) (*hop, bool) {
	c.tried.add(answered.key)
	c.doubtful = append(c.doubtful, answered.key)
	c.within, c.only, c.chances = answered.revision, true, 0
	return c.next()
}

// tiersWithin are the tiers that hold endpoints of a revision and no other before them.
func tiersWithin(tiers []tier, of revision) []tier {
	holds := func(held tier) bool {
		return slices.ContainsFunc(held.endpoints, func(e *mesh.Endpoint) bool { return revisionOf(e) == of })
	}
	begin := slices.IndexFunc(tiers, holds)
	if begin < 0 {
		return nil
	}
	end := begin + 1
	for end < len(tiers) && holds(tiers[end]) {
		end++
	}
	return tiers[begin:end]
}

// sendAgain says where the request goes after an answer which its policy does not let pass; ok is false
// when the client gets that.
func (x *exchange) sendAgain(to *hop, l *link) (other *hop, ok bool) {
	switch {
	case x.retries.policy == nil, !x.retries.wants(x.method(), l.response.Status()):
		return nil, false
	case x.request.Upgrades(), !x.replayable(), x.gone():
		return nil, false
	}
	if other, ok = x.retries.other(&x.choose, to); !ok {
		return nil, false
	}
	if !x.unhead() {
		other.release()
		return nil, false
	}
	x.retries.made++
	x.choose.countRetry(to)
	x.leaveAnswer(l)
	return other, true
}

// leaveAnswer is done with a link whose answer nobody gets.
func (x *exchange) leaveAnswer(l *link) {
	if x.body == nil && l.reader.Whole() {
		_, _ = l.reader.Next() // It has come.
	}
	x.unlink() // From here on nobody ends it because the time is up.
	if x.body == nil && l.usable() && !x.gone() {
		x.proxy.upstreams.pool.put(l, time.Now())
		return
	}
	l.close()
}

// unhead takes back that the answer has begun. It returns false when it is too late for another.
func (x *exchange) unhead() bool {
	x.mutex.Lock()
	defer x.mutex.Unlock()
	if x.left || x.limits.passed != "" {
		return false
	}
	x.headed = false
	return true
}

// countRetry counts an answer that the client does not get. The revision's own proxies count it, too,
// which is where the gate reads it.
func (c *chooser) countRetry(answered *hop) {
	now := c.proxy.options.Now()
	c.proxy.metrics.retry(c.labelsOfFailure(answered), retrySent)
	answered.answered(now, true)
	answered.ended(now, true)
	answered.release()
}

// sendAgain sends the request again after an answer which its policy does not let pass. It returns false
// when the client gets that.
func (a *attempt) sendAgain(h *http2.Head, end bool) bool {
	x := a.stream
	switch {
	case x.isGRPC() && h.Status == http.StatusOK:
		if !end || !x.retries.wantsGRPC(h.Value("grpc-status")) {
			return false
		}
	case !x.retries.wants(x.head.Method, h.Status):
		return false
	}
	x.mutex.Lock()
	replayable := x.at == a && !x.over && !x.gone
	x.mutex.Unlock()
	if !replayable {
		return false
	}
	other, ok := x.retries.other(&x.choose, a.to)
	if !ok {
		return false
	}
	x.mutex.Lock()
	if replayable = x.at == a && !x.over && !x.gone; replayable {
		x.at = nil
	}
	x.mutex.Unlock()
	if !replayable {
		other.release()
		return false // Its time is up, or too much has come to send it again.
	}
	x.retries.made++
	x.choose.countRetry(a.to)
	a.up.Reset(h2.ErrCodeCancel) // The rest of the answer is of no interest.
	x.beginTry()
	x.proxy.serving.Go(func() { x.carry(other) })
	return true
}

// retry counts an answer after which a request was to be sent again.
func (m *metrics) retry(labels trafficLabels, outcome string) {
	key := retryLabels{labels, outcome}
	bounded(m, m.retries, key, retryLabels{labels.other(), outcome}, func() *atomic.Uint64 { return &atomic.Uint64{} }).Add(1)
}
