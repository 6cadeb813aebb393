// SPDX-License-Identifier: Apache-2.0

package live

import (
	"maps"
	"slices"
	"time"

	"github.com/sluice-mesh/sluice/analysis"
)

const (
	// silentAfter is how long a pod is waited for that does not report: six reports.
	silentAfter = 3 * time.Second
	// kept is how long rounds are kept: a gate asks every few seconds for those since its last look, and
	// callers are held against a minute of them. A workload of a hundred pods has twenty megabytes of them.
	kept = 3 * time.Minute
	// forgottenAfter is how long a pod is remembered that reports no more.
	forgottenAfter = 10 * time.Minute
	// delay is how late a tally may come and still tell when its session began.
	delay = 500 * time.Millisecond
)

// Ledger folds tallies into rounds, by workload. It is not for concurrent use.
type Ledger struct {
	accounts map[string]*account
}

// NewLedger makes an empty Ledger.
func NewLedger() *Ledger { return &Ledger{accounts: map[string]*account{}} }

// account is what is known of one workload.
type account struct {
	// began is when the first tally of it came: what began later is known from its start.
	began time.Time
	// last tally's time.
	last    time.Time
	pods    map[string]*pod
	callers map[string]*caller
	// shares of requests by hash, as far as they are known.
	shares map[string]float64
	// open is the round under way, which began where the last one ended.
	open   *round
	rounds []*round
}

// pod of the workload.
type pod struct {
	hash    string
	session session
	at      time.Time
	counted Served
	// warm is when the pod is no longer cold, zero before its first request. One that is older than the
	// account is not.
	warm time.Time
	old  bool
}

// session is what was heard of last from a proxy.
type session struct {
	id, sequence uint64
	// past is the session before, of which tallies may be under way.
	past uint64
}

// follow says whether a tally is news, and whether its counts began at 0 since the one before.
func (s *session) follow(tally *Tally) (news, anew bool) {
	switch tally.Session {
	case s.past:
		return false, false
	case s.id:
		news = tally.Sequence > s.sequence
		s.sequence = max(s.sequence, tally.Sequence)
		return news, false
	}
	s.past, s.id, s.sequence = s.id, tally.Session, tally.Sequence
	return true, true
}

// round is what a workload did between the round before and its end. While it is open, end is when it
// was added to last.
type round struct {
	began, end time.Time
	// reported are the revisions of which a pod reported in the round.
	reported map[string]bool
	served   map[podKey]*Served
	// cold is the part of it that pods answered in their WarmUp.
	cold  map[podKey]Served
	calls map[callKey]calls
	// believed are the losses of calls that count; worked out at the round's end.
	believed map[callKey]uint64
}

type podKey struct{ hash, pod string }

func newRound(began time.Time) *round {
	return &round{
		began: began, end: began, reported: map[string]bool{}, served: map[podKey]*Served{}, cold: map[podKey]Served{},
		calls: map[callKey]calls{}, believed: map[callKey]uint64{},
	}
}

// Add a tally. One that came before, or is older than what is known, adds nothing: counts only rise, so
// that whatever was lost or late is in the next one. It says whether a round has ended.
func (l *Ledger) Add(tally Tally) (ended bool) {
	if tally.Workload != "" {
		ended = l.account(tally.Workload, tally.At).serve(&tally)
	}
	for _, workload := range called(tally.Called) {
		// Nobody is waited for because of what others say: only its own pods begin an account.
		if account := l.accounts[workload]; account != nil {
			account.call(workload, &tally)
		}
	}
	return ended
}

func called(all []Called) []string {
	workloads := map[string]bool{}
	for _, of := range all {
		workloads[of.Workload] = true
	}
	return slices.Sorted(maps.Keys(workloads))
}

func (l *Ledger) account(workload string, at time.Time) *account {
	known := l.accounts[workload]
	if known == nil {
		known = &account{began: at, last: at, pods: map[string]*pod{}, callers: map[string]*caller{}, open: newRound(at)}
		l.accounts[workload] = known
	}
	return known
}

// Share says which part of a workload's requests each revision is meant to get, from 0 to 1 by hash.
func (l *Ledger) Share(workload string, shares map[string]float64) {
	if account := l.accounts[workload]; account != nil {
		account.shares = shares
	}
}

// End forgets a workload whose run is over. What its pods and callers count until the next belongs to
// neither run.
func (l *Ledger) End(workload string) { delete(l.accounts, workload) }

// Forget what nobody has reported for a while.
func (l *Ledger) Forget(now time.Time) {
	for workload, account := range l.accounts {
		if now.Sub(account.last) > forgottenAfter {
			delete(l.accounts, workload)
		}
	}
}

// fromStart says whether a session began so late that all it counted was counted in the account's time.
func (a *account) fromStart(tally *Tally) bool {
	return tally.At.Add(-tally.Age).After(a.began.Add(delay))
}

// serve takes what a pod says of itself.
func (a *account) serve(tally *Tally) (ended bool) {
	known := a.pods[tally.Reporter]
	if known == nil || known.hash != tally.Hash {
		known = &pod{hash: tally.Hash}
		a.pods[tally.Reporter] = known
		if !a.fromStart(tally) {
			// How old these counts are is not known; they begin to be known now.
			known.session.id, known.counted, known.old = tally.Session, tally.Served, true
		}
	}
	news, anew := known.session.follow(tally)
	if !news {
		return false
	}
	if anew {
		known.counted = Served{}
	}
	// It may have been received elsewhere, by a clock that is behind.
	known.at = later(tally.At, a.open.began)
	growth := tally.Served.since(known.counted)
	known.counted = tally.Served
	if known.warm.IsZero() && !known.old && growth.requests() > 0 {
		known.warm = known.at.Add(analysis.WarmUp)
	}
	a.open.serve(tally.Reporter, known, growth)
	a.last = later(a.last, known.at)
	return a.close(a.last)
}

func (r *round) serve(name string, from *pod, growth Served) {
	key := podKey{from.hash, name}
	if r.served[key] == nil {
		r.served[key] = &Served{}
	}
	*r.served[key] = r.served[key].plus(growth)
	r.reported[from.hash] = true
	r.end = later(r.end, from.at)
	if from.at.Before(from.warm) {
		r.cold[key] = r.cold[key].plus(growth)
	}
}

// close the open round if every live pod has reported in it.
func (a *account) close(now time.Time) bool {
	if !now.After(a.open.began) {
		return false
	}
	for name, pod := range a.pods {
		switch silent := now.Sub(pod.at); {
		case silent > forgottenAfter:
			delete(a.pods, name)
		case !pod.at.After(a.open.began) && silent <= silentAfter:
			return false
		}
	}
	maps.DeleteFunc(a.callers, func(_ string, c *caller) bool { return now.Sub(c.at) > forgottenAfter })
	a.open.end = now
	a.believe()
	a.rounds = append(a.rounds, a.open)
	a.open = newRound(now)
	old, _ := slices.BinarySearchFunc(a.rounds, now.Add(-kept), func(r *round, at time.Time) int { return r.end.Compare(at) })
	a.rounds = slices.Delete(a.rounds, 0, old)
	return true
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}
