// SPDX-License-Identifier: Apache-2.0

package live

import "time"

const (
	// bearingOut is the time over which what callers say is held against what pods say.
	bearingOut = time.Minute
	// bothWays: a caller whose losses of two revisions are this much alike has trouble of its own.
	bothWays = 0.5
)

// caller is a proxy that sends requests to the workload.
type caller struct {
	session session
	// old: the session began before the account, so that what it has counted of a revision which it has
	// not named before may be of a run that is over.
	old     bool
	at      time.Time
	counted map[string]calls // by hash
}

// calls of one caller to one revision.
type calls struct{ answered, lost uint64 }

type callKey struct{ caller, hash string }

// call takes what a proxy says of its requests to the workload.
func (a *account) call(workload string, tally *Tally) {
	known := a.callers[tally.Reporter]
	first := known == nil
	if first {
		known = &caller{}
		a.callers[tally.Reporter] = known
	}
	news, anew := known.session.follow(tally)
	if !news {
		return
	}
	if anew {
		known.old, known.counted = first && !a.fromStart(tally), map[string]calls{}
	}
	known.at = later(tally.At, a.open.began)
	for _, to := range tally.Called {
		if to.Workload != workload || to.Hash == "" {
			continue
		}
		before, named := known.counted[to.Hash]
		known.counted[to.Hash] = calls{to.Answered, to.Lost}
		if named || !known.old {
			a.open.call(callKey{tally.Reporter, to.Hash}, calls{grown(before.answered, to.Answered), grown(before.lost, to.Lost)})
		}
	}
}

func (r *round) call(key callKey, growth calls) {
	if growth == (calls{}) {
		return
	}
	sum := r.calls[key]
	sum.answered += growth.answered
	sum.lost += growth.lost
	r.calls[key] = sum
}

// believe works out which losses of the open round count. A request that got no answer is known to its
// caller alone, so that a caller could make any revision look as bad as it likes. But what callers got
// answered, pods have answered. So a caller is believed to have sent a revision no more requests in the
// last minute than follows from the answers that it is known to have got: from that revision, or from the
// others by the weights in force, for a revision that answers nobody. That is its share of the requests.
// What others claim is left to them: who claims more answers than were given gains nothing by it.
func (a *account) believe() {
	past := a.lately()
	for key, now := range a.open.calls {
		if now.lost == 0 || past.apart(key) {
			continue
		}
		sent := past.known(key)
		if share := a.shares[key.hash]; share > 0 && share < 1 {
			others := uint64(0)
			for other := range past.calls {
				if other.caller == key.caller && other.hash != key.hash {
					others += past.known(other)
				}
			}
			sent = max(sent, uint64(float64(others)*share/(1-share)))
		}
		a.open.believed[key] = min(now.lost, sent-min(sent, past.believed[key]))
	}
}

// known are the answers that a caller has got for certain: as many as pods have given, less those that
// other callers say they have got.
func (l *lately) known(key callKey) uint64 {
	elsewhere := l.answered[key.hash] - l.calls[key].answered
	return min(l.calls[key].answered, l.served[key.hash]-min(l.served[key.hash], elsewhere))
}

// lately is what happened in the time for which callers are held against pods.
type lately struct {
	served, answered map[string]uint64 // by hash
	calls            map[callKey]calls
	believed         map[callKey]uint64
}

func (a *account) lately() lately {
	sum := lately{served: map[string]uint64{}, answered: map[string]uint64{}, calls: map[callKey]calls{}, believed: map[callKey]uint64{}}
	sum.add(a.open)
	for i := len(a.rounds) - 1; i >= 0 && a.open.end.Sub(a.rounds[i].end) < bearingOut; i-- {
		sum.add(a.rounds[i])
	}
	return sum
}

func (l *lately) add(r *round) {
	for key, served := range r.served {
		l.served[key.hash] += served.requests()
	}
	for key, of := range r.calls {
		sum := l.calls[key]
		l.calls[key] = calls{sum.answered + of.answered, sum.lost + of.lost}
		l.answered[key.hash] += of.answered
	}
	for key, count := range r.believed {
		l.believed[key] += count
	}
}

// apart says whether a caller loses as many requests to another revision.
func (l *lately) apart(key callKey) bool {
	own := l.calls[key].lossRate()
	for other, of := range l.calls {
		rate := of.lossRate()
		if other.caller == key.caller && other.hash != key.hash && min(rate, own) >= bothWays*max(rate, own) {
			return true
		}
	}
	return false
}

func (c calls) lossRate() float64 {
	if c.lost == 0 {
		return 0
	}
	return float64(c.lost) / (float64(c.answered) + float64(c.lost))
}
