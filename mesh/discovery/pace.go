// SPDX-License-Identifier: Apache-2.0

package discovery

import (
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"

	"github.com/sluice-mesh/sluice/api/v1alpha1"
	"github.com/sluice-mesh/sluice/mesh"
)

const (
	// writeInterval is the least time between two writes of one status.
	writeInterval = 200 * time.Millisecond
	// openInterval is that when only counts have changed of what gets requests anyway.
	openInterval = 5 * time.Second
)

// due says whether a status is to be written now, or when to look again. It is pure but for
// remembering since when the status differs.
//
// That all proxies have acknowledged, and that something has ended on a revision that gets nothing
// more, is waited for and goes out at once. What is on the way there is worth a write only if it
// lasts: most generations are acknowledged before anyone could read who has not yet.
func (k *record) due(desired *v1alpha1.TrafficSplitStatus, split mesh.Split, now time.Time) (wait time.Duration, due bool) {
	if equality.Semantic.DeepEqual(&k.written, desired) {
		k.differsSince = time.Time{}
		return expiryInterval, false
	}
	if k.differsSince.IsZero() {
		k.differsSince = now
	}
	from := k.differsSince.Add(writeInterval)
	switch {
	case isAcknowledged(desired) && (!isAcknowledged(&k.written) || k.written.ObservedGeneration != desired.ObservedGeneration):
		from = now
	case drainChanged(&k.written, desired, split):
		from = now
	case onlyOpenChanged(&k.written, desired):
		from = k.writtenAt.Add(openInterval)
	}
	from = latest(from, k.writtenAt.Add(writeInterval), k.retryAt)
	return from.Sub(now), !from.After(now)
}

// drainChanged says whether what is open on a revision without weight has changed.
func drainChanged(written, desired *v1alpha1.TrafficSplitStatus, split mesh.Split) bool {
	return slices.ContainsFunc(split.Revisions, func(revision mesh.RevisionWeight) bool {
		return revision.Weight == 0 &&
			revisionOpen(written, revision.PodTemplateHash) != revisionOpen(desired, revision.PodTemplateHash)
	})
}

func onlyOpenChanged(written, desired *v1alpha1.TrafficSplitStatus) bool {
	same := *desired
	same.Revisions, same.Unsplit = written.Revisions, written.Unsplit
	return equality.Semantic.DeepEqual(written, &same)
}

func revisionOpen(status *v1alpha1.TrafficSplitStatus, hash string) v1alpha1.RevisionOpen {
	for _, open := range status.Revisions {
		if open.PodTemplateHash == hash {
			return open
		}
	}
	return v1alpha1.RevisionOpen{PodTemplateHash: hash}
}

func latest(times ...time.Time) time.Time {
	return slices.MaxFunc(times, time.Time.Compare)
}
